//! How often something may be done in a second.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket that holds as many as there may be in a second, and fills again at that rate.
#[derive(Debug)]
pub struct Rate {
    /// Time that filling it for one more takes; zero for no limit.
    each: Duration,
    /// When it will be full.
    full_at: Instant,
}

impl Default for Rate {
    fn default() -> Self {
        Self::new(0, Instant::now())
    }
}

impl Rate {
    /// Full; `per_second` 0 for no limit.
    pub fn new(per_second: u32, now: Instant) -> Self {
        let each = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Self { each, full_at: now }
    }

    /// Takes one out; false if it is empty.
    pub fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.each;
        // A rate that does not divide a second loses less than a nanosecond for each.
        let fits = full_at.duration_since(now) <= Duration::from_secs(1);
        if fits {
            self.full_at = full_at;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_second_is_let_in_and_then_the_rate() {
        let begin = Instant::now();
        let mut rate = Rate::new(1000, begin);
        let mut taken = |at: u64| {
            let now = begin + Duration::from_millis(at);
            std::iter::repeat_with(|| rate.take(now)).take(2000).filter(|taken| *taken).count()
        };
        assert_eq!([taken(0), taken(0), taken(100), taken(101), taken(10_000)], [1000, 0, 100, 1, 1000]);
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let (now, mut rate) = (Instant::now(), Rate::default());
        assert!((0..100_000).all(|_| rate.take(now)));
    }

    #[test]
    fn any_rate_holds() {
        for per_second in [1, 3, 7, 999, 1_000_000] {
            let begin = Instant::now();
            let mut rate = Rate::new(per_second, begin);
            let taken = std::iter::repeat_with(|| rate.take(begin)).take_while(|taken| *taken).count();
            assert_eq!(taken, per_second as usize);
        }
    }
}
