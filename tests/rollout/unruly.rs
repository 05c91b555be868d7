//! Clients that do nothing of what a server that leaves tells them.

#[path = "../it/support/raw.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod raw;

use std::{future::Future, net::SocketAddr, time::Duration};

use bowline::{
    lifecycle::Tasks,
    proto::{
        health::{
            HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
        },
        v1::{
            Earliest, Hello, NewEvent, OpenSession, PublishBatchRequest, StartPosition, StreamDataRequest,
            start_position::Position, stream_data_request::Frame as Sent, stream_data_response::Frame as Heard,
            stream_service_client::StreamServiceClient, topic_service_client::TopicServiceClient,
        },
    },
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use raw::{RawCall, RawTransport};

/// How many of each kind.
const EACH: usize = 10;

/// Waits for something that must come.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("{what} did not come in time"))
}

/// All of them, on one server.
pub struct Crowd {
    /// They listen, and stay. Whether they were told, and how their call ended.
    deaf: Vec<JoinHandle<(bool, Status)>>,
    /// They never read what is sent to them.
    stuck: Vec<(RawTransport, RawCall)>,
    /// They watch the server's health, and nothing else.
    watches: Vec<Streaming<HealthCheckResponse>>,
}

impl Crowd {
    pub async fn gather(address: SocketAddr) -> Self {
        let channel = || async { Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap() };
        let event = NewEvent { payload: vec![0; 1024].into(), ..NewEvent::default() };
        let request = PublishBatchRequest { topic: "much".to_owned(), events: vec![event; 1000] };
        TopicServiceClient::new(channel().await).publish_batch(request).await.unwrap();
        let mut crowd = Self { deaf: Vec::new(), stuck: Vec::new(), watches: Vec::new() };
        for n in 0..EACH {
            crowd.deaf.push(deaf(channel().await, n).await);
            crowd.stuck.push(stuck(address).await);
            let watch = HealthClient::new(channel().await).watch(HealthCheckRequest::default()).await;
            let mut watch = watch.unwrap().into_inner();
            assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
            crowd.watches.push(watch);
        }
        crowd
    }

    /// Calls of `StreamData` among them.
    pub fn conversations(&self) -> usize {
        self.deaf.len() + self.stuck.len()
    }

    /// Now that the server is gone: everybody who listened has heard of it, and how it ends.
    pub async fn was_told(self) {
        for deaf in self.deaf {
            let (told, status) = within("the end of a call", deaf).await.unwrap();
            assert!(told, "closed without a Drain frame: {status:?}");
            let details = status.get_error_details();
            let reason = details.error_info().map(|info| info.reason.as_str());
            assert_eq!((status.code(), reason), (Code::Unavailable, Some("DRAINING")), "{status:?}");
        }
        for (_transport, mut call) in self.stuck {
            assert!(call.end().await.is_err(), "a call that nobody read has ended well");
        }
        for mut watch in self.watches {
            assert_eq!(within("a status", watch.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
            assert!(within("the end of a watch", watch.message()).await.unwrap().is_none());
        }
    }
}

fn frames(n: usize) -> [Sent; 2] {
    let hello = Hello { client_id: format!("unruly-{n}"), ..Hello::default() };
    let earliest = StartPosition { position: Some(Position::Earliest(Earliest {})) };
    let open = OpenSession { session: 1, topic: "much".to_owned(), start: Some(earliest), ..OpenSession::default() };
    [Sent::Hello(hello), Sent::OpenSession(open.into())]
}

async fn deaf(channel: Channel, n: usize) -> JoinHandle<(bool, Status)> {
    let (requests, sent) = mpsc::channel(4);
    for frame in frames(n) {
        requests.send(StreamDataRequest { request_id: 0, frame: Some(frame) }).await.unwrap();
    }
    let call = StreamServiceClient::new(channel).stream_data(ReceiverStream::new(sent)).await.unwrap();
    let mut heard = call.into_inner();
    Tasks::default().spawn("deaf", async move {
        let mut told = false;
        loop {
            match heard.message().await {
                Ok(Some(frame)) => told |= matches!(frame.frame, Some(Heard::Drain(_))),
                Ok(None) => return (told, Status::ok("")),
                Err(status) => {
                    // Until then, its own half stays open.
                    drop(requests);
                    return (told, status);
                }
            }
        }
    })
}

async fn stuck(address: SocketAddr) -> (RawTransport, RawCall) {
    let transport = RawTransport::open(address, 0).await;
    let mut call = transport.call().await;
    for frame in frames(0) {
        call.send_frame(frame);
    }
    (transport, call)
}
