//! What the replicas that share a broker tell each other, and what is known of who they are.
//!
//! With an engine for one replica there are no others: whatever is asked of them is answered at once, by nobody.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::nats;

/// The replicas that share a broker. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Fleet {
    /// There is only this one.
    Alone,
    /// See [`nats::Fleet`].
    Nats(Arc<nats::Fleet>),
}

/// What replicas tell each other about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matter {
    /// Connections are to be closed.
    Disconnect,
    /// Credentials are no longer believed.
    Revoke,
}

impl Matter {
    /// The word for it, part of the names on the servers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::Revoke => "revoke",
        }
    }

    /// The matter of that word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Disconnect, Self::Revoke].into_iter().find(|matter| matter.as_str() == text)
    }
}

/// Does what another replica has told, and says how many it concerned here.
pub type Handler = Arc<dyn Fn(Bytes) -> BoxFuture<'static, u32> + Send + Sync>;

/// What came of telling the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Others that answered.
    pub answered: u32,
    /// Others that are there, as far as is known, and did not answer in time.
    pub silent: u32,
    /// How many it concerned, at all that answered.
    pub found: u32,
}

impl Fleet {
    /// Has `handler` do what others tell about a matter, in place of whoever did.
    pub fn serve(&self, matter: Matter, handler: Handler) {
        match self {
            Self::Alone => drop(handler),
            Self::Nats(fleet) => fleet.serve(matter, handler),
        }
    }

    /// Tells every other replica, and waits for their answers, for a few seconds at most. Dropping it takes nothing back.
    pub async fn tell(&self, matter: Matter, content: Bytes) -> Told {
        match self {
            Self::Alone => Told::default(),
            Self::Nats(fleet) => fleet.tell(matter, content).await,
        }
    }

    /// True if there may be other replicas.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Nats(_))
    }
}
