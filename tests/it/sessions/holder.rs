//! Who holds a session: the newest open of its name.

use bowline::proto::v1::{CloseSession, Flow, OpenSession, stream_data_response::Frame};
use tonic::Code;

use crate::support::{TestServer, acked, assert_failure, close, earliest, flow, named, open, payloads, publish};

#[tokio::test]
async fn a_newer_open_takes_a_session_over_and_leaves_the_others_of_the_loser_alone() {
    let server = TestServer::start().await;
    let mut first = server.connect("alice").await;
    assert_eq!(first.open(named(1, "t", "desk")).await.attach, 1);
    first.open(named(2, "other", "shelf")).await;

    let mut second = server.connect("alice").await;
    assert_eq!(second.open(named(7, "t", "desk")).await.attach, 2);
    let closed = first.closed().await;
    assert_eq!(closed.session, 1);
    assert_failure(closed.failure.as_ref(), Code::Aborted, "TAKEN_OVER");

    server.store("t", &["x"]).await;
    server.store("other", &["y"]).await;
    assert_eq!(payloads(&second.events(7, 1).await), ["x"]);
    assert_eq!(payloads(&first.events(2, 1).await), ["y"]);
    let answer = first.publish(publish(1, 1, "late")).await;
    assert_failure(answer.failure.as_ref(), Code::NotFound, "UNKNOWN_SESSION");
    assert_eq!((server.connections(), server.sessions()), (2, 2));
    server.leave().await;
}

#[tokio::test]
async fn a_client_can_take_a_session_over_from_itself() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(named(1, "t", "desk")).await;
    client.send(named(2, "t", "desk")).await;
    let (mut lost, mut attach) = (None, 0);
    while lost.is_none() || attach == 0 {
        match client.frame().await {
            Frame::SessionClosed(closed) => lost = Some(closed),
            Frame::SessionOpened(opened) => attach = opened.attach,
            other => panic!("{other:?}"),
        }
    }
    let lost = lost.unwrap();
    assert_eq!((lost.session, attach), (1, 2));
    assert_failure(lost.failure.as_ref(), Code::Aborted, "TAKEN_OVER");
    assert_eq!(server.sessions(), 1);
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_fight_for_a_session_never_both_hold_it() {
    let server = TestServer::start().await;
    let mut rivals = [server.connect("alice").await, server.connect("alice").await];
    for (round, attach) in (1..=20).enumerate() {
        let opened = rivals[round % 2].open(named(1, "t", "desk")).await;
        assert_eq!(opened.attach, attach);
        if round > 0 {
            let closed = rivals[(round + 1) % 2].closed().await;
            assert_failure(closed.failure.as_ref(), Code::Aborted, "TAKEN_OVER");
        }
        assert_eq!(server.sessions(), 1);
    }
    server.leave().await;
}

#[tokio::test]
async fn the_same_name_of_another_client_is_another_session() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = (server.connect("alice").await, server.connect("bob").await);
    alice.open(named(1, "t", "desk")).await;
    assert_eq!(bob.open(named(1, "t", "desk")).await.attach, 1);
    assert!(alice.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn nameless_sessions_do_not_know_each_other() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    for alias in 1..=3 {
        assert_eq!(client.open(open(alias, "t")).await.attach, 1);
    }
    assert_eq!(server.sessions(), 3);
    server.leave().await;
}

#[tokio::test]
async fn attach_grows_with_every_open_and_never_falls_behind_what_the_client_has_seen() {
    let server = TestServer::start().await;
    for attach in 1..=3 {
        let mut client = server.connect("alice").await;
        assert_eq!(client.open(named(1, "t", "desk")).await.attach, attach);
        drop(client);
        server.emptied().await;
    }
    let mut client = server.connect("alice").await;
    let seen_elsewhere = OpenSession { last_attach: 40, ..named(1, "t", "desk") };
    assert_eq!(client.open(seen_elsewhere).await.attach, 41);
    server.leave().await;
}

