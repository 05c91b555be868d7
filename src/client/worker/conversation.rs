//! A session as the worker keeps it: its place in the chain, its credit, its unanswered publishes, its home.

mod heard;
mod left;

use std::{sync::Arc, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    client::{
        Backoff, Cursor, Error, ErrorKind, Item, NewEvent, Open, Published, Refusal, Start,
        backoff::Retry,
        chain::Chain,
        command::{Done, answer},
        link::{Awaited, Link},
        outstanding::{Outcome, Outstanding},
        shared::{SessionKey, Shared, goes_beyond},
        window::Window,
        wire,
    },
    proto::v1::{self, stream_data_request::Frame},
};
use left::Left;

/// Who is told of a publish's end. Frees the publisher's permit when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) done: Done<Published>,
    pub(super) permit: OwnedSemaphorePermit,
}

/// Where a session is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Home {
    link: u64,
    alias: u32,
    opened: bool,
}

/// A wish to end.
#[derive(Debug, Default)]
struct Closing {
    keep: bool,
    sent: bool,
    done: Vec<Done>,
}

#[derive(Debug)]
pub(super) struct Conversation {
    shared: Arc<Shared>,
    open: Open,
    chain: Chain,
    window: Window,
    outstanding: Outstanding<Ticket>,
    home: Option<Home>,
    attach: u64,
    /// Who waits for the first open.
    opening: Option<Done>,
    paused: bool,
    /// What the server was told to be processed.
    acked: Option<Cursor>,
    closing: Option<Closing>,
    /// Permits given out, answered publishes included.
    permits: usize,
    retry: Retry,
    opened_at: Option<Instant>,
    /// When to attach again after the server ended or broke the session.
    pub(super) reopen_at: Option<Instant>,
    /// What it has left elsewhere.
    pub(super) left: Left,
}

impl Conversation {
    pub(super) fn new(shared: Arc<Shared>, open: Open, done: Done, backoff: Backoff) -> Self {
        Self {
            window: Window::new(open.window),
            shared,
            chain: Chain::new(open.start),
            open,
            outstanding: Outstanding::new(),
            home: None,
            attach: 0,
            opening: Some(done),
            paused: false,
            acked: None,
            closing: None,
            permits: 0,
            retry: Retry::new(backoff),
            opened_at: None,
            reopen_at: None,
            left: Left::default(),
        }
    }

    // --- where it is attached

    /// True if frames of this link and alias are this session's present ones.
    pub(super) fn lives_at(&self, link: u64, alias: u32) -> bool {
        self.home.is_some_and(|home| (home.link, home.alias) == (link, alias))
    }

    pub(super) fn lives_on(&self, link: u64) -> bool {
        self.home.is_some_and(|home| home.link == link)
    }

    pub(super) fn is_open_on(&self, link: u64) -> bool {
        self.home.is_some_and(|home| home.link == link && home.opened)
    }

    /// True while it waits for the server to confirm an open.
    pub(super) fn is_attaching(&self) -> bool {
        self.home.is_some_and(|home| !home.opened)
    }

    /// True if it has no home and nothing but a connection is missing for one.
    pub(super) fn is_adrift(&self) -> bool {
        self.home.is_none() && self.reopen_at.is_none()
    }

