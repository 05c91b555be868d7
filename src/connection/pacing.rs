//! The pace of one connection's deliveries: a token bucket of one tenth of a second.
//!
//! Control frames are not paced: a heartbeat never waits behind data.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// How much of a second may go out at once after a pause.
const BURST: f64 = 0.1;

#[derive(Debug)]
pub(super) struct Pacing {
    /// Bytes a second.
    rate: f64,
    /// Most that may go out at once: at least a byte, or nothing ever would.
    burst: f64,
    /// What may go out now; negative after a run that was larger than what was left.
    tokens: f64,
    filled: Instant,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Pacing {
    /// A pace of `rate` bytes a second; none for 0.
    pub(super) fn new(rate: u64) -> Option<Self> {
        let rate = rate as f64;
        (rate > 0.0).then(|| Self {
            rate,
            burst: (rate * BURST).max(1.0),
            tokens: 0.0,
            filled: Instant::now(),
            wait: None,
        })
    }

    /// How many bytes may go out now; pending, with the task woken in time, while it is none.
    pub(super) fn poll_allowance(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        loop {
            let now = Instant::now();
            let earned = now.duration_since(self.filled).as_secs_f64() * self.rate;
            self.tokens = (self.tokens + earned).min(self.burst);
            self.filled = now;
            if self.tokens >= 1.0 {
                self.wait = None;
                return Poll::Ready(self.tokens as usize);
            }
            // At least a millisecond: a timer cannot do better.
            let missing = Duration::from_secs_f64((1.0 - self.tokens) / self.rate).max(Duration::from_millis(1));
            let wait = self.wait.get_or_insert_with(|| Box::pin(sleep_until(now + missing)));
            match wait.as_mut().poll(cx) {
                Poll::Ready(()) => self.wait = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// `bytes` went out.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.tokens -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn over_time_no_more_goes_out_than_the_pace_allows() {
        let (mut pacing, start) = (Pacing::new(10_000).unwrap(), Instant::now());
        let mut sent = 0;
        while sent < 50_000 {
            let allowance = poll_fn(|cx| pacing.poll_allowance(cx)).await;
            // Runs are whole events, so they may be larger than what is left.
            let run = allowance.max(300);
            pacing.spend(run);
            sent += run;
        }
        let seconds = start.elapsed().as_secs_f64();
        assert!((4.5..=5.5).contains(&seconds), "{seconds}");
    }
}
