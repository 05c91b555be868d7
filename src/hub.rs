//! The topics active on this replica, and the waking of those who read them.
//!
//! A topic becomes active when its first session joins and ends with its last; in between the hub holds one [`Feed`]
//! for it, however many sessions read. A feed holds no events: readers read the log, the feed only says when.

mod delivery;
mod feed;
mod founders;
mod readers;
mod ready;
mod rule;
mod scope;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use bytesize::ByteSize;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    broker::{Broker, Fleet, Line, Publishing, nats},
    error::{Failure, Reason},
    log::Limits,
    planted::{self, Bug},
    telemetry::metrics::Metrics,
    types::{Claim, Limiter, NewEvent, Party, Producer, Published, Topic, TopicPattern},
};

pub use delivery::{Delivery, Policy, PolicyName};
pub use feed::{Feed, ReaderGuard};
pub use readers::Reader;
pub use ready::ReadySet;
pub use rule::{Class, Config, DEDUPE_DEPTH, History, Rule};
pub use scope::{Hold, Scope};

use founders::Founders;

/// Who came and went is kept for as long as places are by default, and a little longer: with its last member gone, what
/// says who is in a topic is soon forgotten.
const PRESENCE_HISTORY: History =
    History { max_events: 10_000, max_bytes: ByteSize::mib(16), max_age: Duration::from_secs(180) };

/// See the module.
#[derive(Debug)]
pub struct Hub {
    config: Config,
    /// The rule for topics that say who is in another one.
    presence: Option<Rule>,
    broker: Broker,
    feeds: Feeds,
    founders: Mutex<Founders>,
    /// How many events, and how many bytes of them, each may publish in a second.
    publishes: (Limiter, Limiter),
    metrics: Arc<Metrics>,
}

/// Active topics. An entry outlives its feed only until the feed's `Drop` has run.
pub(crate) type Feeds = Arc<Mutex<HashMap<Topic, Weak<Feed>>>>;

impl Hub {
    /// A hub over `broker`.
    pub fn new(config: Config, broker: Broker, metrics: Arc<Metrics>) -> Self {
        let (max_keys, history) = (config.max_members, PRESENCE_HISTORY);
        let presence = TopicPattern::parse("~presence.>").ok();
        let presence = presence.map(|pattern| Rule { class: Class::State, max_keys, history, ..Rule::new(pattern) });
        let publishes =
            (Limiter::new(config.max_publishes_per_second.into()), Limiter::new(config.max_publish_rate.as_u64()));
        let founders = Mutex::new(Founders::new(config.max_per_client));
        Self { config, presence, broker, feeds: Feeds::default(), founders, publishes, metrics }
    }

    /// Joins a topic, creating it if need be: UNKNOWN_TOPIC if no rule covers it, TOPIC_LIMIT if there are too many, or too
    /// many of `party`. A topic of class `echo` is another one for everybody who joins it.
    pub fn join(&self, topic: &Topic, party: Party) -> Result<Arc<Feed>, Failure> {
        let rule = self.rule(topic)?;
        let topic = if planted::strikes(Bug::ConfusesTopics, 8) { &Topic::parse("prices.a")? } else { topic };
        if rule.class == Class::Echo {
            return Ok(Feed::new(topic.clone(), rule, self.broker.private(self.limits(rule)), None));
        }
        let mut feeds = self.feeds.lock();
        if let Some(feed) = feeds.get(topic).and_then(Weak::upgrade) {
            return Ok(feed);
        }
        let line = self.open(topic, rule, party)?;
        let feed = Feed::new(topic.clone(), rule, line, Some(self.feeds.clone()));
        feeds.insert(topic.clone(), Arc::downgrade(&feed));
        Ok(feed)
    }

    /// The topic's line, creating the topic on account of `party` if need be.
    fn open(&self, topic: &Topic, rule: &Rule, party: Party) -> Result<Line, Failure> {
        if let Some(line) = self.broker.find(topic) {
            return Ok(line);
        }
        let mut founders = self.founders.lock();
        founders.check(party)?;
        let line = self.broker.open(topic, self.limits(rule), rule.durability)?;
        founders.founded(topic, party);
        Ok(line)
    }

    /// Counts a publish of `party`, before anything is done about it: PUBLISH_RATE with the time to wait.
    pub fn meter(&self, party: Party, size: usize) -> Result<(), Failure> {
        let (events, bytes) = &self.publishes;
        if events.is_off() && bytes.is_off() {
            return Ok(());
        }
        let now = Instant::now();
        let taken = events.take(party, 1, now).and_then(|()| bytes.take(party, size as u64, now));
        taken.map_err(|wait| {
            // No sooner than it can be of use, and not all at once.
            let wait = wait.max(Duration::from_millis(1)).mul_f64(1.0 + fastrand::f64() / 4.0);
            Failure::new(Reason::PublishRate, "more is being published than may be").retry_after(wait)
        })
    }

    /// Publishes without a session. Fails as [`Hub::join`] does, with UNSUPPORTED on an echo topic, which answers
    /// sessions only, and with READ_ONLY on one that says who is in another.
    pub async fn publish(&self, topic: &Topic, event: NewEvent, party: Party) -> Result<Published, Failure> {
        if topic.presence_of().is_some() {
            return Err(Failure::new(Reason::ReadOnly, "only the server says who is in a topic"));
        }
        let rule = self.rule(topic)?;
        if rule.class == Class::Echo {
            return Err(sessions_only(topic, rule.class));
        }
        let bytes = event.payload.len() as u64;
        let line = self.open(topic, rule, party)?;
        line.seen().await?;
        let published = line.publish(event).outcome().await?;
        if !published.duplicate {
            self.metrics.events_published.inc();
            self.metrics.events_published_bytes.inc_by(bytes);
        }
        Ok(published)
    }

