//! What a keyed topic holds, kept from the items of a session. No I/O.

use std::collections::{
    HashMap,
    hash_map::{self, Entry},
};

use bytes::Bytes;

use super::{Event, Item, Operation};

/// The map that a keyed topic is: the latest event of each key.
///
/// Give it every [`Item`] of a session that began with [`Start::Snapshot`](super::Start::Snapshot), in order; it tells
/// what changed. It stays right through reconnects, gaps and the snapshots that follow them: a new snapshot takes the
/// place of the map only when it is complete, and what did not come in it is reported as removed.
///
/// ```no_run
/// use bowline::client::{Change, Client, Mirror, Open, Start};
/// use futures_util::StreamExt;
///
/// # async fn example(client: Client) -> Result<(), bowline::client::Error> {
/// let mut session = client.open(Open::topic("state.prices").start(Start::Snapshot)).await?;
/// let mut prices = Mirror::new();
/// while let Some(item) = session.next().await {
///     for change in prices.take(&item) {
///         match change {
///             Change::Put { key, .. } => println!("{key:?} is {:?}", prices.get(&key).map(|event| &event.payload)),
///             Change::Removed { before } => println!("{:?} is gone", before.key),
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Mirror {
    events: HashMap<Bytes, Event>,
    /// What has come of a snapshot that has not ended.
    snapshot: Option<HashMap<Bytes, Event>>,
    complete: bool,
}

/// What an item changed in a [`Mirror`].
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The key is there with another event than before, or is new.
    Put {
        /// The key; [`Mirror::get`] has its event.
        key: Bytes,
        /// The event it had before; `None` if it is new.
        before: Option<Event>,
    },
    /// The key is gone.
    Removed {
        /// The event it had.
        before: Event,
    },
}

impl Mirror {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next item. At the end of a snapshot it returns all that differs from before, otherwise at most one
    /// change.
    pub fn take(&mut self, item: &Item) -> Vec<Change> {
        match item {
            Item::SnapshotBegin(_) => self.snapshot = Some(HashMap::new()),
            Item::SnapshotEnd(_) => {
                self.complete = true;
                return self.snapshot.take().map(|snapshot| self.replace(snapshot)).unwrap_or_default();
            }
            Item::Gap(_) => self.complete = false,
            Item::Event(received) if received.snapshot => {
                let event = &received.event;
                if let Some(snapshot) = self.snapshot.as_mut().filter(|_| event.operation() != Operation::Delete) {
                    snapshot.insert(event.key.clone(), event.clone());
                }
            }
            Item::Event(received) => return self.change(&received.event).into_iter().collect(),
            _ => {}
        }
        Vec::new()
    }

    /// The latest event of a key; `None` if it is not there.
    pub fn get(&self, key: &[u8]) -> Option<&Event> {
        self.events.get(key)
    }

    /// The latest event of each key, in no order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.values()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// False before the end of the first snapshot, and from a gap to the end of the snapshot after it: until then, keys
    /// may be missing or old.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    fn change(&mut self, event: &Event) -> Option<Change> {
        match (self.events.entry(event.key.clone()), event.operation()) {
            (Entry::Occupied(entry), Operation::Delete) => Some(Change::Removed { before: entry.remove() }),
            (Entry::Vacant(_), Operation::Delete) => None,
            (Entry::Occupied(mut entry), _) => {
                let before = Some(entry.insert(event.clone()));
                Some(Change::Put { key: event.key.clone(), before })
            }
            (Entry::Vacant(entry), _) => {
                entry.insert(event.clone());
                Some(Change::Put { key: event.key.clone(), before: None })
            }
        }
    }

    fn replace(&mut self, snapshot: HashMap<Bytes, Event>) -> Vec<Change> {
        let mut old = std::mem::replace(&mut self.events, snapshot);
        let mut changes = Vec::new();
        for (key, event) in &self.events {
            let before = old.remove(key);
            // The time tells events of different epochs apart, whose offsets may be the same.
            let same = |before: &Event| (before.offset, before.time_us) == (event.offset, event.time_us);
            if !before.as_ref().is_some_and(same) {
                changes.push(Change::Put { key: key.clone(), before });
            }
        }
        changes.extend(old.into_values().map(|before| Change::Removed { before }));
        changes
    }
}

impl<'a> IntoIterator for &'a Mirror {
    type Item = (&'a Bytes, &'a Event);
    type IntoIter = hash_map::Iter<'a, Bytes, Event>;

