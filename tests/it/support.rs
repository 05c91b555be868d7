//! A server for each test, and a client that says exactly what a test wants said.

mod chain;
mod client;
mod frames;
mod http;
mod raw;
mod server;
mod wire;

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use bowline::proto::v1;

pub(crate) use self::{
    client::{Heard, TestClient},
    frames::{
        acked, acknowledge, after, changes, close, credit, delete, earliest, event, flow, grant, heartbeat, hello,
        last, named, open, paused, payloads, present, publish, put, scoped, since, snapshot, with,
    },
    http::{ask, get},
    raw::{RawCall, RawTransport, grpc_message},
    server::{Settings, TestServer},
};

/// Longer than anything here takes; reaching it is a failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits for something that must come.
#[track_caller]
pub(crate) fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move { timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{place}: {what} did not come in time")) }
}

/// Waits until `holds` is true, looking often.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < LIMIT, "{place}: it never came to be that {what}");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The status has this code and, in its details, this reason of ours and an advice.
#[track_caller]
pub(crate) fn assert_status(status: &Status, code: Code, reason: &str) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{status:?}");
    assert_eq!(info.domain, "bowline");
    assert!(info.metadata.contains_key("advice"), "{status:?}");
}

/// The status names the field that is wrong.
#[track_caller]
pub(crate) fn assert_bad_field(status: &Status, field: &str) {
    assert_status(status, Code::InvalidArgument, "INVALID_FIELD");
    let details = status.get_error_details();
    let fields: Vec<_> =
        details.bad_request().expect("BadRequest").field_violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, [field]);
}

/// The failure of a frame has this code and reason, and an advice.
#[track_caller]
pub(crate) fn assert_failure(failure: Option<&v1::Failure>, code: Code, reason: &str) {
    let failure = failure.unwrap_or_else(|| panic!("no failure, {reason} was expected"));
    assert_eq!((failure.code, failure.reason.as_str()), (code as i32, reason), "{failure:?}");
    assert_ne!(failure.advice(), v1::Advice::Unspecified);
}
