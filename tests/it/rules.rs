//! The rules of the protocol: what a stranger's client may rely on, one by one. The name of a test is the rule; its
//! number groups it:
//!
//!  1. Chain: every Delivery and Gap goes on where the session is.
//!  2. Never silently lose: delivered once, counted as skipped, or covered by a Gap.
//!  3. One reader: replay and live are the same cursor.
//!  4. Resume: a session is opened again with its cursor.
//!  5. Fencing: the newest open of a session holds it.
//!  6. Ordering: the publishes of a session are stored in their order, or not at all.
//!  7. A publish is answered once it is stored, and stored once however often it is repeated.
//!  8. Credit bounds what is sent since the open.
//!  9. Pause is acknowledged.
//! 10. Delivery policy: what happens to what a session does not take.
//! 11. Start positions.
//! 12. Topic classes: log, state with its snapshots, keys of a session and presence, signal, echo.
//! 13. Marks on heartbeats.
//! 14. Errors take the narrowest scope; `statuses` has each.
//! 15. Whoever is to move is told by Drain and by GOAWAY.

mod chain;
mod class;
mod conflate;
mod credit;
mod errors;
mod fairness;
mod fencing;
mod limits;
mod marks;
mod moving;
mod pause;
mod policy;
mod presence;
mod publish;
mod required;
mod resume;
mod scoped;
mod snapshot;
mod start;
mod statuses;

use bowline::proto::v1::{Advice, DeliveryPolicy, Failure, NewEvent, OpenSession};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{Settings, TestClient, TestServer, assert_failure, assert_status, delete, put};

/// Topics of every kind, with little room.
const TOPICS: &str = r#"[
    { pattern = "any", delivery = { queue_size = 4 } },
    { pattern = "drop", delivery = { policy = "drop_oldest", allow = ["disconnect"], queue_size = 4 } },
    { pattern = "cut", delivery = { policy = "disconnect", queue_size = 4 } },
    { pattern = "short", history = { max_events = 4 } },
    { pattern = "held", max_lag = 4 },
    { pattern = "state.short", class = "state", history = { max_events = 4 }, max_keys = 8 },
    { pattern = "state.fast", class = "state", delivery = { policy = "conflate", max_rate_hz = 1000 } },
    { pattern = "state.>", class = "state", delivery = { queue_size = 4 } },
    { pattern = "signal.short", class = "signal", history = { max_events = 8 }, delivery = { queue_size = 4 } },
    { pattern = "signal.>", class = "signal", history = { max_events = 64 } },
    { pattern = "echo", class = "echo" },
    { pattern = ">" },
]"#;

/// A server with [`TOPICS`].
async fn server() -> TestServer {
    server_with(&[]).await
}

/// A server with [`TOPICS`] and what else is set.
async fn server_with(settings: Settings<'_>) -> TestServer {
    TestServer::with(&[&[("topics.rules", TOPICS)], settings].concat()).await
}

/// Opens a session that must be refused; why.
async fn refused(client: &mut TestClient, open: OpenSession) -> Failure {
    let session = open.session;
    client.send(open).await;
    let closed = client.closed().await;
    assert_eq!(closed.session, session);
    closed.failure.expect("a reason")
}

/// The failure has this code, reason and advice.
#[track_caller]
fn assert_advised(failure: Option<&Failure>, code: Code, reason: &str, advice: Advice) {
    assert_failure(failure, code, reason);
    assert_eq!(failure.map(Failure::advice), Some(advice));
}

/// The status has this code, reason and advice.
#[track_caller]
fn assert_status_advised(status: &Status, code: Code, reason: &str, advice: &str) {
    assert_status(status, code, reason);
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["advice"], advice);
}

fn policy(open: OpenSession, policy: DeliveryPolicy) -> OpenSession {
    OpenSession { delivery_policy: policy as i32, ..open }
}

/// Events from changes written as `key=payload` and `-key`.
fn keyed(changes: &[&str]) -> Vec<NewEvent> {
    let event = |change: &&str| match (change.strip_prefix('-'), change.split_once('=')) {
        (Some(key), _) => delete(key),
        (None, Some((key, payload))) => put(key, payload),
        (None, None) => panic!("{change} is no change"),
    };
    changes.iter().map(event).collect()
}

/// The numbers from `first` to `last` as texts.
fn numbers(first: u64, last: u64) -> Vec<String> {
    (first..=last).map(|n| n.to_string()).collect()
}
