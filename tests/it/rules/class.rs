//! Rule 12: what a topic is for.

use bowline::proto::v1::{
    Advice, Durability, GapReason, NewEvent, OpenSession, Publish, PublishRequest, ReadHistoryRequest, Recovery,
    TopicClass,
};
use tonic::Code;

use super::{assert_advised, assert_status_advised, keyed, numbers, server};
use crate::support::{
    TestServer, acked, after, assert_bad_field, changes, credit, delete, earliest, event, grant, last, named, open,
    payloads, publish, put, since, snapshot, with,
};

fn history(topic: &str) -> ReadHistoryRequest {
    ReadHistoryRequest { topic: topic.to_owned(), ..ReadHistoryRequest::default() }
}

#[tokio::test]
async fn rule_12_a_session_is_told_the_class_of_its_topic() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for (session, topic, class) in [
        (1, "t", TopicClass::Log),
        (2, "state.t", TopicClass::State),
        (3, "signal.t", TopicClass::Signal),
        (4, "echo", TopicClass::Echo),
        (5, "~presence.t", TopicClass::State),
    ] {
        assert_eq!(client.open(open(session, topic)).await.topic_class(), class, "{topic}");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_12_without_configuration_names_say_what_a_topic_is() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    for (session, topic, class) in [
        (1, "t", TopicClass::Log),
        (2, "state", TopicClass::State),
        (3, "state.a.b", TopicClass::State),
        (4, "signal", TopicClass::Signal),
        (5, "signal.a.b", TopicClass::Signal),
        (6, "echo", TopicClass::Echo),
        (7, "echo.a.b", TopicClass::Echo),
        (8, "states", TopicClass::Log),
    ] {
        assert_eq!(client.open(open(session, topic)).await.topic_class(), class, "{topic}");
    }
    server.leave().await;
}

// --- state

