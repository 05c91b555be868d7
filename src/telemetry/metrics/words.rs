//! Every value that a label of ours can have.
//!
//! In one file, so that the number of series can be read off it: it does not grow with clients, sessions or topics, and
//! a word that is not here cannot be counted. The labels of `grpc_server_*` are the methods and codes of gRPC instead.

use crate::error::Reason;

/// Enums whose members are the values of a label.
macro_rules! words {
    ($($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $meaning:literal])* $word:ident = $value:literal,)* })*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[doc = $meaning])* $word,)* }

        impl $name {
            /// Every one, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$word),*];

            /// The value of the label.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$word => $value),* }
            }
        }
    )*};
}

words! {
    /// Why a connection is not admitted: `reason` of `bowline_connections_rejected_total`.
    Refusal {
        /// There are as many as there may be.
        MaxConnections = "MAX_CONNECTIONS",
        /// The server is leaving.
        Draining = "DRAINING",
        /// Too many were opened within a second.
        OpenRate = "OPEN_RATE",
        /// The server is cut off from its broker.
        Broker = "BROKER",
    }

    /// How much of what a session missed is there: `recovery` of `bowline_session_opens_total`.
    Recovery {
        /// No position was given.
        Fresh = "FRESH",
        /// The chain goes on without a hole.
        Full = "FULL",
        /// A gap follows.
        Partial = "PARTIAL",
    }

    /// Why records will not come: `reason` of `bowline_gaps_total`.
    Gap {
        /// Trimmed.
        Retention = "RETENTION",
        /// Left out, because the session did not keep up.
        Slow = "SLOW",
        /// Another log.
        Epoch = "EPOCH",
        /// Another event at the client's position.
        Diverged = "DIVERGED",
    }

    /// What a delivery policy did: `action` of `bowline_slow_sessions_total`.
    SlowAction {
        /// It left out the oldest.
        DropOldest = "DROP_OLDEST",
        /// It ended the session.
        Disconnect = "DISCONNECT",
    }

    /// How a transport ended: `cause` of `bowline_transports_closed_total`.
    TransportEnd {
        /// The peer closed it in order.
        Closed = "closed",
        /// The peer or the network went away.
        Lost = "lost",
        /// The peer broke HTTP/2, or a limit of it.
        Protocol = "protocol",
        /// The peer did not answer a PING.
        KeepaliveTimeout = "keepalive_timeout",
        /// The peer did not finish the TLS handshake in time.
        TlsTimeout = "tls_timeout",
        /// The TLS handshake failed.
        TlsFailed = "tls_failed",
        /// The peer did not send its preface and SETTINGS in time.
        GreetingTimeout = "greeting_timeout",
        /// We sent GOAWAY, and its calls ended.
        GoAway = "goaway",
        /// We sent GOAWAY, and cut it when its time was over.
        Cut = "cut",
        /// It was turned away: there are as many transports as there may be, or as descriptors allow.
        Refused = "refused",
        /// It was turned away: its address has as many transports as it may have.
        TooManyFromAddress = "too_many_from_address",
        /// The peer took nothing of what there was for it.
        WriteStalled = "write_stalled",
        /// The peer sent PINGs too often, and got GOAWAY.
        TooManyPings = "too_many_pings",
        /// The peer had too many streams reset, and got GOAWAY.
        TooManyResets = "too_many_resets",
        /// The peer sent too many frames of which a few are enough, and got GOAWAY.
        TooManyGlitches = "too_many_glitches",
        /// The peer sent a header block in too many pieces, and got GOAWAY.
        TooManyContinuations = "too_many_continuations",
    }

    /// Whose certificate it is: `certificate` of `bowline_tls_not_after_seconds`.
    TlsCertificate {
        /// The server's own.
        Server = "server",
        /// That of an authority for clients.
        ClientCa = "client_ca",
    }

    /// What became of a change of the TLS files: `outcome` of `bowline_tls_reloads_total`.
    TlsReload {
        /// It is served.
        Loaded = "loaded",
        /// It cannot be used.
        Refused = "refused",
    }

    /// Which connection to the broker it is: `link` of `bowline_broker_connected`.
    Link {
        /// Carries publishes.
        Publishing = "publishing",
        /// Carries what is published elsewhere.
        Listening = "listening",
        /// Carries questions.
        Asking = "asking",
        /// Carries what goes over bridges, if there are any.
        Bridging = "bridging",
    }

    /// What became of a publish that was given to the broker: `outcome` of `bowline_broker_publishes_total`.
    BrokerPublish {
        /// It is stored.
        Stored = "stored",
        /// It had been stored before.
        Repeat = "repeat",
        /// The broker does not take it.
        Refused = "refused",
        /// It is not stored: the broker was not reached in time.
        Unreachable = "unreachable",
        /// Nobody knows.
        Unknown = "unknown",
    }

    /// What became of a message that came by a bridge: `outcome` of `bowline_bridge_messages_received_total`.
    BridgeIn {
        /// It is an event now.
        Stored = "stored",
        /// It had been one before.
        Repeat = "repeat",
        /// It is what a replica of ours sent.
        Own = "own",
        /// Dropped: it cannot be an event, or its subject no topic.
        Unfit = "unfit",
        /// Dropped: the topic does not take it.
        Refused = "refused",
        /// Dropped: too many wait to be stored.
        Overflow = "overflow",
        /// Dropped: the broker did not store it, or did not say so in time.
        Failed = "failed",
    }

    /// What became of an event that was to leave by a bridge: `outcome` of `bowline_bridge_messages_sent_total`.
    BridgeOut {
        /// It was sent.
        Sent = "sent",
        /// Dropped: it is larger than the servers take.
        Unfit = "unfit",
        /// Dropped: too many wait to be sent.
        Overflow = "overflow",
        /// Dropped: there is no connection any more.
        Failed = "failed",
    }

    /// How a handshake failed: `cause` of `bowline_handshakes_failed_total`.
    HandshakeEnd {
        /// TLS was not finished in time.
        TlsTimeout = "tls_timeout",
        /// TLS failed.
        TlsFailed = "tls_failed",
        /// Preface and SETTINGS did not come in time.
        GreetingTimeout = "greeting_timeout",
    }
}

