//! What is found when a broker is examined; see [`examine`](super::examine).

use serde::Serialize;

/// What an examination found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What it is, for people.
    pub says: String,
    /// What to change; empty if nothing needs to be.
    pub advice: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it has to be.
    Ok,
    /// It works, with something that may not be meant.
    Warning,
    /// It does not work.
    Problem,
}

impl Verdict {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl Finding {
    /// It is as it has to be.
    pub fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, says: says.into(), advice: String::new() }
    }

    /// It works, but.
    pub fn warning(check: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, says: says.into(), advice: advice.into() }
    }

    /// It does not work.
    pub fn problem(check: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Problem, says: says.into(), advice: advice.into() }
    }
}

/// What the rest of the configuration asks of a broker.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// For how long repeats are recognised.
    pub dedupe_window: std::time::Duration,
    /// Whether there are topics whose events have to be on disk before they are confirmed.
    pub synced: bool,
    /// The largest message that clients may send, bytes.
    pub max_message: u64,
}
