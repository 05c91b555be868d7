//! Full in every way there is: who is turned away then, and who is still heard.

use std::time::Duration;

use bowline::proto::{
    health::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
    v1::{
        NewEvent, PublishRequest, ReadHistoryRequest, stream_data_response::Frame,
        topic_service_client::TopicServiceClient,
    },
};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{Instant, sleep},
};
use tonic::{Code, transport::Channel};

use crate::support::{
    RawTransport, TestClient, TestServer, acknowledge, ask, assert_failure, assert_status, get, heartbeat, named,
    publish, put, within,
};

/// Two connections, one call, one more transport than this test needs, and a little history. Whoever may come is let in.
const SMALL: &[(&str, &str)] = &[
    ("registry.max_connections", "2"),
    ("transport.max_unary_calls", "1"),
    ("transport.max_transports", "8"),
    ("topics.max_total_history", "1MiB"),
    ("drain.grace", "20s"),
];

/// Keys, which cannot be cut, until there is no room for longer than making some takes.
async fn fill(topics: &mut TopicServiceClient<Channel>) {
    let (mut refused_since, mut count) = (None::<Instant>, 0);
    while refused_since.is_none_or(|since| since.elapsed() < Duration::from_secs(3)) {
        let event: NewEvent = put(&count.to_string(), vec![b'v'; 60 << 10]);
        let request = PublishRequest { topic: "state.desk".to_owned(), event: Some(event) };
        match within("an answer", topics.publish(request)).await {
            Ok(_) => (refused_since, count) = (None, count + 1),
            Err(status) => {
                assert_status(&status, Code::ResourceExhausted, "HISTORY_LIMIT");
                refused_since.get_or_insert_with(Instant::now);
                sleep(Duration::from_millis(20)).await;
            }
        }
        assert!(count < 40, "more than there is room for was stored");
    }
}

/// Sockets, until one is closed as soon as it is accepted.
async fn crowd(server: &TestServer) -> Vec<TcpStream> {
    let mut inside = Vec::new();
    loop {
        assert!(inside.len() < 8, "everybody gets in");
        let mut socket = within("a socket", TcpStream::connect(server.address)).await.unwrap();
        // Turned away is the end, or a reset; let in is our SETTINGS, at once.
        match within("a word", socket.read(&mut [0; 1])).await {
            Ok(1) => inside.push(socket),
            _ => return inside,
        }
    }
}

/// Nothing that a client in a conversation owes, or is owed, is refused.
async fn is_heard(client: &mut TestClient, nonce: u64) {
    let request = client.ask(acknowledge(1, 1)).await;
    assert_eq!(client.answer(request).await.failure, None);
    client.send(heartbeat(nonce)).await;
    while !matches!(client.any_frame().await, Frame::Heartbeat(beat) if beat.nonce == nonce) {}
}

async fn health(health: &mut HealthClient<Channel>) -> ServingStatus {
    within("health", health.check(HealthCheckRequest::default())).await.unwrap().into_inner().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_in_every_way_it_turns_away_who_is_new_and_hears_everybody_else() {
    let server = TestServer::with(SMALL).await;
    let mut alice = server.connect("alice").await;
    alice.open(named(1, "t", "desk")).await;
    assert_eq!(alice.publish(publish(1, 1, "x")).await.failure, None);
    alice.events(1, 1).await;
    let mut bob = server.connect("bob").await;
    let mut asking = HealthClient::new(server.channel().await);
    let (mut topics, slow) = (server.topics().await, RawTransport::open(server.address, 0).await);

    fill(&mut topics).await;
    let read = || ReadHistoryRequest { topic: "t".to_owned(), after: None, last: 0, limit: 100 };
    let held = slow.unary("/bowline.v1.TopicService/ReadHistory", &read()).await;
    let refused = within("an answer", topics.read_history(read())).await.expect_err("there is one place");
    assert_status(&refused, Code::ResourceExhausted, "CALL_LIMIT");
    assert_status(&server.refused_call(&[]).await, Code::ResourceExhausted, "MAX_CONNECTIONS");
    let inside = crowd(&server).await;

    assert_eq!(health(&mut asking).await, ServingStatus::Serving);
    let mut watch = within("a watch", asking.watch(HealthCheckRequest::default())).await.unwrap().into_inner();
    let mut watched = async || within("a status", watch.message()).await.unwrap().unwrap().status();
    assert_eq!(watched().await, ServingStatus::Serving);
    for path in ["/livez", "/readyz", "/metrics", "/status", "/connections", "/drain"] {
        assert_eq!(get(server.admin, path, "").await.status, 200, "{path}");
    }
    is_heard(&mut alice, 1).await;
    let refused = alice.publish(publish(1, 2, "y")).await;
    assert_failure(refused.failure.as_ref(), Code::ResourceExhausted, "HISTORY_LIMIT");

    let begun = ask(server.admin, "POST", "/drain", "", r#"{"reason": "too full"}"#).await;
    assert_eq!(begun.status, 202, "{}", begun.body);
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.drain().await.reason, "too full");
    }
    is_heard(&mut alice, 2).await;
    assert_eq!(health(&mut asking).await, ServingStatus::NotServing);
    assert_eq!(watched().await, ServingStatus::NotServing);
    let status = get(server.admin, "/drain", "").await.json();
    assert_eq!((&status["phase"], &status["remaining"]), (&"draining".into(), &2.into()), "{status}");
    assert_eq!(get(server.admin, "/livez", "").await.status, 200);
    drop((held, slow, inside));
    server.leave().await;
}

/// Places for that question are each transport's own: nobody can take another's.
#[tokio::test]
async fn whoever_asks_for_health_over_and_over_takes_it_from_nobody_else() {
    let server = TestServer::start().await;
    let mut greedy = HealthClient::new(server.channel().await);
    let mut watches = Vec::new();
    for _ in 0..4 {
        watches.push(within("a watch", greedy.watch(HealthCheckRequest::default())).await.unwrap());
    }
    let refused = within("an answer", greedy.check(HealthCheckRequest::default())).await.unwrap_err();
    assert_status(&refused, Code::ResourceExhausted, "CALL_LIMIT");
    let mut other = HealthClient::new(server.channel().await);
    assert_eq!(health(&mut other).await, ServingStatus::Serving);
    watches.pop();
    let begun = Instant::now();
    while greedy.check(HealthCheckRequest::default()).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the place is not free again");
        sleep(Duration::from_millis(5)).await;
    }
    server.leave().await;
}
