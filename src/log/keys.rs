//! The latest event of each key: what a keyed topic is, beside the history of how it came about.
//!
//! Ordered by offset, so that a snapshot is a cursor too: whoever reads it goes up from offset to offset, at its own
//! pace, while keys that change meanwhile move behind the place where the snapshot ends and come as changes. A removed
//! key leaves a tombstone for as long as the history holds the event that removed it, for readers that conflate.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque, btree_map};

use bytes::Bytes;

use super::{Record, weight};
use crate::{
    error::{Failure, Reason},
    proto,
    types::{ByProducer, NewEvent, Operation, Producer, Timestamp},
};

/// Bytes of memory that a key takes beside the record of its latest event: its entries in both maps, and its own copy,
/// which is rarely long.
const PER_KEY: u64 = 384;

/// See the module.
#[derive(Debug, Default)]
pub struct Keys {
    max_keys: usize,
    max_bytes: u64,
    bytes: u64,
    places: HashMap<Bytes, Place>,
    latest: BTreeMap<u64, Latest>,
    /// Offsets of tombstones, oldest first; those of keys that came back are stale.
    tombstones: VecDeque<u64>,
    live: usize,
    /// Highest offset of a tombstone that is gone: a reader behind it may not know of a removal.
    forgotten: u64,
    /// Which keys die with which session.
    owned: ByProducer<HashSet<Bytes>>,
}

#[derive(Debug)]
struct Place {
    offset: u64,
    owner: Option<Producer>,
}

#[derive(Debug)]
struct Latest {
    key: Bytes,
    removed: bool,
    record: Record,
}

impl Keys {
    pub(super) fn new(max_keys: usize, max_bytes: u64) -> Self {
        Self { max_keys, max_bytes, ..Self::default() }
    }

    /// Most bytes of memory that so many keys can take beside the records of their latest events. There are no more
    /// tombstones than events in the history, each of which weighs more than its tombstone.
    pub(super) fn worst_bytes(max_keys: usize) -> u64 {
        max_keys as u64 * 2 * PER_KEY
    }

    /// Checks that an event may become the latest of its key: INVALID_FIELD without a key, KEY_LIMIT if there is no
    /// room.
    pub(super) fn check(&self, event: &NewEvent) -> Result<(), Failure> {
        if event.key.is_empty() {
            let failure = Failure::new(Reason::InvalidField, "an event of a keyed topic needs a key");
            return Err(failure.with("field", "event.key"));
        }
        if event.operation == Operation::Delete {
            return Ok(());
        }
        let held = self.latest_of(&event.key).filter(|latest| !latest.removed);
        if held.is_none() && self.live >= self.max_keys {
            let message = format!("the topic holds at most {} keys", self.max_keys);
            return Err(Failure::new(Reason::KeyLimit, message).with("limit", self.max_keys));
        }
        let freed = held.map_or(0, |latest| latest.record.weight());
        if self.bytes - freed + weight(proto::encoded_event_len(event)) > self.max_bytes {
            let message = format!("the values of the topic's keys take at most {} bytes", self.max_bytes);
            return Err(Failure::new(Reason::KeyLimit, message).with("limit", self.max_bytes));
        }
        Ok(())
    }

    /// Takes in a record that was stored, of an event that sets or removes `key`, which dies with `owner` if there is one.
    pub(super) fn apply(&mut self, key: &Bytes, operation: Operation, owner: Option<Producer>, record: &Record) {
        let removed = operation == Operation::Delete;
        let key = match self.places.remove_entry(key) {
            Some((key, old)) => {
                self.unlink(&key, &old);
                key
            }
            // Copied: what came in is a piece of a much larger read buffer, which would be kept with it.
            None => Bytes::copy_from_slice(key),
        };
        let owner = owner.filter(|_| !removed);
        if let Some(owner) = &owner {
            self.owned.entry(owner.clone()).or_default().insert(key.clone());
        }
        self.places.insert(key.clone(), Place { offset: record.offset, owner });
        if removed {
            self.tombstones.push_back(record.offset);
        } else {
            self.live += 1;
            self.bytes += record.weight();
        }
        self.latest.insert(record.offset, Latest { key, removed, record: record.clone() });
    }

