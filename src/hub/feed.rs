//! One active topic: its line to the broker and its readers.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use parking_lot::{RwLock, RwLockReadGuard};

use super::{Class, Delivery, Feeds, ReadySet, Rule};
use crate::{
    broker::{Line, Listener, Publishing},
    error::Failure,
    log::Log,
    planted::{self, Bug},
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
    readers: RwLock<Vec<Arc<Reader>>>,
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
        let mut readers = self.readers.write();
        reader.index.store(readers.len(), Ordering::Relaxed);
        readers.push(reader.clone());
        ReaderGuard { feed: self.clone(), reader }
    }

    fn detach(&self, reader: &Reader) {
        let mut readers = self.readers.write();
        let index = reader.index.load(Ordering::Relaxed);
        readers.swap_remove(index);
        if let Some(moved) = readers.get(index) {
            moved.index.store(index, Ordering::Relaxed);
        }
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

/// A session as its topic knows it: a flag and a place to report to.
#[derive(Debug)]
pub struct Reader {
    alias: u32,
    ready: Arc<ReadySet>,
    /// In the ready set, being looked at, or blocked: a publish need not wake it.
    queued: AtomicBool,
    /// Its place in the feed's list; written under that list's lock.
    index: AtomicUsize,
}

impl Reader {
    /// A reader that reports to `ready` as `alias`. It is held: until it is armed, growth does not wake it.
    pub fn new(alias: u32, ready: Arc<ReadySet>) -> Arc<Self> {
        Arc::new(Self { alias, ready, queued: AtomicBool::new(true), index: AtomicUsize::new(0) })
    }

    /// Puts the reader into its ready set unless it is there or held.
    pub fn wake(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) && !planted::strikes(Bug::ForgetsAWake, 200) {
            self.ready.push(self.alias);
        }
    }

    /// From now on growth wakes it again. Look at the log once more after this: what came before it woke nobody, and
    /// what comes after that look will, because the log's lock puts the two looks in an order.
    pub fn rearm(&self) {
        self.queued.store(false, Ordering::Release);
    }

    /// Growth no longer wakes it until `rearm`. False if it was held, or in its ready set, already.
    pub fn hold(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
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
        self.feed.detach(&self.reader);
    }
}
