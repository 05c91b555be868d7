//! The same over TLS.

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::*;

fn secured(dir: &tempfile::TempDir) -> (Config, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert_file, made.cert.pem()).unwrap();
    std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsConfig { enabled: true, cert_file, key_file };
    (Config { tls, ..Config::default() }, TlsConnector::from(Arc::new(client)))
}

#[tokio::test]
async fn a_peer_that_reads_slowly_gets_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (config, connector) = secured(&dir);
    let mut server = Server::start(config);
    let name = ServerName::try_from("localhost").unwrap();
    let socket = connector.connect(name, narrow(&server).await).await.unwrap();
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    flood(&mut server, socket).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_or_something_else_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _) = secured(&dir);
    let server = Server::start(Config { tls_timeout: 80 * MILLI, ..config });
    let _silent = server.connect().await;
    let mut plain = server.connect().await;
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    server.ended("tls_timeout").await;
    server.ended("tls_failed").await;
}
