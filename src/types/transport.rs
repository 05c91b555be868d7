//! What the rest of the house may know of a transport.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Timestamp;

/// One transport, as seen from the calls it carries. The transport puts it into every request's extensions.
#[derive(Debug, Clone)]
pub struct TransportHandle {
    /// The remote end.
    pub peer: SocketAddr,
    /// What its certificate says of it, if it showed one that an authority of `transport.tls.client_ca_file` signed.
    pub peer_identity: Option<Arc<PeerIdentity>>,
    /// How long its calls may go on after its GOAWAY.
    pub grace: Duration,
    goaway: CancellationToken,
    retired: CancellationToken,
    health_places: Arc<Semaphore>,
}

impl TransportHandle {
    /// Calls that may ask for the server's health at once on one transport.
    pub const HEALTH_CALLS: usize = 4;

    /// A handle of a peer that showed no certificate, whose [`go_away`](Self::go_away) cancels `goaway`; then its calls have
    /// `grace`.
    pub fn new(peer: SocketAddr, goaway: CancellationToken, grace: Duration) -> Self {
        let health_places = Arc::new(Semaphore::new(Self::HEALTH_CALLS));
        Self { peer, peer_identity: None, grace, goaway, retired: CancellationToken::new(), health_places }
    }

    /// The same, of a peer with this certificate.
    #[must_use]
    pub fn identified(self, peer_identity: Option<Arc<PeerIdentity>>) -> Self {
        Self { peer_identity, ..self }
    }

    /// Asks the transport to send GOAWAY: its calls go on, but no new one can begin on it. Idempotent.
    pub fn go_away(&self) {
        self.goaway.cancel();
    }

    /// A place for a call that asks for health, until it is dropped; none if [`HEALTH_CALLS`](Self::HEALTH_CALLS) have one.
    pub fn health_place(&self) -> Option<OwnedSemaphorePermit> {
        self.health_places.clone().try_acquire_owned().ok()
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

/// What the certificate of a peer says, once an authority that we trust has vouched for it. It was valid when the
/// transport began; what happens when it no longer is, is for whoever admits calls to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The one subject alternative name of the kind that `transport.tls.client_name` asks for; or why there is none. The
    /// common name of the subject is never taken for it.
    pub name: Result<Arc<str>, Nameless>,
    /// When the certificate ends.
    pub not_after: Timestamp,
    /// Its serial number, hexadecimal: with the authority, what a revocation names.
    pub serial: Arc<str>,
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nameless {
    /// It has no name of the kind that is asked for.
    Missing,
    /// It has several, and so could be anybody of them.
    Several,
    /// It has one that cannot be such a name.
    Malformed,
}

impl fmt::Display for Nameless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the client certificate has no name of the kind that this server asks for",
            Self::Several => "the client certificate has several names of the kind that this server asks for",
            Self::Malformed => "the name in the client certificate is malformed",
        })
    }
}
