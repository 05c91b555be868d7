//! What a session's handles and the worker both touch, behind one short lock, and how the worker is told to look.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::{Cursor, Error, ErrorKind, Item};

/// Notices (everything but events) that may wait beside the events that credit bounds; beyond it, `Opened` is left
/// out. Gaps that follow each other are one, and so are snapshots without an event.
const NOTICE_LIMIT: usize = 64;

/// Names a session inside one client, for as long as the process lives.
pub(super) type SessionKey = u64;

/// Counts of events and of their payload bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// What the application has processed: everything up to an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    /// That of what was taken last: in another one the offset means nothing. `None` if nothing was taken before.
    epoch: Option<u64>,
    pub(super) offset: u64,
}

impl Ack {
    /// True if it says something that `before` does not.
    pub(super) fn is_news(self, before: Option<Self>) -> bool {
        before.is_none_or(|before| before.epoch != self.epoch || before.offset < self.offset)
    }

    /// True if a session that stands at `cursor` can say it to its server.
    pub(super) fn is_of(self, cursor: Option<Cursor>) -> bool {
        self.epoch.is_none_or(|epoch| cursor.is_some_and(|cursor| cursor.epoch == epoch))
    }
}

/// Which sessions want the worker's attention. Bounded: each session stands in it at most once.
#[derive(Debug, Default)]
pub(super) struct Attention {
    wanted: Mutex<Vec<SessionKey>>,
    notify: Notify,
}

impl Attention {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Completes once sessions want something; `take` says which. Cancel-safe.
    pub(super) async fn wanted(&self) {
        self.notify.notified().await;
    }

    pub(super) fn take(&self) -> Vec<SessionKey> {
        std::mem::take(&mut *self.wanted.lock())
    }
}

/// The shared part of a session.
#[derive(Debug)]
pub(super) struct Shared {
    key: SessionKey,
    attention: Arc<Attention>,
    /// True while the key stands in `attention`.
    marked: AtomicBool,
    /// Publishes that may still be handed over.
    permits: Arc<Semaphore>,
    inbox: Mutex<Inbox>,
}

/// What has arrived and was not taken, and what the handles want.
#[derive(Debug)]
struct Inbox {
    items: VecDeque<Item>,
    notices: usize,
    waker: Option<Waker>,
    window: Totals,
    taken: Totals,
    /// `taken` when the worker looked last.
    seen: Totals,
    cursor: Option<Cursor>,
    /// Of the item that was taken last.
    epoch: Option<u64>,
    acked: Option<Ack>,
    abandoned: bool,
    /// Set once, with the last item; the error, if it was one.
    end: Option<Option<Error>>,
}

/// What the handles of a session want, as the worker reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes {
    pub(super) taken: Totals,
    pub(super) acked: Option<Ack>,
    pub(super) abandoned: bool,
}

