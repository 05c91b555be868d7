//! Publish: from the frame to the broker, and from its outcome to the answer.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::interval;

use super::{
    Inbound, Served, denied,
    pending::{self, EstateId, LaneId, Outcome, Waiting},
    unknown, wants_reply,
};
use crate::{
    broker,
    connection::lane::Lane,
    error::{Failure, Reason},
    hub::{Class, Feed},
    proto::v1,
    session::Estate,
    telemetry::{Publishing, Span},
    types::{NewEvent, Published, Seq},
};

/// How often a client that is not read is taken to have been heard.
const UNREAD: Duration = Duration::from_secs(1);
/// How long a client is to wait that has more waiting for the broker than it may.
const PAUSE: Duration = Duration::from_millis(100);

impl Inbound {
    pub(super) fn publish(&mut self, request_id: u64, publish: Box<v1::Publish>) {
        // With a broker that answers at once there is never anything.
        if !self.pending.is_empty() {
            let size = pending::size(&publish);
            if !self.pending.has_room(size, &self.served.shared.config) {
                let failure = Failure::new(Reason::Backpressure, "too much of this connection waits for the broker");
                return self.served.refused(request_id, publish.session, failure.retry_after(PAUSE));
            }
            if let Some(lane) = self.busy(publish.session) {
                return self.pending.wait(lane, Waiting::Publish(request_id, publish));
            }
        }
        self.publish_now(request_id, publish);
    }

    fn publish_now(&mut self, request_id: u64, publish: Box<v1::Publish>) {
        let alias = publish.session;
        match self.served.begin(request_id, publish) {
            Ok((sent, broker::Publishing::Done(published))) => self.served.finish(&sent, published),
            Ok((sent, broker::Publishing::Later(outcome))) => self.pending.begun(sent, outcome),
            Err(failure) => self.served.refused(request_id, alias, failure),
        }
    }

    /// Closes a session, or has it closed behind its publishes.
    pub(super) fn close_session(&mut self, request_id: u64, close: v1::CloseSession) {
        match self.busy(close.session) {
            Some(lane) if self.pending.is_closing(lane.alias) => {
                self.served.answer(request_id, Err(unknown(lane.alias)));
            }
            Some(lane) => self.pending.wait(lane, Waiting::Close(request_id, close)),
            None => self.close_now(request_id, &close),
        }
    }

    fn close_now(&self, request_id: u64, close: &v1::CloseSession) {
        let done = self.served.close_session(close);
        self.served.answer(request_id, done);
    }

    /// The lane of that alias, if its session has a publish under way.
    fn busy(&self, alias: u32) -> Option<LaneId> {
        if self.pending.is_empty() {
            return None;
        }
        self.served.lane(alias).filter(|lane| self.pending.is_busy(*lane))
    }

    /// The next outcome of a publish; none if none is under way. Cancel-safe. To be given to [`take`](Self::take).
    pub(in crate::connection) async fn outcome(&mut self) -> Option<Outcome> {
        self.pending.next().await
    }

    /// True if no publish is under way.
    pub(in crate::connection) fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Answers a publish, and goes on with what waited for that.
    pub(in crate::connection) fn take(&mut self, Outcome { sent, published }: Outcome) {
        self.pending.over(&sent);
        self.served.finish(&sent, published);
        let estate = EstateId::of(&sent.origin.estate);
        while let Some((lane, waiting)) = self.pending.turn(estate) {
            // The session may have been taken over meanwhile, or ended.
            let is_there = self.served.lane(lane.alias) == Some(lane);
            match waiting {
                Waiting::Publish(id, publish) if is_there => self.publish_now(id, publish),
                Waiting::Publish(id, _) => self.served.refused(id, lane.alias, unknown(lane.alias)),
                Waiting::Close(id, close) if is_there => self.close_now(id, &close),
                Waiting::Close(id, _) => self.served.answer(id, Err(unknown(lane.alias))),
            }
        }
    }

