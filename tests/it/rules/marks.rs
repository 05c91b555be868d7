//! Rule 13: marks on heartbeats say that an idle session has been told everything.

use std::collections::HashSet;

use bowline::proto::v1::{Cursor, Mark, OpenSession, stream_data_response::Frame};

use super::{keyed, numbers, server_with};
use crate::support::{
    Settings, TestClient, TestServer, after, credit, earliest, grant, open, paused, payloads, snapshot,
};

const OFTEN: Settings<'_> = &[("registry.heartbeat_interval", "40ms")];

async fn server() -> TestServer {
    server_with(OFTEN).await
}

/// The marks of the next heartbeat that has one of this session. That they fit, the client checks.
async fn marks(client: &mut TestClient, session: u32) -> Vec<Mark> {
    loop {
        if let Frame::Heartbeat(heartbeat) = client.any_frame().await
            && heartbeat.marks.iter().any(|mark| mark.session == session)
        {
            return heartbeat.marks;
        }
    }
}

/// The sessions that were marked in three heartbeats that marked this one.
async fn marked(client: &mut TestClient, session: u32) -> HashSet<u32> {
    let mut sessions = HashSet::new();
    for _ in 0..3 {
        sessions.extend(marks(client, session).await.iter().map(|mark| mark.session));
    }
    sessions
}

#[tokio::test]
async fn rule_13_a_session_that_is_idle_and_caught_up_is_marked_with_the_newest_position() {
    let server = server().await;
    let head = server.store("t", &numbers(1, 3)).await[2].cursor.unwrap();
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let mark = marks(&mut client, 1).await[0];
    assert_eq!((mark.offset, mark.time_us), (head.offset, head.time_us));
    client.open(open(2, "empty")).await;
    let all = marks(&mut client, 2).await;
    assert_eq!(all.iter().map(|mark| (mark.session, mark.offset)).collect::<HashSet<_>>(), [(1, 3), (2, 0)].into());
    server.leave().await;
}

#[tokio::test]
async fn rule_13_a_mark_is_a_position_to_resume_at() {
    let server = server().await;
    server.store("t", &numbers(1, 3)).await;
    let mut client = server.connect("alice").await;
    let epoch = client.open(open(1, "t")).await.start.unwrap().epoch;
    let Mark { offset, time_us, .. } = marks(&mut client, 1).await[0];
    client.sever();
    server.store("t", &["4"]).await;
    let mut client = server.connect("alice").await;
    let start = after(Cursor { epoch, offset, time_us });
    client.open(OpenSession { start, ..open(1, "t") }).await;
    assert_eq!(payloads(&client.events(1, 1).await), ["4"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_13_a_session_that_lags_is_paused_or_has_no_credit_for_what_waits_is_not_marked() {
    let server = server().await;
    server.store("t", &numbers(1, 3)).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(0, 0), start: earliest(), ..open(1, "t") }).await;
    client.open(OpenSession { credit: credit(2, 0), start: earliest(), ..open(2, "t") }).await;
    client.events(2, 2).await;
    client.open(open(3, "t")).await;
    client.ask(paused(3, true)).await;
    client.reply().await;
    client.open(open(4, "t")).await;
    client.open(OpenSession { mode: 2, ..open(5, "t") }).await;
    assert_eq!(marked(&mut client, 4).await, [4].into());
    // Once they have what there is, they are.
    client.send(grant(1, 3)).await;
    client.send(grant(2, 100)).await;
    client.send(paused(3, false)).await;
    for session in [1, 2, 3] {
        marks(&mut client, session).await;
        assert_eq!(client.cursor(session).offset, 3);
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_13_a_session_is_not_marked_before_its_snapshot_has_ended() {
    let server = server().await;
    server.publish("state.t", keyed(&["a=1", "b=1"])).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: snapshot(), credit: credit(1, 0), ..open(1, "state.t") }).await;
    client.events(1, 1).await;
    client.open(open(2, "state.t")).await;
    assert_eq!(marked(&mut client, 2).await, [2].into());
    client.send(grant(1, 2)).await;
    marks(&mut client, 1).await;
    server.leave().await;
}
