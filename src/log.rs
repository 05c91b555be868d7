//! One topic's log: a ring of encoded events with a floor below which history is gone.
//!
//! A log knows nothing of who reads it. A reader is an offset; everything it may be told follows from where that
//! offset lies: below the floor there is a gap, above it there are records, at the head there is nothing yet.
//!
//! Invariants: offsets rise strictly and never fall, and so do times where the log is written here; `floor` is the offset before the oldest record kept;
//! every record after `floor` is kept; nothing is trimmed without `floor` moving over it.

mod dedupe;
mod holds;
mod keys;
mod mirror;
mod places;
mod record;
mod total;

use std::{
    collections::{VecDeque, vec_deque},
    time::Duration,
};

use crate::{
    error::{Failure, Reason},
    planted::{self, Bug},
    proto,
    types::{Cursor, Durability, NewEvent, Operation, Producer, Published, Timestamp},
};
use dedupe::{Dedupes, Verdict};
use holds::Holds;
pub use keys::{Keys, LatestIter};
use mirror::Mirror;
pub use mirror::{Arrival, Origin, Taken};
pub use record::Record;
use record::weight;
pub use total::Total;

/// How long a publisher that is ahead of a required reader is to wait before it tries again.
const BACKPRESSURE_PAUSE: Duration = Duration::from_millis(20);

/// How much a log keeps; whatever is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most events.
    pub max_events: u64,
    /// Most bytes of memory that its events take; see [`Record::weight`].
    pub max_bytes: u64,
    /// Longest time; zero keeps them whatever their age.
    pub max_age: Duration,
    /// How long a publish is recognised as a repeat.
    pub dedupe_window: Duration,
    /// How many of a session's latest publishes can be recognised; 0 recognises no repeat at all.
    pub dedupe_depth: usize,
    /// Most keys of a keyed topic, whose values together take at most `max_bytes`; 0 for any other topic.
    pub max_keys: usize,
    /// Most events a publish may be ahead of a required reader; 0 where there can be none.
    pub max_lag: u64,
}

impl Limits {
    /// Most bytes of memory that a log with these limits can hold: events, keys with their latest, publishes remembered.
    pub fn worst_bytes(&self) -> u64 {
        let keys = if self.max_keys > 0 { self.max_bytes + Keys::worst_bytes(self.max_keys) } else { 0 };
        self.max_bytes + keys + Dedupes::worst_bytes(self.dedupe_depth)
    }
}

/// Where a cursor lies in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Inside: what follows it is kept.
    Kept,
    /// Below the floor: what followed it is gone, at least in part.
    Trimmed,
    /// It belongs to another incarnation of the topic.
    OtherEpoch,
    /// The log has another event, or none, where it points.
    Diverged,
}

/// Records in the order they were stored.
pub type RecordIter<'l> = vec_deque::Iter<'l, Record>;

/// See the module.
#[derive(Debug)]
pub struct Log {
    epoch: u64,
    limits: Limits,
    records: VecDeque<Record>,
    bytes: u64,
    floor: u64,
    head: (u64, Timestamp),
    dedupes: Dedupes,
    keys: Option<Keys>,
    holds: Holds,
    /// Of a log that is kept elsewhere.
    mirror: Option<Mirror>,
    /// Where what it holds is counted, and how much of it is.
    total: (Total, u64),
}

impl Log {
    /// An empty log with an epoch of its own.
    pub fn new(limits: Limits) -> Self {
        let mut log = Self::without_epoch(limits);
        log.epoch = if planted::active(Bug::ReusesAnEpoch) { 1 } else { fastrand::u64(1..) };
        log
    }

    fn without_epoch(limits: Limits) -> Self {
        Self {
            epoch: 0,
            limits,
            records: VecDeque::new(),
            bytes: 0,
            floor: 0,
            head: (0, Timestamp(0)),
            dedupes: Dedupes::new(limits.dedupe_window, limits.dedupe_depth),
            keys: (limits.max_keys > 0).then(|| Keys::new(limits.max_keys, limits.max_bytes)),
            holds: Holds::default(),
            mirror: None,
            total: (Total::default(), 0),
        }
    }

    /// The same log, which counts what it holds in `total`; for one that holds nothing yet.
    #[must_use]
    pub fn counted(mut self, total: Total) -> Self {
        self.total = (total, 0);
        self
    }

    /// Stores an event, or recognises it, or says why not: WRONG_LAST (with `actual`), WRONG_SEQ and FORGOTTEN_SEQ
    /// (with `through_seq`), BACKPRESSURE, HISTORY_LIMIT, and of a keyed topic KEY_LIMIT and INVALID_FIELD.
    pub fn append(&mut self, event: &NewEvent, now: Timestamp) -> Result<Published, Failure> {
        if let Verdict::Repeat((offset, time)) = self.dedupes.judge(&event.dedupe)? {
            self.dedupes.remember(&event.dedupe, (offset, time));
            return Ok(self.published(offset, time, true));
        }
        self.check(event)?;
        Ok(self.store(event, now))
    }

