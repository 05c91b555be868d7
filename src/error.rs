//! The closed vocabulary of failure. Every refusal in the house is a [`Failure`] with a [`Reason`]; the reason decides
//! the gRPC code, the advice, whose fault it is and the metric label, so no two places can disagree about it.

mod reason;
mod status;

use std::{borrow::Cow, time::Duration};

use crate::types::Invalid;

pub use reason::{Advice, Fault, Reason};
pub use status::{is_cancel, restated};

/// Something refused or ended, as its receiver is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", reason.as_str())]
pub struct Failure {
    /// What kind.
    pub reason: Reason,
    /// For people; never internals.
    pub message: Cow<'static, str>,
    /// The earliest useful retry.
    pub retry_after: Option<Duration>,
    /// Machine-readable facts, such as `actual` or `through_seq`. The name of a bad field stands under `field`.
    pub metadata: Vec<(&'static str, String)>,
}

impl Failure {
    /// A failure with its words.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), retry_after: None, metadata: Vec::new() }
    }

    /// What whoever held a session is told, or comes too late, once somebody else has it.
    pub fn taken_over() -> Self {
        Self::new(Reason::TakenOver, "a newer connection of this client has opened the session")
    }

    /// Adds the earliest useful retry.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Adds a machine-readable fact.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.metadata.push((name, value.to_string()));
        self
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::new(Reason::InvalidField, invalid.to_string()).with("field", invalid.field)
    }
}
