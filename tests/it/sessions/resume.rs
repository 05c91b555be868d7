//! Coming back: a connection ends, the session goes on where the client was.

use bowline::proto::v1::{Cursor, OpenSession, Recovery};

use crate::support::{TestClient, TestServer, after, earliest, named, payloads, publish};

async fn resumed(server: &TestServer, cursor: Cursor) -> (TestClient, Recovery) {
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: after(cursor), ..named(1, "t", "desk") }).await;
    let recovery = opened.recovery();
    (client, recovery)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_at_its_cursor_however_its_connection_ended() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..named(1, "t", "desk") }).await;
    let endings: [fn(TestClient); 3] = [
        // The call is cancelled, the transport with it.
        drop,
        // The transport is lost without a word.
        TestClient::sever,
        |mut client| client.half_close(),
    ];
    for (round, end) in endings.into_iter().enumerate() {
        server.store("t", &[format!("{round} seen")]).await;
        assert_eq!(payloads(&client.events(1, 1).await), [format!("{round} seen")]);
        server.store("t", &[format!("{round} on its way")]).await;
        let cursor = client.cursor(1);
        end(client);
        server.emptied().await;
        server.store("t", &[format!("{round} missed")]).await;
        let recovery;
        (client, recovery) = resumed(&server, cursor).await;
        assert_eq!(recovery, Recovery::Full);
        assert_eq!(payloads(&client.events(1, 2).await), [format!("{round} on its way"), format!("{round} missed")]);
    }
    server.leave().await;
}

#[tokio::test]
async fn a_session_can_be_resumed_while_its_old_connection_does_not_know_that_it_is_dead() {
    let server = TestServer::start().await;
    let mut old = server.connect("alice").await;
    old.open(OpenSession { start: earliest(), ..named(1, "t", "desk") }).await;
    server.store("t", &["1"]).await;
    old.events(1, 1).await;
    let cursor = old.cursor(1);
    let (mut new, recovery) = resumed(&server, cursor).await;
    assert_eq!(recovery, Recovery::Full);
    server.store("t", &["2"]).await;
    assert_eq!(payloads(&new.events(1, 1).await), ["2"]);
    assert!(old.closed().await.failure.is_some());
    server.leave().await;
}

#[tokio::test]
async fn a_resumed_session_is_told_what_of_its_own_is_stored() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    assert_eq!(client.open(named(1, "t", "desk")).await.published_seq, 0);
    for seq in 1..=5 {
        client.publish(publish(1, seq, "x")).await;
    }
    client.sever();
    server.emptied().await;
    let mut client = server.connect("alice").await;
    assert_eq!(client.open(named(9, "t", "desk")).await.published_seq, 5);
    server.leave().await;
}

#[tokio::test]
async fn every_session_of_a_lost_connection_is_resumed_by_itself() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    let topics: Vec<String> = (1..=30).map(|n| format!("t{n}")).collect();
    for (alias, topic) in (1..).zip(&topics) {
        client.open(named(alias, topic, topic)).await;
        server.store(topic, &["before"]).await;
        client.events(alias, 1).await;
    }
    let cursors: Vec<_> = (1..=30).map(|alias| client.cursor(alias)).collect();
    client.sever();
    server.emptied().await;
    for topic in &topics {
        server.store(topic, &["after"]).await;
    }
    let mut client = server.connect("alice").await;
    for ((alias, topic), cursor) in (1..).zip(&topics).zip(cursors) {
        let opened = client.open(OpenSession { start: after(cursor), ..named(alias, topic, topic) }).await;
        assert_eq!((opened.recovery(), opened.attach), (Recovery::Full, 2));
        assert_eq!(payloads(&client.events(alias, 1).await), ["after"]);
    }
    server.leave().await;
}
