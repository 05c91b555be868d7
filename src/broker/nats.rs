//! The engine of several replicas: topics are kept in NATS JetStream, and each replica sees those that are open on it.
//!
//! Topics are spread over partitions, each a stream; an event's offset is its place in its stream. A publish is a message
//! to its topic's subject, and done when the stream has confirmed it. The stream sends each event again once it is kept,
//! with the place of the one before it: replicas listen to the topics that are open on them ([`follower`]), and fetch what
//! does not follow. Nothing is kept on the servers for a client, a session or a replica.
//!
//! The log that readers see is a mirror of that, in the memory of this replica, and holds what the topic's rule says.

mod access;
mod api;
mod bridge;
mod doctor;
mod doubts;
mod entry;
mod epochs;
mod fences;
mod fleet;
mod follower;
mod history;
mod links;
mod message;
mod names;
mod partition;
mod publish;
mod reach;
mod streams;
mod synced;
mod watch;

#[cfg(test)]
pub(super) mod tests;

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::{config, memory::Memory};
use crate::{
    error::{Failure, Reason},
    lifecycle::Tasks,
    log::{Limits, Total},
    telemetry::metrics::Metrics,
    types::{Cursor, Durability, NewEvent, Topic},
};
use api::{Batch, Heads, Problem};
use bridge::Outlet;
use links::Links;
use names::{CANARY, Names};
use partition::Partition;

pub use bridge::{Hearing, Inlet};
pub use doctor::examine;
pub use entry::Entry;
pub use fleet::Fleet;
pub(super) use fleet::claims::read_taking;

/// Questions that are under way at once: the servers drop all that wait where too many do.
const QUESTIONS: usize = 32;
/// Most records that are fetched at once.
const BATCH: usize = 1000;
/// How long a topic stays in sight that nobody needs.
const KEPT: Duration = Duration::from_secs(60);

/// Cannot use NATS as it is set up.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// See the module.
#[derive(Debug)]
pub struct Nats {
    engine: Arc<Engine>,
    /// Ordered, so that listing pages without sorting.
    topics: Arc<RwLock<BTreeMap<Topic, Arc<Entry>>>>,
    max_topics: usize,
    /// Logs of a single session, which nobody else sees.
    private: Memory,
    canary: Arc<Entry>,
    fleet: Arc<Fleet>,
}

/// What all topics share.
pub(super) struct Engine {
    config: config::Nats,
    /// For how long repeats are recognised.
    window: Duration,
    names: Names,
    links: Links,
    partitions: Vec<Partition>,
    /// Whether there are topics whose events are on disk before they are confirmed.
    synced: bool,
    questions: Semaphore,
    metrics: Arc<Metrics>,
    /// Where events leave by bridges; none if there are no bridges.
    outlet: Option<Outlet>,
    /// Rings when something may have been missed.
    alarm: Arc<Notify>,
    tasks: Tasks,
    topics: Arc<RwLock<BTreeMap<Topic, Arc<Entry>>>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("names", &self.names).finish_non_exhaustive()
    }
}

/// What the engine is to hold to.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// For how long repeats are recognised.
    pub dedupe_window: Duration,
    /// Whether there are topics whose events have to be on disk before they are confirmed.
    pub synced: bool,
    /// Most topics open here.
    pub max_topics: usize,
    /// Where what they hold is counted.
    pub total: Total,
    /// Where everything else is counted.
    pub metrics: Arc<Metrics>,
}

impl Nats {
    /// Connects, sees to it that the streams are there and are as they have to be, and says why not otherwise. `name` is
    /// what the servers show for this replica.
    pub async fn start(config: config::Nats, bounds: Bounds, name: &str, tasks: &Tasks) -> Result<Self, Unusable> {
        let alarm = Arc::new(Notify::new());
        let links = Links::open(&config, name, &alarm, &bounds.metrics).await;
        let links = links.map_err(|problem| Unusable(problem.to_string()))?;
        let outlet = links.bridging.clone().map(|client| Outlet::open(client, bounds.metrics.clone(), tasks));
        let topics = Arc::new(RwLock::new(BTreeMap::new()));
        let names = Names::new(&config.prefix, config.partitions);
        let engine = Arc::new(Engine {
            window: bounds.dedupe_window,
            partitions: names.all(bounds.synced).map(|_| Partition::default()).collect(),
            names,
            links,
            synced: bounds.synced,
            questions: Semaphore::new(QUESTIONS),
            metrics: bounds.metrics,
            outlet,
            alarm,
            tasks: tasks.clone(),
            topics: topics.clone(),
            config,
        });
        let deadline = Instant::now() + engine.config.start_timeout;
        let unusable = |problem: Problem| Unusable(problem.to_string());
        engine.in_time(deadline, || engine.prepare_all()).await.map_err(unusable)?;
        let fleet = engine.in_time(deadline, || Fleet::join(&engine, name)).await.map_err(unusable)?;
        tasks.spawn_until_stopped("streams", watch::run(engine.clone()));
        let (own, least) = (CANARY.to_owned(), Durability::default());
        let canary = Arc::new(Entry::new(engine.clone(), own, super::CANARY, least, Total::default()));
        drop(tasks.spawn("topic", follower::run(canary.clone())));
        let private = Memory::bounded(0, bounds.total);
        Ok(Self { engine, topics, max_topics: bounds.max_topics, private, canary, fleet })
    }

