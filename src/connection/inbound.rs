//! Frames in: each is checked and turned into one step of the core, and answered.
//!
//! An error takes the narrowest scope. What concerns one request is a Reply; what ends a session is SessionClosed; only
//! what shows that the client does not speak the protocol comes back as `Err` and ends the stream.

mod open;
mod wish;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Shared, handshake, lane::Lane, outbox::Outbox, standing::Standing};
use crate::{
    auth::Auth,
    error::{Failure, Reason},
    hub::{Class, Feed},
    planted::{self, Bug},
    proto::v1::{self, StreamDataRequest, stream_data_request::Frame, stream_data_response},
    session::{Credit, Estate, Event, Step},
    telemetry::{Publishing, SpanContext},
    types::{ClientId, NewEvent, Party, Published, Rate, Seq},
};

pub(crate) use open::class_frame;

/// Most sessions of a connection whose opening is traced. A client that resumes opens them at once; one that opens more,
/// again and again, is to cost no more spans.
const MAX_TRACED_OPENS: usize = 8;

/// Tokens that a client may show in a second: checking a signature costs more than sending one.
const MAX_TOKENS: u32 = 4;

/// What handles the frames of one connection after its handshake.
pub(super) struct Inbound {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    standing: Arc<Standing>,
    client: ClientId,
    /// Who pays.
    party: Party,
    tokens: Rate,
    /// The connection's opening, if that is traced, and how many openings of sessions may still be a part of it.
    opening: (Option<SpanContext>, usize),
}

impl Inbound {
    pub(super) fn new(
        shared: &Arc<Shared>,
        outbox: &Arc<Outbox>,
        standing: &Arc<Standing>,
        client: ClientId,
        party: Party,
        opening: Option<SpanContext>,
    ) -> Self {
        let (shared, outbox, standing) = (shared.clone(), outbox.clone(), standing.clone());
        let (opening, tokens) = ((opening, MAX_TRACED_OPENS), Rate::new(MAX_TOKENS, Instant::now()));
        Self { shared, outbox, standing, client, party, tokens, opening }
    }

    /// Handles one frame; `Err` ends the stream.
    pub(super) fn handle(&mut self, request: StreamDataRequest) -> Result<(), Failure> {
        let id = request.request_id;
        let frame = request.frame.ok_or_else(|| Failure::new(Reason::Protocol, "a frame of no known kind"))?;
        match frame {
            Frame::Hello(_) => return Err(Failure::new(Reason::Protocol, "hello came twice")),
            Frame::OpenSession(open) => {
                let done = self.open_session(*open)?;
                self.answer(id, done);
            }
            Frame::Publish(publish) => self.publish(id, publish),
            Frame::Flow(flow) => {
                let done = self.flow(&flow);
                self.answer(id, done);
            }
            Frame::CloseSession(close) => {
                let done = self.close_session(&close);
                self.answer(id, done);
            }
            Frame::Authenticate(authenticate) => {
                let done = self.authenticate(&authenticate.token)?;
                self.answer(id, done);
            }
            Frame::Heartbeat(heartbeat) => {
                if heartbeat.reply_requested {
                    let answer = v1::Heartbeat { nonce: heartbeat.nonce, ..v1::Heartbeat::default() };
                    self.outbox.send(stream_data_response::Frame::Heartbeat(answer));
                }
                self.answer(id, Ok(()));
            }
        }
        Ok(())
    }

