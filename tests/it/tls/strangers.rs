//! Peers that are not who they should be, or that say too little.

use std::{process::Stdio, sync::Arc, time::Duration};

use bowline::client::ErrorKind;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, pki_types::ServerName, version};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    time::Instant,
};

use super::Secured;
use crate::{
    pki::{Authority, Pair, Volume},
    support::{eventually, within},
};

#[tokio::test]
async fn only_clients_of_our_authorities_are_let_in() {
    let secured = Secured::start(true, &[]).await;
    let (ours, theirs) = (secured.vouching.workload("reader"), Authority::new("clients").workload("reader"));
    let mut ended = rcgen::CertificateParams::default();
    ended.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let own = ended.self_signed(&key).unwrap();
    let own = Pair { der: own.der().clone(), cert: own.pem(), key: key.serialize_pem() };
    for (certificate, admitted) in [(None, false), (Some(&theirs), false), (Some(&own), false), (Some(&ours), true)] {
        assert_eq!(secured.admits(secured.authority.client(certificate)).await, admitted);
    }
    assert_eq!(secured.server.sample("bowline_handshakes_failed_total{cause=\"tls_failed\"}"), 3.0);
    let without = secured.builder().connect();
    let error = within("a refusal", without).await.expect_err("it was let in");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    secured.server.leave().await;
}

#[tokio::test]
async fn a_client_may_do_without_a_certificate_where_that_is_allowed_but_not_with_a_wrong_one() {
    let secured = Secured::start(true, &[("transport.tls.client_cert", "optional")]).await;
    let (ours, theirs) = (secured.vouching.workload("reader"), Authority::new("clients").workload("reader"));
    for (certificate, admitted) in [(None, true), (Some(&theirs), false), (Some(&ours), true)] {
        assert_eq!(secured.admits(secured.authority.client(certificate)).await, admitted);
    }
    secured.server.leave().await;
}

/// Resuming would outlive the authority: what a ticket stands for is not verified again.
#[tokio::test]
async fn nobody_resumes_where_certificates_are_asked_for() {
    for mutual in [false, true] {
        let secured = Secured::start(mutual, &[("transport.tls.min_version", "1.2")]).await;
        let own = mutual.then(|| secured.vouching.workload("reader"));
        for only in [&version::TLS13, &version::TLS12] {
            let config = secured.authority.client_speaking(&[only], own.as_ref());
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let mut stream = secured.handshake(config.clone()).await.unwrap();
                // Tickets come with the first bytes.
                within("the server's settings", stream.read(&mut [0; 64])).await.unwrap();
                kinds.push(stream.get_ref().1.handshake_kind().unwrap());
            }
            let second = if mutual { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(kinds, [HandshakeKind::Full, second], "mutual: {mutual}, {only:?}");
        }
        secured.server.leave().await;
    }
}

#[tokio::test]
async fn the_old_version_is_spoken_only_where_it_is_allowed() {
    for (oldest, admitted) in [("1.3", false), ("1.2", true)] {
        let secured = Secured::start(false, &[("transport.tls.min_version", oldest)]).await;
        let old = secured.authority.client_speaking(&[&version::TLS12], None);
        assert_eq!(secured.admits(old).await, admitted, "{oldest}");
        assert!(secured.admits(secured.authority.client(None)).await);
        secured.server.leave().await;
    }
}

#[tokio::test]
async fn who_does_not_speak_http_2_over_tls_is_sent_away_at_once() {
    let secured = Secured::start(false, &[("transport.tls_timeout", "15s")]).await;
    let begun = Instant::now();
    for offered in [vec![], vec![b"http/1.1".to_vec()], vec![b"http/1.1".to_vec(), b"h3".to_vec()]] {
        let mut config = secured.authority.client(None);
        config.alpn_protocols = offered.clone();
        assert!(!secured.admits(config).await, "{offered:?}");
    }
    for plain in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let mut socket = TcpStream::connect(secured.address()).await.unwrap();
        socket.write_all(plain.as_bytes()).await.unwrap();
        // An alert, perhaps; then the end, whatever way it comes.
        within("the end", socket.read_to_end(&mut Vec::new())).await.ok();
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let failed = || secured.server.sample("bowline_handshakes_failed_total{cause=\"tls_failed\"}");
    eventually("each is counted", || failed() == 5.0).await;
    assert!(secured.admits(secured.authority.client(None)).await);
    secured.server.leave().await;
}

