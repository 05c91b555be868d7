//! Two replicas that share their topics over a NATS server.

mod access;
mod fleet;
mod losses;
mod sessions;
mod synced;

use std::time::Duration;

use bowline::proto::v1::{Durability, OpenSession, ReadHistoryRequest, Recovery};
use tokio::time::{Instant, sleep};

use crate::{
    nats::NatsServer,
    support::{LIMIT, Settings, TestClient, TestServer, after, earliest, eventually, get, named, payloads, publish},
};

async fn replica(nats: &NatsServer) -> TestServer {
    replica_with(nats, &[]).await
}

/// What replicas over that server are started with.
pub(crate) fn settings(nats: &NatsServer) -> Vec<(&'static str, String)> {
    let fixed = [
        ("broker.kind", "nats"),
        ("broker.nats.replicas", "1"),
        ("broker.nats.partitions", "2"),
        ("broker.nats.check_interval", "500ms"),
        ("health.canary_interval", "200ms"),
        ("health.canary_timeout", "1s"),
    ];
    let servers = ("broker.nats.servers", format!("[\"{}\"]", nats.url()));
    fixed.map(|(key, value)| (key, value.to_owned())).into_iter().chain([servers]).collect()
}

/// A replica with other settings than all these tests have.
pub(crate) async fn replica_with(nats: &NatsServer, own: Settings<'_>) -> TestServer {
    let shared = settings(nats);
    let shared: Vec<_> = shared.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let server = TestServer::with(&[&shared, own].concat()).await;
    ready(&server, 200).await;
    server
}

