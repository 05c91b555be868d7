//! Rule 12, on top of keyed topics: who is in a topic.

use bowline::proto::v1::{GetPresenceRequest, GetPresenceResponse, OpenSession, Presence, PublishRequest};
use tonic::Code;

use super::named;
use crate::support::{
    Settings, TestClient, TestServer, assert_bad_field, assert_failure, assert_status, close, eventually, keyed, open,
    pair, publish, snapshot,
};

const GRACE: Settings<'_> = &[("session.key_grace", "300ms")];

fn member(session_id: &str, info: &str) -> OpenSession {
    OpenSession { presence: Some(Presence { info: info.to_owned().into() }), ..named(1, "room", session_id) }
}

async fn watcher(server: &TestServer) -> TestClient {
    let mut watcher = server.connect("watcher").await;
    watcher.open(OpenSession { start: snapshot(), ..open(1, "~presence.room") }).await;
    watcher.snapshot(1).await;
    watcher
}

async fn change(watcher: &mut TestClient) -> (String, String) {
    pair(&watcher.events(1, 1).await[0])
}

fn seen(key: &str, info: &str) -> (String, String) {
    (key.to_owned(), info.to_owned())
}

async fn ask(server: &TestServer, page_size: u32, page_token: &str) -> GetPresenceResponse {
    let page_token = page_token.to_owned();
    let request = GetPresenceRequest { topic: "room".to_owned(), page_size, page_token };
    server.topics().await.get_presence(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn presence_tells_who_comes_and_who_goes() {
    let server = TestServer::start().await;
    let mut watcher = watcher(&server).await;
    let mut client = server.connect("alice").await;
    client.open(member("desk", "at work")).await;
    assert_eq!(change(&mut watcher).await, seen("alice desk", "at work"));
    let there = ask(&server, 0, "").await;
    assert_eq!((there.member_count, there.members[0].client_id.as_str()), (1, "alice"));
    assert_eq!((there.members[0].session_id.as_str(), &there.members[0].info[..]), ("desk", &b"at work"[..]));
    assert!(there.members[0].since_us > 0);
    client.send(close(1)).await;
    client.closed().await;
    assert_eq!(change(&mut watcher).await, seen("-alice desk", ""));
    assert_eq!(ask(&server, 0, "").await, GetPresenceResponse::default());
    server.leave().await;
}

#[tokio::test]
async fn presence_does_not_flicker_when_a_member_comes_back_in_time() {
    let server = TestServer::with(GRACE).await;
    let mut watcher = watcher(&server).await;
    for _ in 0..5 {
        let mut client = server.connect("alice").await;
        client.open(member("desk", "hi")).await;
        client.sever();
    }
    // One came, and, the grace after the last connection was lost, one goes.
    assert_eq!(change(&mut watcher).await, seen("alice desk", "hi"));
    assert_eq!(change(&mut watcher).await, seen("-alice desk", ""));
    assert!(watcher.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn presence_changes_with_its_info_and_ends_with_an_open_that_has_none() {
    let server = TestServer::start().await;
    let mut watcher = watcher(&server).await;
    let mut client = server.connect("alice").await;
    client.open(member("desk", "here")).await;
    let mut again = server.connect("alice").await;
    again.open(member("desk", "busy")).await;
    let mut last = server.connect("alice").await;
    last.open(named(1, "room", "desk")).await;
    for change_seen in [seen("alice desk", "here"), seen("alice desk", "busy"), seen("-alice desk", "")] {
        assert_eq!(change(&mut watcher).await, change_seen);
    }
    server.leave().await;
}

#[tokio::test]
async fn presence_of_an_ephemeral_session_ends_with_its_connection() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { session_id: String::new(), ..member("", "hi") }).await;
    assert_eq!(ask(&server, 0, "").await.member_count, 1);
    client.sever();
    eventually("the connection is found lost", || server.sessions() == 0).await;
    assert_eq!(ask(&server, 0, "").await.member_count, 0);
    server.leave().await;
}

#[tokio::test]
async fn presence_is_listed_in_order_a_page_at_a_time() {
    let server = TestServer::start().await;
    let mut clients = Vec::new();
    for name in ["dan", "ann", "cat", "ben"] {
        let mut client = server.connect(name).await;
        client.open(member("desk", name)).await;
        clients.push(client);
    }
    let first = ask(&server, 3, "").await;
    let names = |page: &GetPresenceResponse| page.members.iter().map(|m| m.client_id.clone()).collect::<Vec<_>>();
    assert_eq!((names(&first), first.member_count), (vec!["ann".into(), "ben".into(), "cat".into()], 4));
    let second = ask(&server, 3, &first.next_page_token).await;
    assert_eq!((names(&second), second.next_page_token.as_str()), (vec!["dan".to_owned()], ""));
    server.leave().await;
}

#[tokio::test]
async fn presence_is_the_server_s_to_write_and_bounded() {
    let server = TestServer::with(&[("topics.max_members", "1")]).await;
    let mut client = server.connect("alice").await;
    client.open(member("desk", "hi")).await;
    let mut other = server.connect("bob").await;
    other.send(member("desk", "hi")).await;
    assert_failure(other.closed().await.failure.as_ref(), Code::ResourceExhausted, "KEY_LIMIT");
    other.open(named(1, "room", "desk")).await;

    other.open(open(2, "~presence.room")).await;
    let answer = other.publish(publish(2, 1, "me too")).await;
    assert_failure(answer.failure.as_ref(), Code::FailedPrecondition, "READ_ONLY");
    let mut topics = server.topics().await;
    let request = PublishRequest { topic: "~presence.room".to_owned(), event: Some(keyed("bob desk", "hi")) };
    assert_status(&topics.publish(request).await.unwrap_err(), Code::FailedPrecondition, "READ_ONLY");

    for wrong in [
        OpenSession { presence: Some(Presence::default()), ..open(3, "~presence.room") },
        OpenSession { presence: Some(Presence { info: vec![0; 1025].into() }), ..open(3, "room") },
    ] {
        other.send(wrong).await;
        assert!(other.closed().await.failure.is_some());
    }
    let bad = GetPresenceRequest { topic: "a b".to_owned(), ..GetPresenceRequest::default() };
    assert_bad_field(&topics.get_presence(bad).await.unwrap_err(), "topic");
    server.leave().await;
}
