//! How transports end, and counting them.

use std::sync::Arc;

use crate::telemetry::metrics::Metrics;

/// How a transport ended. The words are metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
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
    /// It was turned away: there are as many transports as there may be.
    Refused,
}

impl End {
    /// The word in metrics and logs.
    pub(super) fn as_str(self) -> &'static str {
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
            Self::Refused => "refused",
        }
    }
}

/// Counts one transport, to its end on whatever path.
pub(super) struct Metered {
    metrics: Arc<Metrics>,
    established: bool,
    /// How it ended; what stands here when it is dropped is counted.
    pub(super) end: End,
}

impl Metered {
    /// A peer was accepted.
    pub(super) fn open(metrics: Arc<Metrics>) -> Self {
        metrics.transports_opened.inc();
        Self { metrics, established: false, end: End::Cut }
    }

    /// Its handshakes are done.
    pub(super) fn established(&mut self) {
        self.established = true;
        self.metrics.transports_active.inc();
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.metrics.transport_closed(self.end.as_str());
        if self.established {
            self.metrics.transports_active.dec();
        } else if matches!(self.end, End::TlsFailed | End::TlsTimeout | End::GreetingTimeout) {
            self.metrics.handshakes_failed(self.end.as_str());
        }
    }
}
