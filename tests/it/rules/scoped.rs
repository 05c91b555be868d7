//! Rule 12, keys of a session: they die with it.

use bowline::proto::v1::{Advice, CloseSession, Event, OpenSession, Operation, PublishBatchRequest, PublishRequest};
use tonic::Code;

use super::{assert_advised, keyed, server, server_with};
use crate::support::{
    Settings, TestClient, TestServer, assert_bad_field, assert_failure, changes, close, delete, earliest, event,
    eventually, named, open, put, scoped, with,
};

/// So long that whatever goes in a test did not go because of it.
const NEVER: Settings<'_> = &[("session.key_grace", "1m"), ("session.ttl", "2m")];
/// Soon, but not before a client can be back.
const SOON: Settings<'_> = &[("session.key_grace", "1s"), ("session.ttl", "2m")];

/// A reader of all changes of `state.t`.
async fn reader(server: &TestServer) -> TestClient {
    let mut reader = server.connect("reader").await;
    reader.open(OpenSession { start: earliest(), ..open(1, "state.t") }).await;
    reader
}

/// A client whose session has set a key of its own.
async fn owner(server: &TestServer, client_id: &str, session_id: &str, key: &str) -> TestClient {
    let mut client = server.connect(client_id).await;
    let seq = client.open(OpenSession { mode: 2, ..named(1, "state.t", session_id) }).await.published_seq + 1;
    let answer = client.publish(with(1, seq, scoped(key, "here"))).await;
    assert_eq!((answer.failure, answer.duplicate), (None, false));
    client
}

async fn next(reader: &mut TestClient) -> String {
    changes(&reader.events(1, 1).await).remove(0)
}

