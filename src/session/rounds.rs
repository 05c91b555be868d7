//! How often a conflating session is served.

use std::time::Duration;

use tokio::time::Instant;

/// The rounds of a conflating session. A round sends everything up to the head it began at, in as many runs as the
/// connection's turns make of it; the next may begin an interval after it began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rounds {
    /// The present one: when it began, and up to where it goes.
    round: Option<(Instant, u64)>,
    not_before: Option<Instant>,
}

impl Rounds {
    /// Begins a round that goes up to `head`, unless one is going on. Fails with the time when one may begin.
    pub(super) fn begin(&mut self, now: Instant, head: u64) -> Result<(), Instant> {
        match (self.round, self.not_before) {
            (None, Some(not_before)) if now < not_before => Err(not_before),
            (None, _) => {
                self.round = Some((now, head));
                Ok(())
            }
            (Some(_), _) => Ok(()),
        }
    }

    /// Everything up to `offset` was sent.
    pub(super) fn sent(&mut self, offset: u64, interval: Duration) {
        if let Some((began, _)) = self.round.filter(|(_, through)| offset >= *through) {
            self.not_before = Some(began + interval);
            self.round = None;
        }
    }
}
