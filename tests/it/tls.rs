//! TLS, as clients and strangers find it: certificates that are replaced, certificates that clients show, handshakes that
//! nobody finishes.

mod rotation;
mod strangers;

use std::net::SocketAddr;

use bowline::client::{Builder, Client};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    pki::{Authority, Pair, Volume},
    support::{Settings, TestServer, within},
};

/// A server with certificates, and whoever signs them.
struct Secured {
    /// Signs the server's.
    authority: Authority,
    /// Signs the clients'.
    vouching: Authority,
    volume: Volume,
    server: TestServer,
}

impl Secured {
    /// `mutual`: clients have to show a certificate.
    async fn start(mutual: bool, settings: Settings<'_>) -> Self {
        let (authority, vouching) = (Authority::new("servers"), Authority::new("clients"));
        let Pair { cert, key, .. } = authority.server();
        let volume = Volume::new(&[
            ("tls.crt", &cert),
            ("tls.key", &key),
            ("ca.crt", &vouching.pem()),
            ("server-ca.crt", &authority.pem()),
        ]);
        let [cert, key, ca] = ["tls.crt", "tls.key", "ca.crt"].map(|name| volume.name(name));
        let mut all = vec![
            ("transport.tls.enabled", "true"),
            ("transport.tls.cert_file", &cert),
            ("transport.tls.key_file", &key),
        ];
        if mutual {
            all.push(("transport.tls.client_ca_file", &ca));
        }
        all.extend(settings);
        let server = TestServer::with(&all).await;
        Self { authority, vouching, volume, server }
    }

    /// The files hold this pair from now on, and these authorities for clients.
    fn replace(&mut self, pair: &Pair, clients: &str) {
        self.volume.replace(&[
            ("tls.crt", &pair.cert),
            ("tls.key", &pair.key),
            ("ca.crt", clients),
            ("server-ca.crt", &self.authority.pem()),
        ]);
    }

    fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// A client of the library, which trusts the server.
    fn builder(&self) -> Builder {
        Client::builder(format!("https://{}", self.address()))
            .tls_ca_file(self.volume.path("server-ca.crt"))
            .tls_name("localhost")
    }

    /// A handshake; the stream, if the client's half of it went well.
    async fn handshake(&self, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        within("a handshake", TlsConnector::from(std::sync::Arc::new(config)).connect(name, socket)).await
    }

    /// Whether a client of this configuration is let in: what the server thinks of a certificate, it says only when the
    /// client believes that all went well.
    async fn admits(&self, config: ClientConfig) -> bool {
        let Ok(mut stream) = self.handshake(config).await else { return false };
        let mut first = [0];
        // The server's SETTINGS come without being asked for; an alert is an error.
        matches!(within("the server's settings", stream.read(&mut first)).await, Ok(1))
    }

    /// The certificate that is served now.
    async fn served(&self, config: &ClientConfig) -> rustls::pki_types::CertificateDer<'static> {
        // What was learnt from handshakes before must not make this one shorter.
        let mut config = config.clone();
        config.resumption = rustls::client::Resumption::disabled();
        let stream = self.handshake(config).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}
