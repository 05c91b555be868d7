//! Clients that take nothing, or too little.

use std::time::Duration;

use bowline::proto::v1::{OpenSession, stream_data_request::Frame as Sent};
use tokio::time::{Instant, sleep};

use crate::support::{RawTransport, Settings, TestServer, assert_status, earliest, hello, open, payloads, publish};

/// A client may take nothing for 200 ms; then it has 50 ms to take its end.
const SHORT: Settings<'_> = &[("registry.send_timeout", "200ms"), ("connection.close_grace", "50ms")];

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_stream_and_no_other_feels_it() {
    let server = TestServer::with(SHORT).await;
    server.store("t", &vec![vec![0; 1024]; 1000]).await;
    let transport = RawTransport::open(server.address, 0).await;
    let mut stuck = transport.call().await;
    stuck.send_frame(Sent::Hello(hello("stuck")));
    stuck.send_frame(Sent::OpenSession(OpenSession { start: earliest(), ..open(1, "t") }.into()));
    let mut neighbour = server.connect("neighbour").await;
    neighbour.open(open(1, "live")).await;

    let begun = Instant::now();
    let (mut seq, mut slowest) = (0, Duration::ZERO);
    while server.connections() > 1 {
        seq += 1;
        let asked = Instant::now();
        let request = neighbour.ask(publish(1, seq, "x")).await;
        assert_eq!(neighbour.answer(request).await.failure, None);
        slowest = slowest.max(asked.elapsed());
        assert!(begun.elapsed() < crate::support::LIMIT, "the stuck client is still there");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // The stream is not only forgotten but gone: HTTP/2 was told, though there was no room for a byte of data.
    let reset = stuck.end().await.expect_err("a reset");
    assert!(reset.is_reset(), "{reset:?}");
    assert_eq!(server.sample("bowline_connections_closed_total{cause=\"SLOW_CONNECTION\"}"), 1.0);
    assert_eq!(server.metrics().send_errors.get(), 1);

    // And its transport lives.
    let mut other = transport.call().await;
    other.send_frame(Sent::Hello(hello("other")));
    crate::support::eventually("the other call is served", || server.connections() == 2).await;
    server.leave().await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_but_reads_is_left_alone() {
    let server = TestServer::with(&[("registry.send_timeout", "3s")]).await;
    server.store("t", &vec![vec![0; 1024]; 400]).await;
    let transport = RawTransport::open(server.address, 16 << 10).await;
    let mut slow = transport.call().await;
    slow.send_frame(Sent::Hello(hello("slow")));
    slow.send_frame(Sent::OpenSession(OpenSession { start: earliest(), no_follow: true, ..open(1, "t") }.into()));
    let (begun, mut taken) = (Instant::now(), 0);
    while taken < 400 << 10 {
        taken += slow.take().await;
        sleep(Duration::from_millis(60)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(3), "that was not slow: {:?}", begun.elapsed());
    assert_eq!(server.connections(), 1);
    slow.half_close();
    assert_eq!(slow.end().await.unwrap().code(), tonic::Code::Ok);
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn a_client_that_has_taken_everything_may_be_idle() {
    let server = TestServer::with(SHORT).await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    server.store("t", &["x"]).await;
    client.events(1, 1).await;
    sleep(Duration::from_millis(500)).await;
    server.store("t", &["y"]).await;
    assert_eq!(payloads(&client.events(1, 1).await), ["y"]);
    server.leave().await;
}

#[tokio::test]
async fn a_client_that_asks_without_taking_answers_is_no_longer_read_and_then_closed() {
    let server = TestServer::with(&[SHORT, &[("connection.queue_size", "16")]].concat()).await;
    let transport = RawTransport::open(server.address, 0).await;
    let mut greedy = transport.call().await;
    greedy.send_frame(Sent::Hello(hello("greedy")));
    for n in 0..1000 {
        greedy.send_frame(Sent::Heartbeat(crate::support::heartbeat(n)));
    }
    server.emptied().await;
    let read = server.metrics().frames_received.get();
    assert!(read < 200, "{read} of 1000 frames were read though no answer was taken");
    assert!(greedy.end().await.expect_err("a reset").is_reset());
    server.leave().await;
}

#[tokio::test]
async fn a_client_whose_end_can_go_out_is_told_why() {
    let server = TestServer::with(&[("registry.send_timeout", "200ms"), ("connection.close_grace", "5s")]).await;
    server.store("t", &vec![vec![0; 1024]; 200]).await;
    let transport = RawTransport::open(server.address, 0).await;
    let mut stuck = transport.call().await;
    stuck.send_frame(Sent::Hello(hello("stuck")));
    stuck.send_frame(Sent::OpenSession(OpenSession { start: earliest(), ..open(1, "t") }.into()));
    crate::support::eventually("it was found out", || server.metrics().send_errors.get() > 0).await;
    transport.widen();
    assert_status(&stuck.end().await.unwrap(), tonic::Code::ResourceExhausted, "SLOW_CONNECTION");
    server.emptied().await;
    server.leave().await;
}
