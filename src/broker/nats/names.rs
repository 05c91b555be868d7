//! What things are called on the servers.
//!
//! | name | what it is |
//! |---|---|
//! | stream `bowline-L07` | a partition: the topics whose names hash to it |
//! | stream `bowline-S07`, subjects `bowline.log.s07.TOPIC` | the same, of topics whose events are on disk first |
//! | subject `bowline.log.07.TOPIC` | what is published to a topic, and kept in its stream |
//! | subject `bowline.out.07.TOPIC` | each event again, once it is kept: what replicas listen to |
//! | stream `KV_bowline-epochs` | a key-value bucket: the epoch of each stream |
//! | subject `bowline.log.07.$fence.HASH` | the claim of a session, kept beside what it publishes; see [`super::fences`] |
//! | stream `KV_bowline-fleet` | another: a lease of each replica, and who holds which session |
//! | subject `bowline.fleet.all.MATTER` | what a replica tells all others |
//! | subject `bowline.fleet.ID.MATTER` | what it tells the one of that id |
//!
//! `bowline` is `broker.nats.prefix`. A topic's alphabet is that of subjects, without what means more there.

use std::ops::Range;

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::types::{NewEvent, Producer};

/// Stands where a topic's name stands, and is none: `$` is not in their alphabet.
pub(super) const CANARY: &str = "$canary";

/// The same, in each partition: stands for nothing but that something is stored.
pub(super) const PROBE: &str = "$probe";

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    partitions: u16,
}

impl Names {
    pub(super) fn new(prefix: &str, partitions: u16) -> Self {
        Self { prefix: prefix.to_owned(), partitions }
    }

    /// The partition of a topic.
    pub(super) fn partition(&self, topic: &str) -> u16 {
        let remainder = stable_hash(topic.as_bytes()) % u64::from(self.partitions);
        u16::try_from(remainder).unwrap_or(0)
    }

    /// The partition of a topic whose events have to be on disk before they are confirmed. These come after the others.
    pub(super) fn synced(&self, topic: &str) -> u16 {
        self.partitions + self.partition(topic)
    }

    /// Whether it is one of those.
    pub(super) fn is_synced(&self, partition: u16) -> bool {
        partition >= self.partitions
    }

    /// All partitions, with or without those.
    pub(super) fn all(&self, synced: bool) -> Range<u16> {
        0..if synced { 2 * self.partitions } else { self.partitions }
    }

    /// The partition in the names of what there is once for each.
    fn code(&self, partition: u16) -> String {
        match partition.checked_sub(self.partitions) {
            Some(number) => format!("S{number:02}"),
            None => format!("L{partition:02}"),
        }
    }

    /// The same in subjects.
    fn token(&self, partition: u16) -> String {
        match partition.checked_sub(self.partitions) {
            Some(number) => format!("s{number:02}"),
            None => format!("{partition:02}"),
        }
    }

    pub(super) fn stream(&self, partition: u16) -> String {
        format!("{}-{}", self.prefix, self.code(partition))
    }

    /// What is published to a topic.
    pub(super) fn log(&self, partition: u16, topic: &str) -> String {
        format!("{}.log.{}.{topic}", self.prefix, self.token(partition))
    }

    /// Its events, once they are kept.
    pub(super) fn live(&self, partition: u16, topic: &str) -> String {
        format!("{}.out.{}.{topic}", self.prefix, self.token(partition))
    }

    pub(super) fn bucket(&self) -> String {
        format!("{}-epochs", self.prefix)
    }

    /// The stream that is the bucket.
    pub(super) fn bucket_stream(&self) -> String {
        format!("KV_{}", self.bucket())
    }

    fn fleet_bucket(&self) -> String {
        format!("{}-fleet", self.prefix)
    }

    /// The stream that is the bucket of what replicas know of each other.
    pub(super) fn fleet_stream(&self) -> String {
        format!("KV_{}", self.fleet_bucket())
    }

    /// All that is kept there.
    pub(super) fn fleet_keys(&self) -> String {
        format!("$KV.{}.>", self.fleet_bucket())
    }

    /// The key of a replica's lease.
    pub(super) fn lease(&self, id: &str) -> String {
        format!("$KV.{}.replica.{id}", self.fleet_bucket())
    }

    /// The key of a session: who holds it.
    pub(super) fn session(&self, producer: &Producer) -> String {
        format!("$KV.{}.session.{}", self.fleet_bucket(), fingerprint_of(producer))
    }

    /// The keys of all sessions.
    pub(super) fn sessions(&self) -> String {
        format!("$KV.{}.session.*", self.fleet_bucket())
    }

    /// Where a session's claim is written in the stream of a topic, among topics, and none: `$` is not in their alphabet.
    pub(super) fn fence(&self, partition: u16, topic: &str, producer: &Producer) -> String {
        // A session of two topics of a partition has a record for each: it may be at home in one alone.
        let (client, session) = (producer.client_id().as_str(), producer.session_id().as_str());
        let parts = [topic.as_bytes(), client.as_bytes(), session.as_bytes()];
        self.log(partition, &format!("$fence.{}", fingerprint("f", parts)))
    }

    /// What is told to the replica of that id, or to `all`.
    pub(super) fn told(&self, id: &str, matter: &str) -> String {
        format!("{}.fleet.{id}.{matter}", self.prefix)
    }

