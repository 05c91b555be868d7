//! What one client, or one address, may take of what there is for all.

use std::time::Duration;

use bowline::proto::v1::{PublishRequest, stream_data_response::Frame};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{CHAT, Files, bearer, enter, jwt, token};
use crate::support::{
    Settings, TestClient, TestServer, acknowledge, assert_failure, assert_status, event, heartbeat, hello, open,
    publish,
};

async fn server(settings: Settings<'_>) -> (Files, TestServer) {
    let files = Files::new();
    let server = jwt(&files.issuer(""), CHAT, settings).await;
    (files, server)
}

/// The refusal says when to come back.
fn assert_wait(status: &Status) -> Duration {
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("RetryInfo");
    assert!(wait > Duration::ZERO && wait < Duration::from_secs(10), "{wait:?}");
    assert!(status.get_details_quota_failure().is_some());
    wait
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_others_have_theirs() {
    let (_files, server) = server(&[("registry.max_per_client", "2")]).await;
    let alice = token("alice", json!({}));
    let mut held = vec![enter(&server, &alice).await, enter(&server, &alice).await];
    let mut third = server.try_call(&[("authorization", &bearer(&alice))]).await.unwrap();
    third.send(hello("")).await;
    assert_wait(&third.ended_with(Code::ResourceExhausted, "MAX_CONNECTIONS").await);
    enter(&server, &token("bob", json!({}))).await;
    // Refusing one did not cost the client what it has.
    assert!(held[0].is_quiet().await);
    drop(held.pop());
    crate::support::eventually("the place is free", || server.connections() == 1).await;
    enter(&server, &alice).await;
    server.leave().await;
}

#[tokio::test]
async fn a_client_and_an_address_open_so_many_connections_a_second() {
    let (_files, server) = server(&[("registry.max_opens_per_client", "3")]).await;
    let alice = token("alice", json!({}));
    let mut refused = 0;
    for _ in 0..6 {
        let mut client = server.try_call(&[("authorization", &bearer(&alice))]).await.unwrap();
        client.send(hello("")).await;
        if let crate::support::Heard::End(Some(status)) = client.heard().await {
            assert_status(&status, Code::ResourceExhausted, "OPEN_RATE");
            assert_wait(&status);
            refused += 1;
        }
    }
    // What fills again meanwhile depends on how fast the machine is.
    assert!((1..=3).contains(&refused), "{refused}");
    enter(&server, &token("bob", json!({}))).await;
    server.leave().await;

    let by_address = TestServer::with(&[("registry.max_opens_per_address", "2")]).await;
    let mut refused = 0;
    for _ in 0..6 {
        if let Err(status) = by_address.try_call(&[]).await {
            assert_status(&status, Code::ResourceExhausted, "OPEN_RATE");
            refused += 1;
        }
    }
    assert!((1..=4).contains(&refused), "{refused}");
    by_address.leave().await;
}

/// Publishes until refused; how many were stored, and the refusal.
async fn flood(client: &mut TestClient, most: u64, payload: &str) -> (u64, bowline::proto::v1::Failure) {
    for seq in 1..=most {
        if let Some(failure) = client.publish(publish(1, seq, payload)).await.failure {
            return (seq - 1, failure);
        }
    }
    panic!("{most} were stored");
}

#[tokio::test]
async fn a_client_publishes_so_much_a_second_over_all_its_connections_and_is_told_when_to_go_on() {
    let write_only = |alias| bowline::proto::v1::OpenSession { mode: 2, ..open(alias, "chat.a") };
    for (settings, payload, expected) in [
        (&[("topics.max_publishes_per_second", "20")][..], "x", 20..40),
        (&[("topics.max_publish_rate", "10000B")], &*"x".repeat(1000), 10..20),
    ] {
        let (_files, server) = server(settings).await;
        let alice = token("alice", json!({}));
        let (mut first, mut second) = (enter(&server, &alice).await, enter(&server, &alice).await);
        first.open(write_only(1)).await;
        second.open(write_only(1)).await;
        let (stored, failure) = flood(&mut first, 200, payload).await;
        assert!(expected.contains(&stored), "{stored}");
        assert_failure(Some(&failure), Code::ResourceExhausted, "PUBLISH_RATE");
        assert!((1..2000).contains(&failure.retry_after_ms), "{failure:?}");
        let (stored, _) = flood(&mut second, 200, payload).await;
        assert!(stored < 10, "{stored}");
        let request = PublishRequest { topic: "chat.a".to_owned(), event: Some(event(payload)) };
        let mut topics = server.topics().await;
        let unary = topics.publish(super::with(request, &[("authorization", &bearer(&alice))])).await;
        if let Err(status) = unary {
            assert_status(&status, Code::ResourceExhausted, "PUBLISH_RATE");
            assert_wait(&status);
        }
        // Heartbeats and acknowledgements go on: they never cost anything.
        for nonce in 1..50 {
            first.send(acknowledge(1, 1)).await;
            first.send(heartbeat(nonce)).await;
            assert!(matches!(first.any_frame().await, Frame::Heartbeat(beat) if beat.nonce == nonce));
        }
        // And others have what is theirs.
        let mut bob = enter(&server, &token("bob", json!({}))).await;
        bob.open(write_only(1)).await;
        assert_eq!(bob.publish(publish(1, 1, payload)).await.failure, None);
        server.leave().await;
    }
}

#[tokio::test]
async fn a_client_makes_so_many_topics_and_others_make_theirs() {
    let (_files, server) = server(&[("topics.max_per_client", "2")]).await;
    let mut alice = enter(&server, &token("alice", json!({}))).await;
    for (alias, topic) in [(1, "chat.a"), (2, "chat.b")] {
        alice.open(open(alias, topic)).await;
    }
    alice.send(open(3, "chat.c")).await;
    assert_failure(alice.closed().await.failure.as_ref(), Code::ResourceExhausted, "TOPIC_LIMIT");
    let mut bob = enter(&server, &token("bob", json!({}))).await;
    bob.open(open(1, "chat.c")).await;
    // What is there already costs nothing.
    alice.open(open(4, "chat.c")).await;
    server.leave().await;
}

#[tokio::test]
async fn whoever_names_itself_pays_by_its_address() {
    let server = TestServer::with(&[("topics.max_per_client", "2")]).await;
    for (name, topic) in [("a", "one"), ("b", "two")] {
        server.connect(name).await.open(open(1, topic)).await;
        server.store(topic, &["x"]).await;
    }
    let mut third = server.connect("c").await;
    third.send(open(1, "three")).await;
    assert_failure(third.closed().await.failure.as_ref(), Code::ResourceExhausted, "TOPIC_LIMIT");
    server.leave().await;
}
