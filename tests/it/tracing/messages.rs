//! Publishes and their deliveries.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use bowline::proto::v1::{NewEvent, PublishBatchRequest};

use super::{hex, links, traced, traceparent};
use crate::{
    collector::attribute,
    support::{TestClient, TestServer, earliest, event, eventually, named, open, put, snapshot, with},
};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn asking(payload: &str) -> NewEvent {
    NewEvent { traceparent: PARENT.to_owned(), tracestate: "vendor=opaque".to_owned(), ..event(payload) }
}

/// A client that only reads.
async fn reader(server: &TestServer, name: &str) -> TestClient {
    let mut client = server.connect(name).await;
    client.open(bowline::proto::v1::OpenSession { mode: 1, ..named(1, "t", "s") }).await;
    client
}

#[tokio::test]
async fn a_publish_and_its_deliveries_to_two_clients_are_seen_while_all_streams_are_open() {
    let (server, collector) = traced(&[]).await;
    let (mut bob, mut carol) = (reader(&server, "bob").await, reader(&server, "carol").await);
    let mut alice = server.connect("alice").await;
    alice.open(bowline::proto::v1::OpenSession { mode: 2, ..named(1, "t", "desk") }).await;
    let answer = alice.publish(with(1, 1, asking("hello"))).await;
    for client in [&mut bob, &mut carol] {
        let got = client.events(1, 1).await.remove(0);
        assert_eq!((got.traceparent.as_str(), got.tracestate.as_str()), (PARENT, "vendor=opaque"), "as published");
    }
    eventually("the deliveries were exported", || collector.named("deliver").len() == 2).await;

    let publish = collector.named("publish").remove(0);
    assert_eq!((publish.kind(), hex(&publish.parent_span_id)), (SpanKind::Producer, "b7ad6b7169203331".to_owned()));
    assert_eq!(hex(&publish.trace_id), "0af7651916cd43dd8448eb211c80319c");
    let cursor = answer.cursor.unwrap();
    let message = format!("{:016x}:{}", cursor.epoch, cursor.offset);
    for (key, value) in [
        ("messaging.system", "bowline"),
        ("messaging.operation.name", "publish"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "t"),
        ("messaging.client.id", "alice"),
        ("messaging.message.id", &message),
        ("messaging.message.body.size", "5"),
        ("bowline.session.id", "desk"),
    ] {
        assert_eq!(attribute(&publish, key), value, "{key}");
    }
    let deliveries = collector.named("deliver");
    let mut clients: Vec<_> = deliveries.iter().map(|span| attribute(span, "messaging.client.id")).collect();
    clients.sort();
    assert_eq!(clients, ["bob", "carol"]);
    for delivery in &deliveries {
        assert_eq!((delivery.kind(), links(delivery)), (SpanKind::Consumer, vec![traceparent(&publish)]));
        assert_eq!(attribute(delivery, "messaging.message.id"), message);
        assert!(delivery.parent_span_id.is_empty() && delivery.trace_id != publish.trace_id);
    }
    server.leave().await;
}

#[tokio::test]
async fn a_publish_without_a_context_gives_its_readers_that_of_its_span() {
    let (server, collector) = traced(&[("telemetry.traces.sample_ratio", "1")]).await;
    let mut bob = reader(&server, "bob").await;
    let mut alice = server.connect("alice").await;
    alice.open(bowline::proto::v1::OpenSession { mode: 2, ..open(1, "t") }).await;
    alice.publish(with(1, 1, event("x"))).await;
    let got = bob.events(1, 1).await.remove(0);
    server.leave().await;
    let publish = collector.named("publish").remove(0);
    assert!(publish.parent_span_id.is_empty());
    assert_eq!(got.traceparent, traceparent(&publish));
}

