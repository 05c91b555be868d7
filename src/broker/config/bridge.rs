//! `[[broker.nats.bridges]]`: which subjects of NATS lead into topics, and which topics lead out to subjects.

use serde::{Deserialize, Serialize};

use crate::types::TopicPattern;

/// Longest pattern of subjects, bytes; the same as of topics.
const MAX_SUBJECT_LEN: usize = 255;
/// What the names of topics begin with that only the server writes.
const PRESENCE: &str = "~presence";
/// What answers to requests come on.
const INBOX: &str = "_INBOX";

/// `[[broker.nats.bridges]]`: topics, and the subjects beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// Topics: `*` stands for one segment, a last `>` for one or more.
    pub topics: TopicPattern,
    /// The subjects. They have the same wildcards in the same order: what one of them stands for in a topic, its partner
    /// stands for in the subject.
    pub subject: String,
    /// What goes which way.
    pub direction: Direction,
}

/// What goes which way over a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Messages of the subject become events of the topic.
    In,
    /// Events of the topic become messages of the subject.
    Out,
    /// Both; what came the one way does not go the other.
    Both,
}

impl Direction {
    /// Whether messages become events.
    pub fn is_in(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }

    /// Whether events become messages.
    pub fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::Both)
    }
}

/// Everything wrong with bridges, as `(key, sentence)`, where our own subjects begin with `prefix`.
pub(super) fn problems(bridges: &[Bridge], prefix: &str) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for (index, bridge) in bridges.iter().enumerate() {
        let mut add = |key: &str, sentence: String| problems.push((format!("bridges[{index}].{key}"), sentence));
        if bridge.topics.as_str().split('.').next() == Some(PRESENCE) {
            add("topics", "cannot name presence topics: only the server says who is in a topic".to_owned());
        }
        if let Some(sentence) = bad_subject(bridge, prefix) {
            add("subject", sentence);
            continue;
        }
        for (earlier, other) in bridges.iter().enumerate().take(index) {
            if let Some(why) = conflict(other, bridge) {
                add(
                    "subject",
                    format!("is {:?}, which overlaps with bridges[{earlier}].subject: {why}", bridge.subject),
                );
            }
        }
    }
    problems
}

/// What is wrong with the subject of one bridge.
fn bad_subject(bridge: &Bridge, prefix: &str) -> Option<String> {
    let subject = &*bridge.subject;
    let count = subject.split('.').count();
    for (number, segment) in subject.split('.').enumerate() {
        let is_wildcard = segment == "*" || (segment == ">" && number + 1 == count);
        let is_word = |c: char| !c.is_whitespace() && !c.is_control() && !"*>".contains(c);
        if segment.is_empty() || !(is_wildcard || segment.chars().all(is_word)) {
            return Some(format!(
                "is {subject:?}; it must be words with dots between them, of which `*` stands for one, a last `>` for the rest"
            ));
        }
    }
    if subject.len() > MAX_SUBJECT_LEN {
        return Some(format!("is longer than {MAX_SUBJECT_LEN} bytes"));
    }
    match subject.split('.').next().unwrap_or_default() {
        first @ ("*" | ">") => {
            return Some(format!(
                "begins with `{first}`: it would take in what servers and replicas say to each other; begin it with a word"
            ));
        }
        first if first == prefix => {
            return Some(format!("begins with {prefix:?}, which is broker.nats.prefix: those are our own subjects"));
        }
        first if first.starts_with('$') || first == INBOX => {
            return Some(format!("begins with {first:?}: those are the servers' and the libraries' own subjects"));
        }
        _ => {}
    }
    let (ours, theirs) = (wildcards(bridge.topics.as_str()), wildcards(subject));
    (ours != theirs).then(|| {
        format!(
            "has the wildcards {theirs:?}, topics has {ours:?}: both must have the same in the same order, so that each topic \
             has one subject"
        )
    })
}

fn wildcards(pattern: &str) -> Vec<&str> {
    pattern.split('.').filter(|segment| matches!(*segment, "*" | ">")).collect()
}

/// Why the two bridges cannot be side by side, if some subject is of both.
fn conflict(one: &Bridge, other: &Bridge) -> Option<&'static str> {
    if !overlap(&one.subject, &other.subject) {
        return None;
    }
    match (one.direction.is_in(), other.direction.is_in()) {
        (true, true) => Some("one message would become two events"),
        (false, false) => {
            let same = overlap(one.topics.as_str(), other.topics.as_str());
            same.then_some("their topics do as well, and one event would become two messages")
        }
        _ => Some(
            "what goes out by one would come back in by the other; for the same topics, write one of direction \"both\"",
        ),
    }
}

/// Whether some name fits both patterns.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (None, _) | (_, None) => return false,
            (Some(">"), _) | (_, Some(">")) => return true,
            (Some("*"), _) | (_, Some("*")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(topics: &str, subject: &str, direction: Direction) -> Bridge {
        Bridge { topics: TopicPattern::parse(topics).unwrap(), subject: subject.to_owned(), direction }
    }

    #[track_caller]
    fn is_refused(bridges: &[Bridge], key: &str, says: &str) {
        let problems = problems(bridges, "bowline");
        let [(found, sentence)] = &problems[..] else { panic!("one problem: {problems:?}") };
        assert!(found == key && sentence.contains(says), "{found} {sentence}");
    }

    #[test]
    fn what_a_subject_cannot_be_is_said() {
        use Direction::{Both, In};
        for (topics, subject, says) in [
            ("a.>", "", "must be words"),
            ("a.>", "acme..>", "must be words"),
            ("a.>", "acme.>.x", "must be words"),
            ("a.>", "acme.x*", "must be words"),
            ("a.>", "acme x.>", "must be words"),
            ("a.>", ">", "begin it with a word"),
            ("a.*", "*.acme", "begin it with a word"),
            ("a.>", "bowline.log.>", "broker.nats.prefix"),
            ("a.>", "$SYS.>", "own subjects"),
            ("a.>", "_INBOX.>", "own subjects"),
            ("a.>", "acme.*", "the same in the same order"),
            ("a.*.b.>", "acme.>", "the same in the same order"),
            ("a", "acme.>", "the same in the same order"),
        ] {
            is_refused(&[bridge(topics, subject, In)], "bridges[0].subject", says);
        }
        is_refused(&[bridge("~presence.>", "acme.>", In)], "bridges[0].topics", "only the server");
        for (topics, subject) in [("a.>", "acme.>"), (">", "acme.>"), ("a", "acme"), ("*.x.>", "acme.*.\u{e9}.>")] {
            assert_eq!(problems(&[bridge(topics, subject, Both)], "bowline"), []);
        }
    }

    #[test]
    fn no_message_comes_twice_or_back() {
        use Direction::{Both, In, Out};
        let beside = |one, other| [bridge("a.>", "acme.>", one), bridge("b.>", "acme.x.>", other)];
        for (one, other, says) in
            [(In, In, "two events"), (Both, In, "two events"), (In, Out, "come back in"), (Out, Both, "come back in")]
        {
            is_refused(&beside(one, other), "bridges[1].subject", says);
        }
        assert_eq!(problems(&beside(Out, Out), "bowline"), [], "several topics, one subject");
        is_refused(&[bridge("a.>", "x.>", Out), bridge("a.*", "x.*", Out)], "bridges[1].subject", "two messages");
        let through = [bridge("a.>", "x.in.>", In), bridge("a.>", "x.out.>", Out)];
        assert_eq!(problems(&through, "bowline"), [], "in on one subject, out on another");
    }
}
