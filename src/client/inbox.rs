//! What has arrived for a session and was not taken yet. No I/O.

use std::{collections::VecDeque, task::Waker};

use super::{Cursor, Error, Item, shared::Totals};

/// Notices (everything but events) that may wait beside the events that credit bounds; beyond it, `Opened` is left
/// out. Gaps that follow each other are one, and so are snapshots without an event.
const NOTICE_LIMIT: usize = 64;

/// What has arrived and was not taken, and what the handles want.
#[derive(Debug)]
pub(super) struct Inbox {
    items: VecDeque<Item>,
    notices: usize,
    pub(super) waker: Option<Waker>,
    window: Totals,
    pub(super) taken: Totals,
    /// `taken` when the worker looked last.
    pub(super) seen: Totals,
    pub(super) cursor: Option<Cursor>,
    pub(super) acked: Option<Cursor>,
    pub(super) abandoned: bool,
    /// Set once, with the last item; the error, if it was one.
    pub(super) end: Option<Option<Error>>,
}

impl Inbox {
    pub(super) fn new(window: Totals) -> Self {
        Self {
            items: VecDeque::new(),
            notices: 0,
            waker: None,
            window,
            taken: Totals::default(),
            seen: Totals::default(),
            cursor: None,
            acked: None,
            abandoned: false,
            end: None,
        }
    }

    /// The oldest item.
    pub(super) fn take(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        match &item {
            Item::Event(received) => {
                self.taken.events += 1;
                self.taken.bytes += received.event.payload.len() as u64;
            }
            _ => self.notices -= 1,
        }
        Some(item)
    }

    /// True once the application has taken half a window since the worker granted last.
    pub(super) fn half_used(&self) -> bool {
        let half = |now: u64, then: u64, window: u64| (now - then) >= window.div_ceil(2);
        half(self.taken.events, self.seen.events, self.window.events)
            || half(self.taken.bytes, self.seen.bytes, self.window.bytes)
    }

    /// Adds an item after those that wait, or makes one of it and the last.
    pub(super) fn push(&mut self, item: Item) {
        if matches!(item, Item::SnapshotBegin(_) | Item::Gap(_)) {
            self.forget_empty_snapshot();
        }
        match (&item, self.items.back_mut()) {
            (Item::Event(_), _) => {
                self.items.push_back(item);
                return;
            }
            // Nothing came between: only the newer attach is news.
            (Item::Opened(_), Some(last @ Item::Opened(_))) => {
                *last = item;
                return;
            }
            (Item::Opened(_), _) if self.notices >= NOTICE_LIMIT => return,
            (Item::Gap(next), Some(Item::Gap(last))) if last.to == next.from && last.reason == next.reason => {
                last.to = next.to;
                last.count = if last.count == 0 || next.count == 0 { 0 } else { last.count + next.count };
                last.possible &= next.possible;
                return;
            }
            _ => {}
        }
        self.notices += 1;
        self.items.push_back(item);
    }

    /// Another snapshot is to come, so one without an event says nothing. Were it kept, a topic without keys and a
    /// reader that takes nothing would fill the queue with them.
    fn forget_empty_snapshot(&mut self) {
        let end = usize::from(matches!(self.items.back(), Some(Item::SnapshotEnd(_))));
        let begin = self.items.len().wrapping_sub(end + 1);
        if matches!(self.items.get(begin), Some(Item::SnapshotBegin(_))) {
            self.items.truncate(begin);
            self.notices -= end + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{DeliveryPolicy, Event, Gap, GapReason, Opened, Received, Recovery, TopicClass};

    fn at(offset: u64) -> Cursor {
        Cursor { epoch: 7, offset, ..Cursor::default() }
    }

    fn inbox() -> Inbox {
        Inbox::new(Totals { events: 10, bytes: 1000 })
    }

    fn put(inbox: &mut Inbox, items: impl IntoIterator<Item = Item>) {
        items.into_iter().for_each(|item| inbox.push(item));
    }

    /// All that waits, each item by its first word.
    fn taken(inbox: &mut Inbox) -> Vec<String> {
        let word = |item: Item| format!("{item:?}").split('(').next().unwrap_or_default().to_owned();
        std::iter::from_fn(|| inbox.take()).map(word).collect()
    }

    fn event() -> Item {
        let event = Event::default();
        Item::Event(Received { cursor: at(1), prev: 1, skipped: 0, snapshot: true, event })
    }

    fn gap(from: u64, to: u64) -> Item {
        Item::Gap(Gap { from: at(from), to: at(to), reason: GapReason::Slow, count: 1, possible: false })
    }

    fn opened() -> Item {
        Item::Opened(Opened {
            start: at(1),
            head: at(1),
            recovery: Recovery::Full,
            attach: 1,
            published_seq: 0,
            delivery_policy: DeliveryPolicy::Lag,
            max_rate_hz: 0,
            topic_class: TopicClass::State,
        })
    }

    #[test]
    fn a_reader_that_takes_nothing_is_not_flooded_with_snapshots_of_nothing() {
        let mut gaps = inbox();
        put(&mut gaps, [opened(), gap(0, 1)]);
        for n in 1..100 {
            put(&mut gaps, [Item::SnapshotBegin(at(n)), Item::SnapshotEnd(at(n)), gap(n, n + 1)]);
        }
        put(&mut gaps, [Item::SnapshotBegin(at(100)), Item::SnapshotEnd(at(100))]);
        assert_eq!(taken(&mut gaps), ["Opened", "Gap", "SnapshotBegin", "SnapshotEnd"]);

        let mut opens = inbox();
        for n in 1..1000 {
            put(&mut opens, [opened(), Item::SnapshotBegin(at(n)), Item::SnapshotEnd(at(n))]);
        }
        assert!(taken(&mut opens).len() < NOTICE_LIMIT + 5);
        assert_eq!(opens.notices, 0);
    }

    #[test]
    fn a_snapshot_with_an_event_is_kept_and_so_is_one_that_was_taken_in_part() {
        let mut inbox = inbox();
        put(&mut inbox, [Item::SnapshotBegin(at(1)), event(), gap(1, 2), Item::SnapshotBegin(at(2))]);
        assert!(matches!(inbox.take(), Some(Item::SnapshotBegin(_))));
        assert!(matches!(inbox.take(), Some(Item::Event(_))));
        put(&mut inbox, [Item::SnapshotEnd(at(2)), Item::SnapshotBegin(at(3)), Item::SnapshotEnd(at(3))]);
        assert_eq!(taken(&mut inbox), ["Gap", "SnapshotBegin", "SnapshotEnd"]);
    }
}
