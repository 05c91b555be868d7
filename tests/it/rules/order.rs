//! Rules 1 to 3, 6 and 7: what comes, and in which order; what is stored, and how that is answered.

use bowline::proto::v1::{Durability, NewEvent, OpenSession, PublishRequest};
use tonic::Code;

use crate::support::{TestServer, assert_failure, earliest, event, last, open, payloads, publish};

#[tokio::test]
async fn rule_1_chain_each_frame_goes_on_exactly_at_the_client_s_cursor() {
    let server = TestServer::start().await;
    server.store("t", &["1", "2", "3"]).await;
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: last(2), ..open(1, "t") }).await;
    assert_eq!(opened.start.unwrap().offset, 1);
    // The client holds `prev` of every delivery, and `from` of every gap, against its cursor.
    assert_eq!(payloads(&client.events(1, 2).await), ["2", "3"]);
    server.store("t", &["4"]).await;
    let delivery = client.delivery().await;
    assert_eq!((delivery.prev, delivery.events[0].offset), (3, 4));
    server.leave().await;
}

#[tokio::test]
async fn rule_2_never_silently_lose_what_is_gone_is_announced_before_any_later_record() {
    let rules = r#"[{ pattern = ">", history = { max_events = 3 } }]"#;
    let server = TestServer::with(&[("topics.rules", rules)]).await;
    let mut client = server.connect("alice").await;
    let opened = client.open(open(1, "t")).await;
    client.send(bowline::proto::v1::CloseSession { session: 1, keep: false }).await;
    client.closed().await;
    server.store("t", &["1", "2", "3", "4", "5"]).await;
    client.open(OpenSession { start: crate::support::after(opened.start.unwrap()), ..open(1, "t") }).await;
    let gap = client.gap().await;
    assert_eq!((gap.count, gap.to.unwrap().offset), (2, 2));
    assert_eq!(payloads(&client.events(1, 3).await), ["3", "4", "5"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_3_one_reader_history_and_live_are_one_sequence_without_a_seam() {
    let server = TestServer::start().await;
    server.store("t", &vec!["old"; 300]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..open(1, "t") }).await;
    let new = vec!["new"; 300];
    let live = server.store("t", &new);
    let (_, events) = tokio::join!(live, client.events(1, 600));
    assert!(events.iter().map(|event| event.offset).eq(1..=600));
    server.leave().await;
}

#[tokio::test]
async fn rule_6_ordering_after_a_publish_that_fails_later_ones_are_refused_and_told_where_to_go_on() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..super::named(1, "t", "desk") }).await;
    assert_eq!(client.publish(publish(1, 1, "1")).await.through_seq, 1);
    let failing = NewEvent { if_last: Some(99), ..event("2") };
    let request = client.ask(bowline::proto::v1::Publish { session: 1, seq: 2, event: Some(failing) }).await;
    assert_failure(client.answer(request).await.failure.as_ref(), Code::Aborted, "WRONG_LAST");
    let behind = client.publish(publish(1, 3, "3")).await;
    assert_failure(behind.failure.as_ref(), Code::FailedPrecondition, "WRONG_SEQ");
    assert_eq!(behind.through_seq, 1);
    for (seq, payload) in [(2, "2"), (3, "3")] {
        assert_eq!(client.publish(publish(1, seq, payload)).await.failure, None);
    }
    let mut reader = server.connect("bob").await;
    reader.open(OpenSession { start: earliest(), ..open(1, "t") }).await;
    assert_eq!(payloads(&reader.events(1, 3).await), ["1", "2", "3"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_7_publish_replies_come_when_it_is_stored_name_the_class_and_a_repeat_is_not_stored_again() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { mode: 2, ..super::named(1, "t", "desk") }).await;
    let first = client.publish(publish(1, 1, "x")).await;
    assert_eq!((first.failure.as_ref(), first.duplicate, first.durability()), (None, false, Durability::Accepted));
    let again = client.publish(publish(1, 1, "x")).await;
    assert_eq!((again.duplicate, again.cursor), (true, first.cursor));
    // Without a session, by an id of the application's own.
    let mut topics = server.topics().await;
    let request = || PublishRequest {
        topic: "t".to_owned(),
        event: Some(NewEvent { dedupe_id: "order-7".to_owned(), ..event("y") }),
    };
    let first = topics.publish(request()).await.unwrap().into_inner();
    let again = topics.publish(request()).await.unwrap().into_inner();
    assert_eq!((first.duplicate, again.duplicate, again.cursor), (false, true, first.cursor));
    server.leave().await;
}
