//! One connection to a server: its call, its frames, its clocks. It knows no session beyond the aliases it gave out.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{
    Request, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    Builder, Error, ErrorKind,
    command::Done,
    outbox::{Frames, Outbox},
    shared::SessionKey,
    wire,
};
use crate::{
    proto::v1::{
        Heartbeat, Hello, StreamDataRequest, StreamDataResponse, Welcome, stream_data_request::Frame as Sent,
        stream_data_response::Frame, stream_service_client::StreamServiceClient,
    },
    types::{Secret, Timestamp},
};

/// Above the 5 MiB that the server holds itself to.
const MAX_FRAME: usize = 8 * 1024 * 1024;
/// How long a half-closed connection may take to end.
const LINGER: Duration = Duration::from_secs(10);
/// What a Welcome that names no times is taken to mean.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(20);
const DEFAULT_RECEIVE_TIMEOUT: Duration = Duration::from_secs(25);

/// What came of waiting for a link.
#[derive(Debug)]
pub(super) enum Heard {
    /// A frame that this version knows.
    Frame(Frame),
    /// Nothing more will come. The server ended it well, if there is no error.
    Ended(Option<Error>),
}

/// Who waits for a Reply.
#[derive(Debug)]
pub(super) enum Awaited {
    /// The publish of a session.
    Publish(SessionKey),
    /// A handle that asked for a pause or the like.
    Handle(Done),
}

/// One `StreamData` call on a transport of its own.
#[derive(Debug)]
pub(super) struct Link {
    /// Unique in this client.
    pub(super) id: u64,
    /// What the server said of itself; `None` until it did.
    pub(super) welcome: Option<Arc<Welcome>>,
    /// When it was dialled, then when it was welcomed.
    pub(super) since: Instant,
    /// When to begin to move elsewhere, if so.
    pub(super) leave_at: Option<Instant>,
    /// The token it was dialled with, or was shown since.
    pub(super) token: Secret,
    /// When to look whether there is another token, where that can be, and how long the present one then still has.
    pub(super) renew_at: Option<Instant>,
    runs_out: Option<Instant>,
    renews: bool,
    /// Whose frames carry which alias.
    pub(super) aliases: BTreeMap<u32, SessionKey>,
    pub(super) awaited: BTreeMap<u64, Awaited>,
    phase: Phase,
    outbox: Outbox,
    half_closed: bool,
    /// By when it must have been welcomed, or, half-closed, have ended.
    due: Option<Instant>,
    heard: Instant,
    spoke: Instant,
    probed: bool,
    last_alias: u32,
    last_request: u64,
}

type Dialling = Pin<Box<dyn Future<Output = Result<Call, Error>> + Send>>;

/// The channel is kept because dropping it may end the transport under the call.
type Call = (Channel, Streaming<StreamDataResponse>);

enum Phase {
    Dialling(Dialling),
    Open(Box<Call>),
    Ended,
}

impl std::fmt::Debug for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dialling(_) => "Dialling",
            Self::Open(_) => "Open",
            Self::Ended => "Ended",
        })
    }
}

