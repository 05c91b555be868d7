//! A session, whatever connection carries it: what it is opened with, what it says, and what is kept of it.
//!
//! The reading side is a pure state machine, [`Session`]: no clock, no lock, no I/O. The outbox asks it what to send next
//! and it is told by the log alone; the inbound half changes what it may send. Everything a session can say comes out of
//! that one machine, so that its promises (the chain, no silent loss, nothing after a pause, nothing over the credit)
//! are kept in one file. Beside it stand the numbering of publishes, and the directory of who holds which name.

mod allowance;
mod directory;
mod estate;
mod machine;
mod numbering;
mod rounds;

use std::iter::Take;

use tokio::time::Instant;

use crate::{
    error::Failure,
    hub::Policy,
    log::{LatestIter, Record, RecordIter},
    telemetry::metrics::words,
    types::{Cursor, Timestamp},
};

pub use directory::{Attachment, Config, Directory, Kick, see_to_lost};
pub use estate::Estate;
pub use machine::{Event, Session};
pub use numbering::Numbering;

/// Where a session is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// After everything stored now.
    Live,
    /// With the oldest event kept.
    Earliest,
    /// After a position: a resume.
    Cursor(Cursor),
    /// With the newest N events.
    LastN(u64),
    /// With the first event stored at or after a moment.
    Since(Timestamp),
    /// With the latest event of each key of a keyed topic.
    Snapshot,
}

/// How an open relates to what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// No position was given.
    Fresh,
    /// The chain goes on without a hole.
    Full,
    /// A gap follows.
    Partial,
}

impl From<Recovery> for words::Recovery {
    fn from(recovery: Recovery) -> Self {
        match recovery {
            Recovery::Fresh => Self::Fresh,
            Recovery::Full => Self::Full,
            Recovery::Partial => Self::Partial,
        }
    }
}

/// How a session reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// End instead of announcing a gap.
    pub strict: bool,
    /// End at the position that was newest at the open.
    pub no_follow: bool,
    /// What may be sent; `None` leaves it to HTTP/2.
    pub credit: Option<Credit>,
    /// What happens if it does not keep up.
    pub policy: Policy,
}

/// Absolute totals since the open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Credit {
    /// Events.
    pub events: u64,
    /// Payload bytes; 0 leaves it to `events`.
    pub bytes: u64,
}

/// Why records will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Trimmed.
    Retention,
    /// Left out, because the session did not keep up.
    Slow,
    /// Another log.
    Epoch,
    /// Another event at the client's position.
    Diverged,
}

impl From<GapReason> for words::Gap {
    fn from(reason: GapReason) -> Self {
        match reason {
            GapReason::Retention => Self::Retention,
            GapReason::Slow => Self::Slow,
            GapReason::Epoch => Self::Epoch,
            GapReason::Diverged => Self::Diverged,
        }
    }
}

/// Records that will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// After this.
    pub from: Cursor,
    /// Up to and including this.
    pub to: Cursor,
    /// Why.
    pub reason: GapReason,
    /// How many; 0 if not known.
    pub count: u64,
}

/// What to send next.
#[derive(Debug)]
pub enum Step<'l> {
    /// Nothing: caught up.
    Idle,
    /// Nothing: paused or out of credit, though there may be more.
    Blocked,
    /// Nothing before that moment: it would be more often than asked for.
    Later(Instant),
    /// Announce this.
    Gap(Gap),
    /// Deliver this run.
    Run(Run<'l>),
    /// The session has ended: as asked, or with a failure.
    End(Option<Failure>),
}

/// Records to deliver as one.
#[derive(Debug, Clone)]
pub struct Run<'l> {
    /// The offset before the first; of a snapshot, the one it is of.
    pub prev: u64,
    /// Records between `prev` and the last one here that a conflating session does not get.
    pub skipped: u64,
    /// Part of a snapshot; its end, if there are no records.
    pub snapshot: bool,
    /// The records, oldest first.
    pub records: Records<'l>,
    /// How many.
    pub count: usize,
    /// Their encoded bytes in all.
    pub encoded_len: usize,
    /// Their payload bytes in all.
    pub payload_len: u64,
}

/// Records out of a log: a stretch of its history, or the latest of their keys.
#[derive(Debug, Clone)]
pub enum Records<'l> {
    /// Consecutive.
    History(Take<RecordIter<'l>>),
    /// One for each key.
    Latest(Take<LatestIter<'l>>),
}

impl<'l> Iterator for Records<'l> {
    type Item = &'l Record;

    fn next(&mut self) -> Option<&'l Record> {
        match self {
            Self::History(records) => records.next(),
            Self::Latest(records) => records.next(),
        }
    }
}

#[cfg(test)]
mod tests;
