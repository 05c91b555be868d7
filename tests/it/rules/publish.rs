//! Rules 6 and 7: the order of a session's publishes, and what their answers say.

use bowline::proto::v1::{Advice, Durability, NewEvent, OpenSession, PublishRequest, ReadHistoryRequest};
use tonic::Code;

use super::{assert_advised, numbers, server};
use crate::support::{earliest, event, named, open, payloads, publish, with};

fn desk(session: u32) -> OpenSession {
    OpenSession { mode: 2, ..named(session, "t", "desk") }
}

#[tokio::test]
async fn rule_06_publishes_of_a_session_are_stored_in_their_order() {
    let server = server().await;
    let (mut alice, mut bob) = (server.connect("alice").await, server.connect("bob").await);
    for client in [&mut alice, &mut bob] {
        client.open(desk(1)).await;
    }
    for seq in 1..=100 {
        alice.send(publish(1, seq, format!("a{seq}"))).await;
        bob.send(publish(1, seq, format!("b{seq}"))).await;
    }
    let mut reader = server.connect("reader").await;
    reader.open(OpenSession { start: earliest(), ..open(1, "t") }).await;
    let all = payloads(&reader.events(1, 200).await);
    for publisher in ["a", "b"] {
        let own: Vec<_> = all.iter().filter_map(|payload| payload.strip_prefix(publisher)).collect();
        assert_eq!(own, numbers(1, 100), "{publisher}");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_06_what_follows_a_failed_publish_is_refused_and_through_seq_says_where_to_go_on() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(desk(1)).await;
    client.publish(publish(1, 1, "1")).await;
    let failing = client.ask(with(1, 2, NewEvent { if_last: Some(9), ..event("2") })).await;
    let behind = client.ask(publish(1, 3, "3")).await;
    let answer = client.answer(failing).await;
    assert_advised(answer.failure.as_ref(), Code::Aborted, "WRONG_LAST", Advice::None);
    assert_eq!(answer.through_seq, 1);
    let answer = client.answer(behind).await;
    assert_advised(answer.failure.as_ref(), Code::FailedPrecondition, "WRONG_SEQ", Advice::None);
    assert_eq!(answer.through_seq, 1);
    for seq in [2, 3] {
        assert_eq!(client.publish(publish(1, seq, "again")).await.through_seq, seq);
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_07_a_publish_that_was_answered_is_stored_at_the_cursor_and_durability_it_names() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(desk(1)).await;
    let answer = client.publish(publish(1, 1, "x")).await;
    assert_eq!((answer.failure.as_ref(), answer.durability()), (None, Durability::Accepted));
    let history = ReadHistoryRequest { topic: "t".to_owned(), ..ReadHistoryRequest::default() };
    let read = server.topics().await.read_history(history).await.unwrap().into_inner();
    let cursor = answer.cursor.unwrap();
    assert_eq!((read.events[0].offset, read.events[0].time_us), (cursor.offset, cursor.time_us));
    assert_eq!(read.head, Some(cursor));
    server.leave().await;
}

#[tokio::test]
async fn rule_07_a_number_is_stored_once_however_often_and_on_whatever_connection_it_is_repeated() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(desk(1)).await;
    let first = client.publish(publish(1, 1, "x")).await;
    for _ in 0..3 {
        client.sever();
        client = server.connect("alice").await;
        assert_eq!(client.open(desk(1)).await.published_seq, 1);
        let again = client.publish(publish(1, 1, "x")).await;
        assert_eq!((again.failure, again.duplicate, again.cursor), (None, true, first.cursor));
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_07_a_publish_without_a_session_is_stored_once_by_its_dedupe_id() {
    let server = server().await;
    let mut topics = server.topics().await;
    let event = NewEvent { dedupe_id: "order-7".to_owned(), ..event("x") };
    let request = PublishRequest { topic: "t".to_owned(), event: Some(event) };
    let first = topics.publish(request.clone()).await.unwrap().into_inner();
    let again = topics.publish(request).await.unwrap().into_inner();
    assert_eq!((first.duplicate, again.duplicate, again.cursor), (false, true, first.cursor));
    server.leave().await;
}
