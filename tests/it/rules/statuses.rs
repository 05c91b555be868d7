//! The table of statuses: a test for each row that can occur. Authentication will add its own.

use bowline::proto::v1::{
    Advice, Authenticate, Cursor, DisconnectRequest, Hello, NewEvent, OpenSession, disconnect_request::Target,
    stream_data_request::Frame as Sent,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{assert_advised, assert_status_advised, numbers, refused, server, server_with};
use crate::support::{
    RawTransport, TestClient, TestServer, after, credit, earliest, event, eventually, grant, heartbeat, hello, named,
    open, publish, with,
};

/// The status says how long to wait.
#[track_caller]
fn assert_retry(status: &tonic::Status) {
    let wait = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
    assert!(wait.is_some_and(|wait| !wait.is_zero()), "{status:?}");
}

// --- of the stream

#[tokio::test]
async fn status_a_normal_half_close_is_ok() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    client.half_close();
    client.ended_well().await;
    server.leave().await;
}

#[tokio::test]
async fn status_no_hello_in_time() {
    let server = server_with(&[("connection.hello_timeout", "50ms")]).await;
    let status = server.call().await.end().await.unwrap();
    assert_status_advised(&status, Code::DeadlineExceeded, "HELLO_TIMEOUT", "RECONNECT");
    server.leave().await;
}

#[tokio::test]
async fn status_a_frame_out_of_place() {
    let server = server().await;
    let mut early = server.call().await;
    early.send(heartbeat(1)).await;
    let mut late = server.connect("alice").await;
    late.send(hello("alice")).await;
    let mut twice = server.connect("alice").await;
    twice.send(open(1, "t")).await;
    twice.send(open(1, "t")).await;
    for client in [&mut early, &mut late, &mut twice] {
        let status = client.end().await.unwrap();
        assert_status_advised(&status, Code::InvalidArgument, "PROTOCOL", "FATAL");
    }
    server.leave().await;
}

#[tokio::test]
async fn status_no_common_version() {
    let server = server().await;
    let mut client = server.call().await;
    client.send(Hello { version_min: 2, version_max: 3, ..hello("alice") }).await;
    let status = client.end().await.unwrap();
    assert_status_advised(&status, Code::FailedPrecondition, "VERSION", "FATAL");
    server.leave().await;
}

#[tokio::test]
async fn status_a_connection_too_many() {
    let server = server_with(&[("registry.max_connections", "1")]).await;
    let _first = server.connect("alice").await;
    let status = server.refused_call(&[]).await;
    assert_status_advised(&status, Code::ResourceExhausted, "MAX_CONNECTIONS", "RECONNECT");
    assert_retry(&status);
    server.leave().await;
}

#[tokio::test]
async fn status_draining() {
    let server = server_with(&[("drain.grace", "8s")]).await;
    let address = server.address;
    let mut client = server.connect("alice").await;
    let calling = async {
        client.drain().await;
        let Err(status) = TestClient::call(address, &[]).await else { panic!("a new call was not refused") };
        assert_status_advised(&status, Code::Unavailable, "DRAINING", "RECONNECT");
        assert_retry(&status);
        client.half_close();
        client.ended_well().await;
    };
    tokio::join!(server.leave_politely(), calling);
}

#[tokio::test]
async fn status_a_silent_peer() {
    let settings = [("registry.receive_timeout", "60ms"), ("registry.probe_timeout", "60ms")];
    let server = server_with(&settings).await;
    let status = server.connect("alice").await.end().await.unwrap();
    assert_status_advised(&status, Code::Unavailable, "PEER_TIMEOUT", "RECONNECT");
    server.leave().await;
}

#[tokio::test]
async fn status_no_write_progress() {
    let server = server_with(&[("registry.send_timeout", "100ms"), ("connection.close_grace", "10s")]).await;
    server.store("t", &vec![vec![0; 1024]; 200]).await;
    let transport = RawTransport::open(server.address, 0).await;
    let mut stuck = transport.call().await;
    stuck.send_frame(Sent::Hello(hello("stuck")));
    stuck.send_frame(Sent::OpenSession(OpenSession { start: earliest(), ..open(1, "t") }.into()));
    eventually("it was found out", || server.metrics().send_errors.get() > 0).await;
    transport.widen();
    let status = stuck.end().await.unwrap();
    assert_status_advised(&status, Code::ResourceExhausted, "SLOW_CONNECTION", "RECONNECT");
    server.leave().await;
}

#[tokio::test]
async fn status_an_operator_disconnects() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let target = Some(Target::ClientId("alice".to_owned()));
    server.operator().await.disconnect(DisconnectRequest { target }).await.unwrap();
    let status = client.end().await.unwrap();
    assert_status_advised(&status, Code::Unavailable, "DISCONNECTED", "RECONNECT");
    server.leave().await;
}

// --- of a session

