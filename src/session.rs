//! A session as a pure state machine: where it reads, how much it may send, when it ends. No clock, no lock, no I/O.
//!
//! The outbox asks [`Session::next`] what to send next and is told by the log alone; the inbound half changes what it
//! may send by [`Session::flow`]. Everything a session can say comes out of those two, so that its promises (the chain,
//! no silent loss, nothing after a pause, nothing over the credit) are kept in this one file.

mod directory;
mod numbering;

use std::{collections::vec_deque, iter::Take};

use crate::{
    error::{Failure, Reason},
    log::{Log, Position, Record},
    types::{Cursor, Timestamp},
};

pub use directory::{Attachment, Config, Directory, Kick};
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

impl Recovery {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "FRESH",
            Self::Full => "FULL",
            Self::Partial => "PARTIAL",
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
    /// Another log.
    Epoch,
    /// Another event at the client's position.
    Diverged,
}

impl GapReason {
    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "RETENTION",
            Self::Epoch => "EPOCH",
            Self::Diverged => "DIVERGED",
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
    /// Announce this.
    Gap(Gap),
    /// Deliver this run.
    Run(Run<'l>),
    /// The session has ended: as asked, or with a failure.
    End(Option<Failure>),
}

/// A run of consecutive records.
#[derive(Debug, Clone)]
pub struct Run<'l> {
    /// The offset before the first.
    pub prev: u64,
    /// The records, oldest first; at least one.
    pub records: Take<vec_deque::Iter<'l, Record>>,
    /// Their encoded bytes in all.
    pub encoded_len: usize,
    /// Their payload bytes in all.
    pub payload_len: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    cursor: Cursor,
    strict: bool,
    stop_at: Option<u64>,
    credit: Option<Credit>,
    sent: Credit,
    paused: bool,
}

impl Session {
    /// Opens a session on a log. Fails only if it is strict and `start` cannot be honoured: CURSOR_TRIMMED or
    /// EPOCH_CHANGED.
    pub fn open(start: Start, options: Options, log: &Log) -> Result<(Self, Recovery), Failure> {
        let (cursor, recovery) = match start {
            Start::Live => (log.head(), Recovery::Fresh),
            Start::Earliest => (log.floor(), Recovery::Fresh),
            Start::LastN(count) => (log.before_last(count), Recovery::Fresh),
            Start::Since(time) => (log.before_time(time), Recovery::Fresh),
            Start::Cursor(cursor) => match log.position(cursor) {
                Position::Kept => (log.at(cursor.offset), Recovery::Full),
                Position::Trimmed | Position::OtherEpoch | Position::Diverged => (cursor, Recovery::Partial),
            },
        };
        let session = Self {
            cursor,
            strict: options.strict,
            stop_at: options.no_follow.then_some(log.head().offset),
            credit: options.credit,
            sent: Credit::default(),
            paused: false,
        };
        match session.gap(log) {
            Some(gap) if options.strict => Err(session.refusal(&gap)),
            _ => Ok((session, recovery)),
        }
    }

    /// What to send next, at most about `budget` encoded bytes but always one event. The session counts it as sent.
    pub fn next<'l>(&mut self, log: &'l Log, budget: usize) -> Step<'l> {
        if self.paused {
            return Step::Blocked;
        }
        if let Some(gap) = self.gap(log) {
            if self.strict {
                return Step::End(Some(self.refusal(&gap)));
            }
            self.cursor = gap.to;
            return Step::Gap(gap);
        }
        if self.stop_at.is_some_and(|stop| self.cursor.offset >= stop) {
            return Step::End(None);
        }
        if self.cursor.offset == log.head().offset {
            return Step::Idle;
        }
        match self.run(log, budget) {
            Some(run) => Step::Run(run),
            None => Step::Blocked,
        }
    }

    fn run<'l>(&mut self, log: &'l Log, budget: usize) -> Option<Run<'l>> {
        let (prev, start) = (self.cursor.offset, log.after(self.cursor.offset));
        let (mut count, mut encoded_len, mut payload_len, mut last) = (0, 0, 0, None);
        for record in start.clone() {
            let over_budget = count > 0 && encoded_len + record.encoded.len() > budget;
            let past_stop = self.stop_at.is_some_and(|stop| record.offset > stop);
            if over_budget || past_stop || !self.may_send(count, payload_len) {
                break;
            }
            count += 1;
            encoded_len += record.encoded.len();
            payload_len += record.payload_len as u64;
            last = Some(record);
        }
        let last = last?;
        self.cursor = Cursor { offset: last.offset, time: last.time, ..self.cursor };
        self.sent.events += count as u64;
        self.sent.bytes += payload_len;
        Some(Run { prev, records: start.take(count), encoded_len, payload_len })
    }

    /// True if one more event may go after `events` and `bytes` of a run that is being put together.
    fn may_send(&self, events: usize, bytes: u64) -> bool {
        self.credit.is_none_or(|credit| {
            let enough_bytes = credit.bytes == 0 || self.sent.bytes + bytes < credit.bytes;
            self.sent.events + (events as u64) < credit.events && enough_bytes
        })
    }

    fn gap(&self, log: &Log) -> Option<Gap> {
        let from = self.cursor;
        let (to, reason, count) = match log.position(from) {
            Position::Kept => return None,
            Position::Trimmed => (log.floor(), GapReason::Retention, log.floor().offset - from.offset),
            // What the new log has kept is new to the client: begin with all of it.
            Position::OtherEpoch => (log.floor(), GapReason::Epoch, 0),
            // What the client has seen is not what is here; only what comes from now on is sure to be new to it.
            Position::Diverged => (log.head(), GapReason::Diverged, 0),
        };
        Some(Gap { from, to, reason, count })
    }

    fn refusal(&self, gap: &Gap) -> Failure {
        let failure = match gap.reason {
            GapReason::Retention => {
                Failure::new(Reason::CursorTrimmed, "the history no longer reaches back to the cursor")
            }
            GapReason::Epoch => Failure::new(Reason::EpochChanged, "the cursor belongs to another log of this topic"),
            GapReason::Diverged => Failure::new(Reason::EpochChanged, "the log has another event at the cursor"),
        };
        failure.with("cursor", gap.from).with("first", gap.to)
    }

    /// Applies a Flow. Credit only grows. True if the session may have become able to send.
    pub fn flow(&mut self, credit: Option<Credit>, paused: Option<bool>) -> bool {
        if let (Some(granted), Some(held)) = (credit, &mut self.credit) {
            held.events = held.events.max(granted.events);
            // None at all is the most.
            let unlimited = held.bytes == 0 || granted.bytes == 0;
            held.bytes = if unlimited { 0 } else { held.bytes.max(granted.bytes) };
        } else if credit.is_some() {
            // The session was opened without a limit; from now on it has one.
            self.credit = credit;
        }
        self.paused = paused.unwrap_or(self.paused);
        !self.paused && self.may_send(0, 0)
    }

    /// Stops at what is newest now, if it would not stop before.
    pub fn stop_at_head(&mut self, log: &Log) {
        let head = log.head().offset;
        self.stop_at = Some(self.stop_at.map_or(head, |stop| stop.min(head)));
    }

    /// The last position sent.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// True while the client has paused it.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Events sent since the open.
    pub fn sent_events(&self) -> u64 {
        self.sent.events
    }
}

#[cfg(test)]
mod tests;
