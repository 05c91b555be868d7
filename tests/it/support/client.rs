//! One `StreamData` call, frame by frame. It checks the chain of every session it sees: no test has to.

use std::net::SocketAddr;

use bowline::proto::v1::{
    Authenticate, CloseSession, Cursor, Delivery, Drain, Event, Flow, Gap, Heartbeat, Hello, OpenSession, Publish,
    Reply, SessionClosed, SessionOpened, StreamDataRequest, StreamDataResponse, Welcome,
    stream_data_request::Frame as Sent, stream_data_response::Frame, stream_service_client::StreamServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, metadata::MetadataValue, transport::Channel};

use super::{Settings, assert_status, chain::Chains, wire::Wire, within};

/// What comes next from the server.
#[derive(Debug)]
pub(crate) enum Heard {
    Frame(Frame),
    /// The end; none if it was a good one.
    End(Option<Status>),
}

/// See the module. Dropping it cancels the call.
pub(crate) struct TestClient {
    wire: Wire,
    /// Held: the transport ends with its last handle.
    _channel: Channel,
    requests: Option<mpsc::Sender<StreamDataRequest>>,
    responses: Streaming<StreamDataResponse>,
    chains: Chains,
    last_request: u64,
}

impl TestClient {
    pub(crate) async fn call(address: SocketAddr, metadata: Settings<'_>) -> Result<Self, Status> {
        let (channel, wire) = Wire::dial(address).await;
        let (requests, queue) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(queue));
        for (key, value) in metadata {
            let key: tonic::metadata::MetadataKey<_> = key.parse().unwrap();
            request.metadata_mut().append(key, MetadataValue::try_from(*value).unwrap());
        }
        let mut client = StreamServiceClient::new(channel.clone())
            .max_decoding_message_size(16 << 20)
            .max_encoding_message_size(64 << 20);
        let response = within("the answer to a call", client.stream_data(request)).await?;
        let responses = response.into_inner();
        let chains = Chains::default();
        Ok(Self { wire, _channel: channel, requests: Some(requests), responses, chains, last_request: 0 })
    }

    /// Expects no offset to be the one after the last: the broker is one that replicas share.
    #[cfg(feature = "nats")]
    pub(crate) fn of_shared_topics(mut self) -> Self {
        self.chains.sparse = true;
        self
    }

    /// Sends a frame as it is; what becomes of it is heard, not returned.
    pub(crate) async fn send_raw(&mut self, request: StreamDataRequest) {
        self.chains.said(&request);
        let requests = self.requests.as_ref().expect("not half-closed");
        // The server may have ended the call; the test will hear that next.
        within("room for a frame", requests.send(request)).await.ok();
    }

    /// Sends a frame that wants no Reply.
    pub(crate) async fn send(&mut self, frame: impl Into<Verb>) {
        self.send_raw(StreamDataRequest { request_id: 0, frame: Some(frame.into().0) }).await;
    }

    /// Sends a frame that wants a Reply, and returns its number.
    pub(crate) async fn ask(&mut self, frame: impl Into<Verb>) -> u64 {
        self.last_request += 1;
        let request_id = self.last_request;
        self.send_raw(StreamDataRequest { request_id, frame: Some(frame.into().0) }).await;
        request_id
    }

    /// A handle for sending beside this client's reading.
    pub(crate) fn sender(&self) -> mpsc::Sender<StreamDataRequest> {
        self.requests.clone().expect("not half-closed")
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// Loses the transport without a word.
    pub(crate) fn sever(self) {
        self.wire.sever();
    }

    /// The next frame, or the end.
    pub(crate) async fn heard(&mut self) -> Heard {
        match within("a frame", self.responses.message()).await {
            Ok(Some(response)) => {
                let frame = response.frame.expect("a frame of a known kind");
                self.chains.heard(&frame);
                Heard::Frame(frame)
            }
            Ok(None) => Heard::End(None),
            Err(status) => Heard::End(Some(status)),
        }
    }

    /// The next frame, heartbeats included.
    pub(crate) async fn any_frame(&mut self) -> Frame {
        match self.heard().await {
            Heard::Frame(frame) => frame,
            Heard::End(status) => panic!("the call ended: {status:?}"),
        }
    }

    /// The next frame that is no heartbeat.
    pub(crate) async fn frame(&mut self) -> Frame {
        loop {
            let frame = self.any_frame().await;
            if !matches!(frame, Frame::Heartbeat(_)) {
                return frame;
            }
        }
    }

    /// Where a session is.
    pub(crate) fn cursor(&self, session: u32) -> Cursor {
        self.chains.cursor(session)
    }

    /// Opens a session that must open.
    pub(crate) async fn open(&mut self, open: OpenSession) -> SessionOpened {
        self.send(open).await;
        self.opened().await
    }

    /// Publishes; the answer. Nothing else may come before it.
    pub(crate) async fn publish(&mut self, publish: Publish) -> Reply {
        let id = self.ask(publish).await;
        self.answer(id).await
    }

    /// The Reply to a request. Other frames may come first.
    pub(crate) async fn answer(&mut self, request_id: u64) -> Reply {
        loop {
            if let Frame::Reply(reply) = self.frame().await {
                assert_eq!(reply.request_id, request_id);
                return reply;
            }
        }
    }

    /// The Replies to requests, in the order of those, in whatever order they come. Other frames may come between.
    pub(crate) async fn answers<const N: usize>(&mut self, requests: [u64; N]) -> [Reply; N] {
        let mut replies = [const { None }; N];
        while replies.iter().any(Option::is_none) {
            let Frame::Reply(reply) = self.frame().await else { continue };
            let asked =
                requests.iter().position(|request| *request == reply.request_id).expect("one of these requests");
            assert!(replies[asked].replace(reply).is_none(), "a second answer");
        }
        replies.map(|reply| reply.expect("all are there"))
    }

    /// Exactly the next `count` events of a session, in however many deliveries. Nothing but deliveries may come.
    pub(crate) async fn events(&mut self, session: u32, count: usize) -> Vec<Event> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            let delivery = self.delivery().await;
            assert_eq!(delivery.session, session);
            events.extend(delivery.events);
        }
        assert_eq!(events.len(), count, "more than were expected");
        events
    }

    /// A snapshot from its first piece to its end. Nothing else may come.
    pub(crate) async fn snapshot(&mut self, session: u32) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let piece = self.delivery().await;
            assert!(piece.session == session && piece.snapshot, "not a piece of the snapshot: {piece:?}");
            if piece.events.is_empty() {
                return events;
            }
            events.extend(piece.events);
        }
    }

    /// The end, whatever comes before it.
    pub(crate) async fn end(&mut self) -> Option<Status> {
        loop {
            if let Heard::End(status) = self.heard().await {
                return status;
            }
        }
    }

    /// Ends with a good status, whatever comes before it.
    pub(crate) async fn ended_well(&mut self) {
        let end = self.end().await;
        assert!(end.is_none(), "{end:?}");
    }

    /// Ends with this code and reason, whatever comes before it.
    pub(crate) async fn ended_with(&mut self, code: tonic::Code, reason: &str) -> Status {
        let status = self.end().await.expect("not a good end");
        assert_status(&status, code, reason);
        status
    }

    /// Everything the server has to say at the moment, heartbeats apart: what comes before the answers to two of ours.
    /// Two, because answers go before deliveries; what was due when the first was given comes before the second.
    pub(crate) async fn settled(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        for _ in 0..2 {
            let nonce = fastrand::u64(1..);
            self.send(super::heartbeat(nonce)).await;
            loop {
                match self.any_frame().await {
                    Frame::Heartbeat(heartbeat) if heartbeat.nonce == nonce => break,
                    Frame::Heartbeat(_) => {}
                    other => frames.push(other),
                }
            }
        }
        frames
    }

    /// True if the server has nothing to say.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        self.settled().await.is_empty()
    }
}

/// One expectation for each kind of frame: the next one, heartbeats apart, must be of it.
macro_rules! expectations {
    ($($name:ident: $kind:ident($type:ty);)*) => {
        impl TestClient {
            $(pub(crate) async fn $name(&mut self) -> $type {
                match self.frame().await {
                    Frame::$kind(frame) => frame,
                    other => panic!(concat!(stringify!($kind), " was expected, not {:?}"), other),
                }
            })*
        }
    };
}

expectations! {
    welcomed: Welcome(Welcome);
    opened: SessionOpened(SessionOpened);
    delivery: Delivery(Delivery);
    gap: Gap(Gap);
    reply: Reply(Reply);
    closed: SessionClosed(SessionClosed);
    drain: Drain(Drain);
}

/// What a client can say.
pub(crate) struct Verb(Sent);

macro_rules! verbs {
    ($($kind:ident;)*) => {
        $(impl From<$kind> for Verb {
            fn from(frame: $kind) -> Self {
                Self(Sent::$kind(frame.into()))
            }
        })*
    };
}

verbs! {
    Hello;
    OpenSession;
    Publish;
    Flow;
    CloseSession;
    Authenticate;
    Heartbeat;
}