#[tokio::test]
async fn of_many_deliveries_of_an_event_the_first_eight_are_traced() {
    let (server, collector) = traced(&[]).await;
    let mut readers = Vec::new();
    for number in 0..12 {
        readers.push(reader(&server, &format!("client-{number}")).await);
    }
    server.publish("t", vec![asking("x"), event("y")]).await;
    for reader in &mut readers {
        reader.events(1, 2).await;
    }
    server.leave().await;
    assert_eq!((collector.named("publish").len(), collector.named("deliver").len()), (1, 8));
}

#[tokio::test]
async fn history_and_snapshots_are_no_deliveries_of_a_publish_unless_it_was_just_now() {
    let (server, collector) =
        traced(&[("topics.rules", r#"[{ pattern = "s", class = "state" }, { pattern = ">" }]"#)]).await;
    let keyed = NewEvent { traceparent: PARENT.to_owned(), ..put("k", "x") };
    server.publish("s", vec![keyed]).await;
    server.publish("t", vec![asking("x")]).await;
    let mut late = server.connect("late").await;
    late.open(bowline::proto::v1::OpenSession { start: snapshot(), ..open(1, "s") }).await;
    assert_eq!(late.snapshot(1).await.len(), 1);
    late.open(bowline::proto::v1::OpenSession { start: earliest(), ..open(2, "t") }).await;
    late.events(2, 1).await;
    server.leave().await;
    let topics: Vec<_> =
        collector.named("deliver").iter().map(|span| attribute(span, "messaging.destination.name")).collect();
    assert_eq!(topics, ["t"]);
}

#[tokio::test]
async fn a_failed_publish_and_a_repeated_one_say_so() {
    let (server, collector) = traced(&[]).await;
    let mut alice = server.connect("alice").await;
    alice.open(bowline::proto::v1::OpenSession { mode: 2, ..named(1, "t", "desk") }).await;
    alice.publish(with(1, 1, asking("x"))).await;
    assert!(alice.publish(with(1, 1, asking("x"))).await.duplicate);
    assert!(alice.publish(with(1, 2, NewEvent { if_last: Some(99), ..asking("x") })).await.failure.is_some());
    server.leave().await;
    let publishes = collector.named("publish");
    let facts: Vec<_> =
        publishes.iter().map(|span| (attribute(span, "bowline.duplicate"), attribute(span, "error.type"))).collect();
    let fact = |duplicate: &str, error: &str| (duplicate.to_owned(), error.to_owned());
    assert_eq!(facts, [fact("", ""), fact("true", ""), fact("", "WRONG_LAST")]);
}

#[tokio::test]
async fn whoever_has_everything_traced_gets_no_more_than_the_limit() {
    let (server, collector) = traced(&[("telemetry.traces.max_forced_per_second", "5")]).await;
    let begun = tokio::time::Instant::now();
    let count = 1000;
    let mut topics = server.topics().await;
    for _ in 0..count / 100 {
        let events = (0..100).map(|_| asking("x")).collect();
        topics.publish_batch(PublishBatchRequest { topic: "t".to_owned(), events }).await.unwrap();
    }
    let seconds = begun.elapsed().as_secs() + 1;
    let unfollowed = server.sample("bowline_traces_unfollowed_total");
    server.leave().await;
    let traced = collector.named("publish").len() as u64;
    assert!((5..=5 + 5 * seconds).contains(&traced), "{traced} in {seconds} s");
    assert_eq!(traced + unfollowed as u64, count);
}

#[tokio::test]
async fn a_context_that_is_none_or_not_sampled_makes_no_trace_and_is_passed_on() {
    let (server, collector) = traced(&[]).await;
    let contexts = ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "made up", ""];
    let with_context = |context: &&str| NewEvent { traceparent: (*context).to_owned(), ..event("x") };
    server.publish("t", contexts.iter().map(with_context).collect()).await;
    let mut reader = server.connect("bob").await;
    reader.open(bowline::proto::v1::OpenSession { start: earliest(), ..open(1, "t") }).await;
    let got: Vec<_> = reader.events(1, 3).await.into_iter().map(|event| event.traceparent).collect();
    assert_eq!(got, contexts);
    server.leave().await;
    assert!(collector.named("publish").is_empty() && collector.named("deliver").is_empty());
}
