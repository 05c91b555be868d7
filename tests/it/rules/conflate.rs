//! Rule 10, CONFLATE: the latest of each key, not too often, and what is left out is counted.

use std::time::Duration;

use bowline::proto::v1::{DeliveryPolicy, GapReason, OpenSession, Recovery};
use tokio::time::Instant;

use super::{keyed, policy, server};
use crate::support::{after, changes, close, credit, earliest, grant, open, paused, snapshot};

fn conflating(topic: &str, max_rate_hz: u32) -> OpenSession {
    policy(OpenSession { max_rate_hz, ..open(1, topic) }, DeliveryPolicy::Conflate)
}

#[tokio::test]
async fn rule_10_conflate_delivers_the_latest_of_each_key_and_counts_what_it_skips() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(conflating("state.fast", 0)).await;
    client.ask(paused(1, true)).await;
    client.reply().await;
    server.publish("state.fast", keyed(&["a=1", "b=1", "a=2", "c=1", "-c", "b=2", "a=3"])).await;
    client.send(paused(1, false)).await;
    let delivery = client.delivery().await;
    assert_eq!(changes(&delivery.events), ["-c", "b=2", "a=3"]);
    assert_eq!((delivery.prev, delivery.skipped), (0, 4));
    server.publish("state.fast", keyed(&["b=3"])).await;
    let delivery = client.delivery().await;
    assert_eq!((changes(&delivery.events), delivery.prev, delivery.skipped), (vec!["b=3".to_owned()], 7, 0));
    assert_eq!(server.metrics().events_skipped.get(), 4);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_conflate_delivers_piece_by_piece_as_credit_allows() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(0, 0), ..conflating("state.fast", 0) }).await;
    server.publish("state.fast", keyed(&["a=1", "b=1", "a=2", "c=1"])).await;
    client.send(grant(1, 1)).await;
    let delivery = client.delivery().await;
    assert_eq!((changes(&delivery.events), delivery.skipped), (vec!["b=1".to_owned()], 1));
    // What has changed since is left out of the rest, and comes later.
    server.publish("state.fast", keyed(&["a=3", "d=1"])).await;
    client.send(grant(1, 100)).await;
    let (mut rest, mut skipped) = (Vec::new(), 0);
    while client.cursor(1).offset < 6 {
        let delivery = client.delivery().await;
        rest.extend(changes(&delivery.events));
        skipped += delivery.skipped;
    }
    assert_eq!((rest, skipped), (vec!["c=1".to_owned(), "a=3".to_owned(), "d=1".to_owned()], 1));
    server.leave().await;
}

#[tokio::test]
async fn rule_10_conflate_comes_at_most_max_rate_times_a_second() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    assert_eq!(client.open(conflating("state.fast", 5)).await.max_rate_hz, 5);
    let begun = Instant::now();
    for round in 0..4 {
        server.publish("state.fast", keyed(&["a=1", "a=2"])).await;
        let delivery = client.delivery().await;
        assert!(begun.elapsed() >= Duration::from_millis(200) * round, "{round}: {:?}", begun.elapsed());
        assert_eq!(delivery.events.len(), 1, "{delivery:?}");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_10_conflate_comes_no_more_often_than_the_topic_allows() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for (topic, asked, given) in [
        ("state.fast", 0, 1000),
        ("state.fast", 7, 7),
        ("state.fast", 5000, 1000),
        ("state.t", 0, 20),
        ("state.t", 999, 20),
    ] {
        assert_eq!(client.open(conflating(topic, asked)).await.max_rate_hz, given, "{topic} {asked}");
        client.send(close(1)).await;
        client.closed().await;
    }
    let opened = client.open(OpenSession { max_rate_hz: 5, ..open(1, "state.t") }).await;
    assert_eq!((opened.delivery_policy(), opened.max_rate_hz), (DeliveryPolicy::Lag, 0), "of no use elsewhere");
    server.leave().await;
}

#[tokio::test]
async fn rule_10_a_half_close_does_not_wait_for_the_next_time_that_conflate_may_deliver() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(conflating("state.t", 1)).await;
    server.publish("state.t", keyed(&["a=1"])).await;
    client.events(1, 1).await;
    let begun = Instant::now();
    server.publish("state.t", keyed(&["a=2", "b=1", "a=3"])).await;
    client.half_close();
    let delivery = client.delivery().await;
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!((changes(&delivery.events), delivery.skipped), (vec!["b=1".to_owned(), "a=3".to_owned()], 1));
    client.ended_well().await;
    server.leave().await;
}

#[tokio::test]
async fn rule_10_conflate_goes_on_over_history_that_is_gone_as_long_as_no_removal_is_forgotten() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(conflating("state.short", 0)).await;
    server.publish("state.short", keyed(&["a=1", "b=1"])).await;
    while client.cursor(1).offset < 2 {
        client.delivery().await;
    }
    let cursor = client.cursor(1);
    client.send(close(1)).await;
    client.closed().await;
    // Four are kept: the first changes are gone from the history, but are still what is latest.
    server.publish("state.short", keyed(&["b=2", "c=1", "d=1", "d=2", "d=3", "d=4", "d=5"])).await;
    let opened = client.open(OpenSession { start: after(cursor), ..conflating("state.short", 0) }).await;
    assert_eq!(opened.recovery(), Recovery::Full);
    let delivery = client.delivery().await;
    assert_eq!(changes(&delivery.events), ["b=2", "c=1", "d=5"]);
    assert_eq!(delivery.skipped, 4);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_conflate_hears_of_a_removal_that_it_cannot_be_told_by_a_gap_and_a_snapshot() {
    let server = server().await;
    server.publish("state.short", keyed(&["a=1", "b=1"])).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: snapshot(), ..conflating("state.short", 0) }).await;
    assert_eq!(changes(&client.snapshot(1).await), ["a=1", "b=1"]);
    let cursor = client.cursor(1);
    client.send(close(1)).await;
    client.closed().await;
    server.publish("state.short", keyed(&["-a", "d=1", "d=2", "d=3", "d=4"])).await;
    let opened = client.open(OpenSession { start: after(cursor), ..conflating("state.short", 0) }).await;
    assert_eq!(opened.recovery(), Recovery::Partial);
    let gap = client.gap().await;
    assert_eq!((gap.reason(), gap.count), (GapReason::Retention, 5));
    assert_eq!(changes(&client.snapshot(1).await), ["b=1", "d=4"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_10_conflate_of_history_is_what_is_latest_of_it() {
    let server = server().await;
    server.publish("state.t", keyed(&["a=1", "b=1", "a=2", "b=2"])).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), no_follow: true, ..conflating("state.t", 0) }).await;
    let delivery = client.delivery().await;
    assert_eq!((changes(&delivery.events), delivery.skipped), (vec!["a=2".to_owned(), "b=2".to_owned()], 2));
    assert_eq!(client.closed().await.failure, None);
    server.leave().await;
}
