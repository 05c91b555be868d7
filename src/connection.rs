//! One `StreamData` call: the actor that serves it and the outbox it answers through.
//!
//! The inbound half is a task of its own ([`Actor`]); the outbound half is the response body, polled by HTTP/2 itself,
//! so that its back-pressure needs no code. They share the [`Outbox`] and nothing else, and neither can
//! block the other: the actor queues and goes on, the body takes what is there.
//!
//! Whichever half ends first, the other is told. Everything registered on the way in (the admission, the sessions, the
//! gauges) is undone by guards, so no exit path can forget it: half-close, cancel, a lost peer, a panic.
//!
//! A connection never sees sockets or TLS: it has a stream of frames, a [`TransportHandle`] and a [`KillSwitch`].

mod alarm;
mod body;
mod config;
mod frames;
mod handshake;
mod inbound;
mod lane;
mod lanes;
mod outbox;
mod pacing;
mod peer;
mod signal;
mod standing;
mod trail;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, sleep};

use crate::{
    auth::{Auth, Caller},
    error::{Failure, Fault, Reason},
    hub::Hub,
    lifecycle::Tasks,
    proto::v1::StreamDataRequest,
    registry::{Admission, DrainNotice, Entry, Peer, Registry},
    session::Directory,
    telemetry::{Line, Span, Sparing, Traces, metrics::Metrics},
    types::{KillSwitch, TransportHandle, sleep_until_or_forever},
};

pub use body::OutboxBody;
pub use config::Config;
pub use frames::{BodyError, Frames};
pub(crate) use inbound::class_frame;
use inbound::{Inbound, Outcome, Slow};
use outbox::Outbox;

/// About clients that went away.
static LOST: LazyLock<Sparing> = LazyLock::new(|| Sparing::new(2));

/// What every connection of the process shares.
#[derive(Debug)]
pub struct Shared {
    /// The section.
    pub config: Config,
    /// This replica's name.
    pub node: String,
    /// Who is calling, and what they may do.
    pub auth: Arc<Auth>,
    /// The live connections.
    pub registry: Arc<Registry>,
    /// The topics.
    pub hub: Arc<Hub>,
    /// Who holds which session.
    pub directory: Arc<Directory>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is traced.
    pub traces: Traces,
    /// The same frames under the names that every gRPC dashboard knows: received, sent.
    pub messages: (Counter, Counter),
    /// Where the actor is spawned.
    pub tasks: Tasks,
}

/// What came with the call.
#[derive(Debug)]
pub struct Call {
    /// The frames.
    pub requests: Frames,
    /// Who makes it; none if the token is still to come, in the first frame.
    pub caller: Option<Caller>,
    /// The transport underneath.
    pub transport: TransportHandle,
    /// The end of last resort.
    pub kill: KillSwitch,
    /// When the client will not wait any longer.
    pub deadline: Option<Instant>,
    /// The span of its opening, which is over when the client is welcomed or refused.
    pub opening: Span,
}

/// Starts to serve a call that was admitted; the response body is the outbound half.
pub fn spawn(shared: &Arc<Shared>, call: Call, admission: Admission) -> OutboxBody {
    let outbox = Outbox::new(shared.clone(), admission.entry().clone());
    let standing = Arc::new(standing::Standing::new(call.transport.clone()));
    let peer = peer::StreamPeer::new(shared.clone(), outbox.clone(), standing.clone());
    let asked: Arc<dyn Peer> = peer.clone();
    // Before anybody can be told that there is a connection: a Drain or Disconnect must not miss it.
    admission.bind(Arc::downgrade(&asked));
    let body = OutboxBody::new(outbox.clone());
    let trail = trail::Trail::new(shared, admission.entry(), &call.opening);
    // Boxed: a task keeps what it was given beside what it makes of it.
    let actor = Box::new(Actor { shared: shared.clone(), call, standing, trail, admission, outbox, _peer: peer });
    drop(shared.tasks.spawn("connection", actor.run()));
    body
}

/// What the inbound half waits for.
enum News {
    /// The client's next frame.
    Frame(StreamDataRequest),
    /// The broker has answered a publish.
    Outcome(Outcome),
}

/// The inbound half.
struct Actor {
    shared: Arc<Shared>,
    call: Call,
    standing: Arc<standing::Standing>,
    // Dropped, and so recorded, before the admission that says it is over.
    trail: trail::Trail,
    admission: Admission,
    outbox: Arc<Outbox>,
    /// Held here so that the registry's weak handle lives exactly as long as the actor.
    _peer: Arc<peer::StreamPeer>,
}

impl Drop for Actor {
    /// On every path, a panic included, the outbound half is told and the sessions are let go.
    fn drop(&mut self) {
        self.outbox.close(Failure::new(Reason::Internal, "the connection ended unexpectedly"));
        self.outbox.release();
    }
}

impl Actor {
    async fn run(mut self: Box<Self>) {
        let end = self.converse().await;
        self.trail.ended(end.as_ref().err());
        // Refused before it was welcomed: that was all of its opening.
        if let (Err(failure), opening) = (&end, std::mem::take(&mut self.call.opening)) {
            opening.failed(failure.reason.as_str(), failure.reason.code());
        }
        Span::in_scope_of(self.trail.opening().cloned().as_ref(), || self.record(end.as_ref().err()));
        match end {
            Ok(()) => self.outbox.finish(),
            Err(failure) => self.outbox.close(failure),
        }
        self.leave().await;
    }

