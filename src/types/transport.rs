//! What the rest of the house may know of a transport.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

/// One transport, as seen from the calls it carries. The transport puts it into every request's extensions.
#[derive(Debug, Clone)]
pub struct TransportHandle {
    /// The remote end.
    pub peer: SocketAddr,
    goaway: CancellationToken,
}

impl TransportHandle {
    /// A handle whose [`go_away`](Self::go_away) cancels `goaway`.
    pub fn new(peer: SocketAddr, goaway: CancellationToken) -> Self {
        Self { peer, goaway }
    }

    /// Asks the transport to send GOAWAY: its calls go on, but no new one can begin on it. Idempotent.
    pub fn go_away(&self) {
        self.goaway.cancel();
    }
}
