//! The core without sockets and HTTP/2: calls are made where the service makes them, and clients are two ends of a body.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bowline::{
    auth::{self, Auth, Service},
    broker::{Broker, memory::Memory},
    connection::{self, BodyError, Call, Frames, OutboxBody, Shared},
    hub::{self, Hub},
    lifecycle::Tasks,
    proto::v1::{self, stream_data_request::Frame as Sent},
    registry::{self, Registry},
    session::{self, Directory},
    telemetry::{Traces, metrics::Metrics},
    types::{KillSwitch, TransportHandle},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame};
use prost::Message as _;
use tokio::sync::mpsc::{self, Receiver, Sender};

/// Bytes of an event's payload.
const PAYLOAD: usize = 64;
/// Requests that may be on their way.
const WINDOW: usize = 64;

/// One server, on its defaults.
pub struct Stand(Arc<Shared>);

/// One connection's other end.
pub struct Client {
    requests: Sender<Bytes>,
    answers: Pin<Box<OutboxBody>>,
}

impl Stand {
    pub fn new() -> Self {
        let metrics = Arc::new(Metrics::new());
        let hub = Arc::new(Hub::new(hub::Config::default(), Broker::Memory(Memory::new(1000)), metrics.clone()));
        let (kind, name, method) = ("bidi_stream", "bowline.v1.StreamService", "StreamData");
        Self(Arc::new(Shared {
            config: connection::Config::default(),
            node: "stand".to_owned(),
            auth: Arc::new(Auth::new(auth::Config::default(), metrics.clone()).unwrap()),
            registry: Arc::new(Registry::new(registry::Config::default(), metrics.clone())),
            directory: Arc::new(Directory::new(session::Config::default(), hub.fleet())),
            hub,
            messages: (metrics.rpc_msg_received(kind, name, method), metrics.rpc_msg_sent(kind, name, method)),
            metrics,
            traces: Traces::default(),
            tasks: Tasks::default(),
        }))
    }

    /// A client that has been welcomed.
    pub async fn join(&self, client_id: &str) -> Client {
        let peer = ([127, 0, 0, 1], 1).into();
        let transport = TransportHandle::new(peer, Default::default(), Default::default());
        let caller = self.0.auth.admit(&http::HeaderMap::new(), &transport, Service::Stream).unwrap();
        let (requests, received) = mpsc::channel(WINDOW);
        let requests_in = Frames::new(Requests(received), self.0.config.decode_limit());
        let (kill, deadline, opening) = (KillSwitch::default(), None, Default::default());
        let call = Call { requests: requests_in, caller, transport, kill, deadline, opening };
        let admission = self.0.registry.admit(peer).unwrap();
        let answers = Box::pin(connection::spawn(&self.0, call, admission));
        let mut client = Client { requests, answers };
        client.send(0, Sent::Hello(v1::Hello { client_id: client_id.to_owned(), ..Default::default() }));
        client.next().await;
        client
    }

    /// Events delivered to all.
    pub fn delivered(&self) -> u64 {
        self.0.metrics.events_delivered.get()
    }
}

impl Client {
    fn send(&self, request_id: u64, frame: Sent) {
        let request = v1::StreamDataRequest { request_id, frame: Some(frame) };
        let length = request.encoded_len();
        let mut message = BytesMut::with_capacity(5 + length);
        message.put_u8(0);
        message.put_u32(u32::try_from(length).unwrap());
        request.encode(&mut message).unwrap();
        self.requests.try_send(message.freeze()).unwrap();
    }

    /// Waits until something has come.
    pub async fn next(&mut self) {
        let frame = poll_fn(|cx| self.answers.as_mut().poll_frame(cx)).await;
        assert!(frame.unwrap().unwrap().is_data(), "the call has ended");
    }

    pub async fn open(&mut self, alias: u32, topic: &str, mode: v1::SessionMode) {
        let (topic, mode) = (topic.to_owned(), mode.into());
        self.send(
            0,
            Sent::OpenSession(Box::new(v1::OpenSession { session: alias, topic, mode, ..Default::default() })),
        );
        self.next().await;
    }

    pub async fn close(&mut self, alias: u32) {
        self.send(0, Sent::CloseSession(v1::CloseSession { session: alias, ..Default::default() }));
        self.next().await;
    }

    /// Publishes the session's next event; it is answered if `acknowledged`.
    pub fn publish(&self, alias: u32, number: u64, acknowledged: bool) {
        let event = v1::NewEvent { payload: Bytes::from_static(&[b'x'; PAYLOAD]), ..Default::default() };
        let publish = v1::Publish { session: alias, seq: number, event: Some(event) };
        self.send(if acknowledged { number } else { 0 }, Sent::Publish(publish.into()));
    }
}

/// The body that a call's requests come in.
struct Requests(Receiver<Bytes>);

impl Body for Requests {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