    pub(super) fn open(&self, topic: &Topic, limits: Limits, least: Durability) -> Result<Arc<Entry>, Failure> {
        if let Some(entry) = self.find(topic) {
            return Ok(entry);
        }
        let mut topics = self.topics.write();
        if let Some(entry) = topics.get(topic) {
            return Ok(entry.clone());
        }
        if topics.len() >= self.max_topics {
            let message = format!("the server keeps at most {} topics open", self.max_topics);
            return Err(Failure::new(Reason::TopicLimit, message).retry_after(Duration::from_secs(1)));
        }
        let (name, total) = (topic.as_str().to_owned(), self.private.total().clone());
        let entry = Arc::new(Entry::new(self.engine.clone(), name, limits, least, total));
        topics.insert(topic.clone(), entry.clone());
        drop(self.engine.tasks.spawn("topic", follower::run(entry.clone())));
        Ok(entry)
    }

    pub(super) fn find(&self, topic: &Topic) -> Option<Arc<Entry>> {
        self.topics.read().get(topic).cloned()
    }

    /// The bridges that lead in.
    pub(super) fn inlets(&self) -> Vec<Inlet> {
        let engine = &self.engine;
        engine.links.bridging.as_ref().map_or_else(Vec::new, |client| bridge::inlets(&engine.config, client))
    }

    pub(super) fn private(&self) -> &Memory {
        &self.private
    }

    pub(super) fn fleet(&self) -> Arc<Fleet> {
        self.fleet.clone()
    }

    pub(super) fn canary(&self) -> Arc<Entry> {
        // Behind the lock that every topic is behind: it is to be noticed when that is stuck.
        let _topics = self.topics.read();
        self.canary.clone()
    }

    /// See [`super::Broker::make_room`].
    pub(super) fn make_room(&self) -> u64 {
        super::room::make(self.private.total(), || {
            let mut logs = self.private.logs();
            logs.extend(self.topics.read().values().map(|entry| entry.clone() as Arc<super::room::Logged>));
            logs
        })
    }

    pub(super) fn list(&self, prefix: &str, after: &str, limit: usize) -> Vec<(Topic, Arc<Entry>)> {
        let topics = self.topics.read();
        let start = if after >= prefix { Bound::Excluded(after) } else { Bound::Included(prefix) };
        let rest = topics.range::<str, _>((start, Bound::Unbounded));
        let named = rest.take_while(|(topic, _)| topic.as_str().starts_with(prefix));
        named.take(limit).map(|(topic, entry)| (topic.clone(), entry.clone())).collect()
    }

    /// Trims what is too old; topics that nobody has needed for a while go out of sight. They are kept where they are.
    pub(super) fn sweep(&self) -> Vec<Topic> {
        drop(self.private.sweep());
        let now = Instant::now();
        let trim = crate::types::Timestamp::now();
        let entries: Vec<_> = self.topics.read().iter().map(|(topic, entry)| (topic.clone(), entry.clone())).collect();
        let mut unneeded = Vec::new();
        for (topic, entry) in entries {
            entry.log().write().trim(trim);
            // The list, its follower, and this.
            let mut needed = entry.needed.lock();
            if Arc::strong_count(&entry) > 3 {
                *needed = now;
            } else if now.duration_since(*needed) >= KEPT {
                unneeded.push(topic);
            }
        }
        let mut topics = self.topics.write();
        // Lines are only ever made under this lock, so one that is not there now cannot appear meanwhile.
        unneeded.retain(|topic| topics.get(topic).is_some_and(|entry| Arc::strong_count(entry) <= 2));
        for topic in &unneeded {
            if let Some(entry) = topics.remove(topic) {
                entry.closed.cancel();
            }
        }
        unneeded
    }

    pub(super) fn topic_count(&self) -> usize {
        self.topics.read().len()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // Entries and engine hold each other.
        for entry in std::mem::take(&mut *self.topics.write()).into_values().chain([self.canary.clone()]) {
            entry.closed.cancel();
        }
    }
}

impl Engine {
    /// Topics that are open here, by partition.
    fn open_entries(&self) -> BTreeMap<u16, Vec<Arc<Entry>>> {
        let mut open = BTreeMap::<u16, Vec<_>>::new();
        for entry in self.topics.read().values() {
            open.entry(entry.partition).or_default().push(entry.clone());
        }
        open
    }

    /// An event was stored by a publish of this replica: it leaves by the bridges of its topic.
    fn bridge_out(&self, entry: &Entry, event: &NewEvent, cursor: Cursor) {
        if let Some(outlet) = self.outlet.as_ref().filter(|_| !event.is_bridged) {
            outlet.send(entry, event, cursor);
        }
    }

    /// Records of a topic from `from` on; see [`api::records`].
    async fn records(&self, partition: u16, topic: &str, from: u64, limit: usize) -> Result<Batch, Problem> {
        #[cfg(test)]
        if tests::are_behind(self) {
            return Ok(Batch::default());
        }
        let _turn = self.questions.acquire().await;
        let (stream, subject) = (self.names.stream(partition), self.names.log(partition, topic));
        api::records(&self.links.asking, &stream, &subject, from, limit).await
    }

    /// The newest records of subjects; see [`api::heads`].
    /// The first record of a topic at `from` or after it, as the stream's leader has it.
    async fn led(&self, partition: u16, topic: &str, from: u64) -> Result<Option<api::Stored>, Problem> {
        let _turn = self.questions.acquire().await;
        let (stream, subject) = (self.names.stream(partition), self.names.log(partition, topic));
        api::next(&self.links.asking, &stream, &subject, from).await
    }

    async fn heads(&self, partition: u16, subjects: &[String], from: u64) -> Result<Heads, Problem> {
        let _turn = self.questions.acquire().await;
        api::heads(&self.links.asking, &self.names.stream(partition), subjects, from).await
    }
}
