//! What is wrong with a configuration, as sentences.

use std::fmt;

use figment::{
    error::{Actual, Kind},
    value::{Dict, Value},
};

/// One thing that is wrong: where, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    place: String,
    sentence: String,
}

impl Problem {
    pub(super) fn at(place: impl fmt::Display, sentence: String) -> Self {
        Self { place: place.to_string(), sentence }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.sentence)
    }
}

/// Everything that is wrong, a line each. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// A key as people write it: `topics.rules[1].class`.
pub(super) fn key(path: &[String]) -> String {
    let mut key = String::new();
    for segment in path {
        if segment.parse::<usize>().is_ok() {
            key.extend(["[", segment, "]"]);
        } else {
            key.extend([if key.is_empty() { "" } else { "." }, segment]);
        }
    }
    key
}

/// What is wrong with the value of a key. Values appear in it only as serde reports them, which a secret prevents.
pub(super) fn bad_value(key: &str, kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
            format!("{key} is {}, but must be {}", said(found), plain(wanted))
        }
        Kind::UnknownVariant(found, known) => {
            let hint = nearest(found, known.iter().copied()).map(|name| format!("; did you mean {name:?}?"));
            let known: Vec<String> = known.iter().map(|name| format!("{name:?}")).collect();
            format!("{key} is {found:?}, but must be one of {}{}", known.join(", "), hint.unwrap_or_default())
        }
        Kind::MissingField(name) => format!("{key}.{name} is missing"),
        Kind::Message(message) if message.contains("socket address") => {
            format!("{key} must be an IP address and a port, such as \"127.0.0.1:50051\" or \"[::]:50051\"")
        }
        Kind::Message(message) => format!("{key}: {message}"),
        other => format!("{key}: {other}"),
    }
}

/// A value as people would say it.
fn said(found: &Actual) -> String {
    match found {
        Actual::Bool(truth) => truth.to_string(),
        Actual::Unsigned(number) => format!("the number {number}"),
        Actual::Signed(number) => format!("the number {number}"),
        Actual::Float(number) => format!("the number {number}"),
        Actual::Str(text) => format!("the text {text:?}"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a section".to_owned(),
        other => format!("the {other}"),
    }
}

/// The libraries' words for what they expect, in ours.
fn plain(wanted: &str) -> String {
    match wanted {
        "parsable string" | "an integer or string" => "a size such as \"64KiB\", or a number of bytes".to_owned(),
        "a duration" => "a time such as \"10s\", \"1m 30s\" or \"250ms\"".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "a text in quotes".to_owned(),
        "u16" | "u32" | "u64" | "usize" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        _ if wanted.starts_with("struct ") => "a section with keys of its own".to_owned(),
        _ => wanted.to_owned(),
    }
}

/// The full name of the key that was probably meant by `path`, which does not exist.
pub(super) fn meant(path: &[String], siblings: &[&str], defaults: &Dict) -> Option<String> {
    let (last, parents) = path.split_last()?;
    if let Some(name) = nearest(last, siblings.iter().copied()) {
        let sibling: Vec<String> = parents.iter().cloned().chain([name.to_owned()]).collect();
        return Some(key(&sibling));
    }
    let known: Vec<String> = flatten(defaults, &[]).iter().map(|path| key(path)).collect();
    let elsewhere = || known.iter().find(|name| name.rsplit('.').next() == Some(last.as_str()));
    nearest(&key(path), known.iter().map(String::as_str)).or_else(|| elsewhere().map(String::as_str)).map(str::to_owned)
}

/// The paths of all keys inside `values` that are no sections. `base` is where `values` itself is.
pub(super) fn flatten(values: &Dict, base: &[String]) -> Vec<Vec<String>> {
    let below = |(name, value): (&String, &Value)| {
        let path = [base, std::slice::from_ref(name)].concat();
        match value {
            Value::Dict(_, inner) if !inner.is_empty() => flatten(inner, &path),
            _ => vec![path],
        }
    };
    values.iter().flat_map(below).collect()
}

/// The candidate that differs from `name` by the fewest keystrokes, if it is not another word altogether.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |candidate: &str| strsim::damerau_levenshtein(name, candidate);
    let best = candidates.map(|candidate| (distance(candidate), candidate)).min()?;
    (best.0 <= (name.len() / 3).clamp(1, 4)).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["max_connections", "send_timeout"];
        assert_eq!(nearest("max_conections", known.into_iter()), Some("max_connections"));
        assert_eq!(nearest("send_timout", known.into_iter()), Some("send_timeout"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }

    #[test]
    fn list_positions_are_in_brackets() {
        assert_eq!(key(&["topics".into(), "rules".into(), "1".into(), "class".into()]), "topics.rules[1].class");
    }
}