#[tokio::test]
async fn rule_12_state_every_event_needs_a_key() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { mode: 2, ..open(1, "state.t") }).await;
    let nothing = Publish { session: 1, seq: 1, event: None };
    for keyless in [publish(1, 1, "x"), with(1, 1, delete("")), nothing] {
        let answer = client.publish(keyless).await;
        assert_advised(answer.failure.as_ref(), Code::InvalidArgument, "INVALID_FIELD", Advice::None);
        assert_eq!(answer.failure.unwrap().metadata["field"], "event.key");
    }
    let request = PublishRequest { topic: "state.t".to_owned(), event: Some(event("x")) };
    assert_bad_field(&server.topics().await.publish(request).await.unwrap_err(), "event.key");
    assert_eq!(client.publish(with(1, 1, put("k", "x"))).await.failure, None);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_state_the_latest_of_each_key_outlives_the_history() {
    let server = server().await;
    server.publish("state.short", keyed(&["old=1", "gone=1", "-gone", "k=1", "k=2", "k=3", "k=4", "k=5"])).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), no_follow: true, ..open(1, "state.short") }).await;
    assert_eq!(changes(&client.events(1, 4).await), ["k=2", "k=3", "k=4", "k=5"], "the history");
    client.closed().await;
    client.open(OpenSession { start: snapshot(), ..open(1, "state.short") }).await;
    assert_eq!(changes(&client.snapshot(1).await), ["old=1", "k=5"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_state_holds_so_many_keys_and_refuses_one_more_until_one_is_removed() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { mode: 2, ..open(1, "state.short") }).await;
    for seq in 1..=8 {
        assert_eq!(client.publish(with(1, seq, put(&seq.to_string(), "x"))).await.failure, None);
    }
    let answer = client.publish(with(1, 9, put("9", "x"))).await;
    assert_advised(answer.failure.as_ref(), Code::ResourceExhausted, "KEY_LIMIT", Advice::None);
    assert_eq!((answer.failure.unwrap().metadata["limit"].as_str(), answer.through_seq), ("8", 8));
    let request = PublishRequest { topic: "state.short".to_owned(), event: Some(put("9", "x")) };
    let status = server.topics().await.publish(request).await.unwrap_err();
    assert_status_advised(&status, Code::ResourceExhausted, "KEY_LIMIT", "NONE");
    // One that is there may change, one that is not may be removed, and room may be made.
    for (seq, event) in [(9, put("8", "y")), (10, delete("nobody")), (11, delete("1")), (12, put("9", "x"))] {
        assert_eq!(client.publish(with(1, seq, event)).await.failure, None, "{seq}");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_12_state_the_values_of_all_keys_take_only_so_many_bytes() {
    let rules = r#"[{ pattern = "s", class = "state", history = { max_bytes = "12KiB" } }]"#;
    let server = TestServer::with(&[("topics.rules", rules)]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { mode: 2, ..open(1, "s") }).await;
    for seq in 1..=2 {
        assert_eq!(client.publish(with(1, seq, put(&seq.to_string(), [0; 4096]))).await.failure, None);
    }
    let answer = client.publish(with(1, 3, put("3", [0; 4096]))).await;
    assert_advised(answer.failure.as_ref(), Code::ResourceExhausted, "KEY_LIMIT", Advice::None);
    assert_eq!(client.publish(with(1, 3, put("2", [1; 4096]))).await.failure, None, "in place of another");
    server.leave().await;
}

// --- signal

#[tokio::test]
async fn rule_12_signal_is_heard_live_whatever_start_was_asked_for() {
    let server = server().await;
    let stored = server.store("signal.t", &numbers(1, 5)).await;
    let mut client = server.connect("alice").await;
    let starts = [None, earliest(), last(3), since(0), acked(), last(0), after(stored[1].cursor.unwrap())];
    for (session, start) in (1..).zip(starts) {
        let opened = client.open(OpenSession { start, ..named(session, "signal.t", &format!("s{session}")) }).await;
        assert_eq!((opened.recovery(), opened.start), (Recovery::Fresh, opened.head), "{start:?}");
    }
    assert!(client.is_quiet().await);
    server.store("signal.t", &["now"]).await;
    for _ in 0..7 {
        assert_eq!(payloads(&client.delivery().await.events), ["now"]);
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_12_signal_keeps_nothing_to_be_read_later() {
    let server = server().await;
    server.store("signal.t", &["x"]).await;
    let status = server.topics().await.read_history(history("signal.t")).await.unwrap_err();
    assert_status_advised(&status, Code::Unimplemented, "UNSUPPORTED", "NONE");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_signal_that_is_published_again_is_heard_twice() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "signal.t")).await;
    let sent = NewEvent { dedupe_id: "once".to_owned(), ..event("x") };
    for seq in [1, 1, 2] {
        let answer = client.publish(with(1, seq, sent.clone())).await;
        assert_eq!((answer.failure.as_ref(), answer.duplicate), (None, false));
        assert_eq!(answer.durability(), Durability::Accepted);
    }
    let request = PublishRequest { topic: "signal.t".to_owned(), event: Some(sent) };
    assert!(!server.topics().await.publish(request).await.unwrap().into_inner().duplicate);
    while client.cursor(1).offset < 4 {
        client.delivery().await;
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_12_signal_says_what_a_reader_missed_that_fell_behind() {
    let server = server().await;
    // One keeps more than may wait, the other no more: the reader is told the same.
    for (topic, waiting) in [("signal.short", 4), ("signal.t", 64)] {
        let mut client = server.connect("alice").await;
        client.open(OpenSession { credit: credit(0, 0), ..open(1, topic) }).await;
        server.store(topic, &numbers(1, 100)).await;
        client.send(grant(1, 1)).await;
        let gap = client.gap().await;
        assert_eq!((gap.reason(), gap.count), (GapReason::Slow, 100 - waiting), "{topic}");
        client.send(grant(1, 1000)).await;
        assert_eq!(payloads(&client.events(1, waiting as usize).await), numbers(101 - waiting, 100));
    }
    server.leave().await;
}

// --- echo

#[tokio::test]
async fn rule_12_echo_answers_the_publishing_session_alone() {
    let server = server().await;
    let (mut alice, mut bob) = (server.connect("alice").await, server.connect("bob").await);
    alice.open(named(1, "echo", "desk")).await;
    alice.open(open(2, "echo")).await;
    bob.open(open(1, "echo")).await;
    alice.send(publish(1, 1, "hello")).await;
    assert_eq!(payloads(&alice.events(1, 1).await), ["hello"]);
    assert!(alice.is_quiet().await && bob.is_quiet().await);
    let request = PublishRequest { topic: "echo".to_owned(), event: Some(event("x")) };
    let status = server.topics().await.publish(request).await.unwrap_err();
    assert_status_advised(&status, Code::Unimplemented, "UNSUPPORTED", "NONE");
    let status = server.topics().await.read_history(history("echo")).await.unwrap_err();
    assert_status_advised(&status, Code::Unimplemented, "UNSUPPORTED", "NONE");
    server.leave().await;
}

// --- log

#[tokio::test]
async fn rule_12_log_keeps_order_and_history_and_takes_keys_as_they_are() {
    let server = server().await;
    server.publish("t", keyed(&["a=1", "a=2", "-a"])).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..open(1, "t") }).await;
    assert_eq!(changes(&client.events(1, 3).await), ["a=1", "a=2", "-a"]);
    server.leave().await;
}
