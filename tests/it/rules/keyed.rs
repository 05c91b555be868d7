//! Rule 12: what the classes of topics promise; snapshots.

use bowline::proto::v1::{Flow, GapReason, NewEvent, OpenSession, Recovery, TopicClass};
use tonic::Code;

use crate::support::{
    TestServer, after, assert_bad_field, assert_failure, credit, earliest, event, flow, keyed, last, open, pair,
    payloads, publish, removal, snapshot,
};

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, payload)| ((*key).to_owned(), (*payload).to_owned())).collect()
}

#[tokio::test]
async fn rule_12_a_keyed_topic_gives_a_snapshot_then_changes() {
    let server = TestServer::start().await;
    let events = [keyed("a", "1"), keyed("b", "2"), keyed("a", "3"), keyed("c", "4"), removal("c")];
    server.store_all("state.t", &events).await;
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: snapshot(), ..open(1, "state.t") }).await;
    assert_eq!(
        (opened.topic_class(), opened.start, opened.recovery()),
        (TopicClass::State, opened.head, Recovery::Fresh)
    );
    assert_eq!(client.snapshot(1).await, pairs(&[("b", "2"), ("a", "3")]));
    server.store_all("state.t", &[keyed("d", "6"), removal("b")]).await;
    let changes: Vec<_> = client.events(1, 2).await.iter().map(pair).collect();
    assert_eq!(changes, pairs(&[("d", "6"), ("-b", "")]));
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_snapshot_is_taken_at_the_reader_s_pace_and_what_changes_meanwhile_comes_as_a_change() {
    let server = TestServer::start().await;
    let events: Vec<_> = (0..6).map(|n| keyed(&format!("k{n}"), "old")).collect();
    server.store_all("state.t", &events).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: snapshot(), credit: credit(2, 0), ..open(1, "state.t") }).await;
    let mut snapshot = Vec::new();
    while snapshot.len() < 2 {
        snapshot.extend(client.delivery().await.events.iter().map(pair));
    }
    assert!(client.is_quiet().await);
    server.store_all("state.t", &[keyed("k0", "new"), keyed("k3", "new"), removal("k4")]).await;
    client.send(Flow { credit: credit(100, 0), ..flow(1) }).await;
    snapshot.extend(client.snapshot(1).await);
    assert_eq!(snapshot, pairs(&[("k0", "old"), ("k1", "old"), ("k2", "old"), ("k5", "old")]));
    let changes: Vec<_> = client.events(1, 3).await.iter().map(pair).collect();
    assert_eq!(changes, pairs(&[("k0", "new"), ("k3", "new"), ("-k4", "")]));
    server.leave().await;
}