    /// Keys with their latest events, in no order.
    fn into_iter(self) -> Self::IntoIter {
        self.events.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Cursor, Gap, GapReason, Received};

    fn event(offset: u64, key: &str) -> Event {
        Event { offset, time_us: offset, key: key.to_owned().into(), ..Event::default() }
    }

    fn item(event: Event, snapshot: bool) -> Item {
        Item::Event(Received { cursor: Cursor::default(), prev: 0, skipped: 0, snapshot, event })
    }

    fn changed(offset: u64, key: &str) -> Item {
        item(event(offset, key), false)
    }

    fn deleted(offset: u64, key: &str) -> Item {
        item(Event { operation: Operation::Delete.into(), ..event(offset, key) }, false)
    }

    fn begin() -> Item {
        Item::SnapshotBegin(Cursor::default())
    }

    fn end() -> Item {
        Item::SnapshotEnd(Cursor::default())
    }

    fn gap() -> Item {
        let (from, to) = (Cursor::default(), Cursor::default());
        Item::Gap(Gap { from, to, reason: GapReason::Slow, count: 0, possible: false })
    }

    /// What all these items changed, in words and in order of the keys.
    fn take(mirror: &mut Mirror, items: impl IntoIterator<Item = Item>) -> Vec<String> {
        let word = |change| match change {
            Change::Put { key, before: None } => format!("{} new", String::from_utf8_lossy(&key)),
            Change::Put { key, .. } => format!("{} put", String::from_utf8_lossy(&key)),
            Change::Removed { before } => format!("{} gone", String::from_utf8_lossy(&before.key)),
        };
        let mut words: Vec<_> = items.into_iter().flat_map(|item| mirror.take(&item)).map(word).collect();
        words.sort_unstable();
        words
    }

    fn snapshot(events: &[(u64, &str)]) -> Vec<Item> {
        let parts = events.iter().map(|(offset, key)| item(event(*offset, key), true));
        std::iter::once(begin()).chain(parts).chain([end()]).collect()
    }

    /// With keys a (1) and b (2).
    fn mirror() -> Mirror {
        let mut mirror = Mirror::new();
        assert!(!mirror.is_complete());
        assert_eq!(take(&mut mirror, snapshot(&[(1, "a"), (2, "b")])), ["a new", "b new"]);
        assert!(mirror.is_complete());
        mirror
    }

    #[test]
    fn changes_follow_the_snapshot_one_by_one() {
        let mut mirror = mirror();
        assert_eq!(take(&mut mirror, [changed(3, "a")]), ["a put"]);
        assert_eq!(mirror.get(b"a").unwrap().offset, 3);
        assert_eq!(take(&mut mirror, [deleted(4, "b"), deleted(5, "never there")]), ["b gone"]);
        assert_eq!((mirror.len(), mirror.get(b"b")), (1, None));
    }

    #[test]
    fn a_snapshot_after_a_gap_tells_what_was_missed_and_what_went() {
        let mut mirror = mirror();
        take(&mut mirror, [gap(), begin(), item(event(9, "b"), true)]);
        // Until it is complete, the old one is the best there is.
        assert!(!mirror.is_complete() && mirror.get(b"a").is_some());
        assert_eq!(take(&mut mirror, [item(event(8, "c"), true), end()]), ["a gone", "b put", "c new"]);
        assert!(mirror.is_complete());
    }

    #[test]
    fn a_snapshot_of_what_is_known_changes_nothing() {
        assert!(take(&mut mirror(), snapshot(&[(1, "a"), (2, "b")])).is_empty());
    }

    #[test]
    fn an_event_of_another_epoch_is_another_event_even_with_the_same_offset() {
        let mut mirror = mirror();
        let newer = Event { time_us: 77, ..event(1, "a") };
        assert_eq!(take(&mut mirror, [gap(), begin(), item(newer, true), end()]), ["a put", "b gone"]);
    }

    #[test]
    fn what_came_of_a_snapshot_that_was_cut_is_forgotten() {
        let mut mirror = mirror();
        take(&mut mirror, [begin(), item(event(5, "gone since"), true)]);
        assert_eq!(take(&mut mirror, snapshot(&[(1, "a"), (2, "b"), (6, "c")])), ["c new"]);
        assert_eq!(mirror.events().count(), 3);
    }
}
