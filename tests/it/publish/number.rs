//! Publishing again what may have been stored: numbers and ids.

use bowline::proto::v1::{NewEvent, OpenSession, PublishRequest};
use tonic::Code;

use super::publisher;
use crate::support::{TestServer, assert_failure, earliest, event, open, payloads, publish, with};

#[tokio::test]
async fn the_same_number_is_stored_once_across_connections_and_answered_with_its_first_place() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(publisher(1, "t", "desk")).await;
    let mut first = Vec::new();
    for seq in 1..=5 {
        first.push(client.publish(publish(1, seq, format!("{seq}"))).await);
    }
    let again = client.publish(publish(1, 3, "3")).await;
    assert_eq!((again.duplicate, again.cursor, again.through_seq), (true, first[2].cursor, 5));
    client.sever();
    server.emptied().await;

    let mut client = server.connect("alice").await;
    client.open(publisher(4, "t", "desk")).await;
    for (seq, first) in (1..).zip(&first) {
        let again = client.publish(publish(4, seq, format!("{seq}"))).await;
        assert_eq!((again.failure, again.duplicate, again.cursor), (None, true, first.cursor));
    }
    assert!(!client.publish(publish(4, 6, "6")).await.duplicate);
    client.open(OpenSession { start: earliest(), ..open(1, "t") }).await;
    assert_eq!(payloads(&client.events(1, 6).await), ["1", "2", "3", "4", "5", "6"]);
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn a_number_that_leaves_a_hole_is_refused_and_told_where_to_go_on() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(publisher(1, "t", "desk")).await;
    let answer = client.publish(publish(1, 2, "x")).await;
    assert_failure(answer.failure.as_ref(), Code::FailedPrecondition, "WRONG_SEQ");
    assert_eq!(answer.through_seq, 0);
    client.publish(publish(1, 1, "x")).await;
    for seq in [3, 4, u64::MAX] {
        let answer = client.publish(publish(1, seq, "x")).await;
        assert_failure(answer.failure.as_ref(), Code::FailedPrecondition, "WRONG_SEQ");
        assert_eq!(answer.through_seq, 1);
    }
    let answer = client.publish(publish(1, 0, "x")).await;
    assert_failure(answer.failure.as_ref(), Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(client.publish(publish(1, 2, "x")).await.through_seq, 2);
    server.leave().await;
}

#[tokio::test]
async fn what_follows_a_failed_publish_is_refused_until_it_is_repeated() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(publisher(1, "t", "desk")).await;
    client.publish(publish(1, 1, "1")).await;
    let conditional = client.ask(with(1, 2, NewEvent { if_last: Some(77), ..event("2") })).await;
    let behind = [client.ask(publish(1, 3, "3")).await, client.ask(publish(1, 4, "4")).await];
    let answer = client.answer(conditional).await;
    assert_failure(answer.failure.as_ref(), Code::Aborted, "WRONG_LAST");
    assert_eq!(answer.failure.unwrap().metadata["actual"], "1");
    for request in behind {
        assert_failure(client.answer(request).await.failure.as_ref(), Code::FailedPrecondition, "WRONG_SEQ");
    }
    for seq in 2..=4 {
        let answer = client.publish(with(1, seq, NewEvent { if_last: Some(seq - 1), ..event(seq.to_string()) })).await;
        assert_eq!((answer.failure, answer.through_seq), (None, seq));
    }
    client.open(OpenSession { start: earliest(), ..open(2, "t") }).await;
    assert_eq!(payloads(&client.events(2, 4).await), ["1", "2", "3", "4"]);
    server.leave().await;
}

#[tokio::test]
async fn a_number_stored_too_long_ago_is_not_stored_again() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    let depth = 1024;
    client.open(publisher(1, "t", "desk")).await;
    for seq in 1..=depth {
        client.send(publish(1, seq, "x")).await;
    }
    assert!(client.publish(publish(1, 1, "x")).await.duplicate, "the oldest that can be unanswered");
    client.publish(publish(1, depth + 1, "x")).await;
    let answer = client.publish(publish(1, 1, "x")).await;
    assert_failure(answer.failure.as_ref(), Code::OutOfRange, "FORGOTTEN_SEQ");
    assert_eq!(answer.through_seq, depth + 1);
    server.leave().await;
}

#[tokio::test]
async fn an_id_is_stored_once_whoever_publishes_it_and_by_whatever_way() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = (server.connect("alice").await, server.connect("bob").await);
    let order = || NewEvent { dedupe_id: "order-17".to_owned(), ..event("x") };
    alice.open(publisher(1, "t", "a")).await;
    bob.open(publisher(1, "t", "b")).await;
    let first = alice.publish(with(1, 1, order())).await;
    let second = bob.publish(with(1, 1, order())).await;
    assert_eq!((second.failure, second.duplicate, second.cursor), (None, true, first.cursor));
    let request = PublishRequest { topic: "t".to_owned(), event: Some(order()) };
    let third = server.topics().await.publish(request).await.unwrap().into_inner();
    assert_eq!((third.duplicate, third.cursor), (true, first.cursor));
    assert_eq!(bob.publish(publish(1, 2, "y")).await.through_seq, 2, "a repeat by id fills its number");
    server.leave().await;
}
