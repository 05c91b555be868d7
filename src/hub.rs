//! The topics active on this replica, and the waking of those who read them.
//!
//! A topic becomes active when its first session joins and ends with its last; in between the hub holds one [`Feed`]
//! for it, however many sessions read. A feed holds no events: readers read the log, the feed only says when.

mod feed;
mod ready;
mod rule;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use crate::{
    broker::{Broker, Line},
    error::{Failure, Reason},
    log::Limits,
    telemetry::metrics::Metrics,
    types::{NewEvent, Published, Topic},
};

pub use feed::{Feed, Reader, ReaderGuard};
pub use ready::ReadySet;
pub use rule::{Class, Config, DEDUPE_DEPTH, History, Rule};

/// See the module.
#[derive(Debug)]
pub struct Hub {
    config: Config,
    broker: Broker,
    feeds: Feeds,
    metrics: Arc<Metrics>,
}

/// Active topics. An entry outlives its feed only until the feed's `Drop` has run.
pub(crate) type Feeds = Arc<Mutex<HashMap<Topic, Weak<Feed>>>>;

impl Hub {
    /// A hub over `broker`.
    pub fn new(config: Config, broker: Broker, metrics: Arc<Metrics>) -> Self {
        Self { config, broker, feeds: Feeds::default(), metrics }
    }

    /// Joins a topic, creating it if need be: UNKNOWN_TOPIC if no rule covers it, TOPIC_LIMIT if there are too many. A topic of class `echo` is
    /// another one for everybody who joins it.
    pub fn join(&self, topic: &Topic) -> Result<Arc<Feed>, Failure> {
        let rule = self.rule(topic)?;
        if rule.class == Class::Echo {
            let feed = Feed::new(topic.clone(), rule.class, Line::private(self.limits(rule)), None);
            return Ok(feed);
        }
        let mut feeds = self.feeds.lock();
        if let Some(feed) = feeds.get(topic).and_then(Weak::upgrade) {
            return Ok(feed);
        }
        let line = self.broker.open(topic, self.limits(rule))?;
        let feed = Feed::new(topic.clone(), rule.class, line, Some(self.feeds.clone()));
        feeds.insert(topic.clone(), Arc::downgrade(&feed));
        Ok(feed)
    }

    /// Publishes without a session. Fails as [`Hub::join`] does, and with UNSUPPORTED on an echo topic, which answers
    /// sessions only.
    pub fn publish(&self, topic: &Topic, event: NewEvent) -> Result<Published, Failure> {
        let bytes = event.payload.len() as u64;
        let published = self.broker.open(topic, self.stored(topic)?)?.publish(event)?;
        if !published.duplicate {
            self.metrics.events_published.inc();
            self.metrics.events_published_bytes.inc_by(bytes);
        }
        Ok(published)
    }

    /// The log of a topic, for reading its history; none if nothing was ever published to it. Creates nothing.
    pub fn history(&self, topic: &Topic) -> Result<Option<Line>, Failure> {
        self.stored(topic).map(|_| self.broker.find(topic))
    }

    /// What a topic that stores keeps.
    fn stored(&self, topic: &Topic) -> Result<Limits, Failure> {
        let rule = self.rule(topic)?;
        if rule.class == Class::Echo {
            let message = format!("{topic} is an echo topic: it answers sessions only and stores nothing");
            return Err(Failure::new(Reason::Unsupported, message));
        }
        Ok(self.limits(rule))
    }

    /// Topics by name; see [`Broker::list`]. With each, its class and how many sessions read it here.
    pub fn list(&self, prefix: &str, after: &str, limit: usize) -> Vec<(Topic, Line, Class, usize)> {
        let active = |topic: &Topic| self.feeds.lock().get(topic).and_then(Weak::upgrade);
        self.broker
            .list(prefix, after, limit)
            .into_iter()
            .map(|(topic, line)| {
                // The handle is dropped outside the lock: if it is the last, the feed's `Drop` takes that lock.
                let readers = active(&topic).map_or(0, |feed| feed.reader_count());
                let class = self.rule(&topic).map_or(Class::Log, |rule| rule.class);
                (topic, line, class, readers)
            })
            .collect()
    }

    /// Housekeeping, about once a second.
    pub fn sweep(&self) {
        self.broker.sweep();
        self.metrics.topics_active.set(i64::try_from(self.broker.topic_count()).unwrap_or(i64::MAX));
    }

    /// How long repeats are recognised.
    pub fn dedupe_window(&self) -> std::time::Duration {
        self.config.dedupe_window
    }

    fn rule(&self, topic: &Topic) -> Result<&Rule, Failure> {
        self.config.rule(topic).ok_or_else(|| {
            Failure::new(Reason::UnknownTopic, format!("no configured pattern covers the topic {topic}"))
        })
    }

    fn limits(&self, rule: &Rule) -> Limits {
        rule.limits(self.config.dedupe_window)
    }
}

#[cfg(test)]
mod tests;
