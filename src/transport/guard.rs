//! Whether a peer behaves, judged by the headers of the frames it sends and of those we answer with.
//!
//! HTTP/2 bounds what a peer can make it hold, but not what a peer can make it do: it answers any number of PINGs, opens
//! and drops any number of streams, one after the other, and counts resets only before it has handed a stream on. The
//! guard counts what costs a peer nothing and us something, and ends the transport of one that does too much of it.
//!
//! It sits on the decrypted bytes ([`Wire`](super::coalesce::Wire)), passes them on unchanged, and keeps no more of them
//! than one frame header each way. What it counts does not depend on how they are split. Its verdict is final: HTTP/2
//! gets nothing of what comes after it, and what HTTP/2 says is cut off at the end of the frame under way, so that the
//! GOAWAY that says why comes after a whole frame.

mod config;
mod frames;
mod fuzzed;
mod pings;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use self::{
    frames::{Frames, Head, Seen, kind},
    pings::Pings,
};
use super::meter::End;
use crate::types::Rate;

pub use config::GuardConfig;
pub use fuzzed::hold_guard;

/// WINDOW_UPDATEs a peer may send before anything else: to widen its windows, for itself and for its first calls.
const FIRST_UPDATES: u32 = 100;
/// More of them for each stream it opens: stock clients widen the window of each call.
const UPDATES_PER_STREAM: u32 = 2;
/// Bytes of our DATA that allow for one more: gRPC's C core may open both windows anew after each message it reads, however
/// many of them came in one frame, and a message has five bytes before its first. A byte a frame allows for none, or a peer
/// that opens its window a byte at a time would be allowed what it does.
const BYTES_PER_UPDATE: u32 = 4;
/// Of what is allowed, no more is kept: or a long good life would allow for a long flood.
const MOST_UPDATES: u32 = 1_000_000;

/// Codes of RST_STREAM that say that all is well with the peer: NO_ERROR, INTERNAL_ERROR, CANCEL.
const NOT_THE_PEERS_FAULT: [u32; 3] = [0, 2, 8];

/// What remains of both allowances, as the time until they are whole again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Debts {
    pub(super) resets: Duration,
    pub(super) glitches: Duration,
}

/// The share of its allowances that a transport begins with whatever its address owes: `1 / RESERVE`.
const RESERVE: u32 = 10;

/// One transport's.
#[derive(Debug)]
pub(super) struct Guard {
    config: Arc<GuardConfig>,
    from_peer: Frames,
    from_us: Frames,
    /// Frames of the peer that have begun; counting stops at two, which is when it has greeted us.
    begun: u8,
    pings: Pings,
    resets: Rate,
    glitches: Rate,
    /// CONTINUATION frames since the last other one.
    continuations: u32,
    /// WINDOW_UPDATEs that the peer may send for nothing.
    updates: u32,
    /// PINGs and SETTINGS of ours that the peer has not answered.
    unanswered: (u32, u32),
    /// The highest stream that the peer has opened.
    last_stream: u32,
    verdict: Option<End>,
}

impl Guard {
    /// For a transport whose address owes this.
    pub(super) fn new(config: Arc<GuardConfig>, owed: Debts, now: Instant) -> Self {
        let mut resets = Rate::with_burst(config.reset_burst, config.resets_per_second, now);
        let mut glitches = Rate::with_burst(config.glitch_burst, config.glitches_per_second, now);
        resets.inherit(owed.resets, RESERVE, now);
        glitches.inherit(owed.glitches, RESERVE, now);
        Self {
            config,
            from_peer: Frames::after(frames::PREFACE),
            from_us: Frames::default(),
            begun: 0,
            pings: Pings::default(),
            resets,
            glitches,
            continuations: 0,
            updates: FIRST_UPDATES,
            unanswered: (0, 0),
            last_stream: 0,
            verdict: None,
        }
    }

    /// Whether the peer has sent its preface and a whole frame, which HTTP/2 makes sure is SETTINGS.
    pub(super) fn greeted(&self) -> bool {
        self.begun > 1 || self.begun == 1 && self.from_peer.payload_is_over()
    }

    /// Whether there is a verdict: nothing more is to be read.
    pub(super) fn has_judged(&self) -> bool {
        self.verdict.is_some()
    }

    /// Why the transport is to end, once that can be said: between two frames of ours.
    pub(super) fn verdict(&self) -> Option<End> {
        self.verdict.filter(|_| self.from_us.at_boundary())
    }

