//! Connections that end, and connections that only seem to live: nothing of them stays.

mod ending;
mod slow;

use std::time::Duration;

use bowline::proto::v1::{ConnectionState, Heartbeat, ListConnectionsRequest, stream_data_response::Frame};
use tokio::time::Instant;
use tonic::Code;

use crate::support::{Settings, TestClient, TestServer, eventually, heartbeat, open};

/// Clients are probed after 120 ms of silence and have 300 ms to answer.
const SHORT: Settings<'_> = &[
    ("registry.receive_timeout", "120ms"),
    ("registry.probe_timeout", "300ms"),
    ("registry.probe_queue_timeout", "200ms"),
];

/// The next heartbeat.
async fn beat(client: &mut TestClient) -> Heartbeat {
    loop {
        if let Frame::Heartbeat(heartbeat) = client.any_frame().await {
            return heartbeat;
        }
    }
}

#[tokio::test]
async fn a_silent_client_is_probed_then_closed_and_nothing_of_it_is_left() {
    let server = TestServer::with(SHORT).await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    client.open(open(2, "t")).await;
    let begun = Instant::now();
    assert!(beat(&mut client).await.reply_requested, "the probe asks for an answer");
    // The clock that silence is measured by may be a quarter of the shortest timeout behind.
    assert!(begun.elapsed() >= Duration::from_millis(60), "{:?}", begun.elapsed());
    client.ended_with(Code::Unavailable, "PEER_TIMEOUT").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.emptied().await;
    assert_eq!(server.metrics().probes_sent.get(), 1);
    assert_eq!(server.sample("bowline_connections_closed_total{cause=\"PEER_TIMEOUT\"}"), 1.0);
    server.leave().await;
}

#[tokio::test]
async fn a_client_that_answers_its_probes_lives() {
    let server = TestServer::with(SHORT).await;
    let mut client = server.connect("alice").await;
    for _ in 0..5 {
        let probe = beat(&mut client).await;
        assert!(probe.reply_requested);
        client.send(Heartbeat { nonce: probe.nonce, ..Heartbeat::default() }).await;
    }
    let listed = server.operator().await.list_connections(ListConnectionsRequest::default()).await.unwrap();
    let connection = &listed.get_ref().connections[0];
    assert_eq!(connection.client_id, "alice");
    assert!(matches!(connection.state(), ConnectionState::Connected | ConnectionState::Probed), "{connection:?}");
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn any_frame_is_a_sign_of_life() {
    let server = TestServer::with(SHORT).await;
    let mut client = server.connect("alice").await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(600) {
        client.send(open(fastrand::u32(1..), "t")).await;
        client.opened().await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn where_no_receive_timeout_is_set_the_health_check_finds_the_silent() {
    let server = TestServer::with(&[
        ("registry.receive_timeout", "0s"),
        ("registry.health_interval", "100ms"),
        ("registry.silent_after", "150ms"),
        ("registry.probe_timeout", "100ms"),
    ])
    .await;
    let mut client = server.connect("alice").await;
    assert!(beat(&mut client).await.reply_requested);
    client.ended_with(Code::Unavailable, "PEER_TIMEOUT").await;
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn heartbeats_come_unasked_and_one_that_is_asked_for_comes_with_its_number() {
    let server = TestServer::with(&[("registry.heartbeat_interval", "50ms")]).await;
    let mut client = server.connect("alice").await;
    let begun = Instant::now();
    for _ in 0..5 {
        beat(&mut client).await;
    }
    assert!((200..10_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    client.send(heartbeat(4711)).await;
    eventually("the question was taken", || server.metrics().frames_received.get() >= 2).await;
    loop {
        let heard = beat(&mut client).await;
        if heard.nonce == 4711 {
            assert!(!heard.reply_requested, "an answer does not ask back");
            break;
        }
    }
    server.leave().await;
}

#[tokio::test]
async fn a_client_that_never_greets_http2_is_dropped() {
    let server = TestServer::with(&[("transport.greeting_timeout", "100ms")]).await;
    let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut buffer = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut buffer);
    crate::support::within("the end of a silent socket", read).await.ok();
    assert_eq!(server.connections(), 0);
    server.leave().await;
}
