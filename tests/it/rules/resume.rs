//! Rule 4: a session is opened again with the cursor of its client, and needs nothing else.

use bowline::proto::v1::{Cursor, Flow, GapReason, OpenSession, Recovery};

use super::{numbers, server, server_with};
use crate::support::{acked, acknowledge, after, earliest, eventually, named, open, payloads};

#[tokio::test]
async fn rule_04_a_session_goes_on_at_its_cursor_on_another_connection() {
    let server = server().await;
    server.store("t", &numbers(1, 3)).await;
    // Nothing of it depends on what the server keeps: a nameless session is resumed like a named one.
    for session_id in ["", "desk"] {
        let mut client = server.connect("alice").await;
        client.open(OpenSession { start: earliest(), ..named(1, "t", session_id) }).await;
        client.events(1, 3).await;
        let cursor = client.cursor(1);
        client.sever();
        let mut client = server.connect("alice").await;
        let opened = client.open(OpenSession { start: after(cursor), ..named(9, "t", session_id) }).await;
        assert_eq!((opened.recovery(), opened.start), (Recovery::Full, Some(cursor)));
        let start = Cursor { offset: 1, time_us: 0, ..cursor };
        let opened = client.open(OpenSession { start: after(start), ..open(1, "t") }).await;
        assert_eq!((opened.recovery(), opened.start.unwrap().offset), (Recovery::Full, 1));
        assert_eq!(payloads(&client.events(1, 2).await), numbers(2, 3));
        client.sever();
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_04_an_epoch_that_is_not_the_topics_is_announced_by_a_gap() {
    let server = server().await;
    let head = server.store("t", &numbers(1, 2)).await[1].cursor.unwrap();
    let strange = Cursor { epoch: head.epoch ^ 1, ..head };
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: after(strange), ..open(1, "t") }).await;
    assert_eq!((opened.recovery(), opened.start), (Recovery::Partial, Some(strange)));
    let gap = client.gap().await;
    assert_eq!((gap.reason(), gap.from, gap.to.unwrap().epoch), (GapReason::Epoch, Some(strange), head.epoch));
    assert_eq!(payloads(&client.events(1, 2).await), numbers(1, 2));
    server.leave().await;
}

#[tokio::test]
async fn rule_04_what_was_acknowledged_is_kept_for_a_client_that_lost_its_memory() {
    let server = server().await;
    server.store("t", &numbers(1, 5)).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..named(1, "t", "desk") }).await;
    client.events(1, 5).await;
    client.ask(acknowledge(1, 3)).await;
    client.reply().await;
    client.sever();
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: acked(), ..named(1, "t", "desk") }).await;
    assert_eq!(payloads(&client.events(1, 2).await), numbers(4, 5));
    server.leave().await;
}

#[tokio::test]
async fn rule_04_what_was_acknowledged_of_another_epoch_counts_for_nothing() {
    let server = server().await;
    let head = server.store("t", &numbers(1, 5)).await[4].cursor.unwrap();
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..named(1, "t", "desk") }).await;
    client.events(1, 5).await;
    for (acked, acked_epoch) in [(3, head.epoch), (4, head.epoch ^ 1)] {
        client.ask(Flow { acked_epoch, ..acknowledge(1, acked) }).await;
        assert_eq!(client.reply().await.failure, None);
    }
    client.sever();
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: acked(), ..named(1, "t", "desk") }).await;
    assert_eq!(opened.start.unwrap().offset, 3);
    server.leave().await;
}

#[tokio::test]
async fn rule_04_a_place_is_forgotten_once_nobody_has_come_back_for_session_ttl() {
    let server = server_with(&[("session.ttl", "50ms"), ("session.key_grace", "50ms")]).await;
    server.store("t", &numbers(1, 5)).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..named(1, "t", "desk") }).await;
    client.events(1, 5).await;
    client.ask(acknowledge(1, 3)).await;
    client.reply().await;
    client.sever();
    eventually("it has expired", || server.metrics().sessions_expired.get() == 1).await;
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: acked(), ..named(1, "t", "desk") }).await;
    assert_eq!((opened.recovery(), opened.attach, opened.start.unwrap().offset), (Recovery::Fresh, 1, 5));
    server.leave().await;
}
