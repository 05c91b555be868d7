//! Back-pressure: a topic with `max_lag` has its publishers wait for the readers that are required. `held` has four.

use bowline::proto::v1::{Advice, CloseSession, Cursor, Flow, OpenSession, PublishBatchRequest, PublishRequest};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{assert_advised, assert_status_advised, numbers, refused, server, server_with};
use crate::support::{
    TestClient, TestServer, acknowledge, after, close, credit, earliest, event, eventually, named, open, publish,
};

fn required(session: u32, session_id: &str) -> OpenSession {
    OpenSession { required: true, ..named(session, "held", session_id) }
}

/// Publishes past any session, until it is refused; how many were stored.
async fn fill(server: &TestServer) -> usize {
    let events = vec![event("x"); 50];
    let request = PublishBatchRequest { topic: "held".to_owned(), events };
    let answer = server.topics().await.publish_batch(request).await.unwrap().into_inner();
    if let Some(failure) = &answer.failure {
        assert_advised(Some(failure), Code::ResourceExhausted, "BACKPRESSURE", Advice::Retry);
        assert!(failure.retry_after_ms > 0, "{failure:?}");
    }
    answer.stored.len()
}

/// A reader that has been sent everything and has acknowledged nothing.
async fn reader(server: &TestServer, session_id: &str) -> TestClient {
    let mut reader = server.connect("reader").await;
    reader.open(required(1, session_id)).await;
    reader
}

async fn acknowledged(reader: &mut TestClient, offset: u64) {
    while reader.cursor(1).offset < offset {
        reader.delivery().await;
    }
    let request = reader.ask(acknowledge(1, offset)).await;
    assert_eq!(reader.answer(request).await.failure, None);
}