/// The first bytes of a handshake.
fn hello(config: ClientConfig) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_who_stop_in_the_middle_keep_nobody_out_and_are_gone_in_time() {
    let settings = [("transport.tls_timeout", "3s"), ("transport.max_tls_handshakes", "2")];
    let secured = Secured::start(true, &settings).await;
    let own = secured.vouching.workload("reader");
    let config = secured.authority.client(Some(&own));
    let hello = hello(config.clone());
    let mut silent = Vec::new();
    for said in [&hello[..0], &hello[..1], &hello[..hello.len() / 2], &hello[..]] {
        for _ in 0..100 {
            let mut socket = TcpStream::connect(secured.address()).await.unwrap();
            socket.write_all(said).await.unwrap();
            silent.push(socket);
        }
    }
    let begun = Instant::now();
    assert!(secured.admits(config.clone()).await);
    assert!(begun.elapsed() < Duration::from_secs(1), "an honest client waited {:?}", begun.elapsed());
    let timed_out = || secured.server.sample("bowline_handshakes_failed_total{cause=\"tls_timeout\"}");
    eventually("they are gone", || timed_out() == silent.len() as f64).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(secured.admits(config).await);
    secured.server.leave().await;
}

/// A `bowline` command, as a process.
fn bowline(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn commands_show_the_certificate_they_are_given() {
    let secured = Secured::start(true, &[]).await;
    let own = secured.vouching.workload("reader");
    let files = Volume::new(&[("client.crt", &own.cert), ("client.key", &own.key)]);
    let (server, ca) =
        (format!("https://localhost:{}", secured.address().port()), secured.volume.name("server-ca.crt"));
    let (cert, key) = (files.name("client.crt"), files.name("client.key"));
    let probe = ["probe", "--server", &server, "--ca-file", &ca];
    let shown = [&probe[..], &["--cert-file", &cert, "--key-file", &key]].concat();
    let by_environment = [("BOWLINE_CERT_FILE", cert.as_str()), ("BOWLINE_KEY_FILE", key.as_str())];
    // That it is refused, a client of TLS 1.3 may hear only with its first call.
    for (arguments, variables, codes) in [
        (&probe[..], &[][..], 2..=3),
        (&shown, &[], 0..=0),
        (&probe, &by_environment, 0..=0),
        // One without the other.
        (&shown[..7], &[], 1..=1),
    ] {
        let output = within("a probe", bowline(arguments, variables).output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code().expect("an exit code");
        assert!(codes.contains(&code), "{code}: {arguments:?} {variables:?}: {said}");
    }
    secured.server.leave().await;
}

#[tokio::test]
async fn a_server_whose_key_everybody_can_read_does_not_start_and_says_why() {
    let pair = Authority::new("servers").server();
    let files = Volume::new(&[("tls.crt", &pair.cert), ("tls.key", &pair.key)]);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(files.path("tls.key"), open).unwrap();
    let settings = [
        ("BOWLINE__TRANSPORT__LISTEN", "127.0.0.1:0".to_owned()),
        ("BOWLINE__ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
        ("BOWLINE__TRANSPORT__TLS__ENABLED", "true".to_owned()),
        ("BOWLINE__TRANSPORT__TLS__CERT_FILE", files.name("tls.crt")),
        ("BOWLINE__TRANSPORT__TLS__KEY_FILE", files.name("tls.key")),
    ];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let output = within("the end", bowline(&["serve"], &settings).output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("everybody on this machine may read or replace the private key in"), "{said}");
}
