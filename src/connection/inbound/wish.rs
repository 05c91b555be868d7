//! What an OpenSession asks for, read and checked field by field.

use bytes::Bytes;

use crate::{
    auth::{Ask, Caller},
    error::{Failure, Reason},
    hub::{Class, Feed, PolicyName},
    planted::{self, Bug},
    proto::v1,
    session::{Credit, Options, Start},
    types::{Cursor, Timestamp, Topic},
};

/// Largest fencing number believed: above it, a client could leave no room for a newer one.
const MAX_ATTACH: u64 = u64::MAX / 2;
/// Largest `Presence.info`, bytes.
const MAX_INFO_LEN: usize = 1024;

/// An OpenSession that can be honoured, as far as its own fields tell.
pub(super) struct Wish {
    pub(super) alias: u32,
    pub(super) last_attach: u64,
    pub(super) start: Start,
    pub(super) options: Options,
    pub(super) reads: bool,
    pub(super) publishes: bool,
    pub(super) required: bool,
    pub(super) presence: Option<Bytes>,
}

impl Wish {
    /// Reads it for a topic. `kept` is the place that is kept of the session, if one is.
    pub(super) fn read(open: v1::OpenSession, feed: &Feed, kept: Option<Cursor>) -> Result<Self, Failure> {
        let mode = mode(open.mode)?;
        if open.last_attach > MAX_ATTACH {
            return Err(Failure::new(Reason::InvalidField, "last_attach is no number this server gave out"));
        }
        let policy = feed.delivery().policy(feed.class(), policy(open.delivery_policy)?, open.max_rate_hz)?;
        let credit = open.credit.as_ref().map(|credit| Credit { events: credit.events, bytes: credit.bytes });
        let options = Options { strict: open.strict, no_follow: open.no_follow, credit, policy };
        let wish = Self {
            alias: open.session,
            last_attach: open.last_attach,
            start: start(open.start.as_ref(), feed.class(), kept, open.last_attach)?,
            options,
            reads: mode != v1::SessionMode::PublishOnly,
            publishes: mode != v1::SessionMode::ReadOnly,
            required: open.required,
            presence: open.presence.map(|presence| presence.info),
        };
        wish.check(&open.session_id, feed)?;
        Ok(wish)
    }

    fn check(&self, session_id: &str, feed: &Feed) -> Result<(), Failure> {
        let unsupported = |message| Err(Failure::new(Reason::Unsupported, message));
        if self.required && !feed.awaits_readers() {
            return unsupported("publishers to this topic wait for nobody: its rule has no max_lag");
        }
        if self.required && (session_id.is_empty() || !self.reads) {
            let failure = Failure::new(Reason::InvalidField, "only a session that has an id and reads can be required");
            return Err(failure.with("field", "required"));
        }
        match &self.presence {
            Some(_) if feed.topic().presence_of().is_some() => unsupported("nobody can be in a presence topic"),
            Some(info) if info.len() > MAX_INFO_LEN => {
                let failure = Failure::new(Reason::InvalidField, format!("is longer than {MAX_INFO_LEN} bytes"));
                Err(failure.with("field", "presence.info"))
            }
            // A long name leaves no room for that of its presence.
            Some(_) => Ok(feed.topic().presence().map(drop)?),
            None => Ok(()),
        }
    }
}

/// Whether a client may open such a session at all: read, if it reads; publish, if it does only that; be seen, if it wants
/// to be.
pub(super) fn check_rights(open: &v1::OpenSession, topic: &Topic, caller: &Caller) -> Result<(), Failure> {
    match mode(open.mode)? {
        v1::SessionMode::PublishOnly => caller.check(Ask::Publish(topic))?,
        _ => caller.check(Ask::Read(topic))?,
    }
    if open.presence.is_some() { caller.check(Ask::Presence(topic)) } else { Ok(()) }
}

/// What a later version may ask for is refused: taking it for the default would be guessing.
fn policy(policy: i32) -> Result<Option<PolicyName>, Failure> {
    let unknown = |_| Failure::new(Reason::Unsupported, format!("there is no delivery policy {policy}"));
    Ok(match v1::DeliveryPolicy::try_from(policy).map_err(unknown)? {
        v1::DeliveryPolicy::Unspecified => None,
        v1::DeliveryPolicy::Lag => Some(PolicyName::Lag),
        v1::DeliveryPolicy::DropOldest => Some(PolicyName::DropOldest),
        v1::DeliveryPolicy::Conflate => Some(PolicyName::Conflate),
        v1::DeliveryPolicy::Disconnect => Some(PolicyName::Disconnect),
    })
}

fn mode(mode: i32) -> Result<v1::SessionMode, Failure> {
    let unknown = |_| Failure::new(Reason::Unsupported, format!("there is no session mode {mode}"));
    v1::SessionMode::try_from(mode).map_err(unknown)
}

fn start(
    wanted: Option<&v1::StartPosition>,
    class: Class,
    kept: Option<Cursor>,
    last_attach: u64,
) -> Result<Start, Failure> {
    use v1::start_position::Position;
    match wanted.and_then(|start| start.position.as_ref()) {
        Some(Position::Snapshot(_)) => Ok(Start::Snapshot),
        // What a signal topic still holds is for those who were there.
        _ if class == Class::Signal => Ok(Start::Live),
        None | Some(Position::Live(_)) => Ok(Start::Live),
        Some(Position::Earliest(_)) => Ok(Start::Earliest),
        Some(Position::Cursor(_)) if kept.is_some() && planted::active(Bug::ReplaysFromAck) => {
            Ok(kept.map_or(Start::Live, Start::Cursor))
        }
        Some(Position::Cursor(cursor)) => Ok(Start::Cursor((*cursor).into())),
        Some(Position::Acked(_)) if kept.is_none() && last_attach > 0 => {
            Err(Failure::new(Reason::SessionExpired, "the place of the session is no longer kept"))
        }
        Some(Position::Acked(_)) => Ok(kept.map_or(Start::Live, Start::Cursor)),
        Some(Position::LastN(last)) => Ok(Start::LastN(last.count)),
        Some(Position::Since(since)) => Ok(Start::Since(Timestamp(since.time_us))),
    }
}
