//! A client that says one frame after the other, for tests that say when.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    proto::v1::{
        CloseSession, Flow, Heartbeat, Hello, NewEvent, OpenSession, Publish, Reply, SessionClosed, SessionOpened,
        StreamDataRequest, StreamDataResponse, stream_data_request::Frame as Sent, stream_data_response::Frame,
        stream_service_client::StreamServiceClient,
    },
    sim::network::Network,
};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// See the module. Dropped, it is gone without a word.
pub(super) struct Talker {
    requests: Option<mpsc::Sender<StreamDataRequest>>,
    responses: Streaming<StreamDataResponse>,
    last: u64,
}

impl Talker {
    /// A client that has been welcomed.
    pub(super) async fn connect(network: &Network, client_id: &str) -> Self {
        // On a link without delays.
        let channel = network.channel("operator", LIMIT).await.expect("it is reached");
        let (requests, frames) = mpsc::channel(512);
        let hello = Hello { version_max: 1, client_id: client_id.to_owned(), ..Hello::default() };
        let frame = Some(Sent::Hello(hello));
        requests.send(StreamDataRequest { request_id: 0, frame }).await.expect("there is room");
        let responses = StreamServiceClient::new(channel).stream_data(ReceiverStream::new(frames)).await;
        let responses = responses.expect("it is let in").into_inner();
        let mut talker = Self { requests: Some(requests), responses, last: 0 };
        assert!(matches!(talker.frame().await, Some(Frame::Welcome(_))));
        talker
    }

    /// Says something; the number of the request.
    pub(super) async fn say(&mut self, frame: Sent) -> u64 {
        self.last += 1;
        let request = StreamDataRequest { request_id: self.last, frame: Some(frame) };
        self.requests.as_ref().expect("it has not said its last").send(request).await.expect("it is read");
        self.last
    }

    pub(super) async fn publish(&mut self, session: u32, seq: u64, payload: &str) -> u64 {
        let event = NewEvent { payload: payload.to_owned().into(), ..NewEvent::default() };
        self.say(Sent::Publish(Publish { session, seq, event: Some(event) }.into())).await
    }

    /// Sets a key that dies with the session.
    pub(super) async fn publish_scoped(&mut self, session: u32, seq: u64, payload: &str) -> u64 {
        let key = "mine".into();
        let event = NewEvent { key, session_scoped: true, payload: payload.to_owned().into(), ..NewEvent::default() };
        self.say(Sent::Publish(Publish { session, seq, event: Some(event) }.into())).await
    }

    pub(super) async fn pause(&mut self, session: u32) -> u64 {
        self.say(Sent::Flow(Flow { session, paused: Some(true), ..Flow::default() })).await
    }

    pub(super) async fn close(&mut self, session: u32) -> u64 {
        self.say(Sent::CloseSession(CloseSession { session, keep: false })).await
    }

    pub(super) async fn ask_to_open(&mut self, open: OpenSession) -> u64 {
        self.say(Sent::OpenSession(Box::new(open))).await
    }

    /// Opens a session that must open.
    pub(super) async fn open(&mut self, open: OpenSession) -> SessionOpened {
        let request = self.ask_to_open(open).await;
        let opened = self.opened().await;
        assert_eq!(self.reply().await, (request, "OK".to_owned()));
        opened
    }

    pub(super) async fn opened(&mut self) -> SessionOpened {
        match self.control().await {
            Some(Frame::SessionOpened(opened)) => opened,
            other => panic!("SessionOpened was expected, not {other:?}"),
        }
    }

    pub(super) async fn closed(&mut self) -> SessionClosed {
        match self.control().await {
            Some(Frame::SessionClosed(closed)) => closed,
            other => panic!("SessionClosed was expected, not {other:?}"),
        }
    }

    /// The next Reply, of whatever.
    pub(super) async fn whole_reply(&mut self) -> Reply {
        match self.control().await {
            Some(Frame::Reply(reply)) => reply,
            other => panic!("a Reply was expected, not {other:?}"),
        }
    }

    /// The next Reply: its request, and OK or its reason.
    pub(super) async fn reply(&mut self) -> (u64, String) {
        let reply = self.whole_reply().await;
        (reply.request_id, reply.failure.map_or_else(|| "OK".to_owned(), |failure| failure.reason))
    }

    /// The payloads of the next `count` events; nothing but deliveries and replies may come before them.
    pub(super) async fn payloads(&mut self, count: usize) -> Vec<String> {
        let mut payloads = Vec::new();
        while payloads.len() < count {
            match self.frame().await {
                Some(Frame::Delivery(delivery)) => payloads
                    .extend(delivery.events.iter().map(|event| String::from_utf8_lossy(&event.payload).into_owned())),
                Some(Frame::Reply(_)) => {}
                other => panic!("a Delivery was expected, not {other:?}"),
            }
        }
        payloads
    }

    /// Asks for a heartbeat, and waits for it: whatever the server had to say before that is in vain.
    pub(super) async fn heartbeat(&mut self) {
        let nonce = 7_000 + self.last;
        self.say(Sent::Heartbeat(Heartbeat { nonce, reply_requested: true, ..Heartbeat::default() })).await;
        loop {
            match self.any_frame().await {
                Some(Frame::Heartbeat(heartbeat)) if heartbeat.nonce == nonce => break,
                Some(_) => {}
                None => panic!("it ended"),
            }
        }
        assert_eq!(self.reply().await.1, "OK");
    }

    /// Has nothing more to say.
    pub(super) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next frame that is no heartbeat and no delivery.
    async fn control(&mut self) -> Option<Frame> {
        loop {
            match self.frame().await {
                Some(Frame::Delivery(_)) => {}
                other => return other,
            }
        }
    }

    /// The next frame that is no heartbeat; none at a good end. Probes are answered.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        loop {
            match self.any_frame().await {
                Some(Frame::Heartbeat(heartbeat)) => {
                    if let Some(requests) = self.requests.as_ref().filter(|_| heartbeat.reply_requested) {
                        let answer = Heartbeat { nonce: heartbeat.nonce, ..Heartbeat::default() };
                        let frame = Some(Sent::Heartbeat(answer));
                        requests.send(StreamDataRequest { request_id: 0, frame }).await.expect("it is read");
                    }
                }
                other => return other,
            }
        }
    }

    async fn any_frame(&mut self) -> Option<Frame> {
        match timeout(LIMIT, self.responses.message()).await.expect("something comes") {
            Ok(response) => response.map(|response| response.frame.expect("of a known kind")),
            Err(status) => panic!("no good end: {status:?}"),
        }
    }
}

/// A nameless session, live, both ways.
pub(super) fn open(session: u32, topic: &str) -> OpenSession {
    OpenSession { session, topic: topic.to_owned(), ..OpenSession::default() }
}

/// A session with a name.
pub(super) fn named(session: u32, topic: &str, session_id: &str) -> OpenSession {
    OpenSession { session_id: session_id.to_owned(), ..open(session, topic) }
}

/// What was begun then has taken about so long.
#[track_caller]
pub(super) fn assert_took(begun: Instant, seconds: u64) {
    let took = begun.elapsed();
    let about = Duration::from_secs(seconds)..Duration::from_millis(seconds * 1000 + 900);
    assert!(about.contains(&took), "it took {took:?}, not {seconds} s");
}
