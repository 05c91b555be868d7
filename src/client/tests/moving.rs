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
async fn a_session_that_an_open_of_its_own_takes_away_that_was_left_is_opened_again() {
    let mut script = Script::new().await;
    let (client, mut first) = script.connected().await;
    let (mut session, _) = open(&client, &mut first, prices(), 0).await;
    first.send(Frame::Drain(v1::Drain::default())).await;
    let mut slow = script.welcomed().await;
    slow.opens().await;
    // It waits for its broker, says so, and is left before it has opened the session.
    slow.send(Frame::Drain(v1::Drain::default())).await;
    let mut last = script.welcomed().await;
    let opened = last.opens().await;
    last.opened(&opened, 0, 0).await;
    last.closed(opened.session, failure(Reason::TakenOver)).await;
    let again = last.opens().await;
    last.opened(&again, 0, 0).await;
    last.deliver(again.session, 0, 1).await;
    assert_eq!(event(&mut session).await, 1);
    assert!(slow.next().await.is_none(), "what was left is half-closed");
}