    /// What has been used up.
    pub(super) fn debts(&self, now: Instant) -> Debts {
        Debts { resets: self.resets.debt(now), glitches: self.glitches.debt(now) }
    }

    /// Looks at bytes of the peer; how many of them are for HTTP/2.
    pub(super) fn received(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> usize {
        let mut rest = bytes;
        while self.verdict.is_none()
            && let Some(seen) = self.from_peer.next(&mut rest)
        {
            self.verdict = self.judge(seen, &now).err();
        }
        bytes.len() - rest.len()
    }

    /// Looks at bytes of ours; how many of them are for the peer.
    pub(super) fn sent(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> usize {
        let mut rest = bytes;
        while self.verdict.is_none()
            && let Some(seen) = self.from_us.next(&mut rest)
        {
            self.note(seen, &now);
        }
        // A verdict may be older than these bytes: then they are for the peer as far as a frame of ours has begun.
        while self.verdict.is_some() && !rest.is_empty() && !self.from_us.at_boundary() {
            let mut piece = &rest[..rest.len().min(self.from_us.under_way())];
            rest = &rest[piece.len()..];
            while !piece.is_empty() && self.from_us.next(&mut piece).is_some() {}
        }
        bytes.len() - rest.len()
    }

    /// GOAWAY with the verdict.
    pub(super) fn last_words(&self) -> Option<Vec<u8>> {
        Some(frames::calm_down(self.last_stream, self.verdict()?.as_str()))
    }

    fn judge(&mut self, seen: Seen, now: &impl Fn() -> Instant) -> Result<(), End> {
        let is_first = self.begun == 0;
        self.begun = (self.begun + 1).min(2);
        let head = match seen {
            Seen::Reset(_) => return self.reset(now),
            Seen::Head(head) => head,
        };
        if head.kind != kind::CONTINUATION {
            self.continuations = 0;
        }
        match head.kind {
            kind::DATA => Ok(()),
            kind::HEADERS => {
                self.last_stream = self.last_stream.max(head.stream);
                self.allow_updates(UPDATES_PER_STREAM);
                Ok(())
            }
            kind::CONTINUATION => {
                self.continuations += 1;
                let within = self.continuations <= self.config.max_continuations;
                if within { Ok(()) } else { Err(End::TooManyContinuations) }
            }
            kind::PING if !head.is_ack() => {
                let interval = self.config.min_ping_interval;
                let allowed = interval.is_zero() || self.pings.allows(interval, now());
                if allowed { Ok(()) } else { Err(End::TooManyPings) }
            }
            _ if is_first || self.is_due(head) => Ok(()),
            // SETTINGS, PRIORITY, what nobody knows; answers to nothing, and windows opened for nothing.
            _ => {
                if self.glitches.take(now()) {
                    Ok(())
                } else {
                    Err(End::TooManyGlitches)
                }
            }
        }
    }

    /// Whether the frame answers one of ours, or is an allowed WINDOW_UPDATE.
    fn is_due(&mut self, head: Head) -> bool {
        let count = match head.kind {
            kind::PING => &mut self.unanswered.0,
            kind::SETTINGS if head.is_ack() => &mut self.unanswered.1,
            kind::WINDOW_UPDATE => &mut self.updates,
            _ => return false,
        };
        let is_due = *count > 0;
        *count = count.saturating_sub(1);
        is_due
    }

    fn allow_updates(&mut self, more: u32) {
        self.updates = self.updates.saturating_add(more).min(MOST_UPDATES);
    }

    fn reset(&mut self, now: &impl Fn() -> Instant) -> Result<(), End> {
        if self.resets.take(now()) { Ok(()) } else { Err(End::TooManyResets) }
    }

    fn note(&mut self, seen: Seen, now: &impl Fn() -> Instant) {
        match seen {
            Seen::Reset(code) if NOT_THE_PEERS_FAULT.contains(&code) => {}
            Seen::Reset(_) => self.verdict = self.reset(now).err(),
            Seen::Head(head) => match head.kind {
                kind::DATA => {
                    self.pings.spoke();
                    self.allow_updates(head.length / BYTES_PER_UPDATE);
                }
                kind::HEADERS => self.pings.spoke(),
                kind::PING if !head.is_ack() => self.unanswered.0 = self.unanswered.0.saturating_add(1),
                kind::SETTINGS if !head.is_ack() => self.unanswered.1 = self.unanswered.1.saturating_add(1),
                _ => {}
            },
        }
    }
}

#[cfg(test)]
mod tests;
