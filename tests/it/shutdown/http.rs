//! Told to leave over HTTP, by an operator or a program of theirs.

use std::time::Duration;

use serde_json::json;
use tonic::Code;

use crate::support::{TestServer, ask, eventually, get, open, publish, within};

/// Starts in which nothing was told yet and everything is served.
const LAME: &[(&str, &str)] = &[("drain.lame_duck", "1m")];

#[tokio::test]
async fn a_drain_over_http_tells_clients_what_the_operator_said_and_leaves_the_process_alone() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let before = get(server.admin, "/drain", "").await.json();
    assert_eq!(
        (&before["phase"], &before["since_us"], &before["remaining"]),
        (&json!("serving"), &json!(null), &json!(1))
    );

    let begun = ask(server.admin, "POST", "/drain", "", r#"{"reason": "a new kernel", "grace": "1s 500ms"}"#).await;
    assert_eq!(begun.status, 202, "{}", begun.body);
    assert_eq!((&begun.json()["reason"], &begun.json()["exit"]), (&json!("a new kernel"), &json!(false)));
    let told = client.drain().await;
    assert_eq!(told.reason, "a new kernel");
    assert!((1500..1700).contains(&told.deadline_ms), "{told:?}");
    assert_eq!(client.publish(publish(1, 1, "still served")).await.failure, None);
    let status = get(server.admin, "/drain", "").await.json();
    assert_eq!((&status["phase"], &status["told"], &status["remaining"]), (&json!("draining"), &json!(1), &json!(1)));
    assert!(status["deadline_us"].as_u64() > status["since_us"].as_u64(), "{status}");
    client.half_close();
    client.ended_well().await;

    let mut status = json!(null);
    within("the end of the drain", async {
        while status["phase"] != "drained" {
            status = get(server.admin, "/drain", "").await.json();
        }
    })
    .await;
    assert_eq!((&status["remaining"], &status["forced"]), (&json!(0), &json!(0)), "{status}");
    let late = ask(server.admin, "DELETE", "/drain", "", "").await;
    assert!(late.status == 409 && late.body.contains("have been told"), "{}", late.body);
    assert_eq!(get(server.admin, "/livez", "").await.status, 200);
    assert_eq!(get(server.admin, "/readyz", "").await.status, 503);
    server.leave_politely().await;
}

#[tokio::test]
async fn a_lame_duck_is_called_off_over_http_and_is_ready_again() {
    let server = TestServer::with(LAME).await;
    let drain = async |method: &str, body: &str| ask(server.admin, method, "/drain", "", body).await;
    assert_eq!(drain("DELETE", "").await.status, 200, "there is nothing to call off");
    assert_eq!(drain("POST", "").await.status, 202);
    assert_eq!(get(server.admin, "/readyz", "").await.status, 503);
    let again = drain("POST", r#"{"reason": "another"}"#).await;
    assert_eq!(
        (again.status, &again.json()["reason"]),
        (200, &json!("an operator")),
        "the first one's drain is joined"
    );
    let off = drain("DELETE", "").await;
    assert_eq!((off.status, &off.json()["phase"]), (200, &json!("serving")));
    assert_eq!(get(server.admin, "/readyz", "").await.status, 200);
    let mut client = server.connect("late").await;
    client.open(open(1, "t")).await;

    assert_eq!(drain("POST", r#"{"exit": true}"#).await.status, 202);
    let late = drain("DELETE", "").await;
    assert!(late.status == 409 && late.body.contains("told to end"), "{}", late.body);
    server.leave().await;
    client.ended_with(Code::Unavailable, "DRAINING").await;
}

#[tokio::test]
async fn what_makes_no_sense_is_answered_with_a_sentence_and_drains_nobody() {
    let server = TestServer::start().await;
    for (body, sentence) in [
        (r#"{"spread": "soon"}"#, "spread must be a time such as"),
        (r#"{"spread": "31s"}"#, "spread can only be shorter than drain.spread, which is 30s"),
        (r#"{"grace": "1h"}"#, "grace can only be shorter than drain.grace, which is 2s"),
        (r#"{"grace": 5}"#, "invalid type"),
        (r#"{"delay": "5s"}"#, "unknown field `delay`"),
        (r#"{"reason": "two\nlines"}"#, "reason must be at most 128 characters"),
        ("{", "the body is not what is wanted here"),
    ] {
        let answer = ask(server.admin, "POST", "/drain", "", body).await;
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && error.contains(sentence), "{body}: {} {error}", answer.status);
    }
    let wrong = ask(server.admin, "PUT", "/drain", "", "").await;
    assert!(wrong.status == 405 && wrong.head.contains("allow: "), "{}", wrong.head);
    let foreign = ask(server.admin, "POST", "/drain", "origin: http://evil.example", "").await;
    assert_eq!(foreign.status, 403, "{}", foreign.body);
    assert_eq!(get(server.admin, "/drain", "").await.json()["phase"], "serving");
    server.leave().await;
}

#[tokio::test]
async fn a_second_order_hastens_the_drain() {
    let server = TestServer::with(&[("drain.grace", "20s")]).await;
    let mut client = server.connect("deaf").await;
    ask(server.admin, "POST", "/drain", "", "").await;
    client.drain().await;
    let again = ask(server.admin, "POST", "/drain", "", r#"{"grace": "100ms"}"#).await;
    assert_eq!(again.status, 200);
    client.ended_with(Code::Unavailable, "DRAINING").await;
    eventually("nobody is left", || server.connections() == 0).await;
    let status = get(server.admin, "/drain", "").await.json();
    assert_eq!(status["forced"], 1, "{status}");
    assert!(server.leave_politely().await < Duration::from_secs(5));
}
