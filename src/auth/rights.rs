//! What a caller may do: a closed set of questions, and rules that answer them. What no rule allows is denied.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    identity::Identity,
    keys::{FileError, read_text},
};
use crate::{
    error::{Failure, Reason},
    types::{Topic, TopicPattern},
};

/// The segment of a rule's pattern that stands for the client's own name.
const OWN: &str = "{client}";

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Ask<'t> {
    /// Storing an event.
    Publish(&'t Topic),
    /// What is stored from now on, and going on where the client was.
    Read(&'t Topic),
    /// What was stored before.
    History(&'t Topic),
    /// Seeing who is in a topic, and being seen there.
    Presence(&'t Topic),
    /// `ConnectionService`.
    Operate,
}

/// What a rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// See [`Ask::Publish`].
    Publish,
    /// See [`Ask::Read`].
    Read,
    /// See [`Ask::History`].
    History,
    /// See [`Ask::Presence`].
    Presence,
    /// See [`Ask::Operate`].
    Operate,
}

impl Right {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A rule of the policy: whom it concerns, and what they may do. Rules only allow; all that fit count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The client's name; a last `*` stands for any rest of it.
    #[serde(default = "anybody")]
    pub client: String,
    /// A claim of its token, `name=value`; of a list, one value has to be it. Empty: whatever the claims are.
    #[serde(default)]
    pub claim: String,
    /// Patterns of topics, in which `{client}` as a segment stands for the client's own name.
    #[serde(default)]
    pub topics: Vec<String>,
    /// What is allowed.
    pub allow: Vec<Right>,
}

fn anybody() -> String {
    "*".to_owned()
}

impl Rule {
    /// Everything wrong with it, as `(key, sentence)`.
    pub(super) fn problems(&self, names_itself: bool) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut check = |wrong: bool, key: &str, sentence: &str| {
            if wrong {
                problems.push((key.to_owned(), sentence.to_owned()));
            }
        };
        let stars = self.client.matches('*').count();
        let misplaced = stars > 1 || (stars == 1 && !self.client.ends_with('*'));
        check(
            self.client.is_empty() || misplaced,
            "client",
            "must be a name, \"*\", or the beginning of names and `*`",
        );
        let sentence = "must be written as name=value";
        check(!self.claim.is_empty() && !self.claim.contains('='), "claim", sentence);
        let named = self.client != "*" || !self.claim.is_empty() || self.topics.iter().any(|topic| topic.contains(OWN));
        check(names_itself && named, "client", "cannot tell callers apart that only name themselves");
        check(self.allow.is_empty(), "allow", "must list what is allowed");
        let operates = self.allow.contains(&Right::Operate);
        check(names_itself && operates, "allow", "cannot make operators of callers that only name themselves");
        let of_topics = self.allow.iter().any(|right| *right != Right::Operate);
        check(of_topics && self.topics.is_empty(), "topics", "must list patterns of topics, such as [\"chat.>\"]");
        for (index, topic) in self.topics.iter().enumerate() {
            if let Err(invalid) = TopicPattern::parse(&own(topic, "x")) {
                problems.push((format!("topics[{index}]"), invalid.problem));
            }
        }
        problems
    }

    fn concerns(&self, identity: &Identity, claims: &Value) -> bool {
        let name = identity.client().map_or("", |client| client.as_str());
        let fits = match self.client.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == self.client,
        };
        fits && (self.claim.is_empty() || has(claims, &self.claim))
    }

    fn patterns(&self, identity: &Identity) -> impl Iterator<Item = TopicPattern> {
        // A name that is no segment, such as one with a dot or a wildcard, has no topics of its own.
        let name = identity.client().map(|client| client.as_str()).unwrap_or_default();
        let is_segment = !name.contains('.') && Topic::parse(name).is_ok();
        let usable = self.topics.iter().filter(move |topic| is_segment || !topic.split('.').any(|part| part == OWN));
        usable.filter_map(move |topic| TopicPattern::parse(&own(topic, name)).ok())
    }
}

/// The pattern with the client's name in its place.
fn own(pattern: &str, name: &str) -> String {
    let segments = pattern.split('.').map(|segment| if segment == OWN { name } else { segment });
    segments.collect::<Vec<_>>().join(".")
}

