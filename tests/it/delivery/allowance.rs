//! How much a session may be sent: credit and pause.

use bowline::proto::v1::{Flow, OpenSession};

use crate::support::{TestServer, credit, earliest, flow, open, payloads};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_events_come_than_were_granted_in_all() {
    let server = TestServer::start().await;
    server.store("t", &vec!["x"; 500]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), credit: credit(0, 0), ..open(1, "t") }).await;
    assert!(client.is_quiet().await);
    let mut granted = 0;
    while granted < 500 {
        let more = fastrand::usize(1..60).min(500 - granted);
        granted += more;
        client.send(Flow { credit: credit(granted as u64, 0), ..flow(1) }).await;
        client.events(1, more).await;
        // Repeating a total or naming a lower one changes nothing.
        client.send(Flow { credit: credit(granted as u64, 0), ..flow(1) }).await;
        client.send(Flow { credit: credit(granted as u64 / 2, 0), ..flow(1) }).await;
        assert!(client.is_quiet().await);
    }
    server.leave().await;
}

#[tokio::test]
async fn the_event_that_crosses_the_granted_bytes_is_the_last_that_comes() {
    let server = TestServer::start().await;
    server.store("t", &vec![vec![0; 100]; 50]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), credit: credit(1000, 250), ..open(1, "t") }).await;
    client.events(1, 3).await;
    assert!(client.is_quiet().await);
    for (bytes, more) in [(300, 0), (301, 1), (1000, 6)] {
        client.send(Flow { credit: credit(1000, bytes), ..flow(1) }).await;
        client.events(1, more).await;
        assert!(client.is_quiet().await, "{bytes} bytes are used up");
    }
    server.leave().await;
}

#[tokio::test]
async fn a_session_without_a_limit_has_one_once_it_is_granted_credit() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    server.store("t", &["1", "2"]).await;
    client.events(1, 2).await;
    client.send(Flow { credit: credit(3, 0), ..flow(1) }).await;
    assert!(client.is_quiet().await);
    server.store("t", &["3", "4"]).await;
    assert_eq!(payloads(&client.events(1, 1).await), ["3"]);
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn credit_of_one_session_is_not_another_s() {
    let server = TestServer::start().await;
    server.store("t", &["1", "2", "3"]).await;
    let mut client = server.connect("alice").await;
    for alias in [1, 2] {
        client.open(OpenSession { start: earliest(), credit: credit(0, 0), ..open(alias, "t") }).await;
    }
    client.send(Flow { credit: credit(2, 0), ..flow(2) }).await;
    assert_eq!(client.events(2, 2).await.len(), 2);
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_to_a_pause_nothing_comes_until_the_session_is_resumed() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    client.open(open(2, "t")).await;
    let mut stored = 0;
    for _ in 0..10 {
        server.store("t", &["x"; 20]).await;
        stored += 20;
        let request = client.ask(Flow { paused: Some(true), ..flow(1) }).await;
        client.answer(request).await;
        let place = client.cursor(1);
        server.store("t", &["y"; 20]).await;
        stored += 20;
        while client.cursor(2).offset < stored {
            assert_eq!(client.delivery().await.session, 2);
        }
        client.send(Flow { paused: Some(true), credit: None, ..flow(1) }).await;
        assert!(client.is_quiet().await);
        assert_eq!(client.cursor(1), place);
        client.send(Flow { paused: Some(false), ..flow(1) }).await;
        while client.cursor(1).offset < stored {
            client.delivery().await;
        }
    }
    server.leave().await;
}

#[tokio::test]
async fn repeating_a_grant_gives_a_session_no_more_turns_than_its_neighbour() {
    let server = TestServer::with(&[("connection.max_send_rate", "1MB")]).await;
    server.store("t", &vec![vec![0; 1000]; 900]).await;
    let mut client = server.connect("alice").await;
    for session in [1, 2] {
        client.open(OpenSession { start: earliest(), credit: credit(0, 0), ..open(session, "t") }).await;
    }
    client.send(Flow { credit: credit(10_000, 0), ..flow(2) }).await;
    for _ in 0..300 {
        client.send(Flow { credit: credit(10_000, 0), ..flow(1) }).await;
    }
    let mut got = [0, 0];
    while got[0] + got[1] < 900 {
        let delivery = client.delivery().await;
        got[delivery.session as usize - 1] += delivery.events.len();
    }
    assert!(got[0] < 2 * got[1] && got[1] < 2 * got[0], "{got:?}");
    server.leave().await;
}