    /// Says that a session is in a topic, until its scope in the feed that is returned ends. KEY_LIMIT if too many are.
    pub fn announce(
        &self,
        topic: &Topic,
        producer: &Producer,
        info: &Bytes,
    ) -> Result<(Arc<Feed>, Publishing), Failure> {
        let feed = self.join(&topic.presence()?, Party::client(producer.client_id()))?;
        let publishing = feed.publish(membership(producer, info));
        Ok((feed, publishing))
    }

    /// Removes what a session has left of itself at another replica: the keys of `topic` that were to die with it. Nothing,
    /// if somebody has taken it since `claim`. A member is told apart by its record alone, keys by the claim as well.
    pub async fn undo(&self, producer: &Producer, topic: &Topic, claim: Claim) -> Result<(), Failure> {
        if self.rule(topic)?.class != Class::State {
            return Ok(());
        }
        let feed = self.join(topic, Party::client(producer.client_id()))?;
        feed.seen().await?;
        let fence = topic.presence_of().is_none().then_some(claim);
        feed.undo(producer, fence, self.broker.fleet().stands(claim)).await
    }

    /// Fails as [`Hub::announce`] would at this moment. The feed that is returned, held, keeps it in sight.
    pub async fn check_announce(&self, topic: &Topic, producer: &Producer, info: &Bytes) -> Result<Arc<Feed>, Failure> {
        let feed = self.join(&topic.presence()?, Party::client(producer.client_id()))?;
        feed.seen().await?;
        feed.log().check(&membership(producer, info))?;
        Ok(feed)
    }

    /// Who is in a topic, as the log that says so; none if nobody was since it was last forgotten.
    pub async fn presence(&self, topic: &Topic, party: Party) -> Result<Option<Line>, Failure> {
        self.rule(topic)?;
        self.seen(&topic.presence()?, party).await
    }

    /// The log of a topic, for reading its history; none if nothing was ever published to it. Creates nothing, but where
    /// topics are kept elsewhere it opens one, on account of `party`. UNSUPPORTED where nothing is kept to be read.
    pub async fn history(&self, topic: &Topic, party: Party) -> Result<Option<Line>, Failure> {
        match self.rule(topic)?.class {
            class @ (Class::Echo | Class::Signal) => Err(sessions_only(topic, class)),
            Class::Log | Class::State => self.seen(topic, party).await,
        }
    }

    /// A topic that is there already, once its log can be looked at.
    async fn seen(&self, topic: &Topic, party: Party) -> Result<Option<Line>, Failure> {
        let line = match self.broker.find(topic) {
            None if self.broker.is_shared() => Some(self.open(topic, self.rule(topic)?, party)?),
            found => found,
        };
        if let Some(line) = &line {
            line.seen().await?;
        }
        Ok(line)
    }

    /// The bridges by which events come in from elsewhere; see [`Broker::inlets`].
    pub fn inlets(&self) -> Vec<nats::Inlet> {
        self.broker.inlets()
    }

    /// The server's own topic, by which it finds out whether topics work. No client can reach or see it.
    pub fn canary(&self) -> Line {
        self.broker.canary()
    }

    /// The replicas that share the broker.
    pub fn fleet(&self) -> Fleet {
        self.broker.fleet()
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
        let forgotten = self.broker.sweep();
        self.founders.lock().forget(&forgotten);
        self.make_room();
        self.metrics.topics_active.set(i64::try_from(self.broker.topic_count()).unwrap_or(i64::MAX));
    }

    /// Completes when all histories together have come close to `max_total_history` since it completed last; then it is
    /// time to [`make_room`](Self::make_room). Cancel-safe.
    pub async fn crowded(&self) {
        self.broker.total().crowded().await;
    }

    /// Makes room if all histories together hold nearly as much as they may; see [`Broker::make_room`].
    pub fn make_room(&self) {
        let dropped = self.broker.make_room();
        self.metrics.history_trimmed_bytes.inc_by(dropped);
        if dropped > 0 {
            tracing::debug!(bytes = dropped, "the longest histories were cut: together they held what they may");
        }
        self.metrics.history_bytes.set(i64::try_from(self.broker.total().bytes()).unwrap_or(i64::MAX));
    }

    /// How long repeats are recognised.
    pub fn dedupe_window(&self) -> std::time::Duration {
        self.config.dedupe_window
    }

    fn rule(&self, topic: &Topic) -> Result<&Rule, Failure> {
        let named = |topic: &Topic| {
            self.config.rule(topic).ok_or_else(|| {
                Failure::new(Reason::UnknownTopic, format!("no configured pattern covers the topic {topic}"))
            })
        };
        match (topic.presence_of(), &self.presence) {
            (Some(of), Some(rule)) => named(&Topic::parse(of)?).map(|_| rule),
            _ => named(topic),
        }
    }

    fn limits(&self, rule: &Rule) -> Limits {
        rule.limits(self.config.dedupe_window)
    }
}

/// What a member's presence is: a key of its own that dies with its session.
fn membership(producer: &Producer, info: &Bytes) -> NewEvent {
    NewEvent {
        key: format!("{} {}", producer.client_id(), producer.session_id()).into(),
        payload: info.clone(),
        publisher: Some(producer.client_id().clone()),
        scope: Some(producer.clone()),
        ..NewEvent::default()
    }
}

fn sessions_only(topic: &Topic, class: Class) -> Failure {
    let message = format!("{topic} is of class {}: it answers sessions only and keeps nothing", class.as_str());
    Failure::new(Reason::Unsupported, message)
}

#[cfg(test)]
mod tests;
