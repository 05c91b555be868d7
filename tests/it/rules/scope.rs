//! Rules 8 and 12: what outlives a connection, and for how long: keys that die with their session, readers that publishers
//! wait for.

use bowline::proto::v1::{Flow, NewEvent, OpenSession, Publish, PublishRequest};
use tonic::Code;

use super::named;
use crate::support::{
    Settings, TestClient, TestServer, assert_failure, assert_status, close, earliest, event, eventually, flow, keyed,
    open, pair, snapshot,
};

/// A connection that is lost for less than half a second was never away.
const GRACE: Settings<'_> = &[("session.key_grace", "500ms")];

async fn set(client: &mut TestClient, seq: u64, key: &str) {
    let event = NewEvent { session_scoped: true, ..keyed(key, "here") };
    let answer = client.publish(Publish { session: 1, seq, event: Some(event) }).await;
    assert_eq!(answer.failure, None);
}

/// Somebody who watches the topic.
async fn watcher(server: &TestServer) -> TestClient {
    let mut watcher = server.connect("watcher").await;
    watcher.open(OpenSession { start: snapshot(), ..open(1, "state.t") }).await;
    watcher.snapshot(1).await;
    watcher
}

async fn change(watcher: &mut TestClient) -> String {
    pair(&watcher.events(1, 1).await[0]).0
}

fn writer(session_id: &str) -> OpenSession {
    OpenSession { mode: 2, ..named(1, "state.t", session_id) }
}

