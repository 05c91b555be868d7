//! A server that does what a test says, over real HTTP/2 on loopback.

use std::{pin::Pin, time::Duration};

use futures_util::Stream;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    client::{Backoff, Builder, Client, Error, Item, Session},
    proto::v1::{
        self, StreamDataRequest, StreamDataResponse,
        stream_data_request::Frame as Sent,
        stream_data_response::Frame,
        stream_service_server::{StreamService, StreamServiceServer},
    },
};

/// Nothing in these tests takes longer than this, unless it fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// The epoch of every topic here.
pub(super) const EPOCH: u64 = 7;

pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Listens; hands every call to the test. Ends with its tasks when dropped.
pub(super) struct Script {
    pub(super) url: String,
    calls: mpsc::Receiver<Call>,
    _accepting: JoinSet<()>,
}

#[derive(Clone)]
struct Hand(mpsc::Sender<Call>);

/// One `StreamData` call, in the hands of the test. Dropped, it ends with status OK.
pub(super) struct Call {
    pub(super) client_id: String,
    inbound: Streaming<StreamDataRequest>,
    outbound: mpsc::Sender<Result<StreamDataResponse, Status>>,
}

#[tonic::async_trait]
impl StreamService for Hand {
    type StreamDataStream = Pin<Box<dyn Stream<Item = Result<StreamDataResponse, Status>> + Send>>;

    async fn stream_data(
        &self,
        request: Request<Streaming<StreamDataRequest>>,
    ) -> Result<Response<Self::StreamDataStream>, Status> {
        let client_id = request.metadata().get("x-client-id").map(|id| id.to_str().unwrap().to_owned());
        let (outbound, frames) = mpsc::channel(4096);
        let call = Call { client_id: client_id.unwrap_or_default(), inbound: request.into_inner(), outbound };
        self.0.send(call).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }
}

impl Script {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (hand, calls) = mpsc::channel(16);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut transports = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let service = TowerToHyperService::new(StreamServiceServer::new(Hand(hand.clone())));
                transports.spawn(async move {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // How a transport ends is the client's affair here.
                    drop(builder.serve_connection(TokioIo::new(socket), service).await);
                });
            }
        });
        Self { url, calls, _accepting: accepting }
    }

    /// A client of this server, impatient enough for tests.
    pub(super) fn client(&self) -> Builder {
        let backoff =
            Backoff { first: Duration::from_millis(20), max: Duration::from_millis(100), ..Backoff::default() };
        Client::builder(self.url.clone()).client_id("alice").backoff(backoff)
    }

    pub(super) async fn call(&mut self) -> Call {
        within("a call", self.calls.recv()).await.unwrap()
    }

    /// A connected client and its call, past Hello and Welcome.
    pub(super) async fn connected(&mut self) -> (Client, Call) {
        let client = self.client();
        let (client, call) = tokio::join!(client.connect(), async {
            let mut call = self.call().await;
            call.hello().await;
            call.welcome().await;
            call
        });
        (client.unwrap(), call)
    }

    /// The next call, past Hello and Welcome.
    pub(super) async fn welcomed(&mut self) -> Call {
        let mut call = self.call().await;
        call.hello().await;
        call.welcome().await;
        call
    }
}

pub(super) fn welcome() -> v1::Welcome {
    v1::Welcome {
        version: 1,
        connection_id: "c".into(),
        heartbeat_interval_ms: 20_000,
        receive_timeout_ms: 25_000,
        limits: Some(v1::Limits {
            max_payload_bytes: 1024,
            max_sessions: 10,
            max_inflight_publishes: 8,
            dedupe_window_ms: 180_000,
            session_ttl_ms: 120_000,
            ..v1::Limits::default()
        }),
        ..v1::Welcome::default()
    }
}

pub(super) fn at(offset: u64) -> v1::Cursor {
    v1::Cursor { epoch: EPOCH, offset, time_us: 0 }
}

impl Call {
    /// The next frame but heartbeats; `None` once the client has half-closed.
    pub(super) async fn next(&mut self) -> Option<StreamDataRequest> {
        loop {
            let frame = within("a frame", self.inbound.message()).await.ok().flatten()?;
            if !matches!(frame.frame, Some(Sent::Heartbeat(_))) {
                return Some(frame);
            }
        }
    }

    pub(super) async fn beat(&mut self) -> v1::Heartbeat {
        loop {
            let frame = within("a heartbeat", self.inbound.message()).await.unwrap().unwrap();
            if let Some(Sent::Heartbeat(beat)) = frame.frame {
                return beat;
            }
        }
    }

    pub(super) async fn hello(&mut self) -> v1::Hello {
        match self.next().await.and_then(|frame| frame.frame) {
            Some(Sent::Hello(hello)) => hello,
            other => panic!("expected Hello, got {other:?}"),
        }
    }