#[tokio::test]
async fn a_session_that_was_closed_for_good_is_forgotten_and_one_that_was_kept_is_not() {
    let server = TestServer::start().await;
    server.store("t", &["1", "2", "3", "4"]).await;
    let mut client = server.connect("alice").await;
    for (keep, attach, rest) in [(true, 2, &["3", "4"][..]), (false, 1, &[])] {
        client.open(OpenSession { start: earliest(), ..named(1, "t", "desk") }).await;
        client.events(1, 4).await;
        client.ask(Flow { acked: Some(2), ..flow(1) }).await;
        assert_eq!(client.reply().await.failure, None);
        client.send(CloseSession { session: 1, keep }).await;
        client.closed().await;

        let opened = client.open(OpenSession { start: acked(), ..named(1, "t", "desk") }).await;
        assert_eq!(opened.attach, attach, "keep: {keep}");
        if !rest.is_empty() {
            assert_eq!(payloads(&client.events(1, rest.len()).await), rest);
        }
        assert!(client.is_quiet().await);
        client.send(close(1)).await;
        client.closed().await;
    }
    server.leave().await;
}

#[tokio::test]
async fn an_acknowledgement_never_goes_back_nor_past_what_was_sent() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..named(1, "t", "desk") }).await;
    server.store("t", &["1", "2", "3"]).await;
    client.events(1, 3).await;
    for offset in [2, 1, 2] {
        client.send(Flow { acked: Some(offset), ..flow(1) }).await;
    }
    assert!(client.is_quiet().await);
    drop(client);
    server.emptied().await;

    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: acked(), ..named(1, "t", "desk") }).await;
    assert_eq!(payloads(&client.events(1, 1).await), ["3"]);
    client.send(Flow { acked: Some(u64::MAX), ..flow(1) }).await;
    assert!(client.is_quiet().await);
    drop(client);
    server.emptied().await;

    server.store("t", &["4"]).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: acked(), ..named(1, "t", "desk") }).await;
    assert_eq!(payloads(&client.events(1, 1).await), ["4"]);
    server.leave().await;
}

#[tokio::test]
async fn an_open_that_is_refused_takes_nothing_from_who_holds_the_session() {
    use bowline::proto::v1::{Snapshot, StartPosition, start_position::Position};
    let server = TestServer::start().await;
    let mut holder = server.connect("alice").await;
    holder.open(named(1, "t", "desk")).await;
    let mut other = server.connect("alice").await;
    let start = Some(StartPosition { position: Some(Position::Snapshot(Snapshot {})) });
    other.send(OpenSession { start, ..named(1, "t", "desk") }).await;
    assert_failure(other.closed().await.failure.as_ref(), Code::Unimplemented, "UNSUPPORTED");

    server.store("t", &["x"]).await;
    assert_eq!(payloads(&holder.events(1, 1).await), ["x"]);
    server.leave().await;
}

#[tokio::test]
async fn an_acknowledgement_of_another_log_is_not_taken_for_one_of_this() {
    let server = TestServer::start().await;
    let stored = server.store("t", &["a", "b", "c"]).await;
    let here = stored[2].cursor.unwrap();
    let mut client = server.connect("alice").await;
    // Pipelined, so that the acknowledgement comes before the gap has gone out.
    let start = crate::support::after(super::elsewhere(bowline::proto::v1::Cursor { offset: 1000, ..here }));
    client.send(OpenSession { start, ..named(1, "t", "desk") }).await;
    client.send(Flow { acked: Some(1000), ..flow(1) }).await;
    client.opened().await;
    client.gap().await;
    client.events(1, 3).await;
    client.ask(Flow { acked: Some(2), ..flow(1) }).await;
    client.reply().await;
    client.half_close();
    client.ended_well().await;

    let mut again = server.connect("alice").await;
    let opened = again.open(OpenSession { start: acked(), ..named(1, "t", "desk") }).await;
    assert_eq!(opened.start.unwrap().offset, 2);
    server.leave().await;
}