    fn unlink(&mut self, key: &Bytes, old: &Place) {
        if let Some(latest) = self.latest.remove(&old.offset)
            && !latest.removed
        {
            self.live -= 1;
            self.bytes -= latest.record.weight();
        }
        if let Some(owner) = &old.owner
            && let Some(keys) = self.owned.get_mut(owner)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.owned.remove(owner);
            }
        }
    }

    /// The history no longer holds anything up to `floor`: neither are tombstones kept.
    pub(super) fn trimmed(&mut self, floor: u64) {
        while let Some(offset) = self.tombstones.pop_front_if(|offset| *offset <= floor) {
            // The key may have come back since.
            if let Some(tombstone) = self.latest.remove(&offset) {
                self.places.remove(&tombstone.key);
                self.forgotten = offset;
            }
        }
    }

    /// The keys that die with a session, in the order of their events. They are no longer its own.
    pub(super) fn disown(&mut self, owner: &Producer) -> Vec<Bytes> {
        let mut keys: Vec<_> = self.owned.remove(owner).unwrap_or_default().into_iter().collect();
        keys.sort_by_key(|key| self.places.get(key).map_or(0, |place| place.offset));
        keys
    }

    /// The keys that die with a session, in the order of their events, each with the offset of its latest.
    pub(super) fn owned_by(&self, owner: &Producer) -> Vec<(Bytes, u64)> {
        let keys = self.owned.get(owner).into_iter().flatten();
        let mut places: Vec<_> =
            keys.map(|key| (key.clone(), self.places.get(key).map_or(0, |place| place.offset))).collect();
        places.sort_unstable_by_key(|(_, offset)| *offset);
        places
    }

    /// True if the key dies with that session, and was last set at `offset`.
    pub(super) fn is_owned(&self, key: &[u8], owner: &Producer, offset: u64) -> bool {
        self.places.get(key).is_some_and(|place| place.owner.as_ref() == Some(owner) && place.offset == offset)
    }

    /// True if a reader at `offset` that reads only the latest of each key misses nothing.
    pub fn reach(&self, offset: u64) -> bool {
        offset >= self.forgotten
    }

    /// The latest events after `offset` and up to `through`, oldest first, with what was removed if `removals`.
    pub fn between(&self, offset: u64, through: u64, removals: bool) -> LatestIter<'_> {
        let range = (offset < through).then(|| self.latest.range(offset + 1..=through));
        LatestIter { range, removals }
    }

    fn latest_of(&self, key: &[u8]) -> Option<&Latest> {
        self.latest.get(&self.places.get(key)?.offset)
    }

    /// The keys that are set, ordered, from the first one after `after`: each with when it was set and its record.
    pub fn list(&self, after: &[u8], limit: usize) -> Vec<(&Bytes, Timestamp, &Record)> {
        let set = self.latest.values().filter(|latest| !latest.removed && latest.key[..] > *after);
        let mut rows: Vec<_> = set.map(|latest| (&latest.key, latest.record.time, &latest.record)).collect();
        if rows.len() > limit {
            rows.select_nth_unstable_by_key(limit, |row| row.0);
            rows.truncate(limit);
        }
        rows.sort_unstable_by_key(|row| row.0);
        rows
    }

    /// Bytes of memory that the keys and their latest events take; of those removed, the event is the history's.
    pub(super) fn weight(&self) -> u64 {
        self.bytes + self.latest.len() as u64 * PER_KEY
    }

    /// How many keys are set.
    pub fn len(&self) -> usize {
        self.live
    }

    /// True if no key is set and nothing is left of one that was.
    pub fn is_empty(&self) -> bool {
        self.latest.is_empty()
    }
}

/// Records that are the latest of their key, by offset.
#[derive(Debug, Clone)]
pub struct LatestIter<'l> {
    range: Option<btree_map::Range<'l, u64, Latest>>,
    removals: bool,
}

impl<'l> Iterator for LatestIter<'l> {
    type Item = &'l Record;

    fn next(&mut self) -> Option<&'l Record> {
        let removals = self.removals;
        self.range.as_mut()?.map(|(_, latest)| latest).find(|latest| removals || !latest.removed).map(|l| &l.record)
    }
}