#[tokio::test]
async fn rule_12_a_key_dies_at_once_with_a_session_that_is_closed() {
    let server = TestServer::start().await;
    let mut watcher = watcher(&server).await;
    let mut client = server.connect("alice").await;
    client.open(writer("desk")).await;
    set(&mut client, 1, "mine").await;
    assert_eq!(change(&mut watcher).await, "mine");
    client.send(close(1)).await;
    client.closed().await;
    let removed = &watcher.events(1, 1).await[0];
    assert_eq!((pair(removed).0.as_str(), removed.publisher.as_str()), ("-mine", "alice"));
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_key_outlives_a_lost_connection_for_its_grace_and_no_longer() {
    let server = TestServer::with(GRACE).await;
    let mut watcher = watcher(&server).await;
    let mut client = server.connect("alice").await;
    client.open(writer("desk")).await;
    set(&mut client, 1, "mine").await;
    assert_eq!(change(&mut watcher).await, "mine");
    client.sever();
    let lost = tokio::time::Instant::now();
    assert_eq!(change(&mut watcher).await, "-mine");
    assert!(lost.elapsed() >= std::time::Duration::from_millis(450), "too early");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_key_stays_without_a_flicker_if_its_session_comes_back_in_time() {
    let server = TestServer::with(GRACE).await;
    let mut watcher = watcher(&server).await;
    let mut client = server.connect("alice").await;
    client.open(writer("desk")).await;
    set(&mut client, 1, "mine").await;
    assert_eq!(change(&mut watcher).await, "mine");
    client.sever();
    let mut client = server.connect("alice").await;
    client.open(writer("desk")).await;
    // Longer than the grace, and two looks of the housekeeping.
    let begun = tokio::time::Instant::now();
    eventually("time has passed", || begun.elapsed() > std::time::Duration::from_millis(2500)).await;
    assert!(watcher.is_quiet().await);
    // And it dies with the session that came back.
    client.send(close(1)).await;
    assert_eq!(change(&mut watcher).await, "-mine");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_key_goes_with_a_session_that_is_taken_over_and_not_with_the_one_that_lost_it() {
    let server = TestServer::start().await;
    let mut watcher = watcher(&server).await;
    let mut older = server.connect("alice").await;
    older.open(writer("desk")).await;
    set(&mut older, 1, "mine").await;
    assert_eq!(change(&mut watcher).await, "mine");
    let mut newer = server.connect("alice").await;
    newer.open(writer("desk")).await;
    older.closed().await;
    older.half_close();
    older.ended_well().await;
    assert!(watcher.is_quiet().await);
    newer.send(close(1)).await;
    assert_eq!(change(&mut watcher).await, "-mine");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_key_that_somebody_else_has_set_since_stays() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(writer("desk")).await;
    set(&mut client, 1, "mine").await;
    set(&mut client, 2, "taken").await;
    server.store_all("state.t", &[keyed("taken", "theirs")]).await;
    let mut watcher = watcher(&server).await;
    client.send(close(1)).await;
    assert_eq!(change(&mut watcher).await, "-mine");
    assert!(watcher.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_keys_of_an_ephemeral_session_die_with_its_connection() {
    let server = TestServer::start().await;
    let mut watcher = watcher(&server).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { mode: 2, ..open(1, "state.t") }).await;
    set(&mut client, 1, "mine").await;
    assert_eq!(change(&mut watcher).await, "mine");
    client.sever();
    assert_eq!(change(&mut watcher).await, "-mine");
    server.leave().await;
}

const WAITING: &str = r#"[{ pattern = ">", max_lag = 3 }]"#;

fn required() -> OpenSession {
    OpenSession { start: earliest(), required: true, ..named(1, "t", "desk") }
}

#[tokio::test]
async fn rule_7_a_publish_is_refused_while_a_required_reader_is_behind() {
    let server = TestServer::with(&[("topics.rules", WAITING)]).await;
    let mut reader = server.connect("alice").await;
    reader.open(required()).await;
    server.store("t", &["1", "2", "3"]).await;
    let mut topics = server.topics().await;
    let request = || PublishRequest { topic: "t".to_owned(), event: Some(event("4")) };
    let refused = topics.publish(request()).await.unwrap_err();
    assert_status(&refused, Code::ResourceExhausted, "BACKPRESSURE");
    let mut writer = server.connect("bob").await;
    writer.open(OpenSession { mode: 2, ..named(1, "t", "w") }).await;
    let answer = writer.publish(crate::support::publish(1, 1, "4")).await;
    let failure = answer.failure.unwrap();
    assert_failure(Some(&failure), Code::ResourceExhausted, "BACKPRESSURE");
    assert!(failure.retry_after_ms > 0 && failure.advice() == bowline::proto::v1::Advice::Retry);
    // Received is not processed; acknowledged is.
    reader.events(1, 3).await;
    assert!(topics.publish(request()).await.is_err());
    let request_id = reader.ask(Flow { acked: Some(1), ..flow(1) }).await;
    reader.answer(request_id).await;
    assert_eq!(writer.publish(crate::support::publish(1, 1, "4")).await.failure, None);
    assert!(topics.publish(request()).await.is_err());
    reader.events(1, 1).await;
    reader.send(close(1)).await;
    reader.closed().await;
    topics.publish(request()).await.unwrap();
    server.leave().await;
}

#[tokio::test]
async fn rule_7_a_required_reader_of_another_epoch_is_waited_for_from_where_it_will_go_on() {
    let server = TestServer::with(&[("topics.rules", WAITING)]).await;
    server.store("t", &["1"]).await;
    let mut reader = server.connect("alice").await;
    let elsewhere = bowline::proto::v1::Cursor { epoch: 1, offset: 1000, time_us: 0 };
    reader.open(OpenSession { start: crate::support::after(elsewhere), ..required() }).await;
    assert_eq!(reader.gap().await.to.unwrap().offset, 0);
    server.store("t", &["2", "3"]).await;
    let request = PublishRequest { topic: "t".to_owned(), event: Some(event("4")) };
    let refused = server.topics().await.publish(request).await.unwrap_err();
    assert_status(&refused, Code::ResourceExhausted, "BACKPRESSURE");
    // What was processed of another log says nothing of this one.
    reader.events(1, 3).await;
    let request = reader.ask(Flow { acked: Some(3), acked_epoch: 1, ..flow(1) }).await;
    reader.answer(request).await;
    let request = PublishRequest { topic: "t".to_owned(), event: Some(event("4")) };
    assert!(server.topics().await.publish(request).await.is_err());
    server.leave().await;
}

#[tokio::test]
async fn rule_7_a_required_reader_that_is_gone_is_waited_for_as_long_as_its_place_is_kept() {
    let server = TestServer::with(&[("topics.rules", WAITING), ("session.ttl", "1s")]).await;
    let mut reader = server.connect("alice").await;
    reader.open(required()).await;
    server.store("t", &["1", "2", "3"]).await;
    reader.sever();
    let mut topics = server.topics().await;
    let request = || PublishRequest { topic: "t".to_owned(), event: Some(event("4")) };
    assert_status(&topics.publish(request()).await.unwrap_err(), Code::ResourceExhausted, "BACKPRESSURE");
    eventually("the place is forgotten", || server.sample("bowline_sessions_expired_total") > 0.0).await;
    topics.publish(request()).await.unwrap();
    server.leave().await;
}

#[tokio::test]
async fn rule_7_only_a_session_with_an_id_on_a_topic_with_a_lag_can_be_required() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.send(required()).await;
    assert_failure(client.closed().await.failure.as_ref(), Code::Unimplemented, "UNSUPPORTED");
    server.leave().await;
    let server = TestServer::with(&[("topics.rules", WAITING)]).await;
    let mut client = server.connect("alice").await;
    for wrong in [OpenSession { session_id: String::new(), ..required() }, OpenSession { mode: 2, ..required() }] {
        client.send(wrong).await;
        assert_failure(client.closed().await.failure.as_ref(), Code::InvalidArgument, "INVALID_FIELD");
    }
    server.leave().await;
}