#[tokio::test]
async fn rule_10_publishes_are_refused_while_a_required_reader_is_max_lag_behind() {
    let server = server().await;
    let mut reader = reader(&server, "desk").await;
    let mut writer = server.connect("writer").await;
    writer.open(OpenSession { mode: 2, ..open(1, "held") }).await;
    for seq in 1..=4 {
        assert_eq!(writer.publish(publish(1, seq, "x")).await.failure, None);
    }
    let answer = writer.publish(publish(1, 5, "x")).await;
    assert_advised(answer.failure.as_ref(), Code::ResourceExhausted, "BACKPRESSURE", Advice::Retry);
    assert!(answer.failure.unwrap().retry_after_ms > 0 && answer.through_seq == 4);
    let answer = writer.publish(publish(1, 6, "x")).await;
    assert_advised(answer.failure.as_ref(), Code::FailedPrecondition, "WRONG_SEQ", Advice::None);

    let request = PublishRequest { topic: "held".to_owned(), event: Some(event("x")) };
    let status = server.topics().await.publish(request).await.unwrap_err();
    assert_status_advised(&status, Code::ResourceExhausted, "BACKPRESSURE", "RETRY");
    let wait = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
    assert!(wait.is_some_and(|wait| !wait.is_zero()), "{wait:?}");

    acknowledged(&mut reader, 1).await;
    assert_eq!(writer.publish(publish(1, 5, "x")).await.failure, None, "unchanged, on this connection");
    assert_eq!(fill(&server).await, 0);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_publishers_wait_for_what_is_acknowledged_and_not_for_what_was_sent() {
    let server = server().await;
    let mut reader = reader(&server, "desk").await;
    assert_eq!(fill(&server).await, 4);
    while reader.cursor(1).offset < 4 {
        reader.delivery().await;
    }
    assert_eq!(fill(&server).await, 0);
    for (acked, room) in [(2, 2), (1, 0), (2, 0), (6, 4)] {
        acknowledged(&mut reader, acked).await;
        assert_eq!(fill(&server).await, room, "{acked}");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_nothing_that_was_not_sent_can_be_acknowledged() {
    let server = server().await;
    let mut reader = server.connect("reader").await;
    reader.open(OpenSession { credit: credit(1, 0), ..required(1, "desk") }).await;
    assert_eq!(fill(&server).await, 4);
    reader.events(1, 1).await;
    let request = reader.ask(acknowledge(1, u64::MAX)).await;
    reader.answer(request).await;
    assert_eq!(fill(&server).await, 1);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_publishers_wait_for_the_required_reader_that_is_furthest_behind_and_for_no_other() {
    let server = server().await;
    let (mut fast, mut slow) = (reader(&server, "fast").await, reader(&server, "slow").await);
    let mut other = server.connect("other").await;
    other.open(OpenSession { credit: credit(0, 0), ..named(1, "held", "desk") }).await;
    assert_eq!(fill(&server).await, 4);
    acknowledged(&mut fast, 4).await;
    assert_eq!(fill(&server).await, 0);
    acknowledged(&mut slow, 3).await;
    assert_eq!(fill(&server).await, 3);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_a_required_reader_counts_from_where_it_begins() {
    let server = server().await;
    server.store("held", &numbers(1, 20)).await;
    let mut reader = server.connect("reader").await;
    reader.open(OpenSession { start: earliest(), ..required(1, "desk") }).await;
    assert_eq!(fill(&server).await, 0, "twenty behind");
    acknowledged(&mut reader, 18).await;
    assert_eq!(fill(&server).await, 2);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_a_required_reader_of_another_epoch_is_waited_for_from_where_it_will_go_on() {
    let server = server().await;
    let head = server.store("held", &["1"]).await[0].cursor.unwrap();
    let elsewhere = Cursor { epoch: head.epoch ^ 1, offset: 1000, time_us: 0 };
    let mut reader = server.connect("reader").await;
    reader.open(OpenSession { start: after(elsewhere), ..required(1, "desk") }).await;
    assert_eq!(reader.gap().await.to.unwrap().offset, 0);
    assert_eq!(fill(&server).await, 3);
    // What was processed of another log says nothing of this one.
    reader.events(1, 4).await;
    for (acked_epoch, room) in [(elsewhere.epoch, 0), (head.epoch, 2)] {
        let request = reader.ask(Flow { acked_epoch, ..acknowledge(1, 2) }).await;
        assert_eq!(reader.answer(request).await.failure, None);
        assert_eq!(fill(&server).await, room);
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_publishers_no_longer_wait_for_a_reader_that_closes_or_is_opened_as_not_required() {
    let server = server().await;
    let mut reader = reader(&server, "desk").await;
    assert_eq!(fill(&server).await, 4);
    reader.send(close(1)).await;
    reader.settled().await;
    assert_eq!(fill(&server).await, 50);
    reader.open(required(2, "desk")).await;
    assert_eq!(fill(&server).await, 4);
    reader.send(named(3, "held", "desk")).await;
    reader.settled().await;
    assert_eq!(fill(&server).await, 50);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_a_required_reader_that_is_gone_counts_for_session_ttl() {
    let server = server_with(&[("session.ttl", "1s"), ("session.key_grace", "1s")]).await;
    for keeps in [true, false] {
        let mut reader = reader(&server, &keeps.to_string()).await;
        assert_eq!(fill(&server).await, 4);
        if keeps {
            reader.send(CloseSession { session: 1, keep: true }).await;
        } else {
            reader.sever();
        }
        let expired = server.metrics().sessions_expired.get();
        eventually("it is let go", || server.sessions() == 0).await;
        assert_eq!(fill(&server).await, 0, "it may come back");
        eventually("it has expired", || server.metrics().sessions_expired.get() > expired).await;
        assert_eq!(fill(&server).await, 50);
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_a_required_reader_that_comes_back_goes_on_from_what_it_had_acknowledged() {
    let server = server().await;
    let mut first = reader(&server, "desk").await;
    assert_eq!(fill(&server).await, 4);
    acknowledged(&mut first, 2).await;
    first.sever();
    // Wherever it begins to read.
    let mut second = reader(&server, "desk").await;
    assert_eq!(second.cursor(1).offset, 4);
    assert_eq!(fill(&server).await, 2);
    acknowledged(&mut second, 6).await;
    assert_eq!(fill(&server).await, 4);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_only_a_named_session_that_reads_can_be_required_and_only_where_the_topic_waits() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for wish in [required(1, ""), OpenSession { mode: 2, ..required(1, "desk") }] {
        let failure = refused(&mut client, wish).await;
        assert_advised(Some(&failure), Code::InvalidArgument, "INVALID_FIELD", Advice::None);
        assert_eq!(failure.metadata["field"], "required");
    }
    for topic in ["t", "state.t", "signal.t", "echo"] {
        let failure = refused(&mut client, OpenSession { topic: topic.to_owned(), ..required(1, "desk") }).await;
        assert_advised(Some(&failure), Code::Unimplemented, "UNSUPPORTED", Advice::None);
    }
    assert_eq!(fill(&server).await, 50, "nobody is waited for");
    server.leave().await;
}

#[tokio::test]
async fn rule_10_a_topic_waits_for_so_many_readers_and_no_more() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for session in 1..=64 {
        client.open(required(session, &session.to_string())).await;
    }
    let failure = refused(&mut client, required(65, "65")).await;
    assert_advised(Some(&failure), Code::ResourceExhausted, "SESSION_LIMIT", Advice::None);
    let mut writer = server.connect("writer").await;
    writer.open(named(1, "held", "65")).await;
    let failure = refused(&mut writer, required(2, "65")).await;
    assert_advised(Some(&failure), Code::ResourceExhausted, "SESSION_LIMIT", Advice::None);
    client.send(CloseSession { session: 64, keep: true }).await;
    client.closed().await;
    client.open(required(66, "64")).await;
    client.send(close(7)).await;
    client.closed().await;
    client.open(required(65, "65")).await;
    assert_eq!(writer.publish(publish(1, 1, "x")).await.failure, None, "the refusal cost the session nothing");
    server.leave().await;
}

#[tokio::test]
async fn rule_10_a_publish_that_was_stored_is_recognised_even_while_publishers_have_to_wait() {
    let server = server().await;
    let _reader = reader(&server, "desk").await;
    let mut writer = server.connect("writer").await;
    writer.open(OpenSession { mode: 2, ..named(1, "held", "desk") }).await;
    for seq in 1..=4 {
        writer.publish(publish(1, seq, "x")).await;
    }
    let answer = writer.publish(publish(1, 4, "x")).await;
    assert_eq!((answer.failure, answer.duplicate), (None, true));
    server.leave().await;
}