    /// Opens a session, and answers. Waits where the broker has to be waited for; publishes are answered meanwhile.
    pub(super) async fn open(&mut self, request_id: u64, open: v1::OpenSession) -> Result<(), Failure> {
        let span = self.opening_span(&open);
        // Boxed: it is far larger than what it takes to begin it.
        let mut work = Box::pin(self.served.clone().open_session(open, span));
        // What was closed before is to be closed: its alias, and its name, may be those that are opened.
        while self.pending.has_closing()
            && let Some(outcome) = self.pending.next().await
        {
            self.take(outcome);
        }
        let mut unread = interval(UNREAD);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done?,
                Some(outcome) = self.pending.next() => self.take(outcome),
                // That nothing is read of the client is not its doing.
                _ = unread.tick() => self.served.heard(),
            }
        };
        self.served.answer(request_id, done);
        Ok(())
    }
}

impl Drop for Inbound {
    /// What is under way is not taken back by the end of its connection, and what it is bound to is held until it is over.
    /// What waited behind was not begun, and is not.
    fn drop(&mut self) {
        let Some(mut outcomes) = self.pending.abandon() else { return };
        let served = self.served.clone();
        let rest = async move {
            while let Some(Outcome { sent, published }) = outcomes.next().await {
                served.finish(&sent, published);
            }
        };
        drop(self.served.shared.tasks.spawn("publishes under way", rest));
    }
}

/// A publish that was given to the broker.
pub(super) struct Sent {
    request_id: u64,
    alias: u32,
    /// Bytes of its payload.
    pub(super) size: usize,
    pub(super) origin: Origin,
    span: Span,
}

impl Served {
    fn heard(&self) {
        self.outbox.entry().vitals().heard(self.shared.registry.clock().millis(), 0);
    }

    /// The lane of that alias, to be told from others that it has at other times.
    fn lane(&self, alias: u32) -> Option<LaneId> {
        self.outbox.with_lane(alias, |lane| LaneId::of(alias, lane))
    }

    /// Gives a publish to the broker, if nothing speaks against it. The lane is asked before and told after, but not
    /// locked meanwhile: the broker wakes readers, this one included.
    fn begin(&self, request_id: u64, publish: Box<v1::Publish>) -> Result<(Sent, broker::Publishing), Failure> {
        let (alias, number) = (publish.session, publish.seq);
        let origin = self.outbox.with_lane(alias, |lane| Origin::of(lane, number));
        let origin = origin.unwrap_or_else(|| Err(unknown(alias)))?;
        let event = publish.event.unwrap_or_default();
        let size = event.payload.len();
        let mut event = self.check(event, &origin)?;
        self.shared.hub.meter(self.party, size)?;
        if let Some(read) = origin.read {
            origin.feed.discard_through(read);
        }
        let span = self.span(&origin, &mut event);
        let publishing = span.in_scope(|| origin.estate.publish(origin.attach, &origin.feed, event));
        let sent = Sent { request_id, alias, size, origin, span };
        // The fence is a failure of the publish: its span tells.
        Ok((sent, publishing.unwrap_or_else(|failure| broker::Publishing::Done(Err(failure)))))
    }

    /// The broker has answered.
    fn finish(&self, sent: &Sent, published: Result<Published, Failure>) {
        let Sent { request_id, alias, size, origin, span } = sent;
        span.published(published.as_ref());
        let is_stored = published.is_ok();
        if published.as_ref().is_ok_and(|published| !published.duplicate) {
            self.outbox.entry().vitals().published();
            self.shared.metrics.events_published.inc();
            self.shared.metrics.events_published_bytes.inc_by(*size as u64);
        }
        let through = self.outbox.with_lane(*alias, |lane| origin.told(lane, is_stored)).flatten();
        let through_seq = through.unwrap_or(if is_stored { origin.seq.number } else { 0 });
        let taken = published.as_ref().err().filter(|failure| failure.reason == Reason::TakenOver).cloned();
        self.answer_publish(*request_id, through_seq, published);
        // Whoever has taken it could not tell: it would be refused for ever.
        if let Some(failure) = taken {
            self.outbox.close_session(*alias, Some(failure), |lane| origin.is_of(lane));
        }
    }