    /// Stores an event that nothing speaks against.
    fn store(&mut self, event: &NewEvent, now: Timestamp) -> Published {
        let (offset, time) = (self.head.0 + 1, now.max(Timestamp(self.head.1.0 + 1)));
        let encoded = proto::encode_event(event, offset, time);
        if planted::strikes(Bug::AnswersUnstored, 60) {
            return self.published(offset, time, false);
        }
        let record = Record { offset, time, payload_len: event.payload.len(), encoded, trace: event.trace.clone() };
        if let Some(keys) = &mut self.keys {
            keys.apply(&event.key, event.operation, event.scope.clone(), &record);
        }
        self.dedupes.remember(&event.dedupe, (offset, time));
        self.bytes += record.weight();
        self.records.push_back(record);
        self.head = (offset, time);
        self.trim(now);
        self.published(offset, time, false)
    }

    /// Whether a publish that is none of those before may be stored; fails as [`Log::append`] does.
    pub fn check(&self, event: &NewEvent) -> Result<(), Failure> {
        let head = self.head.0;
        if let Some(expected) = event.if_last
            && expected != head
        {
            let message = format!("the newest offset is {head}, not {expected}");
            return Err(Failure::new(Reason::WrongLast, message).with("actual", head));
        }
        self.check_room(event)
    }

    /// Whether there is room for an event, with the readers that are waited for and under every limit.
    fn check_room(&self, event: &NewEvent) -> Result<(), Failure> {
        // The removal of a key makes room.
        if self.keys.is_none() || event.operation != Operation::Delete {
            self.total.0.check()?;
        }
        if let Some(lowest) = self.holds.lowest()
            && (self.count_after(lowest) >= self.limits.max_lag || self.would_trim_above(lowest, event))
        {
            let failure = Failure::new(Reason::Backpressure, "a reader that the topic waits for is behind");
            return Err(failure.with("acked", lowest).retry_after(BACKPRESSURE_PAUSE));
        }
        self.keys.as_ref().map_or(Ok(()), |keys| keys.check(event))
    }

    /// True if one more event would cost the history a record that lies after `offset`. One that is larger than the
    /// whole history costs it all.
    fn would_trim_above(&self, offset: u64, event: &NewEvent) -> bool {
        let needed = (self.bytes + weight(proto::encoded_event_len(event))).saturating_sub(self.limits.max_bytes);
        let surplus = (self.records.len() as u64 + 1).saturating_sub(self.limits.max_events);
        if needed == 0 && surplus == 0 {
            return false;
        }
        let (mut count, mut bytes) = (0, 0);
        for record in self.records.iter().take_while(|record| record.offset <= offset) {
            if bytes >= needed && count >= surplus {
                return false;
            }
            count += 1;
            bytes += record.weight();
        }
        bytes < needed || count < surplus
    }

    fn published(&self, offset: u64, time: Timestamp, duplicate: bool) -> Published {
        let cursor = Cursor { epoch: self.epoch, offset, time };
        Published { cursor, duplicate, durability: Durability::Accepted }
    }

    /// Drops everything up to `offset`: its only reader has it.
    pub fn discard_through(&mut self, offset: u64) {
        while let Some(oldest) = self.records.pop_front_if(|record| record.offset <= offset) {
            self.bytes -= oldest.weight();
            self.floor = oldest.offset;
        }
        self.count();
    }

    /// Drops the oldest until the events take at most `bytes`, but nothing that a reader is waited for to acknowledge.
    /// Returns the bytes that were dropped.
    pub fn trim_to(&mut self, bytes: u64) -> u64 {
        let (before, held) = (self.bytes, self.holds.lowest().unwrap_or(u64::MAX));
        while self.bytes > bytes
            && let Some(oldest) = self.records.pop_front_if(|record| record.offset <= held)
        {
            self.bytes -= oldest.weight();
            self.floor = oldest.offset;
        }
        self.trimmed();
        before - self.bytes
    }

    /// Drops what is over the limits, and forgets what is past the dedupe window.
    pub fn trim(&mut self, now: Timestamp) {
        let oldest_kept = if self.limits.max_age.is_zero() { Timestamp(0) } else { now.minus(self.limits.max_age) };
        while let Some(oldest) = self.records.front() {
            let over = self.records.len() as u64 > self.limits.max_events
                || self.bytes > self.limits.max_bytes
                || oldest.time < oldest_kept;
            if !over {
                break;
            }
            self.bytes -= oldest.weight();
            self.floor = oldest.offset;
            self.records.pop_front();
        }
        self.dedupes.expire(now);
        self.trimmed();
    }