/// How a connection ended: `cause` of `bowline_connections_closed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionEnd {
    /// As its client asked.
    Ok,
    /// Without a word of its own: its actor never came to say why.
    Gone,
    /// For a reason.
    Failed(Reason),
}

/// How a session ended: `reason` of `bowline_sessions_closed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionEnd {
    /// As asked: closed, or read to the end.
    Ok,
    /// Its connection ended; its place is kept.
    Detached,
    /// For a reason; also that for which it was not opened at all.
    Failed(Reason),
}

impl ConnectionEnd {
    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Gone => "GONE",
            Self::Failed(reason) => reason.as_str(),
        }
    }

    /// Every one.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Ok, Self::Gone].into_iter().chain(Reason::ALL.iter().copied().map(Self::Failed))
    }
}

impl From<Option<Reason>> for ConnectionEnd {
    fn from(reason: Option<Reason>) -> Self {
        reason.map_or(Self::Ok, Self::Failed)
    }
}

impl SessionEnd {
    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Detached => "DETACHED",
            Self::Failed(reason) => reason.as_str(),
        }
    }

    /// Every one.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Ok, Self::Detached].into_iter().chain(Reason::ALL.iter().copied().map(Self::Failed))
    }
}

impl From<Option<Reason>> for SessionEnd {
    fn from(reason: Option<Reason>) -> Self {
        reason.map_or(Self::Ok, Self::Failed)
    }
}

