//! What a session is opened with.

use bytes::Bytes;

use crate::{
    client::{Cursor, DeliveryPolicy, Error, ErrorKind, Timestamp, shared::Totals},
    proto::v1,
    types::{SessionId, Topic},
};

/// Credit of a session unless chosen: what may wait for the application.
const DEFAULT_WINDOW: Totals = Totals { events: 1024, bytes: 1024 * 1024 };
/// Most bytes of `Presence.info`.
const MAX_PRESENCE: usize = 1024;

/// Where a session begins to read. After a reconnect it always goes on at its own cursor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// After everything stored now.
    #[default]
    Live,
    /// With the oldest event kept.
    Earliest,
    /// After this position: how a program that stored its cursor goes on where it was.
    After(Cursor),
    /// After what this session id acknowledged last, if the server still keeps it; otherwise live. For a first open:
    /// afterwards the client knows its place better than the server does.
    Acked,
    /// With the newest N events.
    Last(u64),
    /// With the first event stored at or after a moment.
    Since(Timestamp),
    /// Keyed topics: with one event per key, then changes. A [`Mirror`](super::Mirror) makes a map of it.
    Snapshot,
}

/// How to open a session. Start with [`Open::topic`].
#[derive(Debug, Clone)]
pub struct Open {
    topic: String,
    session_id: Option<String>,
    pub(super) start: Start,
    mode: v1::SessionMode,
    delivery_policy: DeliveryPolicy,
    max_rate_hz: u32,
    required: bool,
    presence: Option<Bytes>,
    strict: bool,
    no_follow: bool,
    pub(super) window: Totals,
}

impl Open {
    /// A session on this topic: both directions, live, with a made-up session id.
    pub fn topic(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            session_id: None,
            start: Start::Live,
            mode: v1::SessionMode::Unspecified,
            delivery_policy: DeliveryPolicy::Unspecified,
            max_rate_hz: 0,
            required: false,
            presence: None,
            strict: false,
            no_follow: false,
            window: DEFAULT_WINDOW,
        }
    }

    /// Who is in a topic: its members, which are the sessions opened with [`presence`](Self::presence), as a keyed topic
    /// that only the server publishes to. Read-only, a snapshot first. The key is the client's id, a space and the session's
    /// id; the payload what the member told of itself; the publisher the client.
    pub fn presence_of(topic: impl std::fmt::Display) -> Self {
        Self::topic(format!("~presence.{topic}")).start(Start::Snapshot).read_only()
    }

    /// Names the session for good, so that a later process can go on with it: 1 to 128 visible ASCII characters,
    /// unique for the client. A newer open of the same id ends the older one with `TAKEN_OVER`.
    #[must_use]
    pub fn session_id(mut self, id: impl Into<String>) -> Self {
        self.session_id = Some(id.into());
        self
    }

    /// Where to begin to read.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Deliveries only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.mode = v1::SessionMode::ReadOnly;
        self
    }

    /// Publishes only: nothing is delivered.
    #[must_use]
    pub fn publish_only(mut self) -> Self {
        self.mode = v1::SessionMode::PublishOnly;
        self
    }

    /// What happens while the application does not keep up; the topic's default unless chosen. With `Disconnect` the
    /// server ends the session, and the client opens it again at its cursor by itself.
    #[must_use]
    pub fn delivery_policy(mut self, policy: DeliveryPolicy) -> Self {
        self.delivery_policy = policy;
        self
    }

    /// With the policy `Conflate`: most deliveries a second; the topic's own limit unless chosen, and at most that.
    #[must_use]
    pub fn max_rate_hz(mut self, rate: u32) -> Self {
        self.max_rate_hz = rate;
        self
    }

    /// Lets publishers wait for this reader, on topics whose rule has `max_lag`: what it has not acknowledged
    /// ([`Reader::ack`](super::Reader::ack)) counts. Name the session too: a reader that is gone counts for the server's
    /// `session_ttl`, and only under its own id can it come back in place of itself.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Makes the session a member of the topic's presence for as long as it lives, connection losses shorter than the
    /// server's `key_grace` included. `info` is what others are to know of it; at most 1,024 bytes, and it may be empty.
    #[must_use]
    pub fn presence(mut self, info: impl Into<Bytes>) -> Self {
        self.presence = Some(info.into());
        self
    }

    /// Ends the session where it would otherwise announce a gap.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Stops at what is the newest position when the session is opened, instead of following.
    #[must_use]
    pub fn no_follow(mut self) -> Self {
        self.no_follow = true;
        self
    }

    /// How much may wait for the application: `events`, and `bytes` of payload. The session's memory is bounded by it.
    /// At least one of each; 1,024 and 1 MiB unless chosen.
    #[must_use]
    pub fn credit(mut self, events: u64, bytes: u64) -> Self {
        self.window = Totals { events, bytes };
        self
    }

    /// Checks the names and settles the session id, so that every reconnect uses the same.
    pub(super) fn check(mut self) -> Result<Self, Error> {
        Topic::parse(&self.topic)?;
        let id = match self.session_id.take() {
            Some(id) => SessionId::parse(&id)?,
            None => SessionId::generate(),
        };
        if self.window.events == 0 || self.window.bytes == 0 {
            return Err(Error::new(ErrorKind::Invalid, "credit: must be at least one event and one byte"));
        }
        if let Some(info) = self.presence.as_ref().filter(|info| info.len() > MAX_PRESENCE) {
            let message = format!("presence: has {} bytes; the limit is {MAX_PRESENCE}", info.len());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.session_id = Some(id.as_str().to_owned());
        Ok(self)
    }

    /// True if nothing is ever delivered: there is no chain then, and no place to resume at.
    pub(super) fn is_publish_only(&self) -> bool {
        self.mode == v1::SessionMode::PublishOnly
    }

    /// What stays the same in every open of the session.
    pub(super) fn frame(&self) -> v1::OpenSession {
        v1::OpenSession {
            session_id: self.session_id.clone().unwrap_or_default(),
            topic: self.topic.clone(),
            delivery_policy: self.delivery_policy.into(),
            max_rate_hz: self.max_rate_hz,
            required: self.required,
            presence: self.presence.clone().map(|info| v1::Presence { info }),
            mode: self.mode.into(),
            strict: self.strict,
            no_follow: self.no_follow,
            ..v1::OpenSession::default()
        }
    }
}
