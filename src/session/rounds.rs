//! How often a conflating session is served.

use std::time::Duration;

use tokio::time::Instant;

/// The rounds of a conflating session. A round sends what is latest up to the head it began at, in as many runs as the
/// connection's turns make of it, so that each key comes once; the next may begin an interval after the last of it was
/// sent, so that no key comes more often than that.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rounds {
    /// Up to where the present one goes.
    through: Option<u64>,
    not_before: Option<Instant>,
}

impl Rounds {
    /// Up to where the round that is going on goes; if there is none, one begins that goes up to `head`. Fails with the
    /// time when one may begin.
    pub(super) fn through(&mut self, now: Instant, head: u64) -> Result<u64, Instant> {
        match (self.through, self.not_before) {
            (None, Some(not_before)) if now < not_before => Err(not_before),
            (through, _) => Ok(*self.through.insert(through.unwrap_or(head))),
        }
    }

    /// Something of the round was sent.
    pub(super) fn sent(&mut self, now: Instant, interval: Duration) {
        self.not_before = Some(now + interval);
    }

    /// The round is over: it has sent everything, or nothing can be sent of it, or what it was to send is void.
    pub(super) fn end(&mut self) {
        self.through = None;
    }
}