/// Waits until the server is ready, or is not.
async fn ready(server: &TestServer, wanted: u16) {
    let begun = Instant::now();
    while get(server.admin, "/readyz", "").await.status != wanted {
        assert!(begun.elapsed() < LIMIT, "/readyz is never {wanted}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn connect(server: &TestServer, client: &str) -> TestClient {
    server.connect(client).await.of_shared_topics()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_at_one_replica_is_read_at_the_other() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two) = (replica(&nats).await, replica(&nats).await);
    let (mut alice, mut bob) = (connect(&one, "alice").await, connect(&two, "bob").await);
    let (mut here, mut there) = (connect(&one, "here").await, connect(&two, "there").await);
    for client in [&mut alice, &mut bob, &mut here, &mut there] {
        client.open(named(1, "chat.room", "desk")).await;
    }
    let said = alice.publish(publish(1, 1, "hello")).await;
    assert!(said.failure.is_none() && !said.duplicate, "{said:?}");
    assert_eq!((said.durability(), said.through_seq), (Durability::Accepted, 1), "one NATS server has it");
    bob.publish(publish(1, 1, "hi")).await;
    one.store("chat.room", &["by the way"]).await;
    for reader in [&mut here, &mut there] {
        assert_eq!(payloads(&reader.events(1, 3).await), ["hello", "hi", "by the way"]);
    }
    assert_eq!(here.cursor(1), there.cursor(1));
    let history = ReadHistoryRequest { topic: "chat.room".to_owned(), ..ReadHistoryRequest::default() };
    // A replica where nobody has asked for the topic.
    let three = replica(&nats).await;
    let read = three.topics().await.read_history(history).await.unwrap().into_inner();
    assert_eq!(payloads(&read.events), ["hello", "hi", "by the way"]);
    for server in [one, two, three] {
        server.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_the_history_of_a_topic_without_events_comes_to_its_end() {
    let Some(nats) = NatsServer::start().await else { return };
    let server = replica(&nats).await;
    // Some of them are in its stream.
    for n in 0..8 {
        server.store(&format!("other.{n}"), &["x"]).await;
    }
    let mut client = connect(&server, "alice").await;
    client.open(named(1, "quiet", "desk")).await;
    let history = ReadHistoryRequest { topic: "quiet".to_owned(), ..ReadHistoryRequest::default() };
    let read = server.topics().await.read_history(history).await.unwrap().into_inner();
    assert!(read.events.is_empty() && read.head.is_some_and(|head| head.offset > 0), "{read:?}");
    assert_eq!(read.next, read.head);
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_at_another_replica_and_nothing_is_lost_or_doubled() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two) = (replica(&nats).await, replica(&nats).await);
    let (mut publisher, mut reader) = (connect(&one, "alice").await, connect(&one, "bob").await);
    publisher.open(named(1, "t", "desk")).await;
    reader.open(OpenSession { start: earliest(), ..named(1, "t", "reader") }).await;
    for seq in 1..=3 {
        publisher.publish(publish(1, seq, seq.to_string())).await;
    }
    assert_eq!(payloads(&reader.events(1, 3).await), ["1", "2", "3"]);
    let cursor = reader.cursor(1);
    publisher.publish(publish(1, 4, "4")).await;
    let last = publisher.publish(publish(1, 5, "5")).await.cursor;
    publisher.sever();
    reader.sever();
    one.store("t", &["6", "7"]).await;

    let (mut publisher, mut reader) = (connect(&two, "alice").await, connect(&two, "bob").await);
    let opened = reader.open(OpenSession { start: after(cursor), ..named(1, "t", "reader") }).await;
    assert_eq!(opened.recovery(), Recovery::Full);
    assert_eq!(payloads(&reader.events(1, 4).await), ["4", "5", "6", "7"]);
    assert_eq!(publisher.open(named(1, "t", "desk")).await.published_seq, 5, "what the session has published is known");
    let again = publisher.publish(publish(1, 5, "5")).await;
    assert_eq!((again.duplicate, again.cursor), (true, last));
    assert!(publisher.publish(publish(1, 6, "8")).await.failure.is_none());
    assert_eq!(payloads(&reader.events(1, 1).await), ["8"]);
    one.leave().await;
    two.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_its_broker_is_not_ready_and_goes_on_when_it_is_back() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let server = replica(&nats).await;
    let mut client = connect(&server, "alice").await;
    client.open(named(1, "t", "desk")).await;
    client.publish(publish(1, 1, "before")).await;
    nats.kill();
    ready(&server, 503).await;
    let waiting = client.ask(publish(1, 2, "meanwhile")).await;
    nats.run().await;
    let answer = client.answer(waiting).await;
    assert!(answer.failure.is_none() && !answer.duplicate, "{answer:?}");
    ready(&server, 200).await;
    let mut reader = connect(&server, "bob").await;
    reader.open(OpenSession { start: earliest(), ..named(1, "t", "reader") }).await;
    assert_eq!(payloads(&reader.events(1, 2).await), ["before", "meanwhile"]);
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_cannot_be_used_stops_the_start_with_a_sentence() {
    let Some(nats) = NatsServer::start().await else { return };
    replica(&nats).await.leave().await;
    let servers = format!("[\"{}\"]", nats.url());
    let other = [
        ("broker.kind", "nats"),
        ("broker.nats.servers", &*servers),
        ("broker.nats.replicas", "1"),
        ("broker.nats.partitions", "2"),
        ("broker.nats.max_age", "2h"),
    ];
    let said = TestServer::refused_start(&other).await;
    assert!(
        said.contains("cannot use the broker") && said.contains("bowline-L0") && said.contains("max_age"),
        "{said}"
    );
    let nobody = [
        ("broker.kind", "nats"),
        ("broker.nats.servers", "[\"nats://127.0.0.1:1\"]"),
        ("broker.nats.start_timeout", "300ms"),
    ];
    let said = TestServer::refused_start(&nobody).await;
    assert!(said.contains("cannot use the broker") && said.contains("NATS cannot be reached"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_does_is_counted() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let server = replica(&nats).await;
    let read = |name: &str| server.sample(&format!("bowline_broker_{name}"));
    let up = |count: f64| {
        let links = ["publishing", "listening", "asking"];
        links.iter().all(|link| read(&format!("connected{{link=\"{link}\"}}")) == count)
    };
    assert!(up(1.0) && read("reconnects_total") == 0.0);
    let stored = || read("publishes_total{outcome=\"stored\"}");
    let before = stored();
    server.store("t", &["1", "2", "3"]).await;
    assert!(stored() >= before + 3.0 && read("round_trip_seconds_count") >= 3.0);
    let mut client = connect(&server, "alice").await;
    client.open(named(1, "t", "desk")).await;
    nats.kill();
    eventually("it is cut off", || up(0.0)).await;
    let waiting = client.ask(publish(1, 1, "meanwhile")).await;
    eventually("one is under way and tried again", || {
        read("publishes_active") > 0.0 && read("publish_retries_total") > 0.0
    })
    .await;
    nats.lose();
    nats.run().await;
    assert!(client.answer(waiting).await.failure.is_none());
    eventually("it is back, with another log", || up(1.0) && read("epochs_changed_total") > 0.0).await;
    assert!(read("reconnects_total") >= 3.0);
    // A replica that comes later fetches what there is.
    let late = replica(&nats).await;
    let mut reader = connect(&late, "bob").await;
    reader.open(OpenSession { start: earliest(), ..named(1, "t", "reader") }).await;
    assert_eq!(payloads(&reader.events(1, 1).await), ["meanwhile"]);
    assert!(late.sample("bowline_broker_events_fetched_total") >= 1.0);
    for server in [server, late] {
        server.leave().await;
    }
}
