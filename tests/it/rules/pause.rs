//! Rule 9: pause is acknowledged.

use bowline::proto::v1::{Flow, OpenSession};

use super::{keyed, numbers, server};
use crate::support::{changes, close, credit, earliest, flow, grant, open, paused, payloads, publish, snapshot};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_09_pause_is_acknowledged_and_nothing_follows_until_resume() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    for round in 0..20 {
        // In the middle of a stream of events, so that some are on their way.
        let batch = vec!["x"; 100];
        let (_, request) = tokio::join!(server.store("t", &batch), client.ask(paused(1, true)));
        assert_eq!(client.answer(request).await.failure, None);
        server.store("t", &["y"]).await;
        assert!(client.is_quiet().await, "round {round}");
        client.send(paused(1, false)).await;
        while client.cursor(1).offset < (round + 1) * 101 {
            client.delivery().await;
        }
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_09_credit_does_not_resume_a_paused_session_and_is_there_when_it_is_resumed() {
    let server = server().await;
    server.store("t", &numbers(1, 5)).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), credit: credit(1, 0), ..open(1, "t") }).await;
    client.events(1, 1).await;
    client.ask(Flow { paused: Some(true), ..grant(1, 3) }).await;
    client.reply().await;
    client.send(grant(1, 4)).await;
    assert!(client.is_quiet().await);
    client.send(Flow { paused: Some(false), ..flow(1) }).await;
    assert_eq!(payloads(&client.events(1, 3).await), numbers(2, 4));
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn rule_09_a_paused_session_pauses_no_other_and_still_publishes() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    for session in [1, 2] {
        client.open(open(session, "t")).await;
    }
    client.ask(paused(1, true)).await;
    client.reply().await;
    assert_eq!(client.publish(publish(1, 1, "x")).await.failure, None);
    client.settled().await;
    assert_eq!((client.cursor(1).offset, client.cursor(2).offset), (0, 1));
    server.leave().await;
}

#[tokio::test]
async fn rule_09_a_snapshot_pauses_like_anything_else() {
    let server = server().await;
    server.publish("state.t", keyed(&["a=1", "b=1"])).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: snapshot(), credit: credit(1, 0), ..open(1, "state.t") }).await;
    assert_eq!(changes(&client.events(1, 1).await), ["a=1"]);
    client.ask(Flow { paused: Some(true), ..grant(1, 100) }).await;
    client.reply().await;
    assert!(client.is_quiet().await);
    client.send(paused(1, false)).await;
    assert_eq!(changes(&client.snapshot(1).await), ["b=1"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_09_a_session_that_is_opened_again_is_not_paused() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    client.send(paused(1, true)).await;
    client.send(close(1)).await;
    client.closed().await;
    client.open(open(1, "t")).await;
    server.store("t", &["x"]).await;
    client.events(1, 1).await;
    server.leave().await;
}