#[tokio::test]
async fn rule_12_after_a_gap_in_a_keyed_topic_a_snapshot_says_how_it_is_now() {
    let rules = r#"[{ pattern = "state.>", class = "state", history = { max_events = 3 } }]"#;
    let server = TestServer::with(&[("topics.rules", rules)]).await;
    server.store_all("state.t", &[keyed("old", "1"), keyed("gone", "2")]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: snapshot(), ..open(1, "state.t") }).await;
    client.snapshot(1).await;
    let cursor = client.cursor(1);
    client.sever();
    server.store_all("state.t", &[removal("gone"), keyed("x", "4"), keyed("x", "5"), keyed("x", "6")]).await;
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: after(cursor), ..open(1, "state.t") }).await;
    assert_eq!(opened.recovery(), Recovery::Partial);
    let gap = client.gap().await;
    assert_eq!((gap.reason(), gap.to, gap.count), (GapReason::Retention, opened.head, 4));
    assert_eq!(client.snapshot(1).await, pairs(&[("old", "1"), ("x", "6")]));
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_keyed_topic_is_a_log_as_well_and_resumes_by_its_cursor() {
    let server = TestServer::start().await;
    let stored = server.store_all("state.t", &[keyed("a", "1"), keyed("a", "2"), keyed("b", "3")]).await;
    let mut client = server.connect("alice").await;
    let starts = [(earliest(), 3), (last(1), 1), (after(stored[0].cursor.unwrap()), 2), (None, 0)];
    for (alias, (start, count)) in (1..).zip(starts) {
        client.open(OpenSession { start, ..open(alias, "state.t") }).await;
        client.events(alias, count).await;
    }
    client.open(OpenSession { start: snapshot(), no_follow: true, ..open(9, "state.t") }).await;
    assert_eq!(client.snapshot(9).await, pairs(&[("a", "2"), ("b", "3")]));
    assert_eq!(client.closed().await.failure, None);
    let empty = client.open(OpenSession { start: snapshot(), ..open(10, "state.empty") }).await;
    assert_eq!((empty.start.unwrap().offset, client.snapshot(10).await), (0, vec![]));
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_keyed_topic_holds_so_many_keys_and_takes_nothing_without_one() {
    let rules = r#"[{ pattern = "state.>", class = "state", max_keys = 2 }]"#;
    let server = TestServer::with(&[("topics.rules", rules)]).await;
    server.store_all("state.t", &[keyed("a", "1"), keyed("b", "1"), keyed("a", "2")]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { mode: 2, ..open(1, "state.t") }).await;
    let cases =
        [(event("x"), Code::InvalidArgument, "INVALID_FIELD"), (keyed("c", "1"), Code::ResourceExhausted, "KEY_LIMIT")];
    for (refused, code, reason) in cases {
        let publish = bowline::proto::v1::Publish { session: 1, seq: 1, event: Some(refused) };
        assert_failure(client.publish(publish).await.failure.as_ref(), code, reason);
    }
    server.store_all("state.t", &[removal("a"), keyed("c", "1")]).await;
    server.leave().await;
}

#[tokio::test]
async fn rule_12_only_keyed_topics_have_snapshots_and_keys_that_die_with_a_session() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.send(OpenSession { start: snapshot(), ..open(1, "t") }).await;
    assert_failure(client.closed().await.failure.as_ref(), Code::Unimplemented, "UNSUPPORTED");
    client.open(open(1, "t")).await;
    let scoped = NewEvent { session_scoped: true, ..keyed("k", "v") };
    let publish = bowline::proto::v1::Publish { session: 1, seq: 1, event: Some(scoped.clone()) };
    assert_failure(client.publish(publish).await.failure.as_ref(), Code::InvalidArgument, "INVALID_FIELD");
    let request = bowline::proto::v1::PublishRequest { topic: "state.t".to_owned(), event: Some(scoped) };
    assert_bad_field(&server.topics().await.publish(request).await.unwrap_err(), "event.session_scoped");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_signal_topic_is_heard_by_those_who_are_there_and_keeps_nothing() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: earliest(), ..super::named(1, "signal.t", "desk") }).await;
    assert_eq!(opened.topic_class(), TopicClass::Signal);
    // Nothing is recognised: a repeat is published twice.
    for _ in 0..2 {
        let dedupe_id = "once".to_owned();
        server.store_all("signal.t", &[NewEvent { dedupe_id, ..event("x") }]).await;
    }
    assert_eq!(payloads(&client.events(1, 2).await), ["x", "x"]);
    let cursor = client.cursor(1);
    client.sever();
    server.store("signal.t", &["missed"]).await;
    let mut client = server.connect("alice").await;
    for start in [after(cursor), earliest(), last(10)] {
        let opened = client.open(OpenSession { start, ..super::named(1, "signal.t", "desk") }).await;
        assert_eq!((opened.recovery(), opened.start), (Recovery::Fresh, opened.head));
        client.send(crate::support::close(1)).await;
        client.closed().await;
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_12_an_echo_topic_answers_its_publisher_alone() {
    let server = TestServer::start().await;
    let (mut one, mut two) = (server.connect("alice").await, server.connect("bob").await);
    one.open(open(1, "echo")).await;
    two.open(open(1, "echo")).await;
    one.send(publish(1, 1, "ping")).await;
    assert_eq!(payloads(&one.events(1, 1).await), ["ping"]);
    assert!(two.is_quiet().await);
    server.leave().await;
}
