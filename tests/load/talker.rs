//! A client as thin as can be: frames out, frames in, and a back end that publishes batches.

use std::time::Duration;

use bowline::proto::v1::{
    Heartbeat, Hello, NewEvent, OpenSession, PublishBatchRequest, StreamDataRequest, StreamDataResponse,
    stream_data_request::Frame as Sent, stream_data_response::Frame, stream_service_client::StreamServiceClient,
    topic_service_client::TopicServiceClient,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::served::Served;

/// Longest wait for a frame.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Talker {
    requests: mpsc::Sender<StreamDataRequest>,
    responses: Streaming<StreamDataResponse>,
    last_request: u64,
}

/// What the server may have on its way to a call of a client that does not say otherwise.
const WINDOW: u32 = 1 << 20;

async fn channel(server: &Served, window: u32) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    endpoint.initial_stream_window_size(window).initial_connection_window_size(16 << 20).connect().await.unwrap()
}

impl Talker {
    /// A client that has said hello and was welcomed.
    pub async fn connect(server: &Served, client_id: &str) -> Self {
        Self::with_window(server, client_id, WINDOW).await
    }

    /// As `connect`; the server may have no more than `window` bytes on their way to it.
    pub async fn with_window(server: &Served, client_id: &str, window: u32) -> Self {
        let (requests, sent) = mpsc::channel(1024);
        let mut service = StreamServiceClient::new(channel(server, window).await);
        let call = service.stream_data(ReceiverStream::new(sent));
        let hello = Hello { client_id: client_id.to_owned(), ..Hello::default() };
        let first = StreamDataRequest { request_id: 0, frame: Some(Sent::Hello(hello)) };
        requests.send(first).await.unwrap();
        let mut talker = Self { requests, responses: call.await.unwrap().into_inner(), last_request: 0 };
        assert!(matches!(talker.frame().await, Frame::Welcome(_)));
        talker
    }

    /// Sends a frame that wants a Reply, and returns its number.
    pub async fn ask(&mut self, frame: Sent) -> u64 {
        self.last_request += 1;
        let request = StreamDataRequest { request_id: self.last_request, frame: Some(frame) };
        self.requests.send(request).await.unwrap();
        self.last_request
    }

    /// Opens a session that must open, and waits for it: what is published from then on comes after where it starts.
    pub async fn open(&mut self, open: OpenSession) {
        let frame = Some(Sent::OpenSession(Box::new(open)));
        self.requests.send(StreamDataRequest { request_id: 0, frame }).await.unwrap();
        let answer = self.frame().await;
        assert!(matches!(answer, Frame::SessionOpened(_)), "to an open came {answer:?}");
    }

    /// The next frame but heartbeats, which are answered.
    pub async fn frame(&mut self) -> Frame {
        loop {
            let response = timeout(PATIENCE, self.responses.message()).await.expect("a frame in time");
            match response.unwrap().expect("the stream goes on").frame {
                Some(Frame::Heartbeat(heartbeat)) if heartbeat.reply_requested => {
                    let frame = Some(Sent::Heartbeat(Heartbeat { nonce: heartbeat.nonce, ..Heartbeat::default() }));
                    self.requests.send(StreamDataRequest { request_id: 0, frame }).await.unwrap();
                }
                None | Some(Frame::Heartbeat(_)) => {}
                Some(frame) => return frame,
            }
        }
    }
}

/// Publishes without a session.
#[derive(Clone)]
pub struct BackEnd(TopicServiceClient<Channel>);

impl BackEnd {
    pub async fn connect(server: &Served) -> Self {
        Self(TopicServiceClient::new(channel(server, WINDOW).await))
    }

    pub async fn publish(&mut self, topic: &str, events: Vec<NewEvent>) {
        let request = PublishBatchRequest { topic: topic.to_owned(), events };
        let answer = self.0.publish_batch(request).await.unwrap().into_inner();
        assert_eq!(answer.failure, None);
    }
}
