//! Moves events between replicas and keeps history. Two engines: [`memory`], for one replica, and [`nats`], for any number.
//!
//! # Contract
//!
//! Whatever the engine, it holds to this; the conformance suite in `broker/tests.rs` asks each for it.
//!
//! - [`Broker::open`] gives a topic's [`Line`] at once: this replica's view of its log, and the way to publish to it.
//!   Whoever looks at the log waits until the line is [`ready`](Line::ready).
//! - Nothing here blocks. An engine that has to wait says so, and says within a time of its own what came of it.
//! - A publish whose outcome is `Ok` is in the log at that cursor, at the durability it names. Offsets rise strictly.
//!   Publishes that are under way at the same time are stored in any order, so those of a session go one at a time.
//! - A publish that is under way is not taken back by dropping its outcome. One whose outcome cannot be learnt fails with
//!   UNKNOWN_OUTCOME: the same again is a repeat, if it was stored after all.
//! - A repeat (same dedupe id, or same session and seq) inside the window is `Ok`, `duplicate`, the first cursor.
//! - Every event comes back through the log, to its publisher's replica as to any other: whoever reads, reads the log.
//! - What one replica has shown to a reader, every other shows to whoever comes with that reader's cursor, after a wait
//!   ([`Line::reaches`]) at most.
//! - After the log has grown, every [`Listener`] of the topic is told. It may be told more often than the log grew.
//! - A log that was lost or rewritten has another epoch.
//! - [`Broker::canary`] gives a topic of the server's own, which no client can reach or see, and which is no different
//!   otherwise: what befalls it can befall any topic.
//! - A session that is held at one of several replicas has a [`Claim`], and what it publishes bears it. Once something was
//!   stored under a claim, nothing is that was published under an older one: it fails with TAKEN_OVER. An event with
//!   `if_last` is held to that condition alone.
//! - A keyed topic keeps the latest event of each key, whatever the history keeps. A key that was set in a session's scope
//!   can be removed with the session, unless somebody else has set it since: also one whose publish ended with
//!   UNKNOWN_OUTCOME and is stored later.
//!
//! A broker never sees a connection, a frame or an identity.

mod config;
mod finding;
mod fleet;
#[cfg(test)]
pub(crate) mod late;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(not(feature = "nats"))]
#[path = "broker/no_nats.rs"]
pub mod nats;
mod room;
#[cfg(test)]
mod tests;

pub use config::{Bridge, Config, Direction, Kind, Nats as NatsConfig, Storage, Synced};
pub use finding::{Finding, Needs, Verdict};
pub use fleet::{Claimed, Fleet, Handler, Holder, Legacy, Lost, Matter, Previous, STAYS, Taking, Told};

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use tokio::time::timeout;

use crate::{
    error::{Failure, Reason},
    log::{Limits, Log, Total},
    types::{Claim, Cursor, Durability, NewEvent, Producer, Published, Topic},
};

/// How long whoever wants to look at a log waits for its line.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// What the server's own topic keeps: an event at a time is enough.
const CANARY: Limits = Limits {
    max_events: 16,
    max_bytes: 4096,
    max_age: Duration::from_secs(60),
    dedupe_window: Duration::from_secs(1),
    dedupe_depth: 0,
    max_keys: 0,
    max_lag: 0,
};

/// Told when a topic's log has grown. Called with no lock held; must not block.
pub trait Listener: Send + Sync {
    /// There may be something new.
    fn grown(&self);
}

/// The outcome of a publish: there at once, or on its way.
pub enum Publishing {
    /// Known.
    Done(Result<Published, Failure>),
    /// The engine has it; completes with the outcome. Dropping it does not take the publish back. Bounded in time by the
    /// engine.
    Later(BoxFuture<'static, Result<Published, Failure>>),
}

impl Publishing {
    /// Waits for the outcome. Dropping this does not take the publish back.
    pub async fn outcome(self) -> Result<Published, Failure> {
        match self {
            Self::Done(outcome) => outcome,
            Self::Later(outcome) => outcome.await,
        }
    }
}

impl std::fmt::Debug for Publishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done(outcome) => f.debug_tuple("Done").field(outcome).finish(),
            Self::Later(_) => f.debug_tuple("Later").finish_non_exhaustive(),
        }
    }
}

