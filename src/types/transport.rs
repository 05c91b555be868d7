//! What the rest of the house may know of a transport.

use std::{net::SocketAddr, time::Duration};

use tokio_util::sync::CancellationToken;

/// One transport, as seen from the calls it carries. The transport puts it into every request's extensions.
#[derive(Debug, Clone)]
pub struct TransportHandle {
    /// The remote end.
    pub peer: SocketAddr,
    /// How long its calls may go on after its GOAWAY.
    pub grace: Duration,
    goaway: CancellationToken,
    retired: CancellationToken,
}

impl TransportHandle {
    /// A handle whose [`go_away`](Self::go_away) cancels `goaway`; then its calls have `grace`.
    pub fn new(peer: SocketAddr, goaway: CancellationToken, grace: Duration) -> Self {
        Self { peer, grace, goaway, retired: CancellationToken::new() }
    }

    /// Asks the transport to send GOAWAY: its calls go on, but no new one can begin on it. Idempotent.
    pub fn go_away(&self) {
        self.goaway.cancel();
    }

    /// The transport has reached its age: it sends GOAWAY, and those it carries should move. Idempotent.
    pub fn retire(&self) {
        self.retired.cancel();
    }

    /// Completes when the transport has reached its age. Cancel-safe.
    pub async fn retired(&self) {
        self.retired.cancelled().await;
    }
}
