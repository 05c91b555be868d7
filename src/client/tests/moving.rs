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