/// Looks at the broker that is configured, as a replica would find it, and changes nothing there.
pub async fn examine(config: &Config, needs: Needs) -> Vec<Finding> {
    match config.kind {
        Kind::Memory => vec![Finding::ok("broker", "topics are in memory: there is no broker to be examined")],
        Kind::Nats => nats::examine(&config.nats, needs).await,
    }
}

/// The engine in use. An enum, not a trait object: the set is closed and the hot path is short.
#[derive(Debug)]
pub enum Broker {
    /// Everything in this process.
    Memory(memory::Memory),
    /// Kept by NATS JetStream, for all replicas.
    Nats(nats::Nats),
}

impl Broker {
    /// Opens a topic, creating it if need be; TOPIC_LIMIT if there are too many. Its publishes are answered at `durability`
    /// at least, if the broker was started for that ([`Config::falls_short`]). It is the same wherever the topic is opened.
    pub fn open(&self, topic: &Topic, limits: Limits, durability: Durability) -> Result<Line, Failure> {
        match self {
            Self::Memory(memory) => memory.open(topic, limits).map(Line::Memory),
            Self::Nats(nats) => nats.open(topic, limits, durability).map(Line::Nats),
        }
    }

    /// A log of somebody's own, which no name leads to. It is kept for as long as a line to it is held.
    pub fn private(&self, limits: Limits) -> Line {
        Line::Memory(self.local().private(limits))
    }

    /// The logs that are nobody else's, whatever the engine is.
    fn local(&self) -> &memory::Memory {
        match self {
            Self::Memory(memory) => memory,
            Self::Nats(nats) => nats.private(),
        }
    }

    /// What all logs hold together.
    pub fn total(&self) -> &Total {
        self.local().total()
    }

    /// Makes room if all logs together hold nearly as much as they may: the longest histories are cut down to one length.
    /// Returns the bytes dropped.
    pub fn make_room(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.make_room(),
            Self::Nats(nats) => nats.make_room(),
        }
    }

    /// The bridges by which events come in from elsewhere; see [`nats`].
    pub fn inlets(&self) -> Vec<nats::Inlet> {
        match self {
            Self::Memory(_) => Vec::new(),
            Self::Nats(nats) => nats.inlets(),
        }
    }

    /// The server's own topic; see the contract.
    pub fn canary(&self) -> Line {
        match self {
            Self::Memory(memory) => Line::Memory(memory.canary()),
            Self::Nats(nats) => Line::Nats(nats.canary()),
        }
    }

    /// A topic that is there already, or open on this replica.
    pub fn find(&self, topic: &Topic) -> Option<Line> {
        match self {
            Self::Memory(memory) => memory.find(topic).map(Line::Memory),
            Self::Nats(nats) => nats.find(topic).map(Line::Nats),
        }
    }

    /// Whether there may be topics that [`find`](Self::find) knows nothing of: they are kept elsewhere.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Nats(_))
    }

    /// The replicas that share it.
    pub fn fleet(&self) -> Fleet {
        match self {
            Self::Memory(_) => Fleet::Alone,
            Self::Nats(nats) => Fleet::Nats(nats.fleet()),
        }
    }

    /// Of those, topics whose name starts with `prefix` and comes after `after`, ordered, at most `limit`.
    pub fn list(&self, prefix: &str, after: &str, limit: usize) -> Vec<(Topic, Line)> {
        match self {
            Self::Memory(memory) => {
                let listed = memory.list(prefix, after, limit).into_iter();
                listed.map(|(topic, entry)| (topic, Line::Memory(entry))).collect()
            }
            Self::Nats(nats) => {
                let listed = nats.list(prefix, after, limit).into_iter();
                listed.map(|(topic, entry)| (topic, Line::Nats(entry))).collect()
            }
        }
    }

    /// Trims histories by age and drops topics nobody needs, which it returns; to be called about once a second.
    pub fn sweep(&self) -> Vec<Topic> {
        match self {
            Self::Memory(memory) => memory.sweep(),
            Self::Nats(nats) => nats.sweep(),
        }
    }

    /// How many topics are kept, or open on this replica.
    pub fn topic_count(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.topic_count(),
            Self::Nats(nats) => nats.topic_count(),
        }
    }
}

/// One topic, open on this replica. The topic is kept for as long as a line to it is held.
#[derive(Clone)]
pub enum Line {
    /// See [`memory`].
    Memory(Arc<memory::Entry>),
    /// See [`nats`].
    Nats(Arc<nats::Entry>),
}

