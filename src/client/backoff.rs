//! When to try again: exponential back-off with full jitter, and whatever the server advised.

use std::time::Duration;

use tokio::time::Instant;

/// How long to wait between attempts: a random time up to `first × factor^attempt`, never more than `max`.
///
/// Full jitter, because a thousand clients that lost the same server must not come back at the same moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Upper bound of the first wait.
    pub first: Duration,
    /// Upper bound of any wait that the server did not ask for.
    pub max: Duration,
    /// Growth of the bound from one attempt to the next; at least 1.
    pub factor: f64,
    /// How long a connection must have lived for the next failure to count as the first again. Without it a server
    /// that accepts and ends connections at once would be called without pause.
    pub stable_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            max: Duration::from_secs(30),
            factor: 2.0,
            stable_after: Duration::from_secs(10),
        }
    }
}

/// The state of one series of attempts.
#[derive(Debug)]
pub(super) struct Retry {
    policy: Backoff,
    attempt: i32,
}

impl Retry {
    pub(super) fn new(policy: Backoff) -> Self {
        Self { policy, attempt: 0 }
    }

    /// The next wait. `advised` is the earliest retry the server asked for: it is honoured in full, and the jitter
    /// comes on top, because it asked others the same.
    pub(super) fn next(&mut self, advised: Option<Duration>) -> Duration {
        let bound = self.bound();
        self.attempt = self.attempt.saturating_add(1);
        advised.unwrap_or_default() + bound.mul_f64(fastrand::f64())
    }

    /// Tells that an attempt held from `since` until `now`; starts over if that was long enough.
    pub(super) fn held(&mut self, since: Instant, now: Instant) {
        if now.duration_since(since) >= self.policy.stable_after {
            self.attempt = 0;
        }
    }

    fn bound(&self) -> Duration {
        let growth = self.policy.factor.max(1.0).powi(self.attempt);
        let seconds = (self.policy.first.as_secs_f64() * growth).min(self.policy.max.as_secs_f64());
        Duration::from_secs_f64(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Backoff {
        Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1), ..Backoff::default() }
    }

    #[test]
    fn waits_are_random_under_a_bound_that_doubles_up_to_the_maximum() {
        let mut retry = Retry::new(policy());
        for bound in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(retry.bound(), Duration::from_millis(bound));
            assert!(retry.next(None) <= Duration::from_millis(bound));
        }
        let spread: Vec<_> = (0..20).map(|_| retry.next(None)).collect();
        assert!(spread.iter().any(|wait| *wait != spread[0]));
    }

    #[test]
    fn a_thousand_attempts_do_not_overflow() {
        let mut retry = Retry::new(policy());
        for _ in 0..1000 {
            assert!(retry.next(None) <= Duration::from_secs(1));
        }
    }

    #[test]
    fn what_the_server_advised_is_waited_for_in_full() {
        let mut retry = Retry::new(policy());
        assert!(retry.next(Some(Duration::from_secs(60))) >= Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_that_held_starts_the_series_over() {
        let mut retry = Retry::new(policy());
        let since = Instant::now();
        retry.next(None);
        retry.held(since, since + Duration::from_secs(1));
        assert_eq!(retry.bound(), Duration::from_millis(200));
        retry.held(since, since + Duration::from_secs(10));
        assert_eq!(retry.bound(), Duration::from_millis(100));
    }
}
