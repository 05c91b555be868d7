//! One `StreamData` call, frame by frame. It checks the chain of every session it sees: no test has to.

use std::{collections::HashMap, net::SocketAddr};

use bowline::proto::v1::{
    Authenticate, CloseSession, Cursor, Delivery, Drain, Event, Flow, Gap, Heartbeat, Hello, OpenSession, Publish,
    Reply, SessionClosed, SessionOpened, StreamDataRequest, StreamDataResponse, Welcome,
    stream_data_request::Frame as Sent, stream_data_response::Frame, stream_service_client::StreamServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, metadata::MetadataValue, transport::Channel};

use super::{Settings, assert_status, wire::Wire, within};

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
    cursors: HashMap<u32, Cursor>,
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
        let cursors = HashMap::new();
        Ok(Self { wire, _channel: channel, requests: Some(requests), responses, cursors, last_request: 0 })
    }

    /// Sends a frame as it is; what becomes of it is heard, not returned.
    pub(crate) async fn send_raw(&mut self, request: StreamDataRequest) {
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
                self.follow(&frame);
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

    /// Every Delivery and Gap goes on exactly where the session is.
    fn follow(&mut self, frame: &Frame) {
        match frame {
            Frame::SessionOpened(opened) => {
                self.cursors.insert(opened.session, opened.start.expect("a start"));
            }
            Frame::Delivery(delivery) => {
                let cursor = self.cursors.get_mut(&delivery.session).expect("a delivery of an open session");
                assert_eq!(delivery.prev, cursor.offset, "the chain of session {} is broken", delivery.session);
                *cursor = advanced(*cursor, delivery);
            }
            Frame::Gap(Gap { session, from, to, .. }) => {
                let cursor = self.cursors.get_mut(session).expect("a gap of an open session");
                let from = from.expect("from");
                assert_eq!((from.epoch, from.offset), (cursor.epoch, cursor.offset), "a gap beside the chain");
                *cursor = to.expect("to");
            }
            Frame::SessionClosed(closed) => {
                self.cursors.remove(&closed.session);
            }
            _ => {}
        }
    }

    /// Where a session is.
    pub(crate) fn cursor(&self, session: u32) -> Cursor {
        self.cursors[&session]
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

    /// The snapshot that is due, to its end: keys and payloads, in the order they came.
    pub(crate) async fn snapshot(&mut self, session: u32) -> Vec<(String, String)> {
        let mut all = Vec::new();
        loop {
            let delivery = self.delivery().await;
            assert!(delivery.session == session && delivery.snapshot, "{delivery:?}");
            if delivery.events.is_empty() {
                return all;
            }
            all.extend(delivery.events.iter().map(super::pair));
        }
    }

    /// The next heartbeat, with nothing before it.
    pub(crate) async fn heartbeat(&mut self) -> Heartbeat {
        match self.any_frame().await {
            Frame::Heartbeat(heartbeat) => heartbeat,
            other => panic!("a heartbeat was expected, not {other:?}"),
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

    /// True if the server has nothing more to say: a heartbeat that is asked for comes back before anything else.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        let nonce = fastrand::u64(1..);
        self.send(super::heartbeat(nonce)).await;
        loop {
            match self.any_frame().await {
                Frame::Heartbeat(heartbeat) if heartbeat.nonce == nonce => return true,
                Frame::Heartbeat(_) => {}
                _ => return false,
            }
        }
    }
}

/// Where a delivery leads to: nowhere if it is part of a snapshot. Offsets of a memory topic are dense.
fn advanced(from: Cursor, delivery: &Delivery) -> Cursor {
    let Delivery { skipped, snapshot, events, .. } = delivery;
    let rise = events.windows(2).all(|pair| pair[0].offset < pair[1].offset && pair[0].time_us < pair[1].time_us);
    assert!(rise, "{events:?}");
    if *snapshot {
        assert!(events.iter().all(|event| event.offset <= from.offset) && *skipped == 0, "{delivery:?}");
        return from;
    }
    let last = events.last().expect("an empty run");
    assert!(events[0].time_us > from.time_us, "times rise");
    assert_eq!(last.offset - from.offset, events.len() as u64 + skipped, "everything is accounted for");
    Cursor { offset: last.offset, time_us: last.time_us, ..from }
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
