//! Tokens that run out, and tokens in place of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bowline::proto::v1::{Authenticate, stream_data_response::Frame};
use serde_json::json;
use tonic::Code;

use super::{CHAT, Files, enter, jwt, token};
use crate::{
    support::{TestClient, after, assert_failure, event, heartbeat, named, publish, with},
    tokens::later,
};

/// So that a test need not wait for the defaults, which are tested on a clock.
const SOON: crate::support::Settings<'_> = &[("auth.expiry_grace", "1s"), ("auth.clock_skew", "0s")];

/// Sends a token in place; what is answered.
async fn refresh(client: &mut TestClient, token: &str) -> Option<bowline::proto::v1::Failure> {
    let request = client.ask(Authenticate { token: token.to_owned() }).await;
    client.answer(request).await.failure
}

#[tokio::test]
async fn a_connection_ends_with_the_grace_of_its_token_and_its_sessions_can_be_resumed() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), CHAT, SOON).await;
    let exp = later(2);
    let mut client = enter(&server, &token("alice", json!({"exp": exp}))).await;
    client.open(named(1, "chat.a", "desk")).await;
    client.publish(publish(1, 1, "first")).await;
    client.events(1, 1).await;
    let place = client.cursor(1);
    client.ended_with(Code::Unauthenticated, "TOKEN_EXPIRED").await;
    // The grace, and a look each second, and what a busy machine adds. With the defaults: tests/attack/cases/tokens.rs.
    let late = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - exp as f64;
    assert!((1.0..6.0).contains(&late), "{late} s after the end of its token");

    let mut writer = enter(&server, &token("bob", json!({}))).await;
    writer.open(named(1, "chat.a", "pen")).await;
    writer.publish(publish(1, 1, "second")).await;
    let mut back = enter(&server, &token("alice", json!({}))).await;
    let opened = back.open(bowline::proto::v1::OpenSession { start: after(place), ..named(1, "chat.a", "desk") }).await;
    assert_eq!(opened.published_seq, 1);
    assert_eq!(crate::support::payloads(&back.events(1, 1).await), ["second"]);
    server.leave().await;
}

#[tokio::test]
async fn a_token_in_place_keeps_a_connection_and_one_that_is_not_believed_costs_nothing() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), CHAT, SOON).await;
    let mut client = enter(&server, &token("alice", json!({"exp": later(2)}))).await;
    client.open(named(1, "chat.a", "desk")).await;
    assert_failure(refresh(&mut client, "nonsense").await.as_ref(), Code::Unauthenticated, "TOKEN_INVALID");
    let exp = later(3600);
    let request = client.ask(Authenticate { token: token("alice", json!({"exp": exp})) }).await;
    let Frame::Welcome(welcome) = client.frame().await else { panic!("the new time is told") };
    assert_eq!(welcome.token_expires_us, u64::try_from(exp).unwrap() * 1_000_000);
    assert_eq!(client.answer(request).await.failure, None);
    tokio::time::sleep(Duration::from_millis(4500)).await;
    // Beyond the time of the first, and its grace.
    client.publish(publish(1, 1, "still here")).await;
    client.events(1, 1).await;
    server.leave().await;
}

#[tokio::test]
async fn a_token_of_another_client_ends_the_connection() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), CHAT, &[]).await;
    let mut client = enter(&server, &token("alice", json!({}))).await;
    client.send(Authenticate { token: token("bob", json!({})) }).await;
    client.ended_with(Code::PermissionDenied, "DENIED").await;
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn a_token_with_fewer_rights_ends_the_sessions_it_does_not_cover() {
    let files = Files::new();
    let rules = "[
        { topics = [\"chat.>\"], allow = [\"read\"] },
        { claim = \"role=editor\", topics = [\"chat.>\"], allow = [\"publish\"] },
        { claim = \"role=editor\", topics = [\"desk.>\"], allow = [\"read\", \"presence\"] },
    ]";
    let server = jwt(&files.issuer(""), rules, &[]).await;
    let mut client = enter(&server, &token("alice", json!({"role": "editor"}))).await;
    client.open(named(1, "chat.a", "both")).await;
    client.open(named(2, "desk.a", "desk")).await;
    assert_eq!(client.publish(publish(1, 1, "as editor")).await.failure, None);
    client.events(1, 1).await;
    client.send(Authenticate { token: token("alice", json!({})) }).await;
    let closed = client.closed().await;
    assert_eq!(closed.session, 2);
    assert_failure(closed.failure.as_ref(), Code::PermissionDenied, "DENIED");
    client.welcomed().await;
    let refused = client.publish(with(1, 2, event("as reader"))).await.failure;
    assert_failure(refused.as_ref(), Code::PermissionDenied, "DENIED");
    client.send(heartbeat(7)).await;
    assert!(matches!(client.any_frame().await, Frame::Heartbeat(beat) if beat.nonce == 7));
    server.leave().await;
}

#[tokio::test]
async fn a_flood_of_tokens_is_not_looked_at() {
    let files = Files::new();
    let server = jwt(&files.issuer(""), CHAT, &[]).await;
    let good = token("alice", json!({}));
    let mut client = enter(&server, &good).await;
    let mut refused = 0;
    for _ in 0..50 {
        refused += u32::from(refresh(&mut client, &good).await.is_some_and(|failure| failure.retry_after_ms > 0));
    }
    assert!((10..=46).contains(&refused), "{refused}");
    assert!(client.is_quiet().await);
    server.leave().await;
}
