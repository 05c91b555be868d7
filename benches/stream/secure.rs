//! TLS, with an authority of the run's own: each server has a certificate of it, each client trusts it.

use std::sync::LazyLock;

use tokio_rustls::TlsConnector;

use crate::pki::{Authority, Volume};

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("bench"));
static TRUSTING: LazyLock<TlsConnector> = LazyLock::new(|| std::sync::Arc::new(AUTHORITY.client(None)).into());

/// What a client connects with.
pub fn trusting() -> &'static TlsConnector {
    &TRUSTING
}

/// What a server is given; gone with this.
pub struct Files {
    volume: Volume,
}

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
const NATS: &str = "nats.conf";

impl Files {
    /// A new certificate with its key, and what NATS has instead of arguments for them.
    pub fn new() -> Self {
        let pair = AUTHORITY.server();
        let mut volume = Volume::new(&[(CERTIFICATE, ""), (KEY, ""), (NATS, "")]);
        // TLS at once, as everywhere else, and not after the server has introduced itself.
        let nats = format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", handshake_first: true }}\n",
            volume.name(CERTIFICATE),
            volume.name(KEY)
        );
        volume.replace(&[(CERTIFICATE, &pair.cert), (KEY, &pair.key), (NATS, &nats)]);
        Self { volume }
    }

    /// The certificate's file.
    pub fn certificate(&self) -> String {
        self.volume.name(CERTIFICATE)
    }

    /// The key's.
    pub fn key(&self) -> String {
        self.volume.name(KEY)
    }

    /// The configuration of a NATS server.
    pub fn nats(&self) -> String {
        self.volume.name(NATS)
    }
}
