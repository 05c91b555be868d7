//! Rule 8: credit bounds what is sent since the open.

use bowline::proto::v1::{Flow, OpenSession};

use super::{keyed, numbers, server};
use crate::support::{after, changes, close, credit, earliest, flow, grant, open, payloads, snapshot};

fn held(session: u32, topic: &str) -> OpenSession {
    OpenSession { start: earliest(), credit: credit(0, 0), ..open(session, topic) }
}

#[tokio::test]
async fn rule_08_credit_is_a_total_since_the_open_and_a_lower_one_is_ignored() {
    let server = server().await;
    server.store("t", &numbers(1, 20)).await;
    let mut client = server.connect("alice").await;
    client.open(held(1, "t")).await;
    assert!(client.is_quiet().await, "nothing is granted yet");
    for (total, more) in [(3, numbers(1, 3)), (3, vec![]), (1, vec![]), (0, vec![]), (5, numbers(4, 5)), (4, vec![])] {
        client.send(grant(1, total)).await;
        assert_eq!(payloads(&client.events(1, more.len()).await), more, "{total}");
        assert!(client.is_quiet().await, "{total}");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_08_credit_of_nothing_grants_nothing_yet_and_a_later_limit_of_bytes_holds() {
    let server = server().await;
    server.store("t", &[[0_u8; 20]; 20]).await;
    let mut client = server.connect("alice").await;
    client.open(held(1, "t")).await;
    for (bytes, more) in [(50, 3), (60, 0), (61, 1), (0, 16)] {
        let events = if bytes == 0 { 100 } else { 50 };
        client.send(Flow { credit: credit(events, bytes), ..flow(1) }).await;
        client.events(1, more).await;
        // Nothing, again: it takes nothing back and lifts nothing.
        client.send(Flow { credit: credit(0, 0), ..flow(1) }).await;
        assert!(client.is_quiet().await, "{bytes}");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_08_the_event_that_crosses_the_granted_bytes_is_still_sent() {
    let server = server().await;
    server.store("t", &[vec![0; 10], vec![0; 1000], vec![0; 10]]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(100, 11), ..held(1, "t") }).await;
    assert_eq!(client.events(1, 2).await[1].payload.len(), 1000);
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn rule_08_without_credit_in_the_open_nothing_is_bounded_until_some_is_granted() {
    let server = server().await;
    server.store("t", &numbers(1, 20)).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..open(1, "t") }).await;
    client.events(1, 20).await;
    // Less than was sent already: nothing more comes before the total is above it.
    client.ask(grant(1, 10)).await;
    client.reply().await;
    server.store("t", &numbers(21, 22)).await;
    assert!(client.is_quiet().await);
    client.send(grant(1, 21)).await;
    assert_eq!(payloads(&client.events(1, 1).await), ["21"]);
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn rule_08_credit_is_counted_anew_from_every_open() {
    let server = server().await;
    server.store("t", &numbers(1, 6)).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(3, 0), ..held(1, "t") }).await;
    client.events(1, 3).await;
    let cursor = client.cursor(1);
    client.send(close(1)).await;
    client.closed().await;
    client.open(OpenSession { credit: credit(2, 0), start: after(cursor), ..open(1, "t") }).await;
    assert_eq!(payloads(&client.events(1, 2).await), numbers(4, 5));
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn rule_08_events_of_a_snapshot_take_credit_but_its_end_and_gaps_take_none() {
    let server = server().await;
    server.publish("state.short", keyed(&["a=1", "b=1", "c=1"])).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: snapshot(), credit: credit(2, 0), ..open(1, "state.short") }).await;
    assert_eq!(changes(&client.events(1, 2).await), ["a=1", "b=1"]);
    assert!(client.is_quiet().await);
    client.send(grant(1, 3)).await;
    assert_eq!(changes(&client.snapshot(1).await), ["c=1"], "with its end");
    server.publish("state.short", keyed(&["a=2", "a=3", "a=4", "a=5", "a=6"])).await;
    assert_eq!(client.gap().await.count, 5);
    assert!(client.is_quiet().await);
    client.send(grant(1, 6)).await;
    assert_eq!(changes(&client.snapshot(1).await), ["b=1", "c=1", "a=6"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_08_credit_of_one_session_is_not_anothers() {
    let server = server().await;
    server.store("t", &numbers(1, 9)).await;
    let mut client = server.connect("alice").await;
    for session in [1, 2] {
        client.open(held(session, "t")).await;
    }
    client.send(grant(2, 5)).await;
    client.events(2, 5).await;
    assert!(client.is_quiet().await);
    server.leave().await;
}
