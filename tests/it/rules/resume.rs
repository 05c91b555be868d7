//! Rules 4, 5, 11 and 13: where a session begins and goes on, who holds it, and what an idle one is told.

use bowline::proto::v1::{CloseSession, Flow, OpenSession, Recovery};
use tonic::Code;

use super::named;
use crate::support::{
    TestServer, acked, after, assert_failure, credit, earliest, eventually, flow, last, open, payloads, since,
};

#[tokio::test]
async fn rule_4_resume_needs_the_cursor_and_nothing_of_the_server() {
    let server = TestServer::start().await;
    server.store("t", &["1", "2", "3"]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), credit: credit(2, 0), ..open(1, "t") }).await;
    client.events(1, 2).await;
    let cursor = client.cursor(1);
    client.sever();
    // Another client even: there is no state but the cursor.
    let mut other = server.connect("bob").await;
    let opened = other.open(OpenSession { start: after(cursor), ..open(1, "t") }).await;
    assert_eq!((opened.recovery(), opened.start), (Recovery::Full, Some(cursor)));
    assert_eq!(payloads(&other.events(1, 1).await), ["3"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_4_a_place_that_was_acknowledged_is_kept_for_its_time_and_then_said_to_be_gone() {
    let server = TestServer::with(&[("session.ttl", "300ms")]).await;
    server.store("t", &["1", "2", "3"]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..named(1, "t", "desk") }).await;
    client.events(1, 3).await;
    let request = client.ask(Flow { acked: Some(2), ..flow(1) }).await;
    client.answer(request).await;
    client.sever();

    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: acked(), last_attach: 1, ..named(1, "t", "desk") }).await;
    assert_eq!((opened.recovery(), opened.start.unwrap().offset), (Recovery::Full, 2));
    assert_eq!(payloads(&client.events(1, 1).await), ["3"]);
    client.sever();

    eventually("the place is forgotten", || server.sample("bowline_sessions_expired_total") > 0.0).await;
    let mut client = server.connect("alice").await;
    client.send(OpenSession { start: acked(), last_attach: 2, ..named(1, "t", "desk") }).await;
    assert_failure(client.closed().await.failure.as_ref(), Code::NotFound, "SESSION_EXPIRED");
    // Who has never seen the session begins live, and is told that it is so.
    let opened = client.open(OpenSession { start: acked(), ..named(1, "t", "desk") }).await;
    assert_eq!((opened.recovery(), opened.start.unwrap().offset), (Recovery::Fresh, 3));
    server.leave().await;
}

#[tokio::test]
async fn rule_5_fencing_the_newest_attach_wins_and_the_older_is_told_not_to_come_back() {
    let server = TestServer::start().await;
    let mut older = server.connect("alice").await;
    assert_eq!(older.open(named(1, "t", "desk")).await.attach, 1);
    let mut newer = server.connect("alice").await;
    assert_eq!(newer.open(OpenSession { last_attach: 7, ..named(1, "t", "desk") }).await.attach, 8);
    let closed = older.closed().await;
    assert_failure(closed.failure.as_ref(), Code::Aborted, "TAKEN_OVER");
    assert_eq!(closed.failure.unwrap().advice(), bowline::proto::v1::Advice::Fatal);
    server.store("t", &["x"]).await;
    newer.events(1, 1).await;
    assert!(older.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn rule_5_a_client_has_so_many_sessions_over_all_its_connections() {
    let server = TestServer::with(&[("session.max_per_client", "2")]).await;
    let (mut one, mut two) = (server.connect("alice").await, server.connect("alice").await);
    one.open(named(1, "t", "a")).await;
    two.open(named(1, "t", "b")).await;
    two.send(named(2, "t", "c")).await;
    assert_failure(two.closed().await.failure.as_ref(), Code::ResourceExhausted, "SESSION_LIMIT");
    one.send(CloseSession { session: 1, keep: true }).await;
    one.closed().await;
    two.send(named(2, "t", "c")).await;
    assert_failure(two.closed().await.failure.as_ref(), Code::ResourceExhausted, "SESSION_LIMIT");
    let mut other = server.connect("bob").await;
    other.open(named(1, "t", "c")).await;
    server.leave().await;
}

#[tokio::test]
async fn rule_11_start_positions_are_honoured() {
    let server = TestServer::start().await;
    let stored = server.store("t", &["1", "2", "3", "4"]).await;
    let third = stored[2].cursor.unwrap();
    let mut client = server.connect("alice").await;
    let cases = [(None, 4), (earliest(), 0), (last(3), 1), (since(third.time_us), 2), (after(third), 3), (acked(), 4)];
    for (alias, (start, offset)) in (1..).zip(cases) {
        let opened = client.open(OpenSession { start, credit: credit(0, 0), ..open(alias, "t") }).await;
        assert_eq!(opened.start.unwrap().offset, offset, "{start:?}");
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_11_no_follow_is_a_history_read_under_the_same_credit() {
    let server = TestServer::start().await;
    server.store("t", &["1", "2", "3"]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), no_follow: true, credit: credit(2, 0), ..open(1, "t") }).await;
    server.store("t", &["4"]).await;
    client.events(1, 2).await;
    assert!(client.is_quiet().await);
    client.send(Flow { credit: credit(9, 0), ..flow(1) }).await;
    assert_eq!(payloads(&client.events(1, 1).await), ["3"]);
    assert_eq!(client.closed().await.failure, None);
    server.leave().await;
}

#[tokio::test]
async fn rule_13_marks_tell_an_idle_session_that_is_caught_up_where_it_is_and_no_other() {
    let server = TestServer::with(&[("registry.heartbeat_interval", "100ms")]).await;
    server.store("t", &["1", "2"]).await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    client.open(OpenSession { start: earliest(), credit: credit(0, 0), ..open(2, "t") }).await;
    client.open(open(3, "t")).await;
    let request = client.ask(Flow { paused: Some(true), ..flow(3) }).await;
    client.answer(request).await;
    loop {
        let marks = client.heartbeat().await.marks;
        assert!(marks.iter().all(|mark| mark.session == 1), "{marks:?}");
        if let [mark] = marks[..] {
            assert_eq!((mark.offset, mark.time_us), (2, client.cursor(1).time_us));
            break;
        }
    }
    server.leave().await;
}
