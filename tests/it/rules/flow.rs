//! Rules 8 and 9: credit, fairness, pause.

use bowline::proto::v1::{Flow, OpenSession};

use crate::support::{TestServer, close, credit, earliest, flow, open};

#[tokio::test]
async fn rule_8_credit_is_a_total_and_bounds_what_is_sent() {
    let server = TestServer::start().await;
    server.store("t", &vec!["x"; 20]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), credit: credit(3, 0), ..open(1, "t") }).await;
    client.events(1, 3).await;
    assert!(client.is_quiet().await);
    for (total, more) in [(3, 0), (1, 0), (5, 2), (5, 0), (8, 3)] {
        client.send(Flow { credit: credit(total, 0), ..flow(1) }).await;
        client.events(1, more).await;
        assert!(client.is_quiet().await, "a total of {total}");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_8_no_credit_yet_does_not_mean_any_number_of_bytes_later() {
    let server = TestServer::start().await;
    server.store("t", &[[0; 100]; 10]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), credit: credit(0, 0), ..open(1, "t") }).await;
    assert!(client.is_quiet().await);
    client.send(Flow { credit: credit(10, 150), ..flow(1) }).await;
    client.events(1, 2).await;
    client.send(Flow { credit: credit(0, 0), ..flow(1) }).await;
    assert!(client.is_quiet().await, "nothing granted is less than what was, in bytes as well");
    server.leave().await;
}

#[tokio::test]
async fn rule_8_credit_is_counted_from_each_open() {
    let server = TestServer::start().await;
    server.store("t", &vec!["x"; 10]).await;
    let mut client = server.connect("alice").await;
    for _ in 0..2 {
        client.open(OpenSession { start: earliest(), credit: credit(2, 0), ..super::named(1, "t", "desk") }).await;
        client.events(1, 2).await;
        client.send(close(1)).await;
        client.closed().await;
    }
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_8_sessions_with_credit_are_served_in_turn_whatever_waits_in_the_others() {
    let server = TestServer::start().await;
    server.store("flood", &vec![vec![7; 1000]; 9000]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), credit: credit(0, 0), ..open(1, "none") }).await;
    client.open(open(3, "quiet")).await;
    client.open(OpenSession { start: earliest(), ..open(2, "flood") }).await;
    server.store("quiet", &["hello"]).await;
    // Long before the flood has run dry.
    let mut flooded = 0;
    loop {
        let delivery = client.delivery().await;
        match delivery.session {
            2 => flooded += delivery.events.len(),
            3 => break,
            other => panic!("session {other} has no credit"),
        }
    }
    assert!(flooded < 9000, "the flood came first");
    server.leave().await;
}

#[tokio::test]
async fn rule_9_pause_is_acknowledged_and_nothing_follows_until_the_session_is_resumed() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    client.open(open(2, "t")).await;
    let request = client.ask(Flow { paused: Some(true), ..flow(1) }).await;
    assert_eq!(client.answer(request).await.failure, None);
    server.store("t", &["1", "2"]).await;
    client.events(2, 2).await;
    // More credit is no leave to go on.
    client.send(Flow { credit: credit(100, 0), ..flow(1) }).await;
    assert!(client.is_quiet().await);
    client.send(Flow { paused: Some(false), ..flow(1) }).await;
    client.events(1, 2).await;
    server.leave().await;
}
