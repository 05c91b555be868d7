//! Rule 11: where a session begins.

use bowline::proto::v1::{
    Advice, DeliveryPolicy, Flow, Live, OpenSession, Recovery, StartPosition, start_position::Position,
};
use tonic::Code;

use super::{assert_advised, keyed, numbers, policy, refused, server};
use crate::support::{
    TestClient, acked, after, changes, close, credit, earliest, flow, grant, last, named, open, payloads, since,
    snapshot,
};

/// Opens at a position, takes `count` events, and closes.
async fn read(client: &mut TestClient, topic: &str, start: Option<StartPosition>, count: usize) -> Vec<String> {
    let opened = client.open(OpenSession { start, ..named(1, topic, "desk") }).await;
    assert_ne!(opened.recovery(), Recovery::Partial);
    let events = client.events(1, count).await;
    assert!(client.is_quiet().await, "more came");
    client.send(close(1)).await;
    client.closed().await;
    payloads(&events)
}

#[tokio::test]
async fn rule_11_a_session_begins_live_or_at_the_earliest_or_after_a_cursor_or_with_the_last_or_since_a_time() {
    let server = server().await;
    let stored = server.store("t", &numbers(1, 5)).await;
    let cursor = |n: usize| stored[n - 1].cursor.unwrap();
    let mut client = server.connect("alice").await;
    let live = Some(StartPosition { position: Some(Position::Live(Live {})) });
    for (start, first) in [
        (None, 6),
        (live, 6),
        (earliest(), 1),
        (after(cursor(2)), 3),
        (after(cursor(5)), 6),
        (last(0), 6),
        (last(2), 4),
        (last(99), 1),
        (since(0), 1),
        (since(cursor(3).time_us), 3),
        (since(cursor(3).time_us + 1), 4),
        (since(u64::MAX), 6),
    ] {
        let read = read(&mut client, "t", start, 6 - first).await;
        assert_eq!(read, numbers(first as u64, 5), "{start:?}");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_11_acked_begins_after_what_the_session_acknowledged_or_live_if_it_never_did() {
    let server = server().await;
    server.store("t", &numbers(1, 5)).await;
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: acked(), ..named(1, "t", "desk") }).await;
    assert_eq!((opened.recovery(), opened.start.unwrap().offset), (Recovery::Fresh, 5));
    client.open(OpenSession { start: earliest(), ..named(2, "t", "shelf") }).await;
    client.events(2, 5).await;
    client.ask(Flow { acked: Some(2), ..flow(2) }).await;
    client.reply().await;
    client.send(bowline::proto::v1::CloseSession { session: 2, keep: true }).await;
    client.closed().await;
    let opened = client.open(OpenSession { start: acked(), ..named(2, "t", "shelf") }).await;
    assert_eq!((opened.recovery(), opened.start.unwrap().offset), (Recovery::Full, 2));
    assert_eq!(payloads(&client.events(2, 3).await), numbers(3, 5));
    server.leave().await;
}

#[tokio::test]
async fn rule_11_acked_begins_where_the_session_began_as_long_as_it_has_acknowledged_nothing() {
    let server = server().await;
    server.store("t", &numbers(1, 5)).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: last(2), ..named(1, "t", "desk") }).await;
    client.events(1, 2).await;
    client.sever();
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: acked(), ..named(1, "t", "desk") }).await;
    assert_eq!((opened.recovery(), opened.start.unwrap().offset), (Recovery::Full, 3));
    assert_eq!(payloads(&client.events(1, 2).await), numbers(4, 5));
    server.leave().await;
}

#[tokio::test]
async fn rule_11_every_position_in_history_works_in_a_keyed_topic_too() {
    let server = server().await;
    let stored = server.publish("state.t", keyed(&["a=1", "b=1", "a=2", "-b", "a=3"])).await;
    let mut client = server.connect("alice").await;
    let all = ["a=1", "b=1", "a=2", "-b", "a=3"];
    for (start, expected) in [
        (earliest(), &all[..]),
        (last(2), &all[3..]),
        (since(stored[2].cursor.unwrap().time_us), &all[2..]),
        (after(stored[0].cursor.unwrap()), &all[1..]),
    ] {
        client.open(OpenSession { start, ..open(1, "state.t") }).await;
        assert_eq!(changes(&client.events(1, expected.len()).await), expected);
        client.send(close(1)).await;
        client.closed().await;
    }
    let opened =
        client.open(policy(OpenSession { start: last(3), ..open(1, "state.t") }, DeliveryPolicy::Conflate)).await;
    assert_eq!(opened.start, stored[1].cursor);
    let delivery = client.delivery().await;
    assert_eq!((changes(&delivery.events), delivery.skipped), (vec!["-b".to_owned(), "a=3".to_owned()], 1));
    server.leave().await;
}

#[tokio::test]
async fn rule_11_only_keyed_topics_have_a_snapshot_to_begin_with() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for topic in ["t", "signal.t", "echo"] {
        let failure = refused(&mut client, OpenSession { start: snapshot(), ..open(1, topic) }).await;
        assert_advised(Some(&failure), Code::Unimplemented, "UNSUPPORTED", Advice::None);
    }
    client.open(OpenSession { start: snapshot(), ..open(1, "state.t") }).await;
    assert!(client.snapshot(1).await.is_empty());
    server.leave().await;
}

#[tokio::test]
async fn rule_11_a_read_that_does_not_follow_ends_at_what_was_newest_and_takes_credit() {
    let server = server().await;
    server.store("t", &numbers(1, 4)).await;
    let mut client = server.connect("alice").await;
    let read = OpenSession { start: earliest(), no_follow: true, credit: credit(3, 0), ..open(1, "t") };
    client.open(read).await;
    assert_eq!(payloads(&client.events(1, 3).await), numbers(1, 3));
    assert!(client.is_quiet().await);
    server.store("t", &["new"]).await;
    client.send(grant(1, 100)).await;
    assert_eq!(payloads(&client.events(1, 1).await), ["4"]);
    assert_eq!(client.closed().await.failure, None);
    for start in [None, last(0)] {
        client.open(OpenSession { start, no_follow: true, ..open(1, "t") }).await;
        assert_eq!(client.closed().await.failure, None, "there is nothing to read");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_11_a_read_that_does_not_follow_is_not_slow_for_what_lies_behind_its_end() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for topic in ["drop", "cut"] {
        server.store(topic, &numbers(1, 20)).await;
        let read = OpenSession { start: earliest(), no_follow: true, credit: credit(1, 0), ..open(1, topic) };
        client.open(read).await;
        client.events(1, 1).await;
        server.store(topic, &numbers(21, 40)).await;
        client.send(grant(1, 2)).await;
        client.events(1, 1).await;
        client.send(grant(1, 100)).await;
        assert_eq!(payloads(&client.events(1, 18).await), numbers(3, 20), "{topic}");
        assert_eq!(client.closed().await.failure, None);
    }
    server.leave().await;
}
