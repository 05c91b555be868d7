//! What becomes of deliveries that a session does not take: what a topic's rule allows, and what a session gets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Class;
use crate::error::{Failure, Reason};

/// Delivery policies by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    /// The cursor waits.
    Lag,
    /// The newest `queue_size` remain.
    DropOldest,
    /// The latest of each key.
    Conflate,
    /// The session ends.
    Disconnect,
}

impl PolicyName {
    /// The word in the configuration and in what people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::DropOldest => "drop_oldest",
            Self::Conflate => "conflate",
            Self::Disconnect => "disconnect",
        }
    }
}

/// A delivery policy, with its measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// The cursor waits.
    #[default]
    Lag,
    /// The cursor jumps so that the newest `keep` remain.
    DropOldest {
        /// Most events that may wait.
        keep: u64,
    },
    /// The latest event of each key, at most once an `interval`.
    Conflate {
        /// From the start of one round to the start of the next.
        interval: Duration,
    },
    /// The session ends when more than `limit` wait.
    Disconnect {
        /// Most events that may wait.
        limit: u64,
    },
}

impl Policy {
    /// True if the session must be looked at when its topic grows even while it may send nothing.
    pub fn watches_growth(self) -> bool {
        matches!(self, Self::Disconnect { .. })
    }

    /// True if it delivers what is latest, and not what has happened.
    pub fn conflates(self) -> bool {
        matches!(self, Self::Conflate { .. })
    }

    /// Which one it is.
    pub fn name(self) -> PolicyName {
        match self {
            Self::Lag => PolicyName::Lag,
            Self::DropOldest { .. } => PolicyName::DropOldest,
            Self::Conflate { .. } => PolicyName::Conflate,
            Self::Disconnect { .. } => PolicyName::Disconnect,
        }
    }
}

/// `topics.rules[].delivery`: what happens to deliveries while a session does not take them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// The policy of sessions that do not choose; none: that of the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyName>,
    /// What sessions may choose; none: whatever the class can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<PolicyName>>,
    /// Events that may wait for a session before `drop_oldest` or `disconnect` acts; no more than the history holds.
    pub queue_size: u64,
    /// How often a key may come to a conflating session, most times a second.
    pub max_rate_hz: u32,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { policy: None, allow: None, queue_size: 512, max_rate_hz: 20 }
    }
}

impl Delivery {
    /// The policy of a session that asks for `wanted`, at most `max_rate_hz` times a second (0: as often as allowed).
    /// UNSUPPORTED for one that the topic does not allow.
    pub fn policy(&self, class: Class, wanted: Option<PolicyName>, max_rate_hz: u32) -> Result<Policy, Failure> {
        let own = self.default_policy(class);
        let name = wanted.unwrap_or(own);
        if name != own && !self.allowed(class).contains(&name) {
            let message = format!("sessions of this topic may not choose the delivery policy {}", name.as_str());
            return Err(Failure::new(Reason::Unsupported, message));
        }
        Ok(match name {
            PolicyName::Lag => Policy::Lag,
            PolicyName::DropOldest => Policy::DropOldest { keep: self.queue_size },
            PolicyName::Disconnect => Policy::Disconnect { limit: self.queue_size },
            PolicyName::Conflate => {
                let hertz = if max_rate_hz == 0 { self.max_rate_hz } else { max_rate_hz.min(self.max_rate_hz) };
                Policy::Conflate { interval: Duration::from_secs(1) / hertz.max(1) }
            }
        })
    }

    fn default_policy(&self, class: Class) -> PolicyName {
        self.policy.unwrap_or(if class == Class::Signal { PolicyName::DropOldest } else { PolicyName::Lag })
    }

    fn allowed(&self, class: Class) -> &[PolicyName] {
        self.allow.as_deref().unwrap_or(class.policies())
    }

    /// Everything wrong with it in a rule of that class, as `(key, sentence)`.
    pub(super) fn problems(&self, class: Class) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let named = [("policy", self.policy.as_slice()), ("allow", self.allow.as_deref().unwrap_or_default())];
        for (key, names) in named {
            for name in names.iter().filter(|name| !class.policies().contains(name)) {
                let possible: Vec<_> = class.policies().iter().map(|name| name.as_str()).collect();
                let (name, class, possible) = (name.as_str(), class.as_str(), possible.join(", "));
                problems.push((key, format!("\"{name}\" is not possible in class \"{class}\"; possible: {possible}")));
            }
        }
        if self.queue_size == 0 {
            problems.push(("queue_size", "must be at least 1".into()));
        }
        if !(1..=1000).contains(&self.max_rate_hz) {
            problems.push(("max_rate_hz", "must be between 1 and 1000".into()));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_gets_what_it_asks_for_as_far_as_the_topic_allows() {
        let delivery = Delivery { allow: Some(vec![PolicyName::Conflate]), ..Delivery::default() };
        assert_eq!(delivery.policy(Class::State, None, 0), Ok(Policy::Lag));
        let at = |hertz| delivery.policy(Class::State, Some(PolicyName::Conflate), hertz);
        assert_eq!(at(0), Ok(Policy::Conflate { interval: Duration::from_millis(50) }));
        assert_eq!(at(5), Ok(Policy::Conflate { interval: Duration::from_millis(200) }));
        assert_eq!(at(500), at(0), "not more often than the topic allows");
        let refused = delivery.policy(Class::State, Some(PolicyName::Disconnect), 0).unwrap_err();
        assert_eq!(refused.reason, Reason::Unsupported);
    }

    #[test]
    fn what_a_class_cannot_do_is_a_mistake_in_its_rule() {
        let delivery = Delivery { policy: Some(PolicyName::Conflate), queue_size: 0, ..Delivery::default() };
        let keys: Vec<_> = delivery.problems(Class::Log).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["policy", "queue_size"]);
        assert_eq!(delivery.problems(Class::State).len(), 1);
    }
}