    /// Until the client is done (`Ok`), something is wrong, or the connection is closed from elsewhere.
    async fn converse(&mut self) -> Result<(), Failure> {
        let (outbox, transport) = (self.outbox.clone(), self.call.transport.clone());
        let (deadline, close_grace) = (self.call.deadline, self.shared.config.close_grace);
        // Made in their places: a future that is named first and moved there is kept twice.
        tokio::select! {
            biased;
            () = outbox.closing() => Err(outbox.failure()),
            failure = outlived(&transport, outbox.entry(), close_grace) => Err(failure),
            failure = late(deadline) => Err(failure),
            end = self.read() => end,
        }
    }

    async fn read(&mut self) -> Result<(), Failure> {
        // Boxed, as all that a connection seldom waits for: idle, it has no use for the room.
        let Some(client) = Box::pin(self.handshake()).await? else { return Ok(()) };
        drop(std::mem::take(&mut self.call.opening));
        let opening = self.trail.opening().cloned();
        let party = self.standing.party()?;
        let mut inbound = Inbound::new(&self.shared, &self.outbox, &self.standing, client, party, opening);
        loop {
            let Some(news) = self.news(&mut inbound).await? else { break };
            if let Some(slow) = self.take(&mut inbound, news)? {
                Box::pin(inbound.handle_slowly(slow)).await?;
            }
            // A flood that is always ready would otherwise keep a worker to itself.
            tokio::task::coop::consume_budget().await;
            // Only a client that does not take its answers has to wait here; it would otherwise fill our memory.
            self.outbox.room().await;
        }
        // What the client has published is answered before its call ends. Its silence meanwhile means nothing.
        self.admission.entry().vitals().half_closed();
        while let Some(outcome) = inbound.outcome().await {
            inbound.take(outcome);
            self.outbox.room().await;
        }
        Ok(())
    }

    /// None once the client is done.
    async fn news(&mut self, inbound: &mut Inbound) -> Result<Option<News>, Failure> {
        let frame = if inbound.is_settled() {
            self.call.requests.next().await
        } else {
            tokio::select! {
                biased;
                Some(outcome) = inbound.outcome() => return Ok(Some(News::Outcome(outcome))),
                frame = self.call.requests.next() => frame,
            }
        };
        frame.map(|frame| frame.map(News::Frame))
    }

    /// Returns what cannot be done at once.
    fn take(&self, inbound: &mut Inbound, news: News) -> Result<Option<Slow>, Failure> {
        match news {
            News::Frame(frame) => {
                self.received();
                inbound.handle(frame)
            }
            News::Outcome(outcome) => {
                inbound.take(outcome);
                Ok(None)
            }
        }
    }

    fn received(&self) {
        self.admission.entry().vitals().received(self.shared.registry.clock().millis());
        self.shared.metrics.frames_received.inc();
        self.shared.messages.0.inc();
    }

    /// Waits until what is due has gone out; if HTTP/2 does not let it, ends the stream.
    async fn leave(&mut self) {
        let outbox = self.outbox.clone();
        // A half-closed client may take its time, as long as it takes something; the sweep closes it if it does not.
        tokio::select! {
            biased;
            () = outbox.ended() => return,
            () = outbox.closing() => {}
        }
        if tokio::time::timeout(self.shared.config.close_grace, outbox.ended()).await.is_err() {
            self.call.kill.pull();
        }
    }

    fn record(&mut self, failure: Option<&Failure>) {
        let reason = failure.map(|failure| failure.reason);
        self.admission.set_end(reason.into());
        let Some(failure) = failure else { return };
        let (id, reason) = (self.admission.entry().id(), failure.reason.as_str());
        match failure.reason.fault() {
            Fault::Client => {
                self.shared.metrics.receive_errors.inc();
                tracing::debug!(connection.id = %id, reason, message = %failure.message, "connection refused to go on");
            }
            Fault::Peer => match LOST.next() {
                Line::Written { left_out } => tracing::info!(connection.id = %id, reason, left_out, "connection lost"),
                Line::LeftOut => tracing::debug!(connection.id = %id, reason, "connection lost"),
            },
            Fault::Nobody => tracing::debug!(connection.id = %id, reason, "connection closed"),
            Fault::Server => {
                tracing::error!(connection.id = %id, reason, message = %failure.message, "connection failed")
            }
        }
    }
}

/// Tells the client to move when its transport has reached its age; completes when it has had its time for that.
async fn outlived(transport: &TransportHandle, entry: &Entry, close_grace: Duration) -> Failure {
    transport.retired().await;
    let deadline = transport.grace.saturating_sub(close_grace);
    let (reason, reconnect_delay) = ("the transport has reached its age".into(), Duration::ZERO);
    entry.drain(DrainNotice { reason, reconnect_delay, deadline: Some(deadline) });
    Box::pin(sleep(deadline)).await;
    Failure::new(Reason::Draining, "the client did not leave a transport that has reached its age")
}

/// Completes when the call's time is over, if it has one.
async fn late(deadline: Option<Instant>) -> Failure {
    // Boxed: few calls have one.
    Box::pin(sleep_until_or_forever(deadline)).await;
    Failure::new(Reason::Deadline, "the time is over that the client gave its call")
}
