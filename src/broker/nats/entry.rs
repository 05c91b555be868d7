//! A topic that is open on this replica: its log as it is seen from here, and who waits for what of it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{self, Notify, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Engine, bridge,
    doubts::Doubts,
    fences::{self, Closed, Fences},
    publish, reach,
};
use crate::{
    broker::{Listener, Publishing},
    error::{Failure, Reason},
    log::{Limits, Log, Total},
    types::{Claim, Cursor, Durability, NewEvent, Producer, Published},
};

/// How long a reader may wait for a log that is not in sight.
const SIGHT_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub struct Entry {
    pub(super) engine: Arc<Engine>,
    /// The topic's name, or what stands in its place.
    pub(super) topic: String,
    pub(super) partition: u16,
    pub(super) limits: Limits,
    /// The subjects that its events leave to by bridges.
    pub(super) outward: Vec<String>,
    pub(super) total: Total,
    log: RwLock<Log>,
    listener: RwLock<Option<Weak<dyn Listener>>>,
    /// Whether the log is in sight: only then is it what it says.
    sight: watch::Sender<bool>,
    /// Who wants to know when a record is here.
    waiters: Mutex<Vec<(u64, oneshot::Sender<()>)>>,
    /// The newest record that there is said to be, and whoever is to fetch it.
    wanted: (AtomicU64, Notify),
    /// What may be stored after the end of its session.
    pub(super) doubts: Doubts,
    /// The last answer to what the newest record is, and when it was asked for; 0 if there was none.
    pub(super) newest: sync::Mutex<Option<(Instant, u64)>>,
    /// What keeps out older holders of sessions.
    pub(super) fences: Fences,
    /// The topic has no record after its newest here, and up to this place.
    sure: AtomicU64,
    /// Cancelled when nobody needs it any more.
    pub(super) closed: CancellationToken,
    /// When somebody held a line to it last.
    pub(super) needed: Mutex<Instant>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("topic", &self.topic).field("log", &self.log).finish_non_exhaustive()
    }
}

impl AsRef<RwLock<Log>> for Entry {
    fn as_ref(&self) -> &RwLock<Log> {
        &self.log
    }
}

impl Entry {
    pub(super) fn new(
        engine: Arc<Engine>,
        topic: String,
        limits: Limits,
        durability: Durability,
        total: Total,
    ) -> Self {
        let is_synced = durability == Durability::Synced;
        let partition = if is_synced { engine.names.synced(&topic) } else { engine.names.partition(&topic) };
        Self {
            partition,
            limits,
            outward: bridge::outward(&engine.config, &topic),
            log: RwLock::new(Log::mirroring(limits).counted(total.clone())),
            total,
            listener: RwLock::default(),
            sight: watch::Sender::new(false),
            waiters: Mutex::default(),
            wanted: (AtomicU64::new(0), Notify::new()),
            doubts: Doubts::default(),
            newest: sync::Mutex::new(None),
            fences: Fences::default(),
            sure: AtomicU64::new(0),
            closed: engine.tasks.stop().child_token(),
            needed: Mutex::new(Instant::now()),
            engine,
            topic,
        }
    }

    /// See [`crate::broker::Line::publish`]. What can be said from what is here is said at once.
    pub(crate) fn publish(self: &Arc<Self>, event: NewEvent) -> Publishing {
        publish::begin(self, event)
    }

    /// See [`crate::broker::Line::remove_owned`].
    pub(crate) fn remove(self: &Arc<Self>, owner: &Producer, owned: Vec<(Bytes, u64)>, claim: Option<Claim>) {
        publish::remove(self, owner, owned, claim);
    }

    /// The keys that are to die with a session, and where each was set.
    pub(crate) fn owned(&self, owner: &Producer) -> Vec<(Bytes, u64)> {
        self.log().read().owned_keys(owner)
    }

    /// See [`crate::broker::Line::fence`].
    pub(crate) async fn fence(&self, producer: &Producer, claim: Claim) -> Result<(), Failure> {
        match fences::place(self, producer, claim, true).await {
            Ok(_) => Ok(()),
            Err(Closed::Taken) => Err(Failure::taken_over()),
            Err(Closed::Problem(problem)) => {
                tracing::warn!(topic = self.topic, %problem, "older holders of a session are not kept out yet");
                Err(unreachable())
            }
        }
    }