#[tokio::test]
async fn rule_12_a_key_of_a_session_is_removed_at_once_when_the_session_is_closed() {
    let server = server_with(NEVER).await;
    let mut reader = reader(&server).await;
    let mut alice = owner(&server, "alice", "desk", "mine").await;
    alice.publish(with(1, 2, put("ours", "stays"))).await;
    assert_eq!(changes(&reader.events(1, 2).await), ["mine=here", "ours=stays"]);
    alice.send(close(1)).await;
    let removed: Vec<Event> = reader.events(1, 1).await;
    assert_eq!((changes(&removed), removed[0].publisher.as_str()), (vec!["-mine".to_owned()], "alice"));
    assert_eq!((removed[0].operation(), removed[0].payload.len()), (Operation::Delete, 0));
    assert!(reader.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_keys_of_a_session_are_removed_in_the_order_they_were_set() {
    let server = server_with(NEVER).await;
    let mut reader = reader(&server).await;
    let mut alice = owner(&server, "alice", "desk", "b").await;
    for (seq, key) in [(2, "a"), (3, "c"), (4, "b")] {
        alice.publish(with(1, seq, scoped(key, "x"))).await;
    }
    alice.send(close(1)).await;
    assert_eq!(changes(&reader.events(1, 7).await)[4..], ["-a", "-c", "-b"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_key_of_a_session_that_lost_its_connection_is_removed_after_the_grace() {
    let server = server_with(&[("session.key_grace", "300ms")]).await;
    let mut reader = reader(&server).await;
    let alice = owner(&server, "alice", "desk", "mine").await;
    let set = reader.events(1, 1).await.remove(0);
    alice.sever();
    let removed = reader.events(1, 1).await.remove(0);
    assert_eq!(changes(std::slice::from_ref(&removed)), ["-mine"]);
    assert!(removed.time_us - set.time_us >= 300_000, "after {} us", removed.time_us - set.time_us);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_half_close_and_a_close_that_keeps_leave_the_keys_for_the_grace_like_a_lost_connection() {
    let server = server_with(&[("session.key_grace", "300ms")]).await;
    let mut reader = reader(&server).await;
    for keeps in [true, false] {
        let mut alice = owner(&server, "alice", &keeps.to_string(), "mine").await;
        let set = reader.events(1, 1).await.remove(0);
        if keeps {
            alice.send(CloseSession { session: 1, keep: true }).await;
            alice.closed().await;
        } else {
            alice.half_close();
            alice.ended_well().await;
        }
        let removed = reader.events(1, 1).await.remove(0);
        assert!(removed.time_us - set.time_us >= 300_000, "after {} us", removed.time_us - set.time_us);
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_key_of_a_session_that_is_back_within_the_grace_was_never_in_danger() {
    let server = server_with(SOON).await;
    let mut reader = reader(&server).await;
    owner(&server, "alice", "desk", "mine").await.sever();
    let mut alice = server.connect("alice").await;
    alice.open(OpenSession { mode: 2, ..named(7, "state.t", "desk") }).await;
    // Whoever is lost later shows when the time of the first is over.
    owner(&server, "witness", "desk", "late").await.sever();
    assert_eq!(changes(&reader.events(1, 3).await), ["mine=here", "late=here", "-late"]);
    assert!(reader.is_quiet().await);
    // And it is still the session's.
    alice.send(close(7)).await;
    assert_eq!(next(&mut reader).await, "-mine");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_key_of_a_session_goes_with_it_to_the_connection_that_takes_it_over() {
    let server = server_with(NEVER).await;
    let mut reader = reader(&server).await;
    let mut older = owner(&server, "alice", "desk", "mine").await;
    assert_eq!(next(&mut reader).await, "mine=here");
    let mut newer = server.connect("alice").await;
    newer.open(OpenSession { mode: 2, ..named(1, "state.t", "desk") }).await;
    older.closed().await;
    older.half_close();
    older.ended_well().await;
    assert!(reader.is_quiet().await, "the end of who lost it is not the end of the session");
    newer.send(close(1)).await;
    assert_eq!(next(&mut reader).await, "-mine");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_key_that_somebody_else_has_set_since_is_no_longer_the_sessions() {
    let server = server_with(NEVER).await;
    let mut reader = reader(&server).await;
    let mut alice = owner(&server, "alice", "desk", "taken").await;
    for (seq, key) in [(2, "inherited"), (3, "freed"), (4, "removed"), (5, "mine")] {
        alice.publish(with(1, seq, scoped(key, "x"))).await;
    }
    // By another session in its own scope, by a back end, by itself without the flag, and removed.
    let mut bob = owner(&server, "bob", "desk", "taken").await;
    server.publish("state.t", keyed(&["inherited=y"])).await;
    alice.publish(with(1, 6, put("freed", "y"))).await;
    alice.publish(with(1, 7, delete("removed"))).await;
    reader.events(1, 9).await;
    alice.send(close(1)).await;
    assert_eq!(next(&mut reader).await, "-mine");
    assert!(reader.is_quiet().await);
    bob.send(close(1)).await;
    assert_eq!(next(&mut reader).await, "-taken");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_keys_of_a_nameless_session_are_removed_at_once_however_it_ends() {
    let server = server_with(NEVER).await;
    let mut reader = reader(&server).await;
    let endings: [fn(TestClient); 3] = [TestClient::sever, drop, |mut client| client.half_close()];
    for end in endings {
        let client = owner(&server, "alice", "", "mine").await;
        assert_eq!(next(&mut reader).await, "mine=here");
        end(client);
        assert_eq!(next(&mut reader).await, "-mine");
    }
    let mut client = owner(&server, "alice", "", "mine").await;
    assert_eq!(next(&mut reader).await, "mine=here");
    client.send(CloseSession { session: 1, keep: true }).await;
    assert_eq!(next(&mut reader).await, "-mine", "there is no name to keep it under");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_keys_of_a_session_that_moves_to_another_topic_are_removed_at_once() {
    let server = server_with(NEVER).await;
    let mut reader = reader(&server).await;
    let mut alice = owner(&server, "alice", "desk", "mine").await;
    assert_eq!(next(&mut reader).await, "mine=here");
    alice.send(named(2, "state.other", "desk")).await;
    assert_eq!(next(&mut reader).await, "-mine");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_key_that_outlived_its_session_can_be_set_by_the_next_of_that_name() {
    let server = server_with(&[("session.key_grace", "50ms"), ("session.ttl", "50ms")]).await;
    let mut reader = reader(&server).await;
    owner(&server, "alice", "desk", "mine").await.sever();
    assert_eq!(changes(&reader.events(1, 2).await), ["mine=here", "-mine"]);
    eventually("it has expired", || server.metrics().sessions_expired.get() == 1).await;
    let mut alice = owner(&server, "alice", "desk", "mine").await;
    alice.send(close(1)).await;
    assert_eq!(changes(&reader.events(1, 2).await), ["mine=here", "-mine"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_only_a_session_can_have_keys_and_only_in_a_keyed_topic() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for (session, topic) in [(1, "t"), (2, "signal.t"), (3, "echo")] {
        client.open(OpenSession { mode: 2, ..open(session, topic) }).await;
        let answer = client.publish(with(session, 1, scoped("k", "x"))).await;
        assert_failure(answer.failure.as_ref(), Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(answer.failure.unwrap().metadata["field"], "event.session_scoped");
        assert_eq!(client.publish(with(session, 1, event("x"))).await.failure, None, "the number is not used up");
    }
    let (mut topics, topic) = (server.topics().await, "state.t".to_owned());
    let one = PublishRequest { topic: topic.clone(), event: Some(scoped("k", "x")) };
    assert_bad_field(&topics.publish(one).await.unwrap_err(), "event.session_scoped");
    let batch = PublishBatchRequest { topic, events: vec![put("k", "x"), scoped("k", "x")] };
    let answer = topics.publish_batch(batch).await.unwrap().into_inner();
    assert_eq!(answer.stored.len(), 1);
    assert_advised(answer.failure.as_ref(), Code::InvalidArgument, "INVALID_FIELD", Advice::None);
    server.leave().await;
}