impl Refusal {
    /// The same, as its client is told.
    pub fn reason(self) -> Reason {
        match self {
            Self::MaxConnections => Reason::MaxConnections,
            Self::Draining => Reason::Draining,
            Self::OpenRate => Reason::OpenRate,
            Self::Broker => Reason::Broker,
        }
    }
}

impl TransportEnd {
    /// Whether the peer went too far, by intent or by a fault, without breaking HTTP/2.
    pub fn is_hostile(self) -> bool {
        matches!(
            self,
            Self::WriteStalled
                | Self::TooManyPings
                | Self::TooManyResets
                | Self::TooManyGlitches
                | Self::TooManyContinuations
        )
    }

    /// As the end of a handshake, if it can be one.
    pub fn of_handshake(self) -> Option<HandshakeEnd> {
        match self {
            Self::TlsTimeout => Some(HandshakeEnd::TlsTimeout),
            Self::TlsFailed => Some(HandshakeEnd::TlsFailed),
            Self::GreetingTimeout => Some(HandshakeEnd::GreetingTimeout),
            _ => None,
        }
    }
}

/// A family whose label has a value of this file: its name, the label, and every value.
pub type Vocabulary = (&'static str, &'static str, Vec<&'static str>);

/// Every family with a label of ours.
pub fn vocabularies() -> Vec<Vocabulary> {
    /// Every word of an enum.
    macro_rules! all {
        ($name:ident) => {
            $name::ALL.iter().map(|word| word.as_str()).collect()
        };
    }
    vec![
        ("bowline_connections_closed_total", "cause", ConnectionEnd::all().map(ConnectionEnd::as_str).collect()),
        ("bowline_connections_rejected_total", "reason", all!(Refusal)),
        ("bowline_session_opens_total", "recovery", all!(Recovery)),
        ("bowline_sessions_closed_total", "reason", SessionEnd::all().map(SessionEnd::as_str).collect()),
        ("bowline_gaps_total", "reason", all!(Gap)),
        ("bowline_slow_sessions_total", "action", all!(SlowAction)),
        ("bowline_publishes_failed_total", "reason", Reason::ALL.iter().map(|reason| reason.as_str()).collect()),
        ("bowline_transports_closed_total", "cause", all!(TransportEnd)),
        ("bowline_handshakes_failed_total", "cause", all!(HandshakeEnd)),
        ("bowline_tls_not_after_seconds", "certificate", all!(TlsCertificate)),
        ("bowline_tls_reloads_total", "outcome", all!(TlsReload)),
        ("bowline_broker_connected", "link", all!(Link)),
        ("bowline_broker_publishes_total", "outcome", all!(BrokerPublish)),
        ("bowline_bridge_messages_received_total", "outcome", all!(BridgeIn)),
        ("bowline_bridge_messages_sent_total", "outcome", all!(BridgeOut)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_is_a_word_of_whatever_can_end_for_it() {
        for (family, label, words) in vocabularies() {
            let unique: HashSet<_> = words.iter().collect();
            assert_eq!(unique.len(), words.len(), "{family}: a value of {label} twice");
            let ends_for_a_reason = matches!(
                family,
                "bowline_connections_closed_total" | "bowline_sessions_closed_total" | "bowline_publishes_failed_total"
            );
            for reason in Reason::ALL.iter().filter(|_| ends_for_a_reason) {
                assert!(unique.contains(&reason.as_str()), "{family} has no {}", reason.as_str());
            }
        }
    }

    #[test]
    fn a_refusal_is_called_what_its_client_is_told() {
        for refusal in Refusal::ALL {
            assert_eq!(refusal.as_str(), refusal.reason().as_str());
        }
    }

    #[test]
    fn a_failed_handshake_is_called_as_its_transport() {
        let failed: Vec<_> = TransportEnd::ALL.iter().filter_map(|end| Some((end, end.of_handshake()?))).collect();
        assert_eq!(failed.len(), HandshakeEnd::ALL.len());
        for (transport, handshake) in failed {
            assert_eq!(transport.as_str(), handshake.as_str());
        }
    }
}
