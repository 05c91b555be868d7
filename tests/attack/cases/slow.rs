//! Peers that take their time: over their greeting, or over what they are sent.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bowline::proto::v1::{NewEvent, PublishBatchRequest, topic_service_client::TopicServiceClient};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::Verdict;
use crate::{
    admin::Admin,
    arena::{Arena, Kind, address},
    cases::messages::{conversation, hello, open},
    frames::{INITIAL_WINDOW_SIZE, PREFACE, settings, window_update},
    honest::Client,
    wire::{Wire, connect},
};

/// `registry.send_timeout`, and what its sweep, the polite end and a busy machine add.
const SEND_TIMEOUT: Duration = Duration::from_secs(15 + 5);
/// What those who do not read may cost, KiB.
const MOST_KIB: u64 = 8 << 10;
const STREAMS: u32 = 100;
const DEAF: u16 = 20;
/// Events of 8 KiB that each of the deaf is owed.
const OWED: usize = 250;
/// Sockets of each kind of slow greeting.
const SLOW: u16 = 1000;
/// Of those, how many have one address.
const OF_ADDRESS: u16 = 200;
/// How long a greeting may take in all.
const GREETING: Duration = Duration::from_secs(10);
/// How long a new client may take meanwhile: a second, and two more where the machine is busy with other tests.
const ENTRY: Duration = Duration::from_secs(1 + 2);
/// The longest that is waited for one.
const WATCHED: Duration = Duration::from_secs(12);

/// Pings of a client; the wait below which 99 of 100 lie.
async fn p99(client: &mut Client, pings: usize) -> Duration {
    let mut waits = Vec::new();
    for _ in 0..pings {
        waits.push(client.ping().await.expect("an answer"));
        sleep(Duration::from_millis(5)).await;
    }
    waits.sort_unstable();
    waits[pings * 99 / 100]
}

/// Conversations whose first word the server cannot get rid of.
pub async fn zero_window(arena: &Arena) -> Verdict {
    let mut honest = Client::connect(arena.server.address, "neighbour").await.expect("an honest client gets in");
    let usual = p99(&mut honest, 100).await;
    let mut wire = arena.greeted(1, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    let (before, begun) = (arena.weigh(), Instant::now());
    for number in 0..STREAMS {
        let stream = wire.stream();
        let name = format!("stuck-{number}");
        wire.send(&[conversation(stream), hello(stream, &name), open(stream, "room")].concat()).await;
    }
    let beside = p99(&mut honest, 200).await;
    let over = wire.wait(SEND_TIMEOUT, |seen| seen.ended() || (0..STREAMS).all(|n| seen.stream_over(2 * n + 1))).await;
    let (took, growth) = (begun.elapsed(), arena.peak_kib().saturating_sub(before));
    // Twice what it was; but how long a thread waits for a core, on a machine that is busy, is for the machine to say.
    let unharmed = beside <= (2 * usual).max(Duration::from_millis(500));
    let measured = format!(
        "{} after {:.1} s; RSS +{growth} KiB; p99 of another {:.1} ms, before {:.1} ms",
        if over { "ended" } else { "held" },
        took.as_secs_f64(),
        beside.as_secs_f64() * 1e3,
        usual.as_secs_f64() * 1e3,
    );
    Verdict::new(over && unharmed && growth <= MOST_KIB, measured)
}

/// Sessions whose events fill every buffer between us and a peer that never looks.
pub async fn deaf(arena: &Arena) -> Verdict {
    publish(arena.server.address).await;
    let (admin, before) = (Admin::of(&arena.server), arena.weigh());
    let (usual, begun) = (admin.metric("bowline_transports_active"), Instant::now());
    let mut deaf = Vec::new();
    for attacker in 1..=DEAF {
        let mut wire = Wire::deaf(arena.server.address, address(attacker)).await;
        let stream = wire.stream();
        let wide = [settings(&[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]), window_update(0, 0x7000_0000)].concat();
        let words = [conversation(stream), hello(stream, &format!("deaf-{attacker}")), open(stream, "prices")].concat();
        wire.send(&[PREFACE, &wide, &words].concat()).await;
        deaf.push(wire);
    }
    let mut gone = false;
    while !gone && begun.elapsed() < SEND_TIMEOUT {
        sleep(Duration::from_millis(500)).await;
        gone = admin.metric("bowline_transports_active") <= usual && begun.elapsed() > Duration::from_secs(2);
    }
    let (took, growth) = (begun.elapsed().as_secs_f64(), arena.peak_kib().saturating_sub(before));
    let measured = format!("{} after {took:.1} s; RSS +{growth} KiB", if gone { "given up" } else { "held" });
    Verdict::new(gone && growth <= MOST_KIB, measured)
}

async fn publish(server: SocketAddr) {
    let mut topics = TopicServiceClient::connect(format!("http://{server}")).await.unwrap();
    let event = NewEvent { payload: vec![7; 8 << 10].into(), ..NewEvent::default() };
    let events = vec![event; OWED];
    let request = PublishBatchRequest { topic: "prices".to_owned(), events };
    assert_eq!(topics.publish_batch(request).await.unwrap().into_inner().failure, None);
}

/// Says something, then waits for the other side to hang up; how long that took, if it did.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S, words: &[u8], dribble: &[u8]) -> Option<Duration> {
    let begun = Instant::now();
    let gone = async {
        let (mut heard, mut rest) = ([0; 1024], dribble.iter());
        // What is said to one who has hung up is his affair.
        drop(socket.write_all(words).await);
        loop {
            match timeout(Duration::from_secs(1), socket.read(&mut heard)).await {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(_)) => {}
                Err(_) => {
                    if let Some(byte) = rest.next() {
                        drop(socket.write_all(&[*byte]).await);
                    }
                }
            }
        }
    };
    timeout(WATCHED, gone).await.ok().map(|()| begun.elapsed())
}