    pub(super) async fn opens(&mut self) -> v1::OpenSession {
        match self.next().await.and_then(|frame| frame.frame) {
            Some(Sent::OpenSession(open)) => *open,
            other => panic!("expected OpenSession, got {other:?}"),
        }
    }

    /// (request id, frame)
    pub(super) async fn publishes(&mut self) -> (u64, v1::Publish) {
        match self.next().await {
            Some(StreamDataRequest { request_id, frame: Some(Sent::Publish(publish)) }) => (request_id, *publish),
            other => panic!("expected Publish, got {other:?}"),
        }
    }

    pub(super) async fn flow(&mut self) -> (u64, v1::Flow) {
        match self.next().await {
            Some(StreamDataRequest { request_id, frame: Some(Sent::Flow(flow)) }) => (request_id, flow),
            other => panic!("expected Flow, got {other:?}"),
        }
    }

    pub(super) async fn closes(&mut self) -> v1::CloseSession {
        match self.next().await.and_then(|frame| frame.frame) {
            Some(Sent::CloseSession(close)) => close,
            other => panic!("expected CloseSession, got {other:?}"),
        }
    }

    pub(super) async fn send(&self, frame: Frame) {
        let response = StreamDataResponse { frame: Some(frame) };
        self.outbound.send(Ok(response)).await.unwrap();
    }

    pub(super) async fn welcome(&self) {
        self.send(Frame::Welcome(welcome())).await;
    }

    pub(super) async fn opened(&self, open: &v1::OpenSession, start: u64, published_seq: u64) {
        self.send(Frame::SessionOpened(v1::SessionOpened {
            session: open.session,
            start: Some(at(start)),
            head: Some(at(start)),
            recovery: if open.last_attach == 0 { v1::Recovery::Fresh } else { v1::Recovery::Full }.into(),
            attach: open.last_attach + 1,
            published_seq,
            ..v1::SessionOpened::default()
        }))
        .await;
    }

    /// Opens a session on a keyed topic.
    pub(super) async fn opened_keyed(&self, open: &v1::OpenSession, start: v1::Cursor) {
        self.send(Frame::SessionOpened(v1::SessionOpened {
            session: open.session,
            start: Some(start),
            head: Some(start),
            recovery: v1::Recovery::Fresh.into(),
            attach: open.last_attach + 1,
            topic_class: v1::TopicClass::State.into(),
            ..v1::SessionOpened::default()
        }))
        .await;
    }

    /// A piece of a snapshot of position `of`, with events of these offsets; none ends it.
    pub(super) async fn piece(&self, session: u32, of: u64, offsets: &[u64]) {
        let event = |offset: &u64| v1::Event { offset: *offset, key: format!("{offset}").into(), ..Default::default() };
        let events = offsets.iter().map(event).collect();
        let piece = v1::Delivery { session, prev: of, snapshot: true, events, ..v1::Delivery::default() };
        self.send(Frame::Delivery(piece)).await;
    }

    /// Events `prev + 1` to `last` in one run.
    pub(super) async fn deliver(&self, session: u32, prev: u64, last: u64) {
        let event = |offset| v1::Event { offset, payload: format!("{offset}").into(), ..v1::Event::default() };
        let events = (prev + 1..=last).map(event).collect();
        self.send(Frame::Delivery(v1::Delivery { session, prev, events, ..v1::Delivery::default() })).await;
    }

    pub(super) async fn reply(&self, request_id: u64, offset: u64) {
        let reply = v1::Reply {
            request_id,
            cursor: Some(at(offset)),
            durability: v1::Durability::Accepted.into(),
            ..v1::Reply::default()
        };
        self.send(Frame::Reply(reply)).await;
    }

    pub(super) async fn closed(&self, session: u32, failure: Option<v1::Failure>) {
        self.send(Frame::SessionClosed(v1::SessionClosed { session, failure })).await;
    }

    /// Ends the call with a status.
    pub(super) async fn end(self, status: Status) {
        self.outbound.send(Err(status)).await.unwrap();
    }
}

/// The next item that is an event: its offset.
pub(super) async fn event(session: &mut Session) -> u64 {
    loop {
        match item(session).await {
            Item::Event(received) => return received.event.offset,
            Item::Opened(_) => {}
            other => panic!("expected an event, got {other:?}"),
        }
    }
}

pub(super) async fn item(session: &mut Session) -> Item {
    use futures_util::StreamExt;
    within("an item", session.next()).await.expect("the session goes on")
}

/// How the session ended, after whatever came before.
pub(super) async fn end(session: &mut Session) -> Option<Error> {
    loop {
        if let Item::Closed(error) = item(session).await {
            return error;
        }
    }
}
