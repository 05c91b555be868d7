//! As many connections as the default configuration allows, held by the real program.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "its modules are its own; a test says no more than where")]

#[path = "support/admin.rs"]
mod admin;
#[path = "support/served.rs"]
mod served;

use std::{process::Command, time::Duration};

use bowline::proto::v1::{
    Hello, OpenSession, StreamDataRequest, StreamDataResponse, stream_data_request, stream_data_response,
    stream_service_client::StreamServiceClient,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Endpoint};
use tonic_types::StatusExt as _;

use admin::Admin;
use served::Served;

/// `registry.max_connections` by default.
const LIMIT: usize = 5000;
/// How many connect at once.
const AT_ONCE: usize = 100;

/// A client on a transport of its own, with one open session.
struct Connected {
    _requests: mpsc::Sender<StreamDataRequest>,
    _responses: Streaming<StreamDataResponse>,
}

async fn connect(url: String, number: usize) -> Result<Connected, Status> {
    let channel = Endpoint::from_shared(url).unwrap().connect().await.expect("the port answers");
    let (requests, sent) = mpsc::channel(4);
    let hello = Hello { client_id: format!("client-{number}"), ..Hello::default() };
    let open = OpenSession { session: 1, topic: format!("room.{}", number % 100), ..OpenSession::default() };
    for frame in [stream_data_request::Frame::Hello(hello), stream_data_request::Frame::OpenSession(Box::new(open))] {
        requests.send(StreamDataRequest { request_id: 0, frame: Some(frame) }).await.unwrap();
    }
    let call = StreamServiceClient::new(channel).stream_data(ReceiverStream::new(sent)).await?;
    let mut responses = call.into_inner();
    loop {
        match responses.message().await?.expect("the stream goes on").frame {
            Some(stream_data_response::Frame::Welcome(_)) => {}
            Some(stream_data_response::Frame::SessionOpened(_)) => break,
            other => panic!("unexpected: {other:?}"),
        }
    }
    Ok(Connected { _requests: requests, _responses: responses })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_is_held_the_next_is_told_to_wait_and_all_is_cleaned_up() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    // This client opens them as fast as an optimised server answers.
    let settings = [("BOWLINE__REGISTRY__MAX_OPENS_PER_SECOND", "0")];
    let server = Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), &settings);
    let (url, admin) = (format!("http://{}", server.address), Admin::of(&server));
    let before = server.resident_kib();

    let connecting = stream::iter((0..LIMIT).map(|number| connect(url.clone(), number))).buffer_unordered(AT_ONCE);
    let all: Vec<Connected> = timeout(Duration::from_secs(240), connecting.try_collect()).await.unwrap().unwrap();
    assert_eq!(admin.metric("bowline_connections_active"), LIMIT as f64);
    assert_eq!(admin.metric("bowline_sessions_active"), LIMIT as f64);
    let held = server.resident_kib();

    let refused = connect(url.clone(), LIMIT).await.err().expect("one too many");
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "maximum connections reached"));
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "MAX_CONNECTIONS");
    assert!(details.retry_info().unwrap().retry_delay.is_some_and(|delay| !delay.is_zero()));

    drop(all);
    admin.wait_for("bowline_connections_active", 0.0).await;
    admin.wait_for("bowline_sessions_active", 0.0).await;
    assert!(connect(url, 0).await.is_ok(), "there is room again");
    let each = (held - before) as f64 / LIMIT as f64;
    println!("{LIMIT} connections with a session each: {before} KiB before, {held} KiB held, {each:.1} KiB each");
}