#[tokio::test]
async fn status_a_session_too_many() {
    let settings = [("connection.max_sessions", "2"), ("session.max_per_client", "1")];
    let server = server_with(&settings).await;
    let mut client = server.connect("alice").await;
    client.open(named(1, "t", "1")).await;
    let failure = refused(&mut client, named(2, "t", "2")).await;
    assert_advised(Some(&failure), Code::ResourceExhausted, "SESSION_LIMIT", Advice::None);
    client.open(open(2, "t")).await;
    let failure = refused(&mut client, open(3, "t")).await;
    assert_advised(Some(&failure), Code::ResourceExhausted, "SESSION_LIMIT", Advice::None);
    server.leave().await;
}

#[tokio::test]
async fn status_an_unknown_topic_and_an_unknown_alias() {
    let server = TestServer::with(&[("topics.rules", r#"[{ pattern = "known" }]"#)]).await;
    let mut client = server.connect("alice").await;
    let failure = refused(&mut client, open(1, "unknown")).await;
    assert_advised(Some(&failure), Code::NotFound, "UNKNOWN_TOPIC", Advice::None);
    client.ask(grant(7, 1)).await;
    assert_advised(client.reply().await.failure.as_ref(), Code::NotFound, "UNKNOWN_SESSION", Advice::None);
    server.leave().await;
}

#[tokio::test]
async fn status_a_topic_too_many() {
    let server = server_with(&[("topics.max_topics", "1")]).await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "first")).await;
    let failure = refused(&mut client, open(2, "second")).await;
    assert_advised(Some(&failure), Code::ResourceExhausted, "TOPIC_LIMIT", Advice::Retry);
    assert!(failure.retry_after_ms > 0);
    server.leave().await;
}

#[tokio::test]
async fn status_a_newer_attach() {
    let server = server().await;
    let (mut older, mut newer) = (server.connect("alice").await, server.connect("alice").await);
    older.open(named(1, "t", "desk")).await;
    newer.open(named(1, "t", "desk")).await;
    let failure = older.closed().await.failure;
    assert_advised(failure.as_ref(), Code::Aborted, "TAKEN_OVER", Advice::Fatal);
    server.leave().await;
}

#[tokio::test]
async fn status_a_strict_cursor_that_was_trimmed_or_belongs_to_another_epoch() {
    let server = server().await;
    let stored = server.store("short", &numbers(1, 9)).await;
    let (old, newest) = (stored[0].cursor.unwrap(), stored[8].cursor.unwrap());
    let mut client = server.connect("alice").await;
    let strict = |cursor| OpenSession { start: after(cursor), strict: true, ..open(1, "short") };
    let failure = refused(&mut client, strict(old)).await;
    assert_advised(Some(&failure), Code::OutOfRange, "CURSOR_TRIMMED", Advice::None);
    let failure = refused(&mut client, strict(Cursor { epoch: newest.epoch ^ 1, ..newest })).await;
    assert_advised(Some(&failure), Code::DataLoss, "EPOCH_CHANGED", Advice::None);
    server.leave().await;
}

#[tokio::test]
async fn status_slow_with_disconnect() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(0, 0), ..open(1, "cut") }).await;
    server.store("cut", &numbers(1, 5)).await;
    let failure = client.closed().await.failure;
    assert_advised(failure.as_ref(), Code::ResourceExhausted, "SLOW_SESSION", Advice::Retry);
    assert_eq!(server.sample("bowline_sessions_closed_total{reason=\"SLOW_SESSION\"}"), 1.0);
    server.leave().await;
}

// --- of a request

#[tokio::test]
async fn status_back_pressure() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { required: true, ..named(1, "held", "desk") }).await;
    server.store("held", &numbers(1, 4)).await;
    let answer = client.publish(publish(1, 1, "x")).await;
    assert_advised(answer.failure.as_ref(), Code::ResourceExhausted, "BACKPRESSURE", Advice::Retry);
    assert!(answer.failure.unwrap().retry_after_ms > 0);
    server.leave().await;
}

#[tokio::test]
async fn status_another_newest_offset_than_if_last() {
    let server = server().await;
    server.store("t", &numbers(1, 3)).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { mode: 2, ..open(1, "t") }).await;
    let answer = client.publish(with(1, 1, NewEvent { if_last: Some(2), ..event("x") })).await;
    assert_advised(answer.failure.as_ref(), Code::Aborted, "WRONG_LAST", Advice::None);
    assert_eq!(answer.failure.unwrap().metadata["actual"], "3");
    server.leave().await;
}

#[tokio::test]
async fn status_a_payload_over_the_limit() {
    let server = server_with(&[("connection.max_message_size", "64KiB")]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { mode: 2, ..open(1, "t") }).await;
    let answer = client.publish(publish(1, 1, vec![0; 60 << 10])).await;
    assert_advised(answer.failure.as_ref(), Code::ResourceExhausted, "TOO_LARGE", Advice::None);
    assert_eq!(client.publish(publish(1, 1, "x")).await.failure, None, "the stream lives");
    server.leave().await;
}

#[tokio::test]
async fn status_a_feature_that_is_not_offered() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.ask(Authenticate { token: "x".to_owned() }).await;
    assert_advised(client.reply().await.failure.as_ref(), Code::Unimplemented, "UNSUPPORTED", Advice::None);
    server.leave().await;
}
