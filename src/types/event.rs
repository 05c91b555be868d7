//! Events and their places, as the core sees them.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    str::FromStr,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ClientId, Invalid, PublishTrace, SessionId, Timestamp};

/// Longest key, bytes.
const MAX_KEY_LEN: usize = 255;
/// Most header pairs of an event.
const MAX_HEADERS: usize = 32;
/// Most bytes of all header names and values of an event.
const MAX_HEADER_BYTES: usize = 4096;
/// Longest dedupe id, bytes.
pub(crate) const MAX_DEDUPE_LEN: usize = 128;
/// Longest `traceparent`, bytes: 55 in its present version, and room for another.
const MAX_TRACEPARENT_LEN: usize = 64;
/// Longest `tracestate`, bytes: what its specification has everybody pass on.
const MAX_TRACESTATE_LEN: usize = 512;

/// A position in a topic. Offsets are compared only inside one epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// One incarnation of the log.
    pub epoch: u64,
    /// Position inside it; 0 is before the first event.
    pub offset: u64,
    /// When the event at `offset` was stored: a fingerprint; 0 if not known.
    pub time: Timestamp,
}

/// `EPOCH:OFFSET`, the epoch in hexadecimal: what people and scripts carry around.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}", self.epoch, self.offset)
    }
}

impl FromStr for Cursor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parse = || {
            let (epoch, offset) = text.split_once(':')?;
            let epoch = (epoch.len() == 16).then(|| u64::from_str_radix(epoch, 16).ok())??;
            Some(Self { epoch, offset: offset.parse().ok()?, time: Timestamp(0) })
        };
        parse().ok_or_else(|| Invalid::new("cursor", "must be EPOCH:OFFSET, the epoch as sixteen hexadecimal digits"))
    }
}

/// What an event does to its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Operation {
    /// Sets it.
    #[default]
    Put,
    /// Removes it.
    Delete,
}

/// How safe a stored event is. Ordered: a later one includes the earlier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// This process has it.
    #[default]
    Accepted,
    /// A quorum of brokers has it in memory.
    Replicated,
    /// A quorum of brokers has it on disk.
    Synced,
}

impl Durability {
    /// The word in the configuration and in what people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Replicated => "replicated",
            Self::Synced => "synced",
        }
    }
}

/// An event to be stored. Made by `NewEvent::check`, so its parts are within their limits.
#[derive(Debug, Clone, Default)]
pub struct NewEvent {
    /// See the protocol's `Event.key`.
    pub key: Bytes,
    /// What it does to the key.
    pub operation: Operation,
    /// The content.
    pub payload: Bytes,
    /// Free name-value pairs.
    pub headers: HashMap<String, String>,
    /// W3C `traceparent` of the publisher.
    pub traceparent: String,
    /// W3C `tracestate` beside it.
    pub tracestate: String,
    /// The span in which it is published, if that is traced.
    pub trace: Option<Arc<PublishTrace>>,
    /// Who published it; none for a back end.
    pub publisher: Option<ClientId>,
    /// How a repeat is recognised.
    pub dedupe: Dedupe,
    /// Store only if this is the topic's newest offset.
    pub if_last: Option<u64>,
    /// The session its key dies with; see the protocol's `NewEvent.session_scoped`.
    pub scope: Option<Producer>,
    /// It came by a bridge, and so does not leave by one.
    pub is_bridged: bool,
    /// The claim of its session under which it is published, where sessions have claims.
    pub claim: Option<Claim>,
}

impl NewEvent {
    /// Checks every part but the payload's size, which is a limit of the door it came through.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.key.len() > MAX_KEY_LEN {
            return Err(Invalid::new("event.key", format!("is longer than {MAX_KEY_LEN} bytes")));
        }
        if self.headers.len() > MAX_HEADERS {
            return Err(Invalid::new("event.headers", format!("has more than {MAX_HEADERS} pairs")));
        }
        if self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_HEADER_BYTES {
            return Err(Invalid::new("event.headers", format!("is larger than {MAX_HEADER_BYTES} bytes")));
        }
        if self.traceparent.len() > MAX_TRACEPARENT_LEN {
            return Err(Invalid::new("event.traceparent", format!("is longer than {MAX_TRACEPARENT_LEN} bytes")));
        }
        if self.tracestate.len() > MAX_TRACESTATE_LEN {
            return Err(Invalid::new("event.tracestate", format!("is longer than {MAX_TRACESTATE_LEN} bytes")));
        }
        if self.dedupe.id.as_ref().is_some_and(|id| id.len() > MAX_DEDUPE_LEN) {
            return Err(Invalid::new("event.dedupe_id", format!("is longer than {MAX_DEDUPE_LEN} bytes")));
        }
        Ok(())
    }
}

/// A session as the origin of publishes: what a broker counts `seq` by. Cheap to clone.
///
/// Looked up twice for every publish, by two names that may be long, so their hash is taken once; see [`ByProducer`].
#[derive(Debug, Clone)]
pub struct Producer(Arc<Names>);

#[derive(Debug)]
struct Names {
    client: ClientId,
    session: SessionId,
    hash: u64,
}

/// Keyed at random, as that of any map: clients choose these names.
static NAME_HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Producer {
    /// The session of that name of that client.
    pub fn new(client: ClientId, session: SessionId) -> Self {
        let hash = NAME_HASHER.hash_one((&client, &session));
        Self(Arc::new(Names { client, session, hash }))
    }

    /// Whose session it is.
    pub fn client_id(&self) -> &ClientId {
        &self.0.client
    }

    /// The session's name.
    pub fn session_id(&self) -> &SessionId {
        &self.0.session
    }
}

impl PartialEq for Producer {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (&self.0, &other.0);
        let same_names = || one.hash == two.hash && one.client == two.client && one.session == two.session;
        Arc::ptr_eq(one, two) || same_names()
    }
}

impl Eq for Producer {}

impl Hash for Producer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

/// What is known of each of many sessions.
pub type ByProducer<V> = HashMap<Producer, V, BuildHasherDefault<Hashed>>;

/// Hashes what is a hash already, and keyed: to itself.
#[derive(Debug, Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "only a hash comes here");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// How a broker recognises a publish it has stored before. Either part is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dedupe {
    /// An id the application chose.
    pub id: Option<String>,
    /// The publishing session's own numbering.
    pub seq: Option<Seq>,
}

/// That a session is held by one replica, to be told from all other times that any replica held it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Later claims of a session have higher ones.
    pub order: u64,
    /// Nothing was known of an earlier one.
    pub first: bool,
}

/// A publish's number in its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seq {
    /// Whose numbering.
    pub producer: Producer,
    /// 1, 2, 3 …
    pub number: u64,
    /// The highest number that is known to be stored, or taken to be, by the session itself. A log that has forgotten
    /// the session, or never knew it, goes on from there.
    pub through: u64,
}

/// Where a publish ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The event's place.
    pub cursor: Cursor,
    /// It had been stored before.
    pub duplicate: bool,
    /// How safe it is.
    pub durability: Durability,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_what_it_prints() {
        let cursor = Cursor { epoch: 0xfeed, offset: 42, time: Timestamp(0) };
        assert_eq!(cursor.to_string(), "000000000000feed:42");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "1", "feed:1", "000000000000feed:", "000000000000feed:-1", ":3", "000000000000feed:1:2"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad:?}");
        }
    }
}
