//! Key sets behind a URL: rotation, outage, and a server that means harm.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bowline::lifecycle::Tasks;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::{CHAT, Files, bearer, enter, issuer, jwt, list, reason};
use crate::{
    support::{TestServer, eventually, get},
    tokens::{Signer, claims, key_set},
};

/// What the server of keys answers.
#[derive(Clone)]
enum Answer {
    Set(String),
    /// Something else altogether, head and all.
    Raw(String),
    Late,
    Endless,
}

/// A server of keys on loopback, with a certificate of its own authority.
struct KeyServer {
    address: std::net::SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    async fn start(files: &Files, answer: Answer) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        files.write("ca.pem", &cert.pem());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let (tls, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (address, answer) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(answer)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answering, counting) = (answer.clone(), asked.clone());
        drop(Tasks::default().spawn("key server", async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut stream) = tls.accept(socket).await else { continue };
                counting.fetch_add(1, Ordering::SeqCst);
                let mut head = [0; 1024];
                drop(stream.read(&mut head).await);
                let answer = answering.lock().clone();
                let text = match answer {
                    Answer::Set(set) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{set}", set.len()),
                    Answer::Raw(text) => text,
                    Answer::Late => {
                        sleep(Duration::from_secs(3)).await;
                        continue;
                    }
                    Answer::Endless => {
                        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                        drop(stream.write_all(head.as_bytes()).await);
                        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
                        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
                        continue;
                    }
                };
                drop(stream.write_all(text.as_bytes()).await);
                drop(stream.shutdown().await);
            }
        }));
        Self { address, answer, asked }
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn client(&self, files: &Files) -> TestServer {
        let url = format!("https://localhost:{}/keys", self.address.port());
        let keys = format!("jwks_url = {url:?}, jwks_ca_file = {:?}", files.path("ca.pem"));
        jwt(&issuer("ES256", &keys), CHAT, &[]).await
    }
}

async fn ready(server: &TestServer) -> bool {
    get(server.admin, "/readyz", "").await.status == 200
}

async fn becomes_ready(server: &TestServer) {
    let begun = tokio::time::Instant::now();
    while !ready(server).await {
        assert!(begun.elapsed() < Duration::from_secs(20), "never ready");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_key_that_a_token_names_is_fetched_once_for_all_and_no_sooner_than_after_ten_seconds() {
    let files = Files::new();
    let (old, new) = (Signer::new("ES256", Some("old")), Signer::new("ES256", Some("new")));
    let keys = KeyServer::start(&files, Answer::Set(key_set(&[&old]))).await;
    let server = keys.client(&files).await;
    becomes_ready(&server).await;
    let show = async |signer: &Signer| {
        let token = bearer(&signer.sign(&claims("alice", json!({}))));
        reason(&list(&server, &[("authorization", &token)]).await)
    };
    assert_eq!((show(&old).await.as_str(), keys.asked()), ("OK", 1));
    // The keys have changed, and it is too early to ask again: however many names are made up.
    keys.set(Answer::Set(key_set(&[&old, &new])));
    for _ in 0..200 {
        assert_eq!(show(&new).await, "TOKEN_INVALID");
    }
    assert_eq!(keys.asked(), 1);
    sleep(Duration::from_secs(10)).await;
    // All at once: one fetch for all of them, and none is refused.
    let tokens: Vec<_> = (0..20).map(|_| new.sign(&claims("alice", json!({})))).collect();
    let entered = tokens.iter().map(|token| enter(&server, token));
    let clients = futures_util::future::join_all(entered).await;
    assert_eq!((clients.len(), keys.asked()), (20, 2));
    assert_eq!(show(&old).await, "OK");
    server.leave().await;
}

#[tokio::test]
async fn without_keys_a_server_is_not_ready_and_when_they_are_lost_it_stays_so() {
    let files = Files::new();
    let signer = Signer::new("ES256", Some("a"));
    let redirect = "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n".to_owned();
    let keys = KeyServer::start(&files, Answer::Raw(redirect)).await;
    let server = keys.client(&files).await;
    eventually("it was asked", || keys.asked() > 0).await;
    assert!(!ready(&server).await, "a redirect is not followed");
    let token = signer.sign(&claims("alice", json!({})));
    assert_eq!(reason(&list(&server, &[("authorization", &bearer(&token))]).await), "TOKEN_INVALID");
    keys.set(Answer::Set(key_set(&[&signer])));
    becomes_ready(&server).await;
    enter(&server, &token).await;
    keys.set(Answer::Raw("HTTP/1.1 503 Down\r\ncontent-length: 0\r\n\r\n".to_owned()));
    enter(&server, &token).await;
    assert!(ready(&server).await);
    server.leave().await;
}

#[tokio::test]
async fn a_server_of_keys_that_is_slow_endless_or_talks_nonsense_costs_a_second() {
    let files = Files::new();
    let nonsense = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<ht>".to_owned();
    for answer in [Answer::Late, Answer::Endless, Answer::Raw(nonsense), Answer::Set("{\"keys\": []}".to_owned())] {
        let keys = KeyServer::start(&files, answer).await;
        let server = keys.client(&files).await;
        let page = async || get(server.admin, "/readyz?verbose", "").await.body;
        let begun = tokio::time::Instant::now();
        while !page().await.contains("could not be fetched") {
            assert!(begun.elapsed() < Duration::from_secs(10), "{}", page().await);
            sleep(Duration::from_millis(20)).await;
        }
        assert!(!ready(&server).await);
        server.leave().await;
    }
}
