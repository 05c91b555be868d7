//! What has to be right before a session exists, and what it may then do.

use bowline::proto::v1::{
    CloseSession, DeliveryPolicy, OpenSession, Recovery, Snapshot, StartPosition, TopicClass, start_position::Position,
    stream_data_response::Frame,
};
use tonic::Code;

use crate::support::{TestServer, assert_failure, close, earliest, flow, named, open, payloads, publish};

#[tokio::test]
async fn sessions_that_were_asked_for_without_waiting_open_in_that_order() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    for alias in (1..=40).rev() {
        client.send(named(alias, "t", &format!("s{alias}"))).await;
    }
    for alias in (1..=40).rev() {
        let opened = client.opened().await;
        assert_eq!((opened.session, opened.recovery(), opened.attach), (alias, Recovery::Fresh, 1));
        assert_eq!((opened.topic_class(), opened.delivery_policy()), (TopicClass::Log, DeliveryPolicy::Lag));
    }
    assert_eq!(server.sessions(), 40);
    server.leave().await;
}

#[tokio::test]
async fn an_alias_that_is_zero_or_in_use_ends_the_stream() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.send(open(0, "t")).await;
    client.ended_with(Code::InvalidArgument, "PROTOCOL").await;

    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    client.send(open(1, "another")).await;
    client.ended_with(Code::InvalidArgument, "PROTOCOL").await;
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn an_alias_is_free_again_once_its_session_has_closed() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    for topic in ["a", "b", "c"] {
        client.open(open(1, topic)).await;
        assert_eq!(client.publish(publish(1, 1, topic)).await.failure, None);
        client.send(close(1)).await;
        while !matches!(client.frame().await, Frame::SessionClosed(closed) if closed.failure.is_none()) {}
    }
    assert!(client.is_quiet().await);
    assert_eq!(server.sessions(), 0);
    server.leave().await;
}

#[tokio::test]
async fn a_frame_for_no_session_is_answered_and_costs_nothing_else() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    for request in [
        client.ask(publish(9, 1, "x")).await,
        client.ask(flow(9)).await,
        client.ask(close(9)).await,
        client.ask(CloseSession { session: 0, keep: true }).await,
    ] {
        let answer = client.answer(request).await;
        assert_failure(answer.failure.as_ref(), Code::NotFound, "UNKNOWN_SESSION");
    }
    client.send(publish(9, 1, "x")).await;
    client.send(flow(9)).await;
    assert!(client.is_quiet().await, "what asks for no answer gets none, not even a refusal");
    assert_eq!(client.publish(publish(1, 1, "x")).await.failure, None);
    server.leave().await;
}

#[tokio::test]
async fn a_session_that_cannot_be_is_closed_and_answered_with_the_same_reason() {
    let rules = r#"[{ pattern = "known.>", delivery = { allow = [] } }]"#;
    let server = TestServer::with(&[("topics.rules", rules)]).await;
    let mut client = server.connect("alice").await;
    let long = "known.".to_owned() + &"x".repeat(250);
    let topic = |topic: &str| open(1, topic);
    let id = |id: &str| named(1, "known.t", id);
    let wanting =
        |delivery_policy: DeliveryPolicy| OpenSession { delivery_policy: delivery_policy as i32, ..open(1, "known.t") };
    let snapshot = StartPosition { position: Some(Position::Snapshot(Snapshot {})) };
    let (invalid, unknown) = ((Code::InvalidArgument, "INVALID_FIELD"), (Code::NotFound, "UNKNOWN_TOPIC"));
    let unsupported = (Code::Unimplemented, "UNSUPPORTED");
    let cases = [
        (topic(""), invalid),
        (topic("known..t"), invalid),
        (topic("known.*"), invalid),
        (topic("known.a b"), invalid),
        (topic("known.\u{e4}"), invalid),
        (topic(&long), invalid),
        (id("two words"), invalid),
        (id(&"x".repeat(129)), invalid),
        (topic("strange"), unknown),
        (wanting(DeliveryPolicy::DropOldest), unsupported),
        (wanting(DeliveryPolicy::Conflate), unsupported),
        (wanting(DeliveryPolicy::Disconnect), unsupported),
        (OpenSession { start: Some(snapshot), ..open(1, "known.t") }, unsupported),
        // Words of a later version: taking them for the default would be guessing.
        (OpenSession { delivery_policy: 77, ..open(1, "known.t") }, unsupported),
        (OpenSession { mode: 77, ..open(1, "known.t") }, unsupported),
    ];
    for (refused, (code, reason)) in cases {
        let request = client.ask(refused).await;
        let closed = client.closed().await;
        assert_eq!(closed.session, 1);
        assert_failure(closed.failure.as_ref(), code, reason);
        let answer = client.reply().await;
        assert_eq!(answer.request_id, request);
        assert_failure(answer.failure.as_ref(), code, reason);
    }
    let opened = client.open(open(1, "known.t")).await;
    assert_eq!(opened.session, 1, "the alias is free, the stream goes on");
    assert_eq!((server.sessions(), server.connections()), (1, 1));
    server.leave().await;
}

#[tokio::test]
async fn a_connection_has_so_many_sessions_and_no_more() {
    let server = TestServer::with(&[("connection.max_sessions", "3")]).await;
    let mut client = server.connect("alice").await;
    for alias in 1..=3 {
        client.open(open(alias, "t")).await;
    }
    client.send(open(4, "t")).await;
    let closed = client.closed().await;
    assert_eq!(closed.session, 4);
    assert_failure(closed.failure.as_ref(), Code::ResourceExhausted, "SESSION_LIMIT");

    client.send(close(2)).await;
    assert_eq!(client.closed().await.session, 2);
    client.open(open(4, "t")).await;
    let mut other = server.connect("alice").await;
    other.open(open(1, "t")).await;
    server.leave().await;
}

#[tokio::test]
async fn there_are_so_many_topics_and_no_more() {
    let server = TestServer::with(&[("topics.max_topics", "2")]).await;
    server.store("a", &["x"]).await;
    server.store("b", &["x"]).await;
    let mut client = server.connect("alice").await;
    client.send(open(1, "c")).await;
    let closed = client.closed().await;
    assert_failure(closed.failure.as_ref(), Code::ResourceExhausted, "TOPIC_LIMIT");
    client.open(open(1, "a")).await;
    server.leave().await;
}

#[tokio::test]
async fn a_session_to_read_only_takes_no_publish() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    let reading = OpenSession { mode: 1, ..open(1, "t") };
    client.open(reading).await;
    let answer = client.publish(publish(1, 1, "x")).await;
    assert_failure(answer.failure.as_ref(), Code::FailedPrecondition, "READ_ONLY");
    server.store("t", &["y"]).await;
    assert_eq!(payloads(&client.events(1, 1).await), ["y"]);
    server.leave().await;
}

#[tokio::test]
async fn a_session_to_publish_only_is_delivered_nothing() {
    let server = TestServer::start().await;
    server.store("t", &["old"]).await;
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { mode: 2, start: earliest(), ..open(1, "t") }).await;
    assert_eq!(opened.start, opened.head);
    for seq in 1..=10 {
        let request = client.ask(publish(1, seq, "x")).await;
        let Frame::Reply(answer) = client.frame().await else { panic!("something else than a reply") };
        assert_eq!((answer.request_id, answer.failure, answer.through_seq), (request, None, seq));
    }
    assert!(client.is_quiet().await);
    client.ask(flow(1)).await;
    assert_eq!(client.reply().await.failure, None);
    server.leave().await;
}
