//! How long a client waits before it tries the next server.

use super::*;
use crate::client::Backoff;

/// Waits grow so fast that one too many is noticed; any connection is a stable one.
fn backoff() -> Backoff {
    let (first, max) = (Duration::from_millis(20), Duration::from_secs(60));
    Backoff { first, max, factor: 100.0, stable_after: Duration::ZERO }
}

#[tokio::test]
async fn a_client_that_has_moved_begins_its_waiting_anew() {
    let mut script = Script::new().await;
    let connecting = script.client().backoff(backoff()).connect();
    let (client, old) = tokio::join!(connecting, script.welcomed());
    let _client = client.unwrap();
    old.send(Frame::Drain(v1::Drain::default())).await;
    script.call().await.end(Status::unavailable("not yet")).await;
    script.call().await.end(Status::unavailable("not yet")).await;
    let new = script.welcomed().await;
    new.send(Frame::Drain(v1::Drain::default())).await;
    script.call().await.end(Status::unavailable("not yet")).await;
    // The next wait of the series before would be up to a minute.
    within("the next try", script.call()).await;
}

#[tokio::test]
async fn a_session_that_an_open_of_its_own_takes_away_that_was_left_is_opened_again_once() {
    let mut script = Script::new().await;
    let (client, mut first) = script.connected().await;
    let (mut session, _) = open(&client, &mut first, prices(), 0).await;
    first.send(Frame::Drain(v1::Drain::default())).await;
    let mut slow = script.welcomed().await;
    slow.opens().await;
    // It is left before it has opened the session.
    slow.send(Frame::Drain(v1::Drain::default())).await;
    let mut last = script.welcomed().await;
    let opened = last.opens().await;
    last.closed(opened.session, failure(Reason::TakenOver)).await;
    assert!(slow.next().await.is_none(), "nothing more is asked of it");
    let again = last.opens().await;
    last.opened(&again, 0, 0).await;
    let receipt = session.publish(text("a")).await.unwrap();
    let (request, _) = last.publishes().await;
    // A publish may be the first to hear of it.
    let failed = |request_id| v1::Reply { request_id, failure: failure(Reason::TakenOver), ..v1::Reply::default() };
    last.send(Frame::Reply(failed(request))).await;
    last.closed(again.session, failure(Reason::TakenOver)).await;
    let error = end(&mut session).await.unwrap();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::SessionClosed, Some("TAKEN_OVER")));
    assert_eq!(receipt.await.unwrap_err().kind(), ErrorKind::UnknownOutcome);
}

#[tokio::test]
async fn an_open_that_is_lost_with_its_connection_counts_if_the_server_had_welcomed() {
    let mut script = Script::new().await;
    let (client, mut first) = script.connected().await;
    let (mut session, _) = open(&client, &mut first, prices(), 0).await;
    first.end(Status::unavailable("gone")).await;
    let mut slow = script.welcomed().await;
    slow.opens().await;
    slow.end(Status::unavailable("gone")).await;
    let mut last = script.welcomed().await;
    let opened = last.opens().await;
    last.closed(opened.session, failure(Reason::TakenOver)).await;
    let again = last.opens().await;
    last.opened(&again, 0, 0).await;
    last.end(Status::unavailable("gone")).await;
    script.call().await.end(Status::unavailable("not yet")).await;
    let mut last = script.welcomed().await;
    let opened = last.opens().await;
    last.closed(opened.session, failure(Reason::TakenOver)).await;
    assert_eq!(end(&mut session).await.unwrap().reason(), Some("TAKEN_OVER"));
}
