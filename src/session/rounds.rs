//! How often a conflating session is served.

use std::time::Duration;

use tokio::time::Instant;

/// The rounds of a conflating session. A round sends what is latest up to the head it began at, in as many runs as the
/// connection's turns make of it, so that each key comes once; the next may begin an interval after it began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rounds {
    /// The present one: when it began, and up to where it goes.
    round: Option<(Instant, u64)>,
    not_before: Option<Instant>,
}

impl Rounds {
    /// Up to where the round that is going on goes; if there is none, one begins that goes up to `head`. Fails with the
    /// time when one may begin.
    pub(super) fn through(&mut self, now: Instant, head: u64) -> Result<u64, Instant> {
        match (self.round, self.not_before) {
            (Some((_, through)), _) => Ok(through),
            (None, Some(not_before)) if now < not_before => Err(not_before),
            (None, _) => {
                self.round = Some((now, head));
                Ok(head)
            }
        }
    }

    /// The round has sent everything.
    pub(super) fn end(&mut self, interval: Duration) {
        if let Some((began, _)) = self.round.take() {
            self.not_before = Some(began + interval);
        }
    }
}