/// True if a claim has the value, or has it in its list. Dots lead into the claim's own fields.
fn has(claims: &Value, wanted: &str) -> bool {
    let Some((name, wanted)) = wanted.split_once('=') else { return false };
    let whole = claims.get(name);
    let found = whole.or_else(|| name.split('.').try_fold(claims, |claims, part| claims.get(part)));
    let is = |value: &Value| match value {
        Value::String(text) => text == wanted,
        // As JSON has them.
        Value::Bool(is) => wanted == if *is { "true" } else { "false" },
        Value::Number(number) => wanted == number.to_string(),
        _ => false,
    };
    found.is_some_and(|value| is(value) || value.as_array().is_some_and(|values| values.iter().any(is)))
}

/// The file of the policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    rules: Vec<Rule>,
}

/// Reads the rules of a policy file.
pub(super) fn read_policy(path: &Path, names_itself: bool) -> Result<Vec<Rule>, FileError> {
    let text = read_text("auth.policy_file", path, false)?;
    let wrong = |problem: String| FileError::new("auth.policy_file", path, problem);
    let file: PolicyFile =
        toml::from_str(&text).map_err(|error| wrong(format!("cannot be read: {}", error.message())))?;
    for (index, rule) in file.rules.iter().enumerate() {
        if let Some((key, sentence)) = rule.problems(names_itself).into_iter().next() {
            return Err(wrong(format!("is wrong: rules[{index}].{key} {sentence}")));
        }
    }
    Ok(file.rules)
}

/// What one caller may do, as of one version of the policy.
#[derive(Debug, Default)]
pub struct Rights {
    everything: bool,
    operates: bool,
    grants: Vec<(TopicPattern, u8)>,
}

impl Rights {
    /// Whatever there is, of topics.
    pub(super) fn everything(operates: bool) -> Self {
        Self { everything: true, operates, grants: Vec::new() }
    }

    /// What the rules allow, and the token itself.
    pub(super) fn of(identity: &Identity, rules: &[Rule], operates: bool) -> Self {
        let mut rights = Self { everything: false, operates, grants: Vec::new() };
        let claims = identity.claims();
        for rule in rules.iter().filter(|rule| rule.concerns(identity, &claims)) {
            let bits = rule.allow.iter().fold(0, |bits, right| bits | right.bit());
            rights.operates |= rule.allow.contains(&Right::Operate);
            rights.grants.extend(rule.patterns(identity).map(|pattern| (pattern, bits)));
        }
        rights.grants.extend(identity.brought().iter().cloned());
        rights
    }

    /// Whether it is allowed. DENIED, in the same words whether the topic exists or not.
    pub fn check(&self, ask: Ask<'_>) -> Result<(), Failure> {
        if self.allow(ask) { Ok(()) } else { Err(Failure::new(Reason::Denied, "the server's rules do not allow this")) }
    }

    /// As [`check`](Self::check), as a truth.
    pub fn allow(&self, ask: Ask<'_>) -> bool {
        let (topic, right) = match ask {
            Ask::Operate => return self.operates,
            _ if self.everything => return true,
            Ask::Publish(topic) => (topic, Right::Publish),
            Ask::Read(topic) => (topic, Right::Read),
            Ask::History(topic) => (topic, Right::History),
            Ask::Presence(topic) => (topic, Right::Presence),
        };
        match topic.presence_of() {
            // What says who is in a topic is no topic for itself.
            Some(of) => Topic::parse(of).is_ok_and(|of| self.covers(&of, Right::Presence)),
            None => self.covers(topic, right),
        }
    }

    fn covers(&self, topic: &Topic, right: Right) -> bool {
        self.grants.iter().any(|(pattern, bits)| bits & right.bit() != 0 && pattern.matches(topic))
    }
}

/// The rights that a claim brings: an object of lists of patterns, `{"read": ["chat.>"], "publish": ["chat.me"]}`. What
/// cannot be read brings nothing.
pub(super) fn brought(claim: &Value) -> Vec<(TopicPattern, u8)> {
    let of = |right: Right, name: &str| {
        let patterns = claim.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let parsed = patterns.iter().filter_map(|pattern| TopicPattern::parse(pattern.as_str()?).ok());
        parsed.map(|pattern| (pattern, right.bit())).collect::<Vec<_>>()
    };
    let rights = [
        (Right::Publish, "publish"),
        (Right::Read, "read"),
        (Right::History, "history"),
        (Right::Presence, "presence"),
    ];
    rights.into_iter().flat_map(|(right, name)| of(right, name)).collect()
}

#[cfg(test)]
mod tests;
