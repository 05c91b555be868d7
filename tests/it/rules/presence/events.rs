//! When others hear of a member, and when not.

use bowline::proto::v1::{CloseSession, DisconnectRequest, OpenSession, disconnect_request::Target};

use super::{NEVER, member, members};
use crate::{
    rules::server_with,
    support::{Settings, TestClient, TestServer, changes, close, named, open, present, snapshot},
};

/// Soon, but not before a client can be back.
const SOON: Settings<'_> = &[("session.key_grace", "1s"), ("session.ttl", "2m")];

/// Hears of everybody who is in `room` and has read who was there.
async fn observer(server: &TestServer) -> TestClient {
    let mut observer = server.connect("observer").await;
    observer.open(OpenSession { start: snapshot(), ..open(1, "~presence.room") }).await;
    observer.snapshot(1).await;
    observer
}

async fn next(observer: &mut TestClient) -> String {
    changes(&observer.events(1, 1).await).remove(0)
}

#[tokio::test]
async fn rule_12_a_member_that_comes_and_one_that_closes_its_session_are_heard_of_at_once() {
    let server = server_with(NEVER).await;
    let mut observer = observer(&server).await;
    let mut alice = server.connect("alice").await;
    alice.open(member(1, "desk", "busy")).await;
    let joined = observer.events(1, 1).await;
    assert_eq!((changes(&joined), joined[0].publisher.as_str()), (vec!["alice desk=busy".to_owned()], "alice"));
    alice.send(close(1)).await;
    let left = observer.events(1, 1).await;
    assert_eq!((changes(&left), left[0].publisher.as_str()), (vec!["-alice desk".to_owned()], "alice"));
    assert!(members(&server).await.is_empty());
    server.leave().await;
}

#[tokio::test]
async fn rule_12_nobody_hears_of_a_member_that_is_back_within_the_grace() {
    let server = server_with(SOON).await;
    let mut observer = observer(&server).await;
    let mut alice = server.connect("alice").await;
    alice.open(member(1, "desk", "busy")).await;
    for _ in 0..3 {
        alice.sever();
        alice = server.connect("alice").await;
        alice.open(member(1, "desk", "busy")).await;
    }
    // Whoever is lost later shows when the time of the first is over.
    let mut witness = server.connect("witness").await;
    witness.open(member(1, "desk", "late")).await;
    witness.sever();
    let heard = changes(&observer.events(1, 3).await);
    assert_eq!(heard, ["alice desk=busy", "witness desk=late", "-witness desk"]);
    assert_eq!(members(&server).await, ["alice desk=busy"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_nobody_hears_of_a_member_whose_session_moves_to_another_connection() {
    let server = server_with(NEVER).await;
    let mut observer = observer(&server).await;
    let mut older = server.connect("alice").await;
    older.open(member(1, "desk", "busy")).await;
    assert_eq!(next(&mut observer).await, "alice desk=busy");
    let mut newer = server.connect("alice").await;
    newer.open(member(1, "desk", "busy")).await;
    older.closed().await;
    older.sever();
    assert!(observer.is_quiet().await);
    newer.send(close(1)).await;
    assert_eq!(next(&mut observer).await, "-alice desk");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_member_that_lost_its_connection_is_there_for_the_grace_and_then_gone() {
    let settings = [("session.key_grace", "300ms")];
    let server = server_with(&settings).await;
    let mut observer = observer(&server).await;
    let endings: [fn(TestClient); 3] = [TestClient::sever, drop, |mut client| client.half_close()];
    for end in endings {
        let mut alice = server.connect("alice").await;
        alice.open(member(1, "desk", "busy")).await;
        let joined = observer.events(1, 1).await.remove(0);
        end(alice);
        let left = observer.events(1, 1).await.remove(0);
        assert_eq!(changes(std::slice::from_ref(&left)), ["-alice desk"]);
        assert!(left.time_us - joined.time_us >= 300_000, "{} us", left.time_us - joined.time_us);
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_member_that_was_disconnected_by_an_operator_may_come_back_unheard() {
    let server = server_with(NEVER).await;
    let mut observer = observer(&server).await;
    let mut alice = server.connect("alice").await;
    alice.open(member(1, "desk", "busy")).await;
    assert_eq!(next(&mut observer).await, "alice desk=busy");
    let target = Some(Target::ClientId("alice".to_owned()));
    server.operator().await.disconnect(DisconnectRequest { target }).await.unwrap();
    alice.end().await;
    assert_eq!(members(&server).await, ["alice desk=busy"]);
    let mut alice = server.connect("alice").await;
    alice.open(member(1, "desk", "busy")).await;
    assert!(observer.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_member_that_comes_back_after_the_grace_has_left_and_joins_again() {
    let server = server_with(&[("session.key_grace", "50ms")]).await;
    let mut observer = observer(&server).await;
    for _ in 0..2 {
        let mut alice = server.connect("alice").await;
        alice.open(member(1, "desk", "busy")).await;
        assert_eq!(next(&mut observer).await, "alice desk=busy");
        alice.sever();
        assert_eq!(next(&mut observer).await, "-alice desk");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_member_that_says_something_else_of_itself_is_heard_again() {
    let server = server_with(NEVER).await;
    let mut observer = observer(&server).await;
    let mut alice = server.connect("alice").await;
    for info in ["busy", "idle", "idle", "busy"] {
        alice.open(member(1, "desk", info)).await;
        alice.send(CloseSession { session: 1, keep: true }).await;
        alice.closed().await;
    }
    let heard = changes(&observer.events(1, 3).await);
    assert_eq!(heard, ["alice desk=busy", "alice desk=idle", "alice desk=busy"]);
    assert!(observer.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_session_that_is_opened_without_presence_or_on_another_topic_leaves() {
    let server = server_with(NEVER).await;
    let mut observer = observer(&server).await;
    let mut alice = server.connect("alice").await;
    for elsewhere in [
        named(2, "room", "desk"),
        named(3, "street", "desk"),
        OpenSession { presence: present("x"), ..named(4, "street", "desk") },
    ] {
        alice.open(member(1, "desk", "busy")).await;
        assert_eq!(next(&mut observer).await, "alice desk=busy");
        alice.send(elsewhere).await;
        assert_eq!(next(&mut observer).await, "-alice desk");
        alice.settled().await;
        alice.sever();
        alice = server.connect("alice").await;
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_nameless_member_has_a_name_made_up_and_leaves_at_once_however_it_ends() {
    let server = server_with(NEVER).await;
    let mut observer = observer(&server).await;
    let endings: [fn(TestClient); 3] = [TestClient::sever, drop, |mut client| client.half_close()];
    for end in endings {
        let mut alice = server.connect("alice").await;
        for session in [1, 2] {
            alice.open(member(session, "", "ghost")).await;
        }
        let joined = changes(&observer.events(1, 2).await);
        assert!(joined.iter().all(|change| change.starts_with("alice ") && change.ends_with("=ghost")), "{joined:?}");
        assert_ne!(joined[0], joined[1]);
        end(alice);
        let mut left = changes(&observer.events(1, 2).await);
        let mut expected: Vec<_> =
            joined.iter().map(|change| format!("-{}", change.trim_end_matches("=ghost"))).collect();
        left.sort();
        expected.sort();
        assert_eq!(left, expected);
    }
    server.leave().await;
}
