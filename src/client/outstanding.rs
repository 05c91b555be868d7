//! Publishes without an answer: what is sent when, again when, under which number, and for how long. No I/O.
//!
//! The server stores (session id, seq) at most once and refuses a seq that leaves a hole. So: numbers are given at the
//! first sending, a number that may have been stored is never given to another event, and a refused event gives its
//! number to the next.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{Error, ErrorKind, NewEvent, Published, Refusal};
use crate::{error::Advice, proto::v1};

/// How often an event may be refused with `WRONG_SEQ` before it fails. Each one is numbered anew by what the server
/// says, so a second one already means that the two do not agree.
const MAX_RENUMBERINGS: u32 = 3;

/// The publishes of one session. `T` is whatever an event's answer is given to.
#[derive(Debug)]
pub(super) struct Outstanding<T> {
    entries: VecDeque<Entry<T>>,
    /// How many entries, from the first on, were sent on the present attach and wait for an answer.
    sent: usize,
    /// The number of the next event sent for the first time.
    next_seq: u64,
    /// Nothing is sent before.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Entry<T> {
    event: NewEvent,
    done: T,
    /// 0 until first sent.
    seq: u64,
    /// Of the last sending; 0 if its answer no longer counts.
    request_id: u64,
    first_sent: Option<Instant>,
    renumbered: u32,
}

/// The end of one publish.
pub(super) type Outcome<T> = (T, Result<Published, Error>);

/// What a server's answer to a publish says.
#[derive(Debug)]
pub(super) enum Answer {
    /// Stored.
    Stored(Published),
    /// Not stored, and `through_seq` of the reply.
    Refused(Refusal, u64),
}

impl<T> Outstanding<T> {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), sent: 0, next_seq: 1, not_before: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push(&mut self, event: NewEvent, done: T) {
        self.entries.push_back(Entry { event, done, seq: 0, request_id: 0, first_sent: None, renumbered: 0 });
    }

    /// The session is attached anew: everything is to be sent again, unchanged and in order. `published_seq` is what
    /// the server knows to be stored: another process may have numbered further than we have.
    pub(super) fn attached(&mut self, published_seq: u64) {
        self.sent = 0;
        self.not_before = None;
        self.next_seq = self.next_seq.max(published_seq.saturating_add(1));
    }

    /// The next to send, if fewer than `limit` wait for an answer: the frame, under `request_id`.
    pub(super) fn next(&mut self, now: Instant, limit: usize, request_id: u64) -> Option<v1::Publish> {
        if self.sent >= limit || self.not_before.is_some_and(|time| now < time) {
            return None;
        }
        let entry = self.entries.get_mut(self.sent)?;
        if entry.seq == 0 {
            entry.seq = self.next_seq;
            self.next_seq += 1;
        }
        entry.request_id = request_id;
        entry.first_sent.get_or_insert(now);
        self.sent += 1;
        Some(v1::Publish { session: 0, seq: entry.seq, event: Some(entry.event.clone()) })
    }

    /// Takes an answer. From a connection that is `stale`, only success counts: whatever it refused is asked again on
    /// the present one. `pause` is how long to wait where the server advises a retry but names no time.
    pub(super) fn answer(
        &mut self,
        request_id: u64,
        answer: Answer,
        stale: bool,
        now: Instant,
        pause: Duration,
    ) -> Option<Outcome<T>> {
        let index = self.entries.iter().position(|entry| entry.request_id == request_id && request_id != 0)?;
        match answer {
            Answer::Stored(published) => self.remove(index).map(|entry| (entry.done, Ok(published))),
            Answer::Refused(..) if stale => None,
            Answer::Refused(refusal, through) if refusal.reason == "WRONG_SEQ" => {
                self.renumber_after(index, refusal, through)
            }
            // Stored, but where is forgotten: it keeps its number.
            Answer::Refused(refusal, _) if refusal.reason == "FORGOTTEN_SEQ" => {
                self.remove(index).map(|entry| (entry.done, Err(failed(refusal))))
            }
            Answer::Refused(refusal, _) if matches!(refusal.advice, Advice::Retry | Advice::Reconnect) => {
                self.rewind(index);
                self.not_before = Some(now + refusal.retry_after.unwrap_or(pause));
                None
            }
            Answer::Refused(refusal, _) => {
                let entry = self.remove(index)?;
                // All that were sent after it are refused too, because they leave a hole where it was.
                self.renumber(index, entry.seq);
                Some((entry.done, Err(failed(refusal))))
            }
        }
    }

    /// Gives up what was first sent longer than `patience` ago: beyond the server's memory a repeat could be stored
    /// twice. Its numbers are not given to others.
    pub(super) fn expire(&mut self, now: Instant, patience: Duration) -> Vec<Outcome<T>> {
        let mut expired = Vec::new();
        while let Some(index) =
            self.entries.iter().position(|entry| entry.first_sent.is_some_and(|sent| now >= sent + patience))
        {
            expired.extend(self.remove(index).map(|entry| (entry.done, Err(unknown("no answer in time")))));
        }
        expired
    }

    /// When `next` or `expire` has something to do that it has not now; `None` if only a frame or command can.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Instant> {
        let expiry = self.entries.iter().filter_map(|entry| entry.first_sent).min().map(|sent| sent + patience);
        let retry = self.not_before.filter(|_| self.sent < self.entries.len());
        [expiry, retry].into_iter().flatten().min()
    }

    /// Forgets a past `not_before`, so that `deadline` does not name it again.
    pub(super) fn wake(&mut self, now: Instant) {
        self.not_before = self.not_before.filter(|time| now < *time);
    }

    /// Ends them all: those that were never sent with `unsent`, the others may or may not be stored.
    pub(super) fn end(&mut self, unsent: &Error) -> Vec<Outcome<T>> {
        self.sent = 0;
        let end = |entry: Entry<T>| {
            let error = if entry.first_sent.is_some() { unknown(&unsent.to_string()) } else { unsent.clone() };
            (entry.done, Err(error))
        };
        self.entries.drain(..).map(end).collect()
    }

    fn remove(&mut self, index: usize) -> Option<Entry<T>> {
        if index < self.sent {
            self.sent -= 1;
        }
        self.entries.remove(index)
    }

    /// The entries from `index` on are to be sent again, as they are; answers still on their way do not count.
    fn rewind(&mut self, index: usize) {
        self.sent = self.sent.min(index);
        self.entries.range_mut(index..).for_each(|entry| entry.request_id = 0);
    }

    /// The entries from `index` on are known not to be stored: they are sent again, numbered from `first` on.
    fn renumber(&mut self, index: usize, first: u64) {
        self.rewind(index);
        self.entries.range_mut(index..).for_each(|entry| entry.seq = 0);
        self.next_seq = first;
    }

    fn renumber_after(&mut self, index: usize, refusal: Refusal, through: u64) -> Option<Outcome<T>> {
        let entry = &mut self.entries[index];
        entry.renumbered += 1;
        // A hole lies below the number. Anything else is a disagreement that repeating does not cure.
        if through.saturating_add(1) >= entry.seq || entry.renumbered > MAX_RENUMBERINGS {
            let entry = self.remove(index)?;
            self.renumber(index, through.saturating_add(1));
            return Some((entry.done, Err(failed(refusal))));
        }
        self.renumber(index, through + 1);
        None
    }
}

fn failed(refusal: Refusal) -> Error {
    Error::refused(ErrorKind::PublishFailed, refusal)
}

fn unknown(why: &str) -> Error {
    Error::new(ErrorKind::UnknownOutcome, format!("the event may or may not be stored: {why}"))
}
