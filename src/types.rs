//! The words of the house, as types that cannot be wrong: parsed once at the door, trusted everywhere inside.

mod clock;
mod event;
mod id;
mod kill;
mod limiter;
mod rate;
mod secret;
mod topic;
mod trace;
mod transport;

#[cfg(test)]
pub(crate) use clock::simulated::begin as simulated_clock;
pub use clock::{Clock, Timestamp, sleep_until_or_forever};
pub(crate) use event::MAX_DEDUPE_LEN;
pub use event::{ByProducer, Claim, Cursor, Dedupe, Durability, NewEvent, Operation, Producer, Published, Seq};
pub use id::{ClientId, ConnectionId, SessionId};
pub use kill::{Deadline, KillSwitch};
pub use limiter::{Limiter, Party, network};
pub use rate::Rate;
pub use secret::Secret;
pub use topic::{Topic, TopicPattern};
pub use trace::PublishTrace;
pub use transport::{Nameless, PeerIdentity, TransportHandle};

/// Why a name, key or header was not accepted. The text is safe to send to whoever sent the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Which field, as the protocol calls it.
    pub field: &'static str,
    /// What is wrong with it, in words.
    pub problem: String,
}

impl Invalid {
    /// Names the field and the problem.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}
