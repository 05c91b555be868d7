//! What a topic is, decided by its name.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::{Delivery, PolicyName};
use crate::{
    log::Limits,
    types::{Durability, Topic, TopicPattern},
};

/// Publishes of one session that can be recognised as repeats, and so may be in flight at once.
pub const DEDUPE_DEPTH: usize = 1024;

/// `[topics]`: which topics may exist and what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most topics kept at once.
    pub max_topics: usize,
    /// Most topics that are there on account of one client, or of one address where clients name themselves; 0: as many
    /// as there may be.
    pub max_per_client: usize,
    /// Most events published in a second by one of these; 0: as many as come.
    pub max_publishes_per_second: u32,
    /// Most bytes of their payloads in a second; 0: as many as come.
    pub max_publish_rate: ByteSize,
    /// Most bytes of memory that all topics hold together; 0 for no limit but their own.
    pub max_total_history: ByteSize,
    /// How long a publish is recognised as a repeat of one before.
    #[serde(with = "humantime_serde")]
    pub dedupe_window: Duration,
    /// Most members of one topic's presence.
    pub max_members: usize,
    /// The first rule whose pattern covers a name decides; a name none covers is refused.
    pub rules: Vec<Rule>,
}

impl Default for Config {
    fn default() -> Self {
        // What echo and signal topics keep is what their sessions have not taken yet.
        let unread = History { max_events: 512, max_bytes: ByteSize::mib(8), max_age: Duration::from_secs(60) };
        let rules = [
            ("echo", Class::Echo, unread.clone()),
            ("echo.>", Class::Echo, unread.clone()),
            ("signal", Class::Signal, unread.clone()),
            ("signal.>", Class::Signal, unread),
            ("state", Class::State, History::default()),
            ("state.>", Class::State, History::default()),
            (">", Class::Log, History::default()),
        ];
        let rule = |(pattern, class, history)| {
            TopicPattern::parse(pattern).ok().map(|pattern| Rule { class, history, ..Rule::new(pattern) })
        };
        Self {
            max_topics: 100_000,
            max_per_client: 10_000,
            max_publishes_per_second: 0,
            max_publish_rate: ByteSize::b(0),
            max_total_history: ByteSize::b(0),
            dedupe_window: Duration::from_secs(180),
            max_members: 10_000,
            rules: rules.into_iter().filter_map(rule).collect(),
        }
    }
}

impl Config {
    /// Whether there may be topics whose publishes are answered at that class at least.
    pub fn asks_for(&self, durability: Durability) -> bool {
        self.rules.iter().any(|rule| rule.durability >= durability)
    }

    /// The rule for a topic.
    pub fn rule(&self, topic: &Topic) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.pattern.matches(topic))
    }

    /// Most bytes that one topic can hold, of those whose class is asked for.
    pub fn bytes_of_topic(&self, of: impl Fn(Class) -> bool) -> u64 {
        let rules = self.rules.iter().filter(|rule| of(rule.class));
        rules.map(|rule| rule.limits(self.dedupe_window).worst_bytes()).max().unwrap_or(0)
    }

    /// Everything wrong with the section, as `(key, sentence)`.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if self.rules.is_empty() {
            problems.push(("rules".into(), "must have at least one rule, or no topic can exist".into()));
        }
        if self.dedupe_window.is_zero() {
            problems.push(("dedupe_window".into(), "must be longer than zero, or no publish can be retried".into()));
        }
        if self.max_members == 0 {
            problems.push(("max_members".into(), "must be at least 1".into()));
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let named = |(key, sentence): (String, String)| (format!("rules[{index}].{key}"), sentence);
            problems.extend(rule.problems().into_iter().map(named));
        }
        problems
    }
}

