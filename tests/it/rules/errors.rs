//! Rule 14: an error takes the narrowest scope, and says what to do.

use bowline::proto::v1::{Advice, OpenSession, StreamDataRequest};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{assert_advised, assert_status_advised, numbers, refused, server, server_with};
use crate::support::{assert_bad_field, credit, earliest, event, grant, named, open, payloads, publish};

#[tokio::test]
async fn rule_14_an_error_in_one_request_costs_its_answer_and_nothing_else() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { mode: 2, ..open(1, "t") }).await;
    for _ in 0..10 {
        let answer = client.publish(publish(9, 1, "x")).await;
        assert_advised(answer.failure.as_ref(), Code::NotFound, "UNKNOWN_SESSION", Advice::None);
    }
    assert_eq!(client.publish(publish(1, 1, "x")).await.failure, None);
    assert_eq!((server.sessions(), server.connections()), (1, 1));
    server.leave().await;
}

#[tokio::test]
async fn rule_14_an_error_in_one_session_ends_that_session_and_nothing_else() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { strict: true, start: earliest(), credit: credit(0, 0), ..open(1, "short") }).await;
    client.open(OpenSession { start: earliest(), ..open(2, "t") }).await;
    server.store("short", &numbers(1, 9)).await;
    client.send(grant(1, 100)).await;
    let closed = client.closed().await;
    assert_advised(closed.failure.as_ref(), Code::OutOfRange, "CURSOR_TRIMMED", Advice::None);
    refused(&mut client, open(3, "no..such")).await;
    server.store("t", &["x"]).await;
    assert_eq!(payloads(&client.events(2, 1).await), ["x"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_14_only_what_concerns_the_connection_ends_it_and_its_sessions_survive() {
    let server = server().await;
    let (mut client, mut neighbour) = (server.connect("alice").await, server.connect("bob").await);
    client.open(named(1, "t", "desk")).await;
    client.send_raw(StreamDataRequest::default()).await;
    let status = client.ended_with(Code::InvalidArgument, "PROTOCOL").await;
    assert_status_advised(&status, Code::InvalidArgument, "PROTOCOL", "FATAL");
    assert!(neighbour.is_quiet().await);
    let mut client = server.connect("alice").await;
    assert_eq!(client.open(named(1, "t", "desk")).await.attach, 2);
    server.leave().await;
}

#[tokio::test]
async fn rule_14_a_refused_open_that_asks_for_an_answer_gets_both() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let request = client.ask(open(1, "no..such")).await;
    let (closed, answer) = (client.closed().await, client.reply().await);
    assert_eq!((closed.session, answer.request_id, &closed.failure), (1, request, &answer.failure));
    server.leave().await;
}

#[tokio::test]
async fn rule_14_statuses_carry_details_that_a_machine_reads() {
    let server = server_with(&[("registry.max_connections", "1")]).await;
    let _first = server.connect("alice").await;
    let status = server.refused_call(&[]).await;
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().domain, "bowline");
    assert!(details.retry_info().and_then(|retry| retry.retry_delay).is_some(), "{status:?}");
    let request = bowline::proto::v1::PublishRequest { topic: "no..such".to_owned(), event: Some(event("x")) };
    assert_bad_field(&server.topics().await.publish(request).await.unwrap_err(), "topic");
    server.leave().await;
}
