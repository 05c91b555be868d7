//! What a session's handles and the worker both touch, behind one short lock, and how the worker is told to look.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::{Cursor, Error, ErrorKind, Item, inbox::Inbox};

/// Names a session inside one client, for as long as the process lives.
pub(super) type SessionKey = u64;

/// Counts of events and of their payload bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// True if `place` says more than what was acknowledged `before`; of another epoch it says something else.
pub(super) fn goes_beyond(place: Cursor, before: Option<Cursor>) -> bool {
    before.is_none_or(|before| before.epoch != place.epoch || before.offset < place.offset)
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

/// What the handles of a session want, as the worker reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes {
    pub(super) taken: Totals,
    pub(super) acked: Option<Cursor>,
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
            inbox: Mutex::new(Inbox::new(window)),
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

    pub(super) fn ack(&self, place: Cursor) {
        let mut inbox = self.inbox.lock();
        if goes_beyond(place, inbox.acked) {
            inbox.acked = Some(place);
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
        let Some(item) = inbox.take() else {
            if inbox.end.is_some() {
                return Poll::Ready(None);
            }
            if !inbox.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                inbox.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        let due = matches!(item, Item::Event(_)) && inbox.half_used();
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