/// What the topics of a pattern are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names it covers: `*` stands for one segment, a last `>` for one or more.
    pub pattern: TopicPattern,
    /// What they are for.
    #[serde(default)]
    pub class: Class,
    /// The least that the answer to a publish may name; a broker that does not reach it stops the start.
    #[serde(default)]
    pub durability: Durability,
    /// How much they keep.
    #[serde(default)]
    pub history: History,
    /// What happens to deliveries that a session does not take.
    #[serde(default)]
    pub delivery: Delivery,
    /// Class `state`: most keys.
    #[serde(default = "default_max_keys")]
    pub max_keys: usize,
    /// Class `log`: most events that a publish may be ahead of a required reader; 0: sessions cannot be required.
    #[serde(default)]
    pub max_lag: u64,
}

fn default_max_keys() -> usize {
    10_000
}

impl Rule {
    /// What names of this pattern are if nothing else is said.
    pub fn new(pattern: TopicPattern) -> Self {
        let (class, history, delivery) = (Class::default(), History::default(), Delivery::default());
        let durability = Durability::default();
        Self { pattern, class, durability, history, delivery, max_keys: default_max_keys(), max_lag: 0 }
    }

    pub(super) fn limits(&self, dedupe_window: Duration) -> Limits {
        Limits {
            max_events: self.history.max_events,
            max_bytes: self.history.max_bytes.as_u64(),
            max_age: self.history.max_age,
            dedupe_window,
            dedupe_depth: if self.class == Class::Signal { 0 } else { DEDUPE_DEPTH },
            max_keys: if self.class == Class::State { self.max_keys } else { 0 },
            max_lag: self.max_lag,
        }
    }

    fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut check = |wrong: bool, key: &str, sentence: &str| {
            if wrong {
                problems.push((key.to_owned(), sentence.to_owned()));
            }
        };
        let presence = self.pattern.as_str().starts_with("~presence");
        check(presence, "pattern", "cannot name presence topics: they have a rule of their own");
        let History { max_events, max_bytes, .. } = self.history;
        let nothing = max_events == 0 || max_bytes.as_u64() == 0;
        check(nothing, "history", "must keep at least one event and one byte, or nothing can be delivered");
        let keeps = matches!(self.class, Class::Log | Class::State);
        let sentence = "is possible in class \"log\" and \"state\" only: the others keep nothing";
        check(self.durability > Durability::Accepted && !keeps, "durability", sentence);
        check(self.class == Class::State && self.max_keys == 0, "max_keys", "must be at least 1");
        check(self.class != Class::Log && self.max_lag > 0, "max_lag", "is possible in class \"log\" only");
        let sentence = "must be at most history.max_events: what a reader is waited for must be kept for it";
        check(self.max_lag > max_events, "max_lag", sentence);
        let delivery = self.delivery.problems(self.class);
        problems.extend(delivery.into_iter().map(|(key, sentence)| (format!("delivery.{key}"), sentence)));
        problems
    }
}

/// What a topic is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Ordered, with history, resumable.
    #[default]
    Log,
    /// The latest event of each key.
    State,
    /// Heard by those who are there.
    Signal,
    /// Answers the publishing session alone.
    Echo,
}

impl Class {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::State => "state",
            Self::Signal => "signal",
            Self::Echo => "echo",
        }
    }

    /// What its sessions can do about deliveries that are not taken.
    pub(super) fn policies(self) -> &'static [PolicyName] {
        match self {
            Self::Log => &[PolicyName::Lag, PolicyName::DropOldest, PolicyName::Disconnect],
            Self::State => &[PolicyName::Lag, PolicyName::DropOldest, PolicyName::Conflate, PolicyName::Disconnect],
            Self::Signal => &[PolicyName::DropOldest, PolicyName::Disconnect],
            Self::Echo => &[PolicyName::Lag],
        }
    }
}

/// How much history a topic keeps; whatever is reached first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Most events.
    pub max_events: u64,
    /// Most bytes of memory that they take.
    pub max_bytes: ByteSize,
    /// Longest time; `0s` keeps them whatever their age.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self { max_events: 10_000, max_bytes: ByteSize::mib(16), max_age: Duration::from_secs(24 * 3600) }
    }
}
