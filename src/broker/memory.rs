//! The engine of a single replica: logs in this process, lost with it. Durability is ACCEPTED.
//!
//! It is also the reference the other engines are held against.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Weak},
};

use parking_lot::{Mutex, RwLock};

use super::{Listener, room};
use crate::{
    error::{Failure, Reason},
    log::{Limits, Log, Total},
    types::{NewEvent, Producer, Published, Timestamp, Topic},
};

/// How many topics the sweep looks at under one lock.
const SWEEP_CHUNK: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Memory {
    // Ordered, so that listing pages without sorting. Touched when a topic is opened, never when it is used.
    topics: RwLock<BTreeMap<Topic, Arc<Entry>>>,
    max_topics: usize,
    /// Logs that no name leads to: those of echo sessions. Those that are gone are forgotten by the sweep.
    private: Mutex<Vec<Weak<Entry>>>,
    /// What all of them hold.
    total: Total,
    /// A topic without a name: it counts for nothing and nobody can ask for it.
    canary: Arc<Entry>,
}

/// One topic's log and who hears of its growth.
pub struct Entry {
    log: RwLock<Log>,
    listener: RwLock<Option<Weak<dyn Listener>>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("log", &self.log).finish_non_exhaustive()
    }
}

impl AsRef<RwLock<Log>> for Entry {
    fn as_ref(&self) -> &RwLock<Log> {
        &self.log
    }
}

impl Memory {
    /// An engine for at most `max_topics` topics, which hold together what they may each.
    pub fn new(max_topics: usize) -> Self {
        Self::bounded(max_topics, Total::default())
    }

    /// An engine for at most `max_topics` topics, whose logs are counted in `total`, and hold no more than that allows.
    pub fn bounded(max_topics: usize, total: Total) -> Self {
        // The canary is not counted: whether topics work is another question than whether there is room.
        let canary = Arc::new(Entry::new(super::CANARY, Total::default()));
        Self { topics: RwLock::default(), max_topics, private: Mutex::default(), total, canary }
    }

    pub(super) fn open(&self, topic: &Topic, limits: Limits) -> Result<Arc<Entry>, Failure> {
        if let Some(entry) = self.topics.read().get(topic) {
            return Ok(entry.clone());
        }
        let mut topics = self.topics.write();
        if let Some(entry) = topics.get(topic) {
            return Ok(entry.clone());
        }
        if topics.len() >= self.max_topics {
            let message = format!("the server keeps at most {} topics", self.max_topics);
            return Err(Failure::new(Reason::TopicLimit, message).retry_after(std::time::Duration::from_secs(1)));
        }
        let entry = Arc::new(Entry::new(limits, self.total.clone()));
        topics.insert(topic.clone(), entry.clone());
        Ok(entry)
    }

    pub(super) fn private(&self, limits: Limits) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(limits, self.total.clone()));
        self.private.lock().push(Arc::downgrade(&entry));
        entry
    }

    pub(super) fn total(&self) -> &Total {
        &self.total
    }

    /// See [`super::Broker::make_room`].
    pub(super) fn make_room(&self) -> u64 {
        room::make(&self.total, || {
            let mut logs = self.logs();
            logs.extend(self.topics.read().values().map(|entry| entry.clone() as Arc<room::Logged>));
            logs
        })
    }

    /// The logs that no name leads to.
    pub(super) fn logs(&self) -> Vec<Arc<room::Logged>> {
        let private = self.private.lock();
        private.iter().filter_map(Weak::upgrade).map(|entry| entry as Arc<room::Logged>).collect()
    }

    pub(super) fn canary(&self) -> Arc<Entry> {
        // Behind the lock that every topic is behind: it is to be noticed when that is stuck.
        let _topics = self.topics.read();
        self.canary.clone()
    }

    pub(super) fn find(&self, topic: &Topic) -> Option<Arc<Entry>> {
        self.topics.read().get(topic).cloned()
    }

    pub(super) fn list(&self, prefix: &str, after: &str, limit: usize) -> Vec<(Topic, Arc<Entry>)> {
        let topics = self.topics.read();
        let start = if after >= prefix { Bound::Excluded(after) } else { Bound::Included(prefix) };
        topics
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(topic, _)| topic.as_str().starts_with(prefix))
            .take(limit)
            .map(|(topic, entry)| (topic.clone(), entry.clone()))
            .collect()
    }

    pub(super) fn sweep(&self) -> Vec<Topic> {
        self.private.lock().retain(|entry| entry.strong_count() > 0);
        let (mut dropped, mut after): (_, Option<Topic>) = (Vec::new(), None);
        loop {
            let chunk = self.chunk(after.as_ref());
            let Some((last, _)) = chunk.last() else { return dropped };
            after = Some(last.clone());
            let now = Timestamp::now();
            for (topic, entry) in chunk {
                entry.log.write().trim(now);
                drop(entry);
                if self.drop_if_unneeded(&topic) {
                    dropped.push(topic);
                }
            }
        }
    }

    fn chunk(&self, after: Option<&Topic>) -> Vec<(Topic, Arc<Entry>)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let topics = self.topics.read();
        let rest = topics.range::<Topic, _>((start, Bound::Unbounded));
        rest.take(SWEEP_CHUNK).map(|(topic, entry)| (topic.clone(), entry.clone())).collect()
    }

    /// Lines are only ever made under the lock of `topics`, so one that is not there now cannot appear meanwhile.
    fn drop_if_unneeded(&self, topic: &Topic) -> bool {
        let unneeded = |entry: &Arc<Entry>| Arc::strong_count(entry) == 1 && entry.log.read().is_vacant();
        if self.topics.read().get(topic).is_some_and(unneeded) {
            let mut topics = self.topics.write();
            if topics.get(topic).is_some_and(unneeded) {
                return topics.remove(topic).is_some();
            }
        }
        false
    }

    pub(super) fn topic_count(&self) -> usize {
        self.topics.read().len()
    }
}

impl Entry {
    pub(super) fn new(limits: Limits, total: Total) -> Self {
        Self { log: RwLock::new(Log::new(limits).counted(total)), listener: RwLock::default() }
    }

    pub(super) fn publish(&self, event: &NewEvent) -> Result<Published, Failure> {
        let published = self.log.write().append(event, Timestamp::now())?;
        if !published.duplicate {
            self.tell();
        }
        Ok(published)
    }

    pub(super) fn remove_owned(&self, owner: &Producer) {
        let any = self.log.write().remove_owned(owner, Timestamp::now());
        if any {
            self.tell();
        }
    }

    fn tell(&self) {
        let listener = self.listener.read().as_ref().and_then(Weak::upgrade);
        if let Some(listener) = listener {
            listener.grown();
        }
    }

    pub(super) fn log(&self) -> &RwLock<Log> {
        &self.log
    }

    pub(super) fn listen(&self, listener: Weak<dyn Listener>) {
        *self.listener.write() = Some(listener);
    }
}