    /// Another token for the same client. One that is not believed costs nothing but its answer: the old one has its time
    /// still. One of another client ends the stream: whoever shows that holds what is not theirs.
    fn authenticate(&mut self, token: &str) -> Result<Result<(), Failure>, Failure> {
        let auth = &self.shared.auth;
        if !auth.takes_tokens() {
            return Ok(Err(Failure::new(Reason::Unsupported, "this server asks for no token")));
        }
        if !self.tokens.take(Instant::now()) {
            let failure = Failure::new(Reason::TokenInvalid, "too many tokens at once: this one was not looked at");
            return Ok(Err(failure.retry_after(Duration::from_secs(1))));
        }
        match auth.refresh(&self.standing.caller()?, token, self.standing.transport()) {
            Ok(caller) => {
                self.standing.replace(&caller, &self.outbox);
                let expires = caller.identity().expires();
                let welcome = handshake::welcome(&self.shared, self.outbox.entry(), &self.client, expires, &[]);
                self.outbox.send(stream_data_response::Frame::Welcome(welcome));
                Ok(Ok(()))
            }
            Err(failure) if failure.reason == Reason::Denied => Err(failure),
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn answer(&self, request_id: u64, done: Result<(), Failure>) {
        self.reply(v1::Reply { request_id, failure: done.err().map(Into::into), ..v1::Reply::default() });
    }

    fn reply(&self, reply: v1::Reply) {
        if reply.request_id != 0 && !planted::strikes(Bug::ForgetsAnAnswer, 100) {
            self.outbox.send(stream_data_response::Frame::Reply(reply));
        }
    }

    fn publish(&self, request_id: u64, publish: v1::Publish) {
        let alias = publish.session;
        let published = self.store(publish);
        let through_seq = self.outbox.with_lane(alias, |lane| lane.numbering.through()).unwrap_or(0);
        let reply = v1::Reply { request_id, through_seq, ..v1::Reply::default() };
        self.reply(match published {
            Ok(Published { cursor, duplicate, durability }) => v1::Reply {
                cursor: Some(cursor.into()),
                duplicate,
                durability: v1::Durability::from(durability) as i32,
                ..reply
            },
            Err(failure) => {
                self.shared.metrics.publish_failed(failure.reason);
                v1::Reply { failure: Some(failure.into()), ..reply }
            }
        });
    }

    /// The lane is asked before and told after, but not locked meanwhile: the broker wakes readers, this one included.
    fn store(&self, publish: v1::Publish) -> Result<Published, Failure> {
        let (alias, number) = (publish.session, publish.seq);
        let origin = self.outbox.with_lane(alias, |lane| Origin::of(lane, number));
        let origin = origin.unwrap_or_else(|| Err(unknown(alias)))?;
        let event = publish.event.unwrap_or_default();
        let size = event.payload.len();
        let event = self.check(event, &origin)?;
        self.shared.hub.meter(self.party, size)?;
        if let Some(read) = origin.read {
            origin.feed.discard_through(read);
        }
        let published = self.traced(&origin, event)?;
        if !published.duplicate {
            self.outbox.entry().vitals().published();
            self.shared.metrics.events_published.inc();
            self.shared.metrics.events_published_bytes.inc_by(size as u64);
        }
        self.outbox.with_lane(alias, |lane| lane.numbering.stored(number));
        Ok(published)
    }

    fn traced(&self, origin: &Origin, mut event: NewEvent) -> Result<Published, Failure> {
        let producer = &origin.seq.producer;
        let session = (self.client.as_str(), producer.session_id().as_str());
        let publishing = Publishing { topic: origin.feed.topic().as_str(), session: Some(session), call: None };
        let span = self.shared.traces.publish(publishing, &mut event);
        let published = span.in_scope(|| origin.estate.publish(origin.attach, &origin.feed, event));
        span.published(published.as_ref());
        published
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
        Ok(event.check()?)
    }

    fn flow(&self, flow: &v1::Flow) -> Result<(), Failure> {
        let credit = flow.credit.as_ref().map(|credit| Credit { events: credit.events, bytes: credit.bytes });
        let reader = self.outbox.with_lane(flow.session, |lane| {
            let reading = lane.reading.as_mut()?;
            if let Some(acked) = flow.acked {
                // Nothing that was not sent can have been processed, and what was sent may be of another log.
                let log = lane.feed.log();
                let sent = reading.session.onward(&log);
                let same = sent.epoch == log.head().epoch && [0, sent.epoch].contains(&flow.acked_epoch);
                let acked = same.then(|| log.at(acked.min(sent.offset)));
                drop(log);
                // Whoever has lost the session will be told so.
                acked.into_iter().for_each(|acked| drop(lane.estate.ack(lane.attach, acked)));
            }
            let may_send = matches!(reading.session.on(Event::Flow { credit, paused: flow.paused }), Step::Idle);
            // Only a lane that was blocked waits for this; any other has its turn, or is woken by growth.
            let held = may_send && std::mem::take(&mut reading.blocked);
            let wanted = held || (may_send && reading.session.policy().watches_growth());
            Some((wanted.then(|| reading.reader.reader().clone()), held))
        });
        let Some(reader) = reader else { return Err(unknown(flow.session)) };
        if let Some((Some(reader), held)) = reader {
            if held {
                reader.rearm();
            }
            reader.wake();
        }
        Ok(())
    }

    fn close_session(&self, close: &v1::CloseSession) -> Result<(), Failure> {
        let found = self.outbox.close_session(close.session, None, |lane| {
            if let Some(attachment) = &mut lane.attachment
                && !close.keep
            {
                attachment.forget();
            }
            true
        });
        if found { Ok(()) } else { Err(unknown(close.session)) }
    }
}

/// Where a publish comes from. Holds the session's estate, so that what is bound to it while it is stored is undone after
/// that, even if the session ends meanwhile.
struct Origin {
    feed: Arc<Feed>,
    estate: Arc<Estate>,
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
}

/// Completes once the keys are here that a frame's token may be signed with; none if nothing has to be waited for.
pub(super) fn keys_wanted(auth: &Auth, request: &StreamDataRequest) -> Option<impl Future<Output = ()> + use<>> {
    match &request.frame {
        Some(Frame::Authenticate(authenticate)) => auth.keys_wanted_by(&authenticate.token),
        _ => None,
    }
}

fn denied() -> Failure {
    Failure::new(Reason::Denied, "the server's rules do not allow this")
}

fn unknown(alias: u32) -> Failure {
    Failure::new(Reason::UnknownSession, format!("no session {alias} is open on this connection"))
}