impl Line {
    /// Stores an event; see the contract. Must not block: it is called with locks held.
    pub fn publish(&self, event: NewEvent) -> Publishing {
        match self {
            #[cfg(test)]
            Self::Memory(entry) if let Some(fate) = late::fate(&event) => late::publish(entry, event, fate),
            Self::Memory(entry) => Publishing::Done(entry.publish(&event)),
            Self::Nats(entry) => entry.publish(event),
        }
    }

    /// Completes once this replica sees the log: its epoch, its head, what of its history is to be had; with BROKER if
    /// that takes too long. None if it does already, as with memory it always does.
    pub fn ready(&self) -> Option<BoxFuture<'static, Result<(), Failure>>> {
        #[cfg(test)]
        if let Some(ready) = late::ready() {
            return Some(ready);
        }
        match self {
            Self::Memory(_) => None,
            Self::Nats(entry) => entry.ready(),
        }
    }

    /// Waits until it is [`ready`](Self::ready), for a few seconds at most: BROKER after that. Cancel-safe.
    pub async fn seen(&self) -> Result<(), Failure> {
        let Some(ready) = self.ready() else { return Ok(()) };
        let late = |_| Failure::new(Reason::Broker, "the broker did not show the topic in time");
        timeout(SEEN_WITHIN, ready).await.map_err(|elapsed| late(elapsed).retry_after(Duration::from_secs(1)))?
    }

    /// Waits until what lies at `cursor` is here, if it is there at all: another replica may have shown it before it came
    /// here. BROKER if nobody says in time. Cancel-safe.
    pub async fn reaches(&self, cursor: Cursor) -> Result<(), Failure> {
        match self {
            Self::Memory(_) => Ok(()),
            // Boxed, as all that an opening may wait for: it would need the room where topics are in memory as well.
            Self::Nats(entry) => Box::pin(entry.reaches(cursor)).await,
        }
    }

    /// Waits until everything is here that is stored at this moment: only then it is known how far a session has
    /// published that was elsewhere. BROKER if nobody says in time. Cancel-safe.
    pub async fn current(&self) -> Result<(), Failure> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Nats(entry) => Box::pin(entry.current()).await,
        }
    }

    /// Removes the keys that were to die with a session and are still its own; each removal is an event. Returns before
    /// that is done: an engine that cannot do it at once keeps trying.
    /// `claim` is the one under which the session was held: somebody may have a newer one by now, and keeps the keys.
    pub fn remove_owned(&self, owner: &Producer, claim: Option<Claim>) {
        match self {
            Self::Memory(entry) => entry.remove_owned(owner),
            Self::Nats(entry) => entry.remove(owner, entry.owned(owner), claim),
        }
    }

    /// The same for a session that was another replica's, if it is still for this one to do: `stands` tells, after it is
    /// seen which keys there are. So what the session sets after it has gone on elsewhere is none of them.
    pub async fn undo<E>(
        &self,
        owner: &Producer,
        claim: Option<Claim>,
        stands: impl Future<Output = Result<bool, E>>,
    ) -> Result<(), E> {
        match self {
            Self::Memory(_) => {}
            Self::Nats(entry) => {
                let owned = entry.owned(owner);
                if !owned.is_empty() && stands.await? {
                    entry.remove(owner, owned, claim);
                }
            }
        }
        Ok(())
    }

    /// From now on nothing is stored that a session publishes under an older claim, or removes: TAKEN_OVER if there is a
    /// newer one, BROKER if it cannot be done now.
    pub async fn fence(&self, producer: &Producer, claim: Claim) -> Result<(), Failure> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Nats(entry) => Box::pin(entry.fence(producer, claim)).await,
        }
    }

    /// The log as this replica sees it. Lock it briefly, never across an await.
    pub fn log(&self) -> &RwLock<Log> {
        match self {
            Self::Memory(entry) => entry.log(),
            Self::Nats(entry) => entry.log(),
        }
    }

    /// Has `listener` told of growth from now on, in place of whoever was.
    pub fn listen(&self, listener: Weak<dyn Listener>) {
        match self {
            Self::Memory(entry) => entry.listen(listener),
            Self::Nats(entry) => entry.listen(listener),
        }
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Line").finish_non_exhaustive()
    }
}