    /// It did not come to be given to the broker.
    fn refused(&self, request_id: u64, alias: u32, failure: Failure) {
        let through_seq = self.outbox.with_lane(alias, |lane| lane.numbering.through()).unwrap_or(0);
        self.answer_publish(request_id, through_seq, Err(failure));
    }

    fn answer_publish(&self, request_id: u64, through_seq: u64, published: Result<Published, Failure>) {
        match published {
            Ok(published) if wants_reply(request_id) => self.outbox.send_stored(request_id, through_seq, &published),
            Ok(_) => {}
            Err(failure) => {
                self.shared.metrics.publish_failed(failure.reason);
                let failure = Some(failure.into());
                self.reply(v1::Reply { request_id, through_seq, failure, ..v1::Reply::default() });
            }
        }
    }

    fn span(&self, origin: &Origin, event: &mut NewEvent) -> Span {
        let session = (self.client.as_str(), origin.seq.producer.session_id().as_str());
        let publishing = Publishing { topic: origin.feed.topic().as_str(), session: Some(session), call: None };
        self.shared.traces.publish(publishing, event)
    }

    fn check(&self, event: v1::NewEvent, origin: &Origin) -> Result<NewEvent, Failure> {
        let (size, scoped) = (event.payload.len(), event.session_scoped);
        let limit = self.shared.config.max_payload();
        if size > limit {
            let failure = Failure::new(Reason::TooLarge, format!("the payload is {size} bytes, the limit {limit}"));
            return Err(failure.with("limit", limit));
        }
        if scoped && origin.feed.class() != Class::State {
            let failure = Failure::new(Reason::InvalidField, "only keys of a keyed topic can die with a session");
            return Err(failure.with("field", "event.session_scoped"));
        }
        let mut event = event.into_event(Some(self.client.clone()));
        event.scope = scoped.then(|| origin.seq.producer.clone());
        event.dedupe.seq = Some(origin.seq.clone());
        event.check()?;
        Ok(event)
    }
}

/// Where a publish comes from. Holds the session's estate, so that what is bound to it while it is stored is undone after
/// that, even if the session ends meanwhile.
pub(super) struct Origin {
    feed: Arc<Feed>,
    pub(super) estate: Arc<Estate>,
    attach: u64,
    seq: Seq,
    /// What the session of an echo topic has taken: nobody needs it any more.
    read: Option<u64>,
}

impl Origin {
    fn of(lane: &mut Lane, number: u64) -> Result<Self, Failure> {
        if !lane.may_publish {
            let message = "the session was opened to read only, or its topic is written by the server alone";
            return Err(Failure::new(Reason::ReadOnly, message));
        }
        if !lane.permitted {
            return Err(denied());
        }
        let reading = lane.reading.as_ref().filter(|_| lane.feed.class() == Class::Echo);
        let read = reading.map(|reading| reading.session.cursor().offset);
        let (feed, estate, attach) = (lane.feed.clone(), lane.estate.clone(), lane.attach);
        Ok(Self { feed, estate, attach, seq: lane.numbering.seq(number)?, read })
    }

    /// True if it came from this attach of the session.
    fn is_of(&self, lane: &Lane) -> bool {
        Arc::ptr_eq(&self.estate, &lane.estate) && self.attach == lane.attach
    }

    /// Tells the lane what came of it; how far it is now. None if that is another session's.
    fn told(&self, lane: &mut Lane, is_stored: bool) -> Option<u64> {
        if !Arc::ptr_eq(&self.estate, &lane.estate) {
            return None;
        }
        if is_stored {
            lane.numbering.stored(self.seq.number);
        }
        Some(lane.numbering.through())
    }
}
