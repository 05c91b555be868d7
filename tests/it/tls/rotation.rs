//! Certificates that are replaced while clients are connected.

use std::time::Duration;

use bowline::{
    client::{Backoff, Client, Item, NewEvent, Open, Session, Status},
    proto::v1::{DisconnectRequest, connection_service_client::ConnectionServiceClient, disconnect_request::Target},
};
use futures_util::{StreamExt as _, future::join_all};
use tokio::time::{Instant, sleep};

use super::Secured;
use crate::{
    pki::{Authority, Pair, Volume},
    support::{eventually, within},
};

/// How long a new certificate may take to be served.
const SERVED_WITHIN: Duration = Duration::from_secs(15);

/// A client with a session, and how it has stood with the server since.
struct Held {
    client: Client,
    session: Session,
    status: tokio::sync::watch::Receiver<Status>,
}

impl Held {
    async fn connect(secured: &Secured, files: &Volume, number: usize) -> Self {
        let builder = secured.builder().tls_identity_files(files.path("client.crt"), files.path("client.key"));
        let builder = builder.client_id(format!("held-{number}")).connect_timeout(Duration::from_secs(20));
        let client = within("a connection", builder.connect()).await.unwrap();
        let mut status = client.status();
        status.borrow_and_update();
        let mut session = within("a session", client.open(Open::topic("t"))).await.unwrap();
        assert!(matches!(within("the session", session.next()).await, Some(Item::Opened(_))));
        Self { client, session, status }
    }

    /// The next event is this one, and the connection is the one that it was.
    async fn hears(&mut self, payload: &str) {
        match within("an event", self.session.next()).await {
            Some(Item::Event(received)) => assert_eq!(received.event.payload, payload.as_bytes()),
            other => panic!("{other:?}"),
        }
        assert!(!self.status.has_changed().unwrap(), "{:?}", *self.status.borrow());
    }
}

/// Publishes, and sees that everybody hears it.
async fn everybody_hears(secured: &Secured, all: &mut [Held], payload: &str) {
    let event = NewEvent { payload: payload.to_owned().into_bytes().into(), ..NewEvent::default() };
    let receipt = all[0].session.publish(event).await.unwrap();
    within("a receipt", receipt).await.unwrap();
    join_all(all.iter_mut().map(|held| held.hears(payload))).await;
    assert_eq!(secured.server.sample("bowline_connections_opened_total"), all.len() as f64, "somebody came back");
    assert_eq!(secured.server.connections(), all.len());
}

