//! What a transport tells whoever counts.

use std::sync::Arc;

/// How a transport ended. The words are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer closed it in order.
    Closed,
    /// The peer or the network went away.
    Lost,
    /// The peer broke HTTP/2, or a limit of it.
    Protocol,
    /// The peer did not answer a PING.
    KeepaliveTimeout,
    /// The peer did not finish the TLS handshake in time.
    TlsTimeout,
    /// The TLS handshake failed.
    TlsFailed,
    /// The peer did not send its preface and SETTINGS in time.
    GreetingTimeout,
    /// We sent GOAWAY, and its calls ended.
    GoAway,
    /// We sent GOAWAY, and cut it when its time was over.
    Cut,
}

impl End {
    /// Every end.
    pub const ALL: &[Self] = &[
        Self::Closed,
        Self::Lost,
        Self::Protocol,
        Self::KeepaliveTimeout,
        Self::TlsTimeout,
        Self::TlsFailed,
        Self::GreetingTimeout,
        Self::GoAway,
        Self::Cut,
    ];

    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Protocol => "protocol",
            Self::KeepaliveTimeout => "keepalive_timeout",
            Self::TlsTimeout => "tls_timeout",
            Self::TlsFailed => "tls_failed",
            Self::GreetingTimeout => "greeting_timeout",
            Self::GoAway => "goaway",
            Self::Cut => "cut",
        }
    }
}

/// Counts transports. `()` counts nothing.
pub trait Meter: Send + Sync + 'static {
    /// A peer was accepted. Exactly one [`closed`](Self::closed) follows.
    fn opened(&self) {}
    /// A transport is gone.
    fn closed(&self, _end: End) {}
    /// A peer was turned away: there are as many transports as there may be.
    fn refused(&self) {}
}

impl Meter for () {}

/// Counts one transport, to its end on whatever path.
pub(super) struct Metered {
    meter: Arc<dyn Meter>,
    /// How it ended; what stands here when it is dropped is counted.
    pub(super) end: End,
}

impl Metered {
    pub(super) fn open(meter: Arc<dyn Meter>) -> Self {
        meter.opened();
        Self { meter, end: End::Cut }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.closed(self.end);
    }
}
