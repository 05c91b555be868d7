//! Topic names and the patterns that match them.

use std::{borrow::Borrow, fmt, sync::Arc};

use super::Invalid;

/// Longest topic name, bytes.
const MAX_TOPIC_LEN: usize = 255;
/// What the names of topics begin with that only the server writes: who is in the topic of the rest of the name.
const PRESENCE: &str = "~presence.";

/// A topic's name: dot-separated, non-empty segments of `A-Z a-z 0-9 _ - : @ + = ~`, at most 255 bytes.
///
/// The alphabet is that of a NATS subject without its wildcards and white space, so that a name can never change
/// meaning on its way to a broker.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("topic", "must not be empty"));
        }
        if text.len() > MAX_TOPIC_LEN {
            return Err(Invalid::new("topic", format!("is {} bytes long; the limit is {MAX_TOPIC_LEN}", text.len())));
        }
        for segment in text.split('.') {
            check_segment("topic", segment)?;
        }
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic that says who is in this one.
    pub fn presence(&self) -> Result<Self, Invalid> {
        Self::parse(&format!("{PRESENCE}{}", self.0))
    }

    /// The topic whose presence this one is, if it is one.
    pub fn presence_of(&self) -> Option<&str> {
        self.0.strip_prefix(PRESENCE)
    }
}

/// Ordered and hashed as its text is.
impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn check_segment(field: &'static str, segment: &str) -> Result<(), Invalid> {
    if segment.is_empty() {
        return Err(Invalid::new(field, "has an empty segment (a dot at an end, or two in a row)"));
    }
    match segment.chars().find(|c| !c.is_ascii_alphanumeric() && !"_-:@+=~".contains(*c)) {
        Some(c) => Err(Invalid::new(field, format!("contains {c:?}; allowed are A-Z a-z 0-9 _ - : @ + = ~ and dots"))),
        None => Ok(()),
    }
}

/// A pattern over topic names, with the wildcards of NATS: `*` stands for one segment, a last `>` for one or more.
///
/// The only matcher in the house: configuration uses it today, rights will.
#[derive(Clone, PartialEq, Eq)]
pub struct TopicPattern(Arc<str>);

impl TopicPattern {
    /// Checks a pattern.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > MAX_TOPIC_LEN {
            return Err(Invalid::new("pattern", format!("is longer than {MAX_TOPIC_LEN} bytes")));
        }
        let mut segments = text.split('.').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "*" => {}
                ">" if segments.peek().is_none() => {}
                ">" => return Err(Invalid::new("pattern", "has `>` before its end; it stands for the whole rest")),
                literal => check_segment("pattern", literal)?,
            }
        }
        Ok(Self(text.into()))
    }

    /// True if the topic is one of those the pattern stands for.
    pub fn matches(&self, topic: &Topic) -> bool {
        let mut names = topic.0.split('.');
        for segment in self.0.split('.') {
            match (segment, names.next()) {
                (">", Some(_)) => return true,
                (_, None) => return false,
                ("*", Some(_)) => {}
                (literal, Some(name)) if literal == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for TopicPattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for TopicPattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_dotted_segments_of_safe_characters() {
        for good in ["prices", "chat.room-7", "a.b:c@d+e=f~g_h", &"x".repeat(255)] {
            assert!(Topic::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "a/b", "\u{e9}", "a\0", "$SYS", &"x".repeat(256)]
        {
            assert!(Topic::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pattern_matches_as_nats_does() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "anything.at.all", true),
            ("*.b", "a.b", true),
        ];
        for (pattern, topic, expected) in cases {
            let (pattern, topic) = (TopicPattern::parse(pattern).unwrap(), Topic::parse(topic).unwrap());
            assert_eq!(pattern.matches(&topic), expected, "{pattern:?} {topic:?}");
        }
        for bad in ["", "a.>.b", "a..b", "a b", ">.", "a*"] {
            assert!(TopicPattern::parse(bad).is_err(), "{bad:?}");
        }
    }
}