impl Shared {
    pub(super) fn new(attention: Arc<Attention>, window: Totals) -> Arc<Self> {
        static NEXT_KEY: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            attention,
            marked: AtomicBool::new(false),
            permits: Arc::new(Semaphore::new(0)),
            inbox: Mutex::new(Inbox {
                items: VecDeque::new(),
                notices: 0,
                waker: None,
                window,
                taken: Totals::default(),
                seen: Totals::default(),
                cursor: None,
                epoch: None,
                acked: None,
                abandoned: false,
                end: None,
            }),
        })
    }

    pub(super) fn key(&self) -> SessionKey {
        self.key
    }

    pub(super) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits)
    }

    // --- the handles' side

    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.inbox.lock().cursor
    }

    pub(super) fn ack(&self, offset: u64) {
        let mut inbox = self.inbox.lock();
        let ack = Ack { epoch: inbox.epoch, offset };
        if ack.is_news(inbox.acked) {
            inbox.acked = Some(ack);
            drop(inbox);
            self.mark();
        }
    }

    pub(super) fn abandon(&self) {
        self.inbox.lock().abandoned = true;
        self.mark();
    }

    /// Why the session has ended; `None` while it has not.
    pub(super) fn end(&self) -> Option<Error> {
        let end = self.inbox.lock().end.clone()?;
        Some(end.unwrap_or_else(|| Error::new(ErrorKind::Closed, "the session is closed")))
    }

    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let mut inbox = self.inbox.lock();
        let Some(item) = inbox.items.pop_front() else {
            if inbox.end.is_some() {
                return Poll::Ready(None);
            }
            if !inbox.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                inbox.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        inbox.epoch = epoch(&item).or(inbox.epoch);
        let due = match &item {
            Item::Event(received) => {
                inbox.taken.events += 1;
                inbox.taken.bytes += received.event.payload.len() as u64;
                inbox.half_used()
            }
            _ => {
                inbox.notices -= 1;
                false
            }
        };
        drop(inbox);
        if due {
            self.mark();
        }
        Poll::Ready(Some(item))
    }

    /// Asks the worker to look, once until it does.
    fn mark(&self) {
        if !self.marked.swap(true, Ordering::AcqRel) {
            self.attention.wanted.lock().push(self.key);
            self.attention.notify.notify_one();
        }
    }

    // --- the worker's side

    /// What the handles want. From here on a new wish marks the session again.
    pub(super) fn wishes(&self) -> Wishes {
        self.marked.store(false, Ordering::Release);
        let mut inbox = self.inbox.lock();
        inbox.seen = inbox.taken;
        Wishes { taken: inbox.taken, acked: inbox.acked, abandoned: inbox.abandoned }
    }

    /// Moves the cursor, if there is a new one, then hands items over: whoever has seen an item never finds the cursor
    /// before it.
    pub(super) fn put(&self, cursor: Option<Cursor>, items: impl IntoIterator<Item = Item>) {
        let mut inbox = self.inbox.lock();
        inbox.cursor = cursor.or(inbox.cursor);
        for item in items {
            inbox.push(item);
        }
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the stream of items and all waiting publishers. Only the first call counts.
    pub(super) fn finish(&self, error: Option<Error>) {
        self.permits.close();
        let mut inbox = self.inbox.lock();
        if inbox.end.is_some() {
            return;
        }
        inbox.end = Some(error.clone());
        inbox.push(Item::Closed(error));
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The epoch that a session is in after an item, if it tells one.
fn epoch(item: &Item) -> Option<u64> {
    Some(match item {
        Item::Opened(opened) => opened.start.epoch,
        Item::Event(received) => received.cursor.epoch,
        Item::SnapshotBegin(of) | Item::SnapshotEnd(of) => of.epoch,
        Item::Gap(gap) => gap.to.epoch,
        Item::Broken(_) | Item::Closed(_) => return None,
    })
}

impl Inbox {
    /// True once the application has taken half a window since the worker granted last.
    fn half_used(&self) -> bool {
        let half = |now: u64, then: u64, window: u64| (now - then) >= window.div_ceil(2);
        half(self.taken.events, self.seen.events, self.window.events)
            || half(self.taken.bytes, self.seen.bytes, self.window.bytes)
    }

    fn push(&mut self, item: Item) {
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
    use futures_util::{StreamExt as _, future::poll_fn};

    use super::*;
    use crate::client::{DeliveryPolicy, Event, Gap, GapReason, Opened, Received, Recovery, TopicClass};

    fn at(offset: u64) -> Cursor {
        Cursor { epoch: 7, offset, ..Cursor::default() }
    }

    fn shared() -> Arc<Shared> {
        Shared::new(Attention::new(), Totals { events: 10, bytes: 1000 })
    }

    /// All that waits, each item by its first word.
    async fn taken(shared: &Shared) -> Vec<String> {
        shared.finish(None);
        let items = futures_util::stream::poll_fn(|cx| shared.poll_take(cx)).collect::<Vec<_>>();
        let word = |item: &Item| format!("{item:?}").split('(').next().map(str::to_owned);
        items.await.iter().filter_map(word).collect()
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

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_not_flooded_with_snapshots_of_nothing() {
        let shared = shared();
        shared.put(None, [opened(), gap(0, 1)]);
        for n in 1..100 {
            shared.put(None, [Item::SnapshotBegin(at(n)), Item::SnapshotEnd(at(n)), gap(n, n + 1)]);
        }
        shared.put(None, [Item::SnapshotBegin(at(100)), Item::SnapshotEnd(at(100))]);
        let expected = ["Opened", "Gap", "SnapshotBegin", "SnapshotEnd", "Closed"];
        assert_eq!(taken(&shared).await, expected);

        let shared = self::shared();
        for n in 1..1000 {
            shared.put(None, [opened(), Item::SnapshotBegin(at(n)), Item::SnapshotEnd(at(n))]);
        }
        assert!(taken(&shared).await.len() < NOTICE_LIMIT + 5);
    }

    #[tokio::test]
    async fn a_snapshot_with_an_event_is_kept_and_so_is_one_that_was_taken_in_part() {
        let shared = shared();
        shared.put(None, [Item::SnapshotBegin(at(1)), event(), gap(1, 2), Item::SnapshotBegin(at(2))]);
        let first = poll_fn(|cx| shared.poll_take(cx)).await;
        assert!(matches!(first, Some(Item::SnapshotBegin(_))));
        let second = poll_fn(|cx| shared.poll_take(cx)).await;
        assert!(matches!(second, Some(Item::Event(_))));
        shared.put(None, [Item::SnapshotEnd(at(2)), Item::SnapshotBegin(at(3)), Item::SnapshotEnd(at(3))]);
        assert_eq!(taken(&shared).await, ["Gap", "SnapshotBegin", "SnapshotEnd", "Closed"]);
    }

    #[tokio::test]
    async fn an_acknowledgement_is_of_the_epoch_of_what_was_taken_last() {
        let shared = shared();
        let at = |epoch, offset| Some(Cursor { epoch, offset, ..Cursor::default() });
        shared.ack(3);
        assert!(shared.wishes().acked.unwrap().is_of(at(9, 3)), "a place from an earlier run");
        let to = Cursor { epoch: 8, offset: 1, ..Cursor::default() };
        let restarted = Gap { from: self::at(5), to, reason: GapReason::Epoch, count: 0, possible: false };
        shared.put(None, [event(), Item::Gap(restarted)]);
        poll_fn(|cx| shared.poll_take(cx)).await;
        shared.ack(5);
        let old = shared.wishes().acked.unwrap();
        assert!(old.is_of(at(7, 5)) && !old.is_of(at(8, 1)));
        poll_fn(|cx| shared.poll_take(cx)).await;
        shared.ack(2);
        let new = shared.wishes().acked.unwrap();
        assert_eq!(new.offset, 2, "lower than in the epoch before");
        assert!(new.is_of(at(8, 2)) && new.is_news(Some(old)));
        shared.ack(1);
        assert_eq!(shared.wishes().acked, Some(new));
    }

    #[tokio::test]
    async fn a_place_is_kept_until_there_is_another() {
        let shared = shared();
        shared.put(Some(at(3)), []);
        shared.put(None, [event()]);
        assert_eq!(shared.cursor(), Some(at(3)));
    }
}