/// Waits until a handshake shows this certificate; how long it took.
async fn served(secured: &Secured, own: &Pair, pair: &Pair) -> Duration {
    let (begun, config) = (Instant::now(), secured.authority.client(Some(own)));
    while secured.served(&config).await != pair.der {
        assert!(begun.elapsed() < SERVED_WITHIN, "the new certificate is not served");
        sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

/// `BOWLINE_TLS_SESSIONS` is how many sessions are held; where it is set, the files are looked at as often as by default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_are_connected_stay_while_certificates_and_authorities_are_replaced() {
    let sessions: Option<usize> = std::env::var("BOWLINE_TLS_SESSIONS").ok().map(|count| count.parse().unwrap());
    let quick = [("transport.tls.reload_interval", "200ms")];
    let many = [("registry.max_connections", "20000"), ("registry.max_opens_per_second", "0")];
    let settings: Vec<_> = if sessions.is_some() { many.to_vec() } else { [&quick[..], &many].concat() };
    let mut secured = Secured::start(true, &settings).await;
    let own = secured.vouching.workload("reader");
    let files = Volume::new(&[("client.crt", &own.cert), ("client.key", &own.key)]);
    let mut all = Vec::new();
    for number in 0..sessions.unwrap_or(32) {
        all.push(Held::connect(&secured, &files, number).await);
    }
    everybody_hears(&secured, &mut all, "before").await;

    let mut pair = secured.authority.server();
    for rotation in 1..=3 {
        pair = secured.authority.server();
        let authorities = secured.vouching.pem();
        secured.replace(&pair, &authorities);
        let took = served(&secured, &own, &pair).await;
        println!("{} sessions: certificate {rotation} served after {took:?}", all.len());
        everybody_hears(&secured, &mut all, &format!("rotation {rotation}")).await;
        assert_eq!(secured.server.sample("bowline_tls_reloads_total{outcome=\"loaded\"}"), f64::from(rotation));
    }

    // First both authorities, then the new one alone.
    let next = Authority::new("clients of tomorrow");
    let tomorrow = next.workload("reader");
    secured.replace(&pair, &format!("{}{}", secured.vouching.pem(), next.pem()));
    let begun = Instant::now();
    while !secured.admits(secured.authority.client(Some(&tomorrow))).await {
        assert!(begun.elapsed() < SERVED_WITHIN, "the new authority is not trusted");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(secured.admits(secured.authority.client(Some(&own))).await, "the old one still is");
    secured.replace(&pair, &next.pem());
    let begun = Instant::now();
    while secured.admits(secured.authority.client(Some(&own))).await {
        assert!(begun.elapsed() < SERVED_WITHIN, "the old authority is still trusted");
        sleep(Duration::from_millis(20)).await;
    }
    println!("{} sessions: old authority refused after {:?}", all.len(), begun.elapsed());
    everybody_hears(&secured, &mut all, "authorities").await;

    join_all(all.into_iter().map(|held| async move { held.client.close().await })).await;
    secured.server.emptied().await;
    secured.server.leave().await;
}

#[tokio::test]
async fn a_bad_pair_changes_nothing_but_metrics() {
    let mut secured = Secured::start(true, &[("transport.tls.reload_interval", "50ms")]).await;
    let own = secured.vouching.workload("reader");
    let config = secured.authority.client(Some(&own));
    let files = Volume::new(&[("client.crt", &own.cert), ("client.key", &own.key)]);
    let mut all = vec![Held::connect(&secured, &files, 0).await];
    let before = secured.served(&config).await;
    let authorities = secured.vouching.pem();
    let (one, other) = (secured.authority.server(), secured.authority.server());
    let mixed = || Pair { der: one.der.clone(), cert: one.cert.clone(), key: other.key.clone() };
    let refused = "bowline_tls_reloads_total{outcome=\"refused\"}";
    for (round, (pair, authorities)) in [
        (&mixed(), &*authorities),
        (&Pair { key: "nothing".to_owned(), ..mixed() }, &authorities),
        (&one, "no authority"),
    ]
    .into_iter()
    .enumerate()
    {
        secured.replace(pair, authorities);
        eventually("it is refused", || secured.server.sample(refused) == (round + 1) as f64).await;
        assert_eq!(secured.server.sample("bowline_tls_files_refused"), 1.0);
        assert_eq!(secured.served(&config).await, before);
        assert!(secured.admits(config.clone()).await);
        everybody_hears(&secured, &mut all, &round.to_string()).await;
    }
    assert_eq!(secured.server.sample("bowline_tls_reloads_total{outcome=\"loaded\"}"), 0.0);

    secured.replace(&one, &authorities);
    served(&secured, &own, &one).await;
    eventually("it is in order", || secured.server.sample("bowline_tls_files_refused") == 0.0).await;
    everybody_hears(&secured, &mut all, "after").await;
    drop(all);
    secured.server.emptied().await;
    secured.server.leave().await;
}

#[tokio::test]
async fn the_ends_of_certificates_are_known_to_operators() {
    let secured = Secured::start(true, &[]).await;
    // What rcgen makes lasts until the year 4096.
    let end = 67_090_118_400.0;
    for whose in ["server", "client_ca"] {
        let name = format!("bowline_tls_not_after_seconds{{certificate=\"{whose}\"}}");
        eventually("it is told", || secured.server.sample(&name) == end).await;
    }
    secured.server.leave().await;
}

/// A client whose own files change is who they say with its next connection.
#[tokio::test]
async fn a_client_reads_its_own_certificate_anew_for_each_connection() {
    let mut secured = Secured::start(true, &[("transport.tls.reload_interval", "50ms")]).await;
    let own = secured.vouching.workload("reader");
    let mut files = Volume::new(&[("client.crt", &own.cert), ("client.key", &own.key)]);
    let (first, max) = (Duration::from_millis(5), Duration::from_millis(50));
    let builder = secured.builder().tls_identity_files(files.path("client.crt"), files.path("client.key"));
    let builder = builder.client_id("mover").backoff(Backoff { first, max, ..Backoff::default() });
    let client = within("a connection", builder.connect()).await.unwrap();
    let next = Authority::new("clients of tomorrow");
    let pair = secured.authority.server();
    secured.replace(&pair, &next.pem());
    let tomorrow = next.workload("reader");
    files.replace(&[("client.crt", &tomorrow.cert), ("client.key", &tomorrow.key)]);
    served(&secured, &tomorrow, &pair).await;
    assert!(!secured.admits(secured.authority.client(Some(&own))).await);

    let opened = || secured.server.sample("bowline_connections_opened_total");
    let builder = secured.builder().tls_identity_files(files.path("client.crt"), files.path("client.key"));
    let mut operator = ConnectionServiceClient::new(builder.channel().await.unwrap());
    operator.disconnect(DisconnectRequest { target: Some(Target::ClientId("mover".to_owned())) }).await.unwrap();
    eventually("it is back", || opened() == 2.0 && secured.server.connections() == 1).await;
    client.close().await;
    secured.server.leave().await;
}
