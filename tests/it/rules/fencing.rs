//! Rule 5: the newest open of a session holds it.

use bowline::proto::v1::{Advice, OpenSession};
use tonic::Code;

use super::{assert_advised, server};
use crate::support::{acked, acknowledge, close, earliest, named, payloads, publish};

#[tokio::test]
async fn rule_05_the_newest_open_of_a_session_takes_it_and_attach_grows() {
    let server = server().await;
    let mut older = server.connect("alice").await;
    assert_eq!(older.open(named(1, "t", "desk")).await.attach, 1);
    for attach in 2..5 {
        let mut newer = server.connect("alice").await;
        assert_eq!(newer.open(named(1, "t", "desk")).await.attach, attach);
        let closed = older.closed().await;
        assert_advised(closed.failure.as_ref(), Code::Aborted, "TAKEN_OVER", Advice::Fatal);
        older = newer;
    }
    server.store("t", &["for the newest"]).await;
    assert_eq!(older.events(1, 1).await.len(), 1);
    server.leave().await;
}

#[tokio::test]
async fn rule_05_attach_is_greater_than_any_the_client_has_seen() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { last_attach: 77, ..named(1, "t", "desk") }).await;
    assert_eq!(opened.attach, 78);
    server.leave().await;
}

#[tokio::test]
async fn rule_05_frames_of_who_lost_a_session_count_for_nothing() {
    let server = server().await;
    server.store("t", &["1", "2"]).await;
    let (mut loser, mut holder) = (server.connect("alice").await, server.connect("alice").await);
    loser.open(OpenSession { start: earliest(), ..named(1, "t", "desk") }).await;
    loser.events(1, 2).await;
    holder.open(OpenSession { start: earliest(), ..named(1, "t", "desk") }).await;
    holder.events(1, 2).await;
    loser.closed().await;
    for request in
        [loser.ask(publish(1, 1, "late")).await, loser.ask(acknowledge(1, 2)).await, loser.ask(close(1)).await]
    {
        let answer = loser.answer(request).await;
        assert_advised(answer.failure.as_ref(), Code::NotFound, "UNKNOWN_SESSION", Advice::None);
    }
    assert_eq!(holder.publish(publish(1, 1, "3")).await.through_seq, 1, "the number is not used up");
    holder.sever();
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: acked(), ..named(1, "t", "desk") }).await;
    assert_eq!((opened.attach, opened.start.unwrap().offset), (3, 0), "nothing was acknowledged");
    assert_eq!(payloads(&client.events(1, 3).await), ["1", "2", "3"]);
    server.leave().await;
}
