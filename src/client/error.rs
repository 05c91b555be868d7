//! What can go wrong, in a form that programs can match on.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use tonic::Code;

use crate::error::Advice;

/// What kind of failure it is. Match on this, never on the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is malformed; nothing was sent.
    Invalid,
    /// The server could not be reached, or the connection broke.
    Connect,
    /// The server ended or refused the connection; [`Error::refusal`] says why.
    Refused,
    /// The server ended or refused the session; [`Error::refusal`] says why.
    SessionClosed,
    /// The server refused the publish: nothing was stored. [`Error::refusal`] says why. The one exception is the
    /// reason `FORGOTTEN_SEQ`: the event is stored, but its place is no longer known.
    PublishFailed,
    /// Whether the publish was stored is not known, and it is too late to ask again. With a reason: the server it was sent to
    /// is gone, and the next one refused it, which says nothing of the first.
    UnknownOutcome,
    /// The client or the session was closed by the application, or its worker is gone.
    Closed,
    /// The server broke the protocol.
    Protocol,
}

/// A failure. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    refusal: Option<Refusal>,
}

/// What the server said when it refused or ended something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// One of the closed set of `docs/reasons.md`; empty if the refusal did not come from a Bowline server.
    pub reason: String,
    /// For people.
    pub message: String,
    /// What to do about it.
    pub advice: Advice,
    /// The earliest useful retry.
    pub retry_after: Option<Duration>,
    /// Machine-readable facts, such as `actual` for `WRONG_LAST`.
    pub metadata: HashMap<String, String>,
}

impl Error {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, message: message.into(), refusal: None }))
    }

    pub(super) fn refused(kind: ErrorKind, refusal: Refusal) -> Self {
        let message = refusal.message.clone();
        Self(Arc::new(Inner { kind, message, refusal: Some(refusal) }))
    }

    /// What kind it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What the server said, if it was the server.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.0.refusal.as_ref()
    }

    /// The server's reason, such as `TAKEN_OVER`; `None` if the server gave none.
    pub fn reason(&self) -> Option<&str> {
        self.refusal().map(|refusal| refusal.reason.as_str()).filter(|reason| !reason.is_empty())
    }

    /// What to do about it. Failures that do not come from the server have the advice that fits their kind.
    pub fn advice(&self) -> Advice {
        match (self.refusal(), self.kind()) {
            (Some(refusal), _) => refusal.advice,
            (None, ErrorKind::Connect | ErrorKind::Protocol) => Advice::Reconnect,
            (None, _) => Advice::None,
        }
    }

    /// True if another connection may succeed: the client itself tries on. False for what a person has to look at.
    pub fn is_retryable(&self) -> bool {
        matches!(self.advice(), Advice::Retry | Advice::Reconnect)
    }

    /// The earliest useful retry.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal().and_then(|refusal| refusal.retry_after)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{reason}: {}", self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {}

impl From<crate::types::Invalid> for Error {
    fn from(invalid: crate::types::Invalid) -> Self {
        Self::new(ErrorKind::Invalid, invalid.to_string())
    }
}
