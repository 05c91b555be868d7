//! The same over TLS.

#[path = "../../../tests/support/pki.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests of the whole server")]
mod pki;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use self::pki::{Authority, Pair, Volume};
use super::*;
use crate::types::Nameless;

fn secured(volume: &Volume) -> Config {
    let (cert_file, key_file) = (volume.path("tls.crt"), volume.path("tls.key"));
    Config { tls: TlsConfig { enabled: true, cert_file, key_file, ..TlsConfig::default() }, ..Config::default() }
}

/// The files of a server, and who signed its certificate.
fn files() -> (Volume, Authority) {
    let authority = Authority::new("servers");
    let pair = authority.server();
    (Volume::new(&[("tls.crt", &pair.cert), ("tls.key", &pair.key)]), authority)
}

fn connector(authority: &Authority, own: Option<&Pair>) -> TlsConnector {
    TlsConnector::from(Arc::new(authority.client(own)))
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

#[tokio::test]
async fn a_peer_that_reads_slowly_gets_everything_in_order() {
    let (volume, authority) = files();
    let mut server = Server::start(secured(&volume));
    let socket = connector(&authority, None).connect(localhost(), narrow(&server).await).await.unwrap();
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    flood(&mut server, socket).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_or_something_else_is_dropped() {
    let (volume, _) = files();
    let server = Server::start(Config { tls_timeout: 80 * MILLI, ..secured(&volume) });
    let _silent = server.connect().await;
    let mut plain = server.connect().await;
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    server.ended("tls_timeout").await;
    server.ended("tls_failed").await;
}

#[tokio::test]
async fn what_the_certificate_of_a_client_says_goes_with_its_calls() {
    let (volume, authority) = files();
    let vouching = Authority::new("clients");
    let more = Volume::new(&[("ca.crt", &vouching.pem())]);
    let mut config = secured(&volume);
    config.tls.client_ca_file = more.path("ca.crt");
    config.tls.client_cert = ClientCert::Optional;
    let mut server = Server::start(config);
    let (named, nameless) = (vouching.workload("ns/chat/sa/web"), vouching.sign(&[]));
    let id = "spiffe://bowline.test/ns/chat/sa/web";
    for (own, expected) in [(None, None), (Some(&named), Some(Ok(id))), (Some(&nameless), Some(Err(Nameless::Missing)))]
    {
        let socket = server.connect().await;
        let socket = connector(&authority, own).connect(localhost(), socket).await.unwrap();
        let (client, _connection) = server.speak(socket, 1 << 16).await;
        let _answer = get(&client, "/open").await.unwrap();
        let call = server.calls.recv().await.unwrap();
        let identity = call.transport.peer_identity;
        let name = identity.as_ref().map(|identity| identity.name.as_deref().map_err(|why| *why));
        assert_eq!(name, expected);
        assert!(identity.is_none_or(|identity| identity.not_after > crate::types::Timestamp::now()));
    }
}
