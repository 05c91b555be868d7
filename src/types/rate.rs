//! How often something may be done.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket that holds so many, and fills again at a rate.
#[derive(Debug, Clone)]
pub struct Rate {
    /// Time that filling it for one more takes; zero for no limit.
    each: Duration,
    /// Time that filling it from empty takes.
    whole: Duration,
    /// When it will be full.
    full_at: Instant,
}

impl Default for Rate {
    fn default() -> Self {
        Self::new(0, Instant::now())
    }
}

impl Rate {
    /// Full, with as many as there may be in a second; `per_second` 0 for no limit.
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self::with_burst(per_second, per_second, now)
    }

    /// Full, with `burst`; `per_second` 0 for no limit.
    pub fn with_burst(burst: u32, per_second: u32, now: Instant) -> Self {
        // A rate that does not divide a second loses less than a nanosecond for each.
        let each = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Self { each, whole: each.saturating_mul(burst), full_at: now }
    }

    /// Takes one out; false if it is empty.
    pub fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.each;
        let fits = self.each.is_zero() || full_at.duration_since(now) <= self.whole;
        if fits {
            self.full_at = full_at;
        }
        fits
    }

    /// How long it will take to fill: what was taken out of it and is not back.
    pub fn debt(&self, now: Instant) -> Duration {
        self.full_at.saturating_duration_since(now)
    }

    /// Takes over what was taken out of another, but leaves a share of `1 / reserve` in.
    pub fn inherit(&mut self, debt: Duration, reserve: u32, now: Instant) {
        let most = self.whole - self.whole / reserve;
        self.full_at = self.full_at.max(now + debt.min(most));
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
    fn a_burst_may_be_larger_than_the_rate() {
        let begin = Instant::now();
        let mut rate = Rate::with_burst(100, 1, begin);
        let mut taken = |at: u64| {
            let now = begin + Duration::from_millis(at);
            std::iter::repeat_with(|| rate.take(now)).take(200).filter(|taken| *taken).count()
        };
        assert_eq!([taken(0), taken(999), taken(1000), taken(31_000), taken(1_000_000)], [100, 0, 1, 30, 100]);
    }

    #[test]
    fn debts_are_inherited_and_leave_something() {
        let begin = Instant::now();
        let (mut old, mut new) = (Rate::with_burst(100, 1, begin), Rate::with_burst(100, 1, begin));
        while old.take(begin) {}
        assert_eq!(old.debt(begin), Duration::from_secs(100));
        new.inherit(old.debt(begin), 10, begin);
        assert_eq!((0..200).filter(|_| new.take(begin)).count(), 10);
        let later = begin + Duration::from_secs(60);
        let mut third = Rate::with_burst(100, 1, later);
        third.inherit(old.debt(later), 10, later);
        assert_eq!((0..200).filter(|_| third.take(later)).count(), 60);
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