    /// True if it only waits for the server to confirm its end: moving it elsewhere would be in vain.
    pub(super) fn is_leaving(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.sent)
    }

    /// Opens it on `link`, at its own cursor.
    pub(super) fn attach(&mut self, link: &mut Link) {
        let alias = link.alias(self.shared.key());
        self.window.take(self.shared.wishes().taken);
        let credit = self.window.attach(self.paused);
        let start = match self.chain.cursor() {
            Some(_) if self.open.is_publish_only() => Start::Live,
            Some(_) if self.chain.lacks_snapshot() => Start::Snapshot,
            Some(cursor) => Start::After(cursor),
            None => self.open.start,
        };
        link.push(Frame::OpenSession(Box::new(v1::OpenSession {
            session: alias,
            start: Some(wire::start(start)),
            credit: Some(wire::credit(credit)),
            last_attach: self.attach,
            ..self.open.frame()
        })));
        if self.paused {
            link.push(flow(v1::Flow { session: alias, paused: Some(true), ..v1::Flow::default() }));
        }
        self.home = Some(Home { link: link.id, alias, opened: false });
        self.reopen_at = None;
    }

    /// It goes away from `link`, where an open may be left without its answer. Whoever never welcomed was never asked.
    pub(super) fn depart(&mut self, link: &Link) {
        if link.welcome.is_some() && self.lives_on(link.id) && self.is_attaching() {
            self.left.push(link.id);
        }
        self.home = None;
    }

    /// The connection is gone. True if the session thereby has ended as asked.
    pub(super) fn detach(&mut self, link: &Link) -> bool {
        self.depart(link);
        self.closing.as_ref().is_some_and(|closing| closing.sent || self.outstanding.is_empty())
    }

    // --- what the application wants

    pub(super) fn publish(&mut self, event: NewEvent, ticket: Ticket, limits: &v1::Limits) {
        let limit = limits.max_payload_bytes as usize;
        if event.payload.len() > limit && limit > 0 {
            complete((ticket, Err(too_large(event.payload.len(), limit))));
        } else {
            self.outstanding.push(event, ticket);
        }
    }

    /// Stops or lets go on. `done` is answered by the server, or at once if there is none: a paused session is
    /// attached without credit, so nothing can come.
    pub(super) fn pause(&mut self, paused: bool, done: Done, link: Option<&mut Link>) {
        self.paused = paused;
        match (link, self.home) {
            (Some(link), Some(home)) => {
                self.window.take(self.shared.wishes().taken);
                let credit = if paused { None } else { self.window.extend().map(wire::credit) };
                let frame = v1::Flow { session: home.alias, credit, paused: Some(paused), ..v1::Flow::default() };
                let id = link.request_id();
                link.ask(id, flow(frame), Awaited::Handle(done));
            }
            _ => answer(done, Ok(())),
        }
    }

    /// Reads the handles' wishes and tells the server.
    pub(super) fn tend(&mut self, link: &mut Link, now: Instant) {
        let wishes = self.shared.wishes();
        self.window.take(wishes.taken);
        let Some(home) = self.home.filter(|home| home.opened && home.link == link.id) else { return };
        let here = |acked: &Cursor| self.chain.cursor().is_some_and(|cursor| cursor.epoch == acked.epoch);
        let acked = wishes.acked.filter(|acked| here(acked) && goes_beyond(*acked, self.acked));
        let credit = if self.paused { None } else { self.window.extend().map(wire::credit) };
        if acked.is_some() || credit.is_some() {
            self.acked = acked.or(self.acked);
            let (acked_epoch, acked) = acked.map(|acked| (acked.epoch, acked.offset)).unzip();
            let acked_epoch = acked_epoch.unwrap_or_default();
            link.push(flow(v1::Flow { session: home.alias, acked, acked_epoch, credit, paused: None }));
        }
        self.pump(link, now);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.shared.wishes().abandoned
    }

    /// Takes the wish to end: carried out by `pump` once nothing is unanswered.
    pub(super) fn close(&mut self, keep: bool, done: Option<Done>) {
        let closing = self.closing.get_or_insert_default();
        closing.keep = keep;
        closing.done.extend(done);
    }

    /// True if it is to end, and no server knows of it or has to be asked.
    pub(super) fn can_end_here(&self) -> bool {
        self.closing.is_some() && self.home.is_none() && self.outstanding.is_empty()
    }

    /// Sends what may be sent: publishes, and then the end.
    pub(super) fn pump(&mut self, link: &mut Link, now: Instant) {
        let Some(home) = self.home.filter(|home| home.opened && home.link == link.id) else { return };
        let limit = max_inflight(link);
        if limit > self.permits {
            self.shared.permits().add_permits(limit - self.permits);
            self.permits = limit;
        }
        loop {
            let id = link.request_id();
            let Some(publish) = self.outstanding.next(now, limit, id) else { break };
            let frame = Frame::Publish(v1::Publish { session: home.alias, ..publish }.into());
            link.ask(id, frame, Awaited::Publish(self.shared.key()));
        }
        if let Some(closing) = &mut self.closing
            && self.outstanding.is_empty()
            && !std::mem::replace(&mut closing.sent, true)
        {
            link.push(Frame::CloseSession(v1::CloseSession { session: home.alias, keep: closing.keep }));
        }
    }

    // --- time and end

    /// Gives up publishes that are too old to be sent again.
    pub(super) fn expire(&mut self, now: Instant, patience: Duration) {
        self.outstanding.wake(now);
        self.outstanding.expire(now, patience).into_iter().for_each(complete);
    }

    /// When `expire`, `pump` or a reopening is due next.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Instant> {
        [self.outstanding.deadline(patience), self.reopen_at].into_iter().flatten().min()
    }

    /// It has ended: tells everybody who waits.
    pub(super) fn end(mut self, error: Option<Error>) {
        let unsent = error.clone().unwrap_or_else(|| Error::new(ErrorKind::Closed, "the session is closed"));
        if let Some(done) = self.opening.take() {
            answer(done, Err(unsent.clone()));
        }
        for done in self.closing.take().unwrap_or_default().done {
            answer(done, error.clone().map_or(Ok(()), Err));
        }
        self.outstanding.end(&unsent).into_iter().for_each(complete);
        self.shared.finish(error);
    }

    /// Where a later process may go on, if that is known.
    fn place(&self) -> Option<Cursor> {
        self.chain.cursor().filter(|_| !self.chain.lacks_snapshot())
    }

    fn put<const N: usize>(&self, items: [Item; N]) {
        self.shared.put(self.place(), items);
    }
}

fn flow(frame: v1::Flow) -> Frame {
    Frame::Flow(frame)
}

fn max_inflight(link: &Link) -> usize {
    let told = link.welcome.as_ref().and_then(|welcome| welcome.limits.as_ref());
    told.map_or(1, |limits| limits.max_inflight_publishes.max(1) as usize)
}

fn complete((ticket, result): Outcome<Ticket>) {
    let Ticket { done, permit } = ticket;
    drop(permit);
    answer(done, result);
}

fn too_large(size: usize, limit: usize) -> Error {
    Error::refused(
        ErrorKind::PublishFailed,
        Refusal {
            code: tonic::Code::ResourceExhausted,
            reason: "TOO_LARGE".to_owned(),
            message: format!("the payload has {size} bytes; the limit is {limit}"),
            advice: crate::error::Advice::None,
            retry_after: None,
            metadata: std::collections::HashMap::new(),
        },
    )
}

/// What the worker looks sessions up by; ordered, so that they are opened in the order the application opened them.
pub(super) type Conversations = std::collections::BTreeMap<SessionKey, Conversation>;
