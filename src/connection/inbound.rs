//! Frames in: each is checked and turned into one step of the core, and answered.
//!
//! An error takes the narrowest scope. What concerns one request is a Reply; what ends a session is SessionClosed; only
//! what shows that the client does not speak the protocol comes back as `Err` and ends the stream.

mod open;
mod pending;
mod publish;
mod wish;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Shared, handshake, outbox::Outbox, standing::Standing};
use crate::{
    error::{Failure, Reason},
    planted::{self, Bug},
    proto::v1::{self, StreamDataRequest, stream_data_request::Frame, stream_data_response},
    session::{Credit, Event, Step},
    telemetry::{Span, SpanContext},
    types::{ClientId, Party, Rate},
};

pub(crate) use open::class_frame;
pub(super) use pending::Outcome;
use pending::Pending;

/// Most sessions of a connection whose opening is traced. A client that resumes opens them at once; one that opens more,
/// again and again, is to cost no more spans.
const MAX_TRACED_OPENS: usize = 8;

/// Tokens that a client may show in a second: checking a signature costs more than sending one.
const MAX_TOKENS: u32 = 4;

/// Whom a connection serves, and with what.
#[derive(Debug, Clone)]
struct Served {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    standing: Arc<Standing>,
    client: ClientId,
    /// Who pays.
    party: Party,
}

/// What handles the frames of one connection after its handshake.
pub(super) struct Inbound {
    served: Served,
    tokens: Rate,
    /// The connection's opening, if that is traced, and how many openings of sessions may still be a part of it.
    opening: (Option<SpanContext>, usize),
    pending: Pending,
}

/// A frame that may have to wait for something. The next is not handled before that is done: it may be about the session
/// that is being opened, or be meant to be under the new token.
pub(super) enum Slow {
    OpenSession(u64, Box<v1::OpenSession>),
    Authenticate(u64, v1::Authenticate),
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
        let served = Served { shared, outbox, standing, client, party };
        Self { served, tokens, opening, pending: Pending::default() }
    }

    /// Handles one frame; `Err` ends the stream. What is returned is to be given to [`handle_slowly`](Self::handle_slowly)
    /// next.
    pub(super) fn handle(&mut self, request: StreamDataRequest) -> Result<Option<Slow>, Failure> {
        let id = request.request_id;
        let frame = request.frame.ok_or_else(|| Failure::new(Reason::Protocol, "a frame of no known kind"))?;
        match frame {
            Frame::Hello(_) => return Err(Failure::new(Reason::Protocol, "hello came twice")),
            Frame::OpenSession(open) => return Ok(Some(Slow::OpenSession(id, open))),
            Frame::Authenticate(authenticate) => return Ok(Some(Slow::Authenticate(id, authenticate))),
            Frame::Publish(publish) => self.publish(id, publish),
            Frame::Flow(flow) => {
                let done = self.served.flow(&flow);
                self.served.answer(id, done);
            }
            Frame::CloseSession(close) => self.close_session(id, close),
            Frame::Heartbeat(heartbeat) => {
                if heartbeat.reply_requested {
                    let answer = v1::Heartbeat { nonce: heartbeat.nonce, ..v1::Heartbeat::default() };
                    self.served.outbox.send(stream_data_response::Frame::Heartbeat(answer));
                }
                self.served.answer(id, Ok(()));
            }
        }
        Ok(None)
    }

    /// Handles one frame, and waits for what it takes; `Err` ends the stream.
    pub(super) async fn handle_slowly(&mut self, slow: Slow) -> Result<(), Failure> {
        match slow {
            Slow::OpenSession(id, open) => self.open(id, *open).await,
            Slow::Authenticate(id, v1::Authenticate { token }) => {
                // For the keys that it is signed with: for a second, seldom.
                if let Some(keys) = self.served.shared.auth.keys_wanted_by(&token) {
                    keys.await;
                }
                let done = self.authenticate(&token)?;
                self.served.answer(id, done);
                Ok(())
            }
        }
    }

    /// Part of the connection's opening, as long as that goes on.
    fn opening_span(&mut self, open: &v1::OpenSession) -> Span {
        let (stream, left) = &mut self.opening;
        let Some(rest) = left.checked_sub(1) else { return Span::default() };
        *left = rest;
        self.served.shared.traces.open_session(stream.as_ref(), &open.topic)
    }

    /// Another token for the same client. One that is not believed costs nothing but its answer: the old one has its time
    /// still. One of another client ends the stream: whoever shows that holds what is not theirs.
    fn authenticate(&mut self, token: &str) -> Result<Result<(), Failure>, Failure> {
        let Served { shared, outbox, standing, client, .. } = &self.served;
        let auth = &shared.auth;
        if !auth.takes_tokens() {
            return Ok(Err(Failure::new(Reason::Unsupported, "this server asks for no token")));
        }
        if !self.tokens.take(Instant::now()) {
            let failure = Failure::new(Reason::TokenInvalid, "too many tokens at once: this one was not looked at");
            return Ok(Err(failure.retry_after(Duration::from_secs(1))));
        }
        match auth.refresh(&standing.caller()?, token, standing.transport()) {
            Ok(caller) => {
                standing.replace(&caller, outbox);
                let expires = caller.identity().expires();
                let welcome = handshake::welcome(shared, outbox.entry(), client, expires, &[]);
                outbox.send(stream_data_response::Frame::Welcome(welcome));
                Ok(Ok(()))
            }
            Err(failure) if failure.reason == Reason::Denied => Err(failure),
            Err(failure) => Ok(Err(failure)),
        }
    }
}

impl Served {
    fn answer(&self, request_id: u64, done: Result<(), Failure>) {
        self.reply(v1::Reply { request_id, failure: done.err().map(Into::into), ..v1::Reply::default() });
    }

    fn reply(&self, reply: v1::Reply) {
        if wants_reply(reply.request_id) {
            self.outbox.send(stream_data_response::Frame::Reply(reply));
        }
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

fn wants_reply(request_id: u64) -> bool {
    request_id != 0 && !planted::strikes(Bug::ForgetsAnAnswer, 100)
}

fn denied() -> Failure {
    Failure::new(Reason::Denied, "the server's rules do not allow this")
}

fn unknown(alias: u32) -> Failure {
    Failure::new(Reason::UnknownSession, format!("no session {alias} is open on this connection"))
}