    /// After the floor may have moved.
    fn trimmed(&mut self) {
        if let Some(keys) = &mut self.keys {
            keys.trimmed(self.floor);
        }
        // A burst must not hold its memory for ever.
        if self.records.capacity() > 64 && self.records.len() * 4 < self.records.capacity() {
            self.records.shrink_to(self.records.len() * 2);
        }
        self.count();
    }

    /// Says what it holds now.
    fn count(&mut self) {
        let held = self.bytes + self.dedupes.weight() + self.keys.as_ref().map_or(0, Keys::weight);
        self.total.0.changed(self.total.1, held);
        self.total.1 = held;
    }

    /// The newest position.
    pub fn head(&self) -> Cursor {
        Cursor { epoch: self.epoch, offset: self.head.0, time: self.head.1 }
    }

    /// The position before the oldest record kept.
    pub fn floor(&self) -> Cursor {
        self.at(self.floor)
    }

    /// The position at `offset`, with its time if its record is kept.
    pub fn at(&self, offset: u64) -> Cursor {
        let time = if offset == self.head.0 { self.head.1 } else { self.time_at(offset).unwrap_or_default() };
        Cursor { epoch: self.epoch, offset, time }
    }

    fn time_at(&self, offset: u64) -> Option<Timestamp> {
        let record = self.records.get(self.index_after(offset).checked_sub(1)?)?;
        (record.offset == offset).then_some(record.time)
    }

    /// Records after `offset`, oldest first; from the oldest kept if `offset` lies below the floor.
    pub fn after(&self, offset: u64) -> RecordIter<'_> {
        self.records.range(self.index_after(offset)..)
    }

    /// Index of the first record after `offset`. Where offsets are dense the guess is right; where they are sparse, it
    /// is searched for.
    fn index_after(&self, offset: u64) -> usize {
        let Some(first) = self.records.front() else { return 0 };
        // Saturating: an offset may be whatever a client says.
        let next = offset.saturating_add(1);
        let guess = usize::try_from(next.saturating_sub(first.offset)).unwrap_or(usize::MAX);
        match self.records.get(guess) {
            Some(record) if record.offset == next => guess,
            _ => self.records.partition_point(|record| record.offset <= offset),
        }
    }

    /// The position before the newest `count` records.
    pub fn before_last(&self, count: u64) -> Cursor {
        let skip = self.records.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        match skip.checked_sub(1).and_then(|index| self.records.get(index)) {
            Some(record) => Cursor { epoch: self.epoch, offset: record.offset, time: record.time },
            None => self.floor(),
        }
    }

    /// The position before the first record stored at or after `time`.
    pub fn before_time(&self, time: Timestamp) -> Cursor {
        let index = self.records.partition_point(|record| record.time < time);
        self.before_last((self.records.len() - index) as u64)
    }

    /// Highest seq of a session known to be stored; 0 if none is.
    pub fn published_seq(&self, producer: &Producer) -> u64 {
        self.dedupes.last_seq(producer)
    }

    /// Records kept, and the bytes of memory they take.
    pub fn size(&self) -> (u64, u64) {
        (self.records.len() as u64, self.bytes)
    }

    /// The latest event of each key, if the topic is keyed.
    pub fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    /// Removes the keys that were to die with a session and are still its own. True if there were any.
    pub fn remove_owned(&mut self, owner: &Producer, now: Timestamp) -> bool {
        let owned = self.keys.as_mut().map(|keys| keys.disown(owner)).unwrap_or_default();
        let removal = |key| NewEvent {
            key,
            operation: Operation::Delete,
            publisher: Some(owner.client_id().clone()),
            ..NewEvent::default()
        };
        let any = !owned.is_empty();
        for key in owned {
            // Nothing may refuse a removal: it has a key, no condition and no number, and it takes nearly no room.
            self.store(&removal(key), now);
        }
        any
    }

    /// Has publishers wait for a reader that has acknowledged everything up to `offset`. `None` if too many do.
    pub fn hold(&mut self, offset: u64) -> Option<u64> {
        self.holds.add(offset)
    }

    /// True if [`Log::hold`] would find room.
    pub fn has_room_to_hold(&self) -> bool {
        !self.holds.is_full()
    }

    /// A reader that is waited for has acknowledged more.
    pub fn advance_hold(&mut self, hold: u64, offset: u64) {
        self.holds.advance(hold, offset);
    }

    /// A reader is no longer waited for.
    pub fn release_hold(&mut self, hold: u64) {
        self.holds.remove(hold);
    }

    /// True if dropping the log would lose nothing but its epoch.
    pub fn is_vacant(&self) -> bool {
        let no_keys = self.keys.as_ref().is_none_or(Keys::is_empty);
        self.records.is_empty() && self.dedupes.is_empty() && self.holds.is_empty() && no_keys
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.total.0.changed(self.total.1, 0);
    }
}

#[cfg(test)]
mod tests;
