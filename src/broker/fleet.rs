//! What the replicas that share a broker tell each other, and what is known of who they are.
//!
//! With an engine for one replica there are no others: whatever is asked of them is answered at once, by nobody.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::nats;
use crate::{
    error::Failure,
    types::{Claim, Producer, Topic},
};

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
    /// A session is held elsewhere from now on.
    Release,
}

/// What [`Matter::Release`] is answered with if the session stays a member of its presence as it is to be, and nobody need
/// hear of it.
pub const STAYS: u32 = 2;

/// A session that is being taken.
#[derive(Debug, Clone)]
pub struct Taking {
    /// Which.
    pub producer: Producer,
    /// On which topic.
    pub topic: Topic,
    /// The highest number that is known of those who held it; once it was taken, the number under which it is held.
    pub attach: u64,
    /// It is to be a member of the topic's presence, of whom this is said.
    pub presence: Option<Bytes>,
}

impl Taking {
    /// Reads what [`Matter::Release`] tells; none if that is of no form known here.
    #[cfg(feature = "nats")]
    pub fn read(content: &[u8]) -> Option<Self> {
        nats::read_taking(content)
    }

    /// Without other replicas nobody tells it.
    #[cfg(not(feature = "nats"))]
    pub fn read(_: &[u8]) -> Option<Self> {
        None
    }
}

/// A session that was taken, before all other replicas.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Its fencing number.
    pub attach: u64,
    /// Under which it publishes.
    pub claim: Claim,
    /// What another replica had of it.
    pub previous: Option<Previous>,
}

/// What a replica holds, to be asked when it may have been taken for lost.
pub trait Holder: Send + Sync {
    /// The claims of all sessions that are here.
    fn held(&self) -> Vec<Claim>;
    /// These are void: somebody else has the session, or has undone what it stood for.
    fn lost(&self, claims: &[Claim]);
}

/// A replica that gives no sign of life any more, and what this one is to see to in its place.
#[derive(Debug)]
pub struct Lost {
    /// Its sessions, as far as they are to be seen to.
    pub sessions: Vec<Legacy>,
    /// The place of its lease; none if it is this one, which has taken sessions that nobody came to have.
    pub lease: Option<u64>,
}

/// A session, and what a replica has left of it that is to be undone.
#[derive(Debug)]
pub struct Legacy {
    /// Which.
    pub producer: Producer,
    /// What was left.
    pub previous: Previous,
    /// The claim that this replica has to it now.
    pub claim: Claim,
    /// The session itself is kept here: somebody may come back for it still.
    pub is_kept: bool,
}

/// What another replica has left of a session.
#[derive(Debug, Clone)]
pub struct Previous {
    /// The topic it was on.
    pub topic: Topic,
    /// It may be a member of that topic's presence.
    pub present: bool,
    /// It is one still, as it is to be: nobody need hear of it.
    pub stays: bool,
    /// That replica has undone what is not handed over. Otherwise it is for whoever has the session now to undo it.
    pub answered: bool,
    /// It was this replica, as far as others know: what is here of the session is all there is, if anything is.
    pub is_own: bool,
}

impl Matter {
    /// The word for it, part of the names on the servers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::Revoke => "revoke",
            Self::Release => "release",
        }
    }

    /// The matter of that word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Disconnect, Self::Revoke, Self::Release].into_iter().find(|matter| matter.as_str() == text)
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
            // Boxed, as all that an opening may wait for: it would need the room where topics are in memory as well.
            Self::Nats(fleet) => Box::pin(fleet.tell(matter, content)).await,
        }
    }

    /// Takes a session before all other replicas: whoever held it can do nothing more in its name, and has been told. None
    /// where there are no others. BROKER if that cannot be done now. When dropped, the session may be taken all the same,
    /// and is [abandoned](Self::abandon) then.
    pub async fn claim(&self, taking: &Taking) -> Result<Option<Claimed>, Failure> {
        match self {
            Self::Alone => Ok(None),
            Self::Nats(fleet) => Box::pin(fleet.claim(taking)).await.map(Some),
        }
    }

    /// A session was taken, and nobody came to have it: what it stood for elsewhere is undone after a while, unless it has
    /// gone on by then.
    pub fn abandon(&self, producer: Producer, previous: Vec<Previous>, claim: Claim) {
        match self {
            Self::Alone => drop((producer, previous)),
            Self::Nats(fleet) => fleet.abandon(producer, previous, claim),
        }
    }

    /// These are to be undone now, as what a [lost](Self::lost) replica has left.
    pub fn bequeath(&self, legacies: Vec<Legacy>) {
        match self {
            Self::Nats(fleet) if !legacies.is_empty() => fleet.bequeath(legacies),
            _ => {}
        }
    }

    /// True if nobody has taken the session since it was taken so. BROKER if that cannot be learnt now.
    pub async fn stands(&self, claim: Claim) -> Result<bool, Failure> {
        match self {
            Self::Alone => Ok(true),
            Self::Nats(fleet) => Box::pin(fleet.stands(claim)).await,
        }
    }

    /// Nobody holds these sessions any more, and nothing is kept of them. Does not wait for it.
    pub fn give_back(&self, claims: Vec<Claim>) {
        match self {
            Self::Nats(fleet) if !claims.is_empty() => fleet.give_back(claims),
            _ => {}
        }
    }

    /// Has `holder` asked what is here.
    pub fn hold(&self, holder: Weak<dyn Holder>) {
        match self {
            Self::Alone => drop(holder),
            Self::Nats(fleet) => fleet.hold(holder),
        }
    }

    /// Waits for a replica that has given no sign of life for `grace`, nor for as long as makes it lost, and that nobody
    /// else sees to; or for sessions that this one has abandoned so long ago. What it has left is for this replica to undo, and then to be [`buried`](Self::buried). If it is not,
    /// another replica does it over. Cancel-safe.
    pub async fn lost(&self, grace: Duration) -> Lost {
        match self {
            Self::Alone => std::future::pending().await,
            Self::Nats(fleet) => fleet.lost(grace).await,
        }
    }

    /// All is undone that a lost replica has left.
    pub async fn buried(&self, lost: Lost) {
        match self {
            Self::Alone => drop(lost),
            Self::Nats(fleet) => fleet.buried(lost).await,
        }
    }

    /// True if there may be other replicas.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Nats(_))
    }
}
