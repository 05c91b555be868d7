//! What a topic is, decided by its name.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::{
    log::Limits,
    types::{Topic, TopicPattern},
};

/// Publishes of one session that can be recognised as repeats, and so may be in flight at once.
pub const DEDUPE_DEPTH: usize = 1024;

/// `[topics]`: which topics may exist and what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most topics kept at once.
    pub max_topics: usize,
    /// How long a publish is recognised as a repeat of one before.
    #[serde(with = "humantime_serde")]
    pub dedupe_window: Duration,
    /// The first rule whose pattern covers a name decides; a name none covers is refused.
    pub rules: Vec<Rule>,
}

impl Default for Config {
    fn default() -> Self {
        let rule = |pattern: &str, class, history| {
            TopicPattern::parse(pattern).ok().map(|pattern| Rule { pattern, class, history })
        };
        // What an echo topic keeps is what its session has not taken yet.
        let unread = History { max_events: 512, max_bytes: ByteSize::mib(8), max_age: Duration::from_secs(60) };
        Self {
            max_topics: 100_000,
            dedupe_window: Duration::from_secs(180),
            rules: [
                rule("echo", Class::Echo, unread.clone()),
                rule("echo.>", Class::Echo, unread),
                rule(">", Class::Log, History::default()),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    }
}

impl Config {
    /// The rule for a topic.
    pub fn rule(&self, topic: &Topic) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.pattern.matches(topic))
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
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.history.max_events == 0 || rule.history.max_bytes.as_u64() == 0 {
                let message = "must keep at least one event and one byte, or nothing can be delivered";
                problems.push((format!("rules[{index}].history"), message.into()));
            }
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
    /// How much they keep.
    #[serde(default)]
    pub history: History,
}

impl Rule {
    pub(super) fn limits(&self, dedupe_window: Duration) -> Limits {
        Limits {
            max_events: self.history.max_events,
            max_bytes: self.history.max_bytes.as_u64(),
            max_age: self.history.max_age,
            dedupe_window,
            dedupe_depth: DEDUPE_DEPTH,
        }
    }
}

/// What a topic is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Ordered, with history, resumable.
    #[default]
    Log,
    /// Answers the publishing session alone.
    Echo,
}

/// How much history a topic keeps; whatever is reached first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Most events.
    pub max_events: u64,
    /// Most encoded bytes.
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
