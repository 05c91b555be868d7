//! The reasons, as one table.

use tonic::Code;

/// What the receiver of a failure should do. The protocol's `Advice`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Nothing: the same will fail the same.
    None,
    /// Repeat it unchanged, later.
    Retry,
    /// Open another connection and resume there.
    Reconnect,
    /// Open the session anew, without its cursor.
    NewSession,
    /// Get a new token, then reconnect.
    Reauthenticate,
    /// Stop: a person has to look.
    Fatal,
}

impl Advice {
    /// The word used in `ErrorInfo.metadata["advice"]`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Retry => "RETRY",
            Self::Reconnect => "RECONNECT",
            Self::NewSession => "NEW_SESSION",
            Self::Reauthenticate => "REAUTHENTICATE",
            Self::Fatal => "FATAL",
        }
    }
}

/// Whose fault a failure is: it decides the log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client did something it should not.
    Client,
    /// The peer or the network went away, or could not keep up.
    Peer,
    /// Nobody's: limits, drains, operators.
    Nobody,
    /// Ours.
    Server,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $label:literal, $code:ident, $advice:ident, $fault:ident;)*) => {
        /// Why something was refused or ended. The label is on the wire, in metrics and in logs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }

            /// The gRPC status code.
            pub fn code(self) -> Code {
                match self { $(Self::$name => Code::$code),* }
            }

            /// What its receiver should do.
            pub fn advice(self) -> Advice {
                match self { $(Self::$name => Advice::$advice),* }
            }

            /// Whose fault it is.
            pub fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault),* }
            }

            /// What it means, in words: the text of `docs/reasons.md`.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii()),* }
            }
        }
    };
}

reasons! {
    /// No Hello within `hello_timeout`.
    HelloTimeout = "HELLO_TIMEOUT", DeadlineExceeded, Reconnect, Client;
    /// The call was not over in the time that its client, or the server, gives it.
    Deadline = "DEADLINE", DeadlineExceeded, Retry, Nobody;
    /// A malformed or out-of-place frame.
    Protocol = "PROTOCOL", InvalidArgument, Fatal, Client;
    /// No protocol version both sides speak.
    Version = "VERSION", FailedPrecondition, Fatal, Client;
    /// The token is not acceptable.
    TokenInvalid = "TOKEN_INVALID", Unauthenticated, Reauthenticate, Client;
    /// The token has run out, and was not replaced in time.
    TokenExpired = "TOKEN_EXPIRED", Unauthenticated, Reauthenticate, Client;
    /// The client may not do this.
    Denied = "DENIED", PermissionDenied, Fatal, Client;
    /// The server holds as many connections as it may.
    MaxConnections = "MAX_CONNECTIONS", ResourceExhausted, Reconnect, Nobody;
    /// More connections are being opened at once than the server takes in a second.
    OpenRate = "OPEN_RATE", ResourceExhausted, Reconnect, Nobody;
    /// The server is leaving.
    Draining = "DRAINING", Unavailable, Reconnect, Nobody;
    /// An operator closed the connection.
    Disconnected = "DISCONNECTED", Unavailable, Reconnect, Nobody;
    /// The client was silent and did not answer the probe.
    PeerTimeout = "PEER_TIMEOUT", Unavailable, Reconnect, Peer;
    /// The client went away without a word.
    PeerGone = "PEER_GONE", Unavailable, Reconnect, Peer;
    /// The client takes nothing: no write made progress within `send_timeout`.
    SlowConnection = "SLOW_CONNECTION", ResourceExhausted, Reconnect, Peer;
    /// The client has as many sessions open as it may.
    SessionLimit = "SESSION_LIMIT", ResourceExhausted, None, Client;
    /// No such session alias on this connection.
    UnknownSession = "UNKNOWN_SESSION", NotFound, None, Client;
    /// No topic of this name may exist: no configured pattern matches it.
    UnknownTopic = "UNKNOWN_TOPIC", NotFound, None, Client;
    /// The server keeps as many topics as it may.
    TopicLimit = "TOPIC_LIMIT", ResourceExhausted, Retry, Nobody;
    /// The server answers as many calls at once as it may.
    CallLimit = "CALL_LIMIT", ResourceExhausted, Retry, Nobody;
    /// All histories together hold as much as they may, and room could not be made yet.
    HistoryLimit = "HISTORY_LIMIT", ResourceExhausted, Retry, Nobody;
    /// A newer connection of the client opened the session; or an older one did late, whose open it left unanswered.
    TakenOver = "TAKEN_OVER", Aborted, Fatal, Nobody;
    /// The session did not keep up, and its delivery policy says that it ends then.
    SlowSession = "SLOW_SESSION", ResourceExhausted, Retry, Peer;
    /// Nothing is kept of the session any more: it was away for too long.
    SessionExpired = "SESSION_EXPIRED", NotFound, NewSession, Nobody;
    /// A strict session's position is no longer in the history.
    CursorTrimmed = "CURSOR_TRIMMED", OutOfRange, None, Nobody;
    /// A strict session's position belongs to another log.
    EpochChanged = "EPOCH_CHANGED", DataLoss, None, Nobody;
    /// The topic's newest offset is another one.
    WrongLast = "WRONG_LAST", Aborted, None, Client;
    /// The seq leaves a hole.
    WrongSeq = "WRONG_SEQ", FailedPrecondition, None, Client;
    /// The seq is older than what is remembered of the session: where it was stored, if it was, is not known.
    ForgottenSeq = "FORGOTTEN_SEQ", OutOfRange, None, Client;
    /// A Publish on a session that was opened to read only, or to a topic that only the server writes.
    ReadOnly = "READ_ONLY", FailedPrecondition, None, Client;
    /// A reader that the topic waits for has not acknowledged enough.
    Backpressure = "BACKPRESSURE", ResourceExhausted, Retry, Nobody;
    /// The client publishes more in a second than it may.
    PublishRate = "PUBLISH_RATE", ResourceExhausted, Retry, Client;
    /// The topic holds as many keys, or as many bytes of their values, as it may.
    KeyLimit = "KEY_LIMIT", ResourceExhausted, None, Client;
    /// The payload is over the limit.
    TooLarge = "TOO_LARGE", ResourceExhausted, None, Client;
    /// A field has a value it may not have.
    InvalidField = "INVALID_FIELD", InvalidArgument, None, Client;
    /// A feature this server does not offer.
    Unsupported = "UNSUPPORTED", Unimplemented, None, Client;
    /// No such thing.
    NotFound = "NOT_FOUND", NotFound, None, Client;
    /// The broker is not reached, or does not answer: nothing was done.
    Broker = "BROKER", Unavailable, Retry, Server;
    /// It could not be learnt what became of a publish. The same again, under the same number or id, is not stored twice.
    UnknownOutcome = "UNKNOWN_OUTCOME", Unavailable, Retry, Server;
    /// A bug of the server; details are in its log.
    Internal = "INTERNAL", Internal, Reconnect, Server;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_label_in_the_form_error_info_asks_for() {
        let mut labels: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert!(labels.iter().all(|l| l.len() <= 63 && l.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')));
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
    }
}