    /// See [`crate::broker::Line::ready`].
    pub(crate) fn ready(&self) -> Option<BoxFuture<'static, Result<(), Failure>>> {
        let mut sight = self.sight.subscribe();
        if *sight.borrow_and_update() {
            return None;
        }
        let ready = async move {
            match timeout(SIGHT_TIMEOUT, sight.wait_for(|in_sight| *in_sight)).await {
                Ok(Ok(_)) => Ok(()),
                // It was given up, or nobody answers.
                Ok(Err(_)) | Err(_) => Err(unreachable()),
            }
        };
        Some(ready.boxed())
    }

    /// See [`crate::broker::Line::reaches`].
    pub(crate) async fn reaches(self: &Arc<Self>, cursor: Cursor) -> Result<(), Failure> {
        reach::reach(self, cursor).await
    }

    /// See [`crate::broker::Line::current`].
    pub(crate) async fn current(self: &Arc<Self>) -> Result<(), Failure> {
        reach::current(self).await
    }

    /// Completes once the log is in sight and of this epoch. Never, if it has another one by then: put a time to it.
    pub(super) async fn shows(&self, epoch: Option<u64>) {
        let shown = |in_sight: &bool| *in_sight && epoch == Some(self.log.read().head().epoch);
        // The other end is dropped only with the entry.
        self.sight.subscribe().wait_for(shown).await.ok();
    }

    pub(super) fn is_in_sight(&self) -> bool {
        *self.sight.borrow()
    }

    /// Says whether the log is in sight.
    pub(super) fn set_sight(&self, in_sight: bool) {
        self.sight.send_replace(in_sight);
    }

    pub(crate) fn log(&self) -> &RwLock<Log> {
        &self.log
    }

    pub(crate) fn listen(&self, listener: Weak<dyn Listener>) {
        *self.listener.write() = Some(listener);
    }

    /// Tells everybody that the log has grown.
    pub(super) fn tell(&self) {
        let listener = self.listener.read().as_ref().and_then(Weak::upgrade);
        if let Some(listener) = listener {
            listener.grown();
        }
        let last = self.log.read().last();
        let mut waiters = self.waiters.lock();
        if !waiters.is_empty() {
            // Whoever no longer waits goes as well.
            for (_, told) in waiters.extract_if(.., |(offset, told)| *offset <= last || told.is_closed()) {
                told.send(()).ok();
            }
        }
    }

    /// Completes when the record at `offset` is here. Never, if its place is taken by another epoch: put a time to it.
    pub(super) fn arrived(&self, offset: u64) -> impl Future<Output = ()> + use<> {
        let (told, arrival) = oneshot::channel();
        let mut waiters = self.waiters.lock();
        // Looked at under the lock that whoever tells takes afterwards.
        if self.log.read().last() >= offset {
            told.send(()).ok();
        } else {
            waiters.push((offset, told));
        }
        async move {
            // The other end is dropped only with the entry.
            arrival.await.ok();
        }
    }

    /// There is said to be a record at `offset`: it is to be fetched, if it does not come by itself.
    pub(super) fn want(&self, offset: u64) {
        let (wanted, bell) = &self.wanted;
        wanted.fetch_max(offset, Ordering::Relaxed);
        if self.log.read().last() < offset {
            bell.notify_one();
        }
    }

    /// Completes when a record is wanted that has not come, with its offset. Cancel-safe.
    pub(super) async fn missing(&self) -> u64 {
        let (wanted, bell) = &self.wanted;
        bell.notified().await;
        wanted.load(Ordering::Relaxed)
    }

    /// The topic's newest record, as the servers say, who know of all places up to `up_to`.
    pub(super) fn compare(&self, newest: Option<u64>, up_to: Option<u64>) {
        let last = self.log.read().last();
        match newest.filter(|newest| *newest > last) {
            Some(newest) => self.want(newest),
            None => {
                self.sure.fetch_max(up_to.unwrap_or(0), Ordering::Relaxed);
            }
        }
    }

    /// See [`Entry::compare`].
    pub(super) fn sure_through(&self) -> u64 {
        self.sure.load(Ordering::Relaxed)
    }

    /// The log is another one, complete up to `through`: what was said of the one before does not hold.
    pub(super) fn begin_anew(&self, through: u64) {
        self.wanted.0.store(0, Ordering::Relaxed);
        self.sure.store(through, Ordering::Relaxed);
    }

    /// The place of a publish that was stored at `offset`, as far as it is known here.
    pub(super) fn published(&self, offset: u64, duplicate: bool) -> Published {
        let cursor = self.log.read().at(offset);
        Published { cursor, duplicate, durability: self.durability() }
    }

    /// What its events are safe from once they are confirmed.
    pub(super) fn durability(&self) -> Durability {
        if self.engine.names.is_synced(self.partition) {
            Durability::Synced
        } else if self.engine.config.replicas > 1 {
            Durability::Replicated
        } else {
            Durability::Accepted
        }
    }
}

/// What is said when nobody can be asked.
pub(super) fn unreachable() -> Failure {
    let failure = Failure::new(Reason::Broker, "the broker cannot be reached at the moment");
    failure.retry_after(Duration::from_secs(1))
}
