//! One active topic: its line to the broker and its readers.

use std::sync::{Arc, Weak};

use parking_lot::{RwLock, RwLockReadGuard};

use super::{
    Class, Delivery, Feeds, Rule,
    readers::{Reader, Readers},
};
use crate::{
    broker::{Line, Listener, Publishing},
    error::Failure,
    log::Log,
    types::{Claim, Cursor, NewEvent, Producer, Topic},
};

/// A topic that somebody on this replica has joined.
#[derive(Debug)]
pub struct Feed {
    topic: Topic,
    class: Class,
    delivery: Delivery,
    awaits_readers: bool,
    line: Line,
    readers: RwLock<Readers>,
    /// Where to sign off; a private feed is nowhere signed on.
    feeds: Option<Feeds>,
}

impl Feed {
    pub(super) fn new(topic: Topic, rule: &Rule, line: Line, feeds: Option<Feeds>) -> Arc<Self> {
        // More than the history holds cannot wait.
        let queue_size = rule.delivery.queue_size.min(rule.history.max_events);
        let (class, delivery) = (rule.class, Delivery { queue_size, ..rule.delivery.clone() });
        Arc::new_cyclic(|feed: &Weak<Self>| {
            line.listen(feed.clone());
            Self { topic, class, delivery, awaits_readers: rule.max_lag > 0, line, readers: RwLock::default(), feeds }
        })
    }

    /// Its name.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// What it is for.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Publishes to it; see [`Line::publish`].
    pub fn publish(&self, event: NewEvent) -> Publishing {
        self.line.publish(event)
    }

    /// Waits until its log can be looked at; see [`Line::seen`].
    pub async fn seen(&self) -> Result<(), Failure> {
        self.line.seen().await
    }

    /// Waits until what lies at `cursor` is here; see [`Line::reaches`].
    pub async fn reaches(&self, cursor: Cursor) -> Result<(), Failure> {
        self.line.reaches(cursor).await
    }

    /// Waits until what is stored at this moment is here; see [`Line::current`].
    pub async fn current(&self) -> Result<(), Failure> {
        self.line.current().await
    }

    /// Forgets what its only reader has: for echo topics, whose log is one session's own.
    pub fn discard_through(&self, offset: u64) {
        self.with_log(|log| log.discard_through(offset));
    }

    /// Removes the keys that were to die with a session and are still its own.
    pub(super) fn remove_owned(&self, owner: &Producer, claim: Option<Claim>) {
        self.line.remove_owned(owner, claim);
    }

    /// Removes what another replica has left of a session; see [`Line::undo`].
    pub(super) async fn undo(
        &self,
        owner: &Producer,
        claim: Option<Claim>,
        stands: impl Future<Output = Result<bool, Failure>>,
    ) -> Result<(), Failure> {
        self.line.undo(owner, claim, stands).await
    }

    /// Keeps out older holders of a session; see [`Line::fence`].
    pub async fn fence(&self, producer: &Producer, claim: Claim) -> Result<(), Failure> {
        self.line.fence(producer, claim).await
    }

    pub(super) fn with_log<T>(&self, work: impl FnOnce(&mut Log) -> T) -> T {
        work(&mut self.line.log().write())
    }

    /// True if publishers can be made to wait for readers.
    pub fn awaits_readers(&self) -> bool {
        self.awaits_readers
    }

    /// What may be done with deliveries of this topic.
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Its log, locked for reading. Hold it briefly, never across an await.
    pub fn log(&self) -> RwLockReadGuard<'_, Log> {
        self.line.log().read()
    }

    /// Has `reader` woken at every growth until the guard is dropped.
    pub fn attach(self: &Arc<Self>, reader: Arc<Reader>) -> ReaderGuard {
        self.readers.write().add(reader.clone());
        ReaderGuard { feed: self.clone(), reader }
    }

    /// Readers now.
    pub fn reader_count(&self) -> usize {
        self.readers.read().len()
    }
}

impl Listener for Feed {
    fn grown(&self) {
        for reader in self.readers.read().iter() {
            reader.wake();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let Some(feeds) = &self.feeds else { return };
        let mut feeds = feeds.lock();
        // A new feed of the same topic may have taken the place since the last handle to this one went.
        if feeds.get(&self.topic).is_some_and(|feed| feed.strong_count() == 0) {
            feeds.remove(&self.topic);
        }
    }
}

/// Ends a reader's attachment when dropped.
#[derive(Debug)]
pub struct ReaderGuard {
    feed: Arc<Feed>,
    reader: Arc<Reader>,
}

impl ReaderGuard {
    /// The topic.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// The reader.
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.feed.readers.write().remove(&self.reader);
    }
}