/// What came of all the slow ones.
async fn outcome(slow: JoinSet<io::Result<Option<Duration>>>, newcomer: Option<Duration>) -> Verdict {
    let ends = slow.join_all().await;
    let count = ends.len();
    let failed = ends.iter().filter(|end| end.is_err()).count();
    let lives: Vec<Duration> = ends.into_iter().filter_map(|end| end.ok().flatten()).collect();
    let longest = lives.iter().max().copied().unwrap_or_default();
    let left = count - failed - lives.len();
    let measured = format!(
        "{count} sockets, {failed} not accepted, {left} left after {WATCHED:?}, the longest of the others {:.1} s; a new client {}",
        longest.as_secs_f64(),
        newcomer.map_or_else(|| "not in".to_owned(), |wait| format!("in after {} ms", wait.as_millis())),
    );
    // A busy machine may look at a clock a little late, and has others to serve.
    let in_time = left == 0 && longest <= GREETING + Duration::from_secs(1);
    Verdict::new(in_time && failed == 0 && newcomer.is_some_and(|wait| wait <= ENTRY), measured)
}

/// Without TLS: four phases, and a thousand peers in each.
pub async fn handshakes(arena: &Arena) -> Verdict {
    let greeting: &[u8] = &[PREFACE, &settings(&[])].concat();
    let greeting: Arc<[u8]> = greeting.into();
    let phases = [0..0, 0..12, 0..PREFACE.len(), 0..1];
    let mut slow = JoinSet::new();
    for (phase, words) in (0..).zip(phases) {
        for number in 0..SLOW {
            let from = address(1 + phase * 256 + number / OF_ADDRESS);
            let (to, greeting, words) = (arena.server.address, greeting.clone(), words.clone());
            slow.spawn(async move {
                let dribble = if words.len() == 1 { &greeting[1..] } else { &[] };
                Ok(linger(connect(to, from).await?, &greeting[words], dribble).await)
            });
        }
        // No faster than the queue of what is not yet accepted can be worked off.
        sleep(Duration::from_millis(200)).await;
    }
    sleep(Duration::from_secs(1)).await;
    let newcomer = arena.newcomer(if arena.kind == Kind::Stock { WATCHED } else { GREETING }).await;
    outcome(slow, newcomer).await
}

/// With TLS: half of the first word, and all of it but nothing after.
pub async fn tls_handshakes(arena: &Arena) -> Verdict {
    let config = tls(arena);
    let name = ServerName::try_from("localhost").unwrap();
    let mut word = Vec::new();
    ClientConnection::new(config.clone(), name.clone()).unwrap().write_tls(&mut word).unwrap();
    word.truncate(word.len() / 2);
    let (word, connector): (Arc<[u8]>, _) = (word.into(), TlsConnector::from(config));
    let mut slow = JoinSet::new();
    for number in 0..SLOW {
        let (to, from) = (arena.server.address, address(1 + number / OF_ADDRESS));
        let (word, connector, name) = (word.clone(), connector.clone(), name.clone());
        slow.spawn(async move {
            let begun = Instant::now();
            let socket = connect(to, from).await?;
            // Handshakes cost both sides; one in five is enough to see what comes of them.
            if number % 5 > 0 {
                return Ok(linger(socket, &word, &[]).await);
            }
            let socket = connector.connect(name, socket).await?;
            Ok(linger(socket, &[], &[]).await.map(|_| begun.elapsed()))
        });
    }
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let newcomer = async {
        let socket = connect(arena.server.address, address(9999)).await?;
        let mut socket = connector.connect(name, socket).await?;
        socket.write_all(&[PREFACE, &settings(&[])].concat()).await?;
        socket.read_u8().await
    };
    let answered = timeout(GREETING, newcomer).await.is_ok_and(|answer| answer.is_ok());
    let newcomer = answered.then(|| begun.elapsed());
    outcome(slow, newcomer).await
}

/// A client that trusts the server's certificate.
fn tls(arena: &Arena) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(arena.certificate()).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