impl Link {
    /// Begins to dial. Frames may be pushed at once: they follow Hello.
    pub(super) fn dial(id: u64, settings: &Arc<Builder>, now: Instant) -> Self {
        let (outbox, frames) = Outbox::new();
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            client_id: settings.client_id.clone(),
            agent: settings.agent.clone(),
            ..Hello::default()
        };
        outbox.push(StreamDataRequest { request_id: 0, frame: Some(Sent::Hello(hello)) });
        Self {
            id,
            welcome: None,
            since: now,
            leave_at: None,
            token: settings.token.clone(),
            renew_at: None,
            runs_out: None,
            renews: settings.has_token_file(),
            aliases: BTreeMap::new(),
            awaited: BTreeMap::new(),
            phase: Phase::Dialling(Box::pin(dial(Arc::clone(settings), frames))),
            outbox,
            half_closed: false,
            due: Some(now + settings.connect_timeout),
            heard: now,
            spoke: now,
            probed: false,
            last_alias: 0,
            // Unique across links, because sessions take their publishes along.
            last_request: id << 40,
        }
    }

    /// What the server says next. Cancel-safe. Must not be called again after `Ended`: it waits for ever.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            let (phase, heard) = match &mut self.phase {
                Phase::Dialling(dialling) => match dialling.await {
                    Ok(call) => (Phase::Open(Box::new(call)), None),
                    Err(error) => (Phase::Ended, Some(Heard::Ended(Some(error)))),
                },
                Phase::Open(call) => match call.1.message().await {
                    Ok(Some(StreamDataResponse { frame: Some(frame) })) => return self.hear(frame),
                    // A frame of a later version still is a sign of life.
                    Ok(Some(StreamDataResponse { frame: None })) => {
                        self.heard = Instant::now();
                        continue;
                    }
                    Ok(None) => (Phase::Ended, Some(Heard::Ended(None))),
                    Err(status) => (Phase::Ended, Some(Heard::Ended(Some(wire::status_error(&status))))),
                },
                Phase::Ended => std::future::pending().await,
            };
            self.phase = phase;
            if let Some(heard) = heard {
                return heard;
            }
        }
    }

    fn hear(&mut self, frame: Frame) -> Heard {
        self.heard = Instant::now();
        self.probed = false;
        Heard::Frame(frame)
    }

    /// The server's answer to Hello.
    pub(super) fn welcomed(&mut self, welcome: Welcome, now: Instant) {
        if self.welcome.is_none() {
            self.since = now;
            self.due = None;
        }
        let left = Timestamp(welcome.token_expires_us).since(Timestamp::now());
        self.runs_out = (self.renews && welcome.token_expires_us > 0).then(|| now + left);
        // Late enough that whoever writes the file has had most of the time, early enough for a second look.
        self.renew_at = self.runs_out.map(|_| now + left.mul_f64(0.8));
        self.welcome = Some(Arc::new(welcome));
    }

    /// There is no other token yet.
    pub(super) fn look_for_token_later(&mut self, now: Instant) {
        let left = self.runs_out.map(|runs_out| runs_out.saturating_duration_since(now)).unwrap_or_default();
        self.renew_at = Some(now + (left / 4).max(Duration::from_millis(500)));
    }

    /// Sends a frame that needs no answer.
    pub(super) fn push(&mut self, frame: Sent) {
        self.spoke = Instant::now();
        self.outbox.push(StreamDataRequest { request_id: 0, frame: Some(frame) });
    }

    /// Sends a frame whose answer somebody waits for.
    pub(super) fn ask(&mut self, request_id: u64, frame: Sent, awaited: Awaited) {
        self.spoke = Instant::now();
        self.awaited.insert(request_id, awaited);
        self.outbox.push(StreamDataRequest { request_id, frame: Some(frame) });
    }

    /// Answers a probe, or makes one, or only says "I am here".
    pub(super) fn beat(&mut self, nonce: u64, reply_requested: bool) {
        self.spoke = Instant::now();
        let beat = Heartbeat { nonce, reply_requested, marks: Vec::new() };
        self.outbox.heartbeat(StreamDataRequest { request_id: 0, frame: Some(Sent::Heartbeat(beat)) });
    }

    /// A fresh request id, never 0.
    pub(super) fn request_id(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    /// A fresh alias, never 0 and never one used before: frames of an older attach can not be taken for the new one's.
    pub(super) fn alias(&mut self, session: SessionKey) -> u32 {
        self.last_alias += 1;
        self.aliases.insert(self.last_alias, session);
        self.last_alias
    }

    /// Sends what waits, then ends our side; the server's end is awaited for a while. Idempotent.
    pub(super) fn half_close(&mut self, now: Instant) {
        if !self.half_closed {
            self.half_closed = true;
            self.outbox.close();
            self.due = Some(now + LINGER);
        }
    }

    /// Looks at the clock: sends what is due, and says so if the connection is lost.
    pub(super) fn tend(&mut self, now: Instant) -> Result<(), Error> {
        if self.due.is_some_and(|due| now >= due) {
            let what = if self.welcome.is_some() { "the server did not end the call" } else { "no answer in time" };
            return Err(Error::new(ErrorKind::Connect, what));
        }
        if self.welcome.is_none() || self.half_closed {
            return Ok(());
        }
        let silence = now.duration_since(self.heard);
        if silence >= self.lost_after() {
            return Err(Error::new(ErrorKind::Connect, format!("the server was silent for {silence:?}")));
        }
        if silence >= self.receive_timeout() && !self.probed {
            self.probed = true;
            self.beat(fastrand::u64(1..), true);
        } else if now.duration_since(self.spoke) >= self.heartbeat_interval() {
            self.beat(0, false);
        }
        Ok(())
    }

    /// When `tend`, or `leave_at`, is due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let live = self.welcome.is_some() && !self.half_closed;
        let silence = if self.probed { self.lost_after() } else { self.receive_timeout() };
        let silent = live.then(|| self.heard + silence);
        let beat = live.then(|| self.spoke + self.heartbeat_interval());
        [self.due, self.leave_at, self.renew_at.filter(|_| live), silent, beat].into_iter().flatten().min()
    }

    fn heartbeat_interval(&self) -> Duration {
        self.told(|welcome| welcome.heartbeat_interval_ms, DEFAULT_HEARTBEAT)
    }

    fn receive_timeout(&self) -> Duration {
        self.told(|welcome| welcome.receive_timeout_ms, DEFAULT_RECEIVE_TIMEOUT)
    }

    /// Long enough after the probe for its answer to come.
    fn lost_after(&self) -> Duration {
        self.receive_timeout().mul_f64(1.5)
    }

    fn told(&self, millis: impl Fn(&Welcome) -> u32, otherwise: Duration) -> Duration {
        let millis = self.welcome.as_deref().map(millis).filter(|millis| *millis > 0);
        millis.map_or(otherwise, |millis| Duration::from_millis(u64::from(millis)))
    }
}

/// A fresh channel, so that the name is resolved anew, and one call on it.
async fn dial(settings: Arc<Builder>, frames: Frames) -> Result<Call, Error> {
    let channel = settings.channel().await?;
    let mut request = Request::new(frames);
    let metadata = request.metadata_mut();
    if !settings.client_id.is_empty() {
        metadata.insert("x-client-id", header("client_id", &settings.client_id)?);
    }
    if !settings.token.is_empty() {
        let mut token = header("token", &format!("Bearer {}", settings.token.expose()))?;
        token.set_sensitive(true);
        metadata.insert("authorization", token);
    }
    let (traceparent, tracestate) = &settings.trace_context;
    for (name, value) in [("traceparent", traceparent), ("tracestate", tracestate)] {
        if !value.is_empty() {
            metadata.insert(name, header(name, value)?);
        }
    }
    let mut service = StreamServiceClient::new(channel.clone()).max_decoding_message_size(MAX_FRAME);
    let response = service.stream_data(request).await.map_err(|status| wire::status_error(&status))?;
    Ok((channel, response.into_inner()))
}

fn header(field: &str, text: &str) -> Result<MetadataValue<Ascii>, Error> {
    text.parse().map_err(|_| Error::new(ErrorKind::Invalid, format!("{field}: contains characters it may not have")))
}