    /// The key of a partition's epoch.
    pub(super) fn epoch(&self, partition: u16) -> String {
        format!("$KV.{}.{}", self.bucket(), self.code(partition))
    }
}

/// FNV-1a. Every replica of every version has to agree on it, so it is written down here.
fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// How the servers recognise a publish that they have kept before. A stream holds many topics and remembers every id for
/// as long as its window is, so ids are short, and no two of different topics, sessions or numbers are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MessageId {
    /// The application chose one for the event.
    Application(String),
    /// The session's number for it.
    Number(String),
    /// Only this attempt to publish it, and its repeats.
    Attempt(String),
}

impl MessageId {
    /// The id of an event that is published to a topic.
    pub(super) fn of(topic: &str, event: &NewEvent) -> Self {
        let dedupe = &event.dedupe;
        if let Some(id) = &dedupe.id {
            return Self::Application(fingerprint("i", [topic.as_bytes(), id.as_bytes()]));
        }
        match &dedupe.seq {
            Some(seq) => {
                let (client, session) = (seq.producer.client_id().as_str(), seq.producer.session_id().as_str());
                let number = seq.number.to_be_bytes();
                let parts = [topic.as_bytes(), client.as_bytes(), session.as_bytes(), &number[..]];
                Self::Number(fingerprint("s", parts))
            }
            None => Self::attempt(),
        }
    }

    /// An id of its own.
    pub(super) fn attempt() -> Self {
        Self::Attempt(format!("r{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)))
    }

    /// The id of the removal of a key at the end of its session, as it was set at `offset`.
    pub(super) fn of_removal(topic: &str, owner: &Producer, offset: u64) -> Self {
        let (client, session) = (owner.client_id().as_str(), owner.session_id().as_str());
        let offset = offset.to_be_bytes();
        Self::Attempt(fingerprint("m", [topic.as_bytes(), client.as_bytes(), session.as_bytes(), &offset[..]]))
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Application(id) | Self::Number(id) | Self::Attempt(id) => id,
        }
    }

    /// The id, if it is what repeats are known by to those who read the log.
    pub(super) fn of_application(&self) -> Option<&str> {
        if let Self::Application(id) = self { Some(id) } else { None }
    }

    /// The id as a message bears it, if the application chose it.
    pub(super) fn read(text: &str) -> Option<&str> {
        text.starts_with('i').then_some(text)
    }
}

fn fingerprint_of(producer: &Producer) -> String {
    fingerprint("s", [producer.client_id().as_str().as_bytes(), producer.session_id().as_str().as_bytes()])
}

/// 128 bits of a hash that nobody finds two of, over the parts and their lengths.
fn fingerprint<'p>(kind: &str, parts: impl IntoIterator<Item = &'p [u8]>) -> String {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&part.len().to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finish();
    let short = digest.as_ref().get(..16).unwrap_or_default();
    format!("{kind}{}", BASE64_URL_SAFE_NO_PAD.encode(short))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClientId, Dedupe, Seq, SessionId};

    #[test]
    fn a_topic_has_the_same_partition_for_ever() {
        let names = Names::new("bowline", 16);
        // The first is the published value of the empty text. Whoever changes these loses every history there is.
        assert_eq!(stable_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stable_hash(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(names.stream(7), "bowline-L07");
        assert_eq!(names.log(7, "chat.room"), "bowline.log.07.chat.room");
        assert_eq!((names.stream(23), names.log(23, "x")), ("bowline-S07".into(), "bowline.log.s07.x".into()));
        assert_eq!(
            (names.epoch(7), names.epoch(23)),
            ("$KV.bowline-epochs.L07".into(), "$KV.bowline-epochs.S07".into())
        );
        assert!(names.all(true).all(|p| names.is_synced(p) == (p >= 16)) && names.all(false).len() == 16);
        assert_eq!(names.synced("chat.room"), 16 + names.partition("chat.room"));
        assert!((0..1000).all(|n| names.partition(&n.to_string()) < 16));
        assert!((0..16).all(|p| (0..1000).any(|n| names.partition(&n.to_string()) == p)), "all of them are used");
    }

    #[test]
    fn ids_differ_where_what_is_published_does() {
        let producer = |session: &str| Producer::new(ClientId::parse("c").unwrap(), SessionId::parse(session).unwrap());
        let by = |session, number| NewEvent {
            dedupe: Dedupe { id: None, seq: Some(Seq { producer: producer(session), number, through: 0 }) },
            ..NewEvent::default()
        };
        let named = |id: &str| NewEvent { dedupe: Dedupe { id: Some(id.into()), seq: None }, ..NewEvent::default() };
        let events =
            [by("s", 1), by("s", 2), by("t", 1), named("a"), named("b"), NewEvent::default(), NewEvent::default()];
        let mut ids: Vec<_> =
            ["x", "y"].iter().flat_map(|topic| events.iter().map(|event| MessageId::of(topic, event))).collect();
        assert_eq!(ids[0], MessageId::of("x", &by("s", 1)), "a repeat has the same");
        ids.push(MessageId::of_removal("x", &producer("s"), 1));
        let mut texts: Vec<_> = ids.iter().map(MessageId::as_str).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), ids.len());
        assert_eq!(ids.iter().filter(|id| MessageId::read(id.as_str()).is_some()).count(), 4);
    }
}
