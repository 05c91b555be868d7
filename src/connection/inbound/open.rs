//! OpenSession: everything that has to be right before a session exists.

use std::sync::Arc;

use super::Inbound;
use crate::{
    connection::{
        lane::{Active, Lane, Reading},
        outbox::Outbox,
    },
    error::{Failure, Reason},
    hub::{Class, Feed, Reader},
    proto::v1::{self, stream_data_response::Frame},
    session::{Attachment, Credit, Kick, Numbering, Options, Recovery, Session, Start},
    types::{Cursor, Producer, SessionId, Timestamp, Topic},
};

/// Largest fencing number believed: above it, a client could leave no room for a newer one.
const MAX_ATTACH: u64 = u64::MAX / 2;

impl Inbound {
    /// Opens a session. A refusal is told as SessionClosed and returned for the Reply; the outer `Err` ends the stream.
    pub(super) fn open_session(&self, open: v1::OpenSession) -> Result<Result<(), Failure>, Failure> {
        let alias = open.session;
        let (taken, count) = self.outbox.occupancy(alias);
        if alias == 0 || taken {
            return Err(Failure::new(Reason::Protocol, format!("the session alias {alias} is zero or in use")));
        }
        let done = self.try_open(open, count);
        if let Err(failure) = &done {
            let (reason, failure) = (failure.reason, Some(failure.clone().into()));
            self.shared.metrics.session_closed(reason.as_str());
            self.outbox.send(Frame::SessionClosed(v1::SessionClosed { session: alias, failure }));
        }
        Ok(done)
    }

    fn try_open(&self, open: v1::OpenSession, count: usize) -> Result<(), Failure> {
        let limit = self.shared.config.max_sessions;
        if count >= limit {
            let message = format!("a connection may have {limit} sessions open");
            return Err(Failure::new(Reason::SessionLimit, message).with("limit", limit));
        }
        let topic = Topic::parse(&open.topic)?;
        check_policy(open.delivery_policy)?;
        check_mode(open.mode)?;
        let feed = self.shared.hub.join(&topic)?;
        let producer = self.producer(&open)?;
        let acked = producer.as_ref().and_then(|producer| self.shared.directory.acked(producer));
        let start = start(open.start, acked)?;
        // Whatever can be refused is refused before the name is taken: a refusal must not cost its holder the session.
        Session::open(start, options(&open), &feed.log())?;
        let (kick, last) = (self.kick(open.session), open.last_attach);
        let attachment = producer.map(|producer| self.shared.directory.attach(producer, last, kick));
        self.add(&open, feed, attachment, start)
    }

    /// The session's name; a nameless session has none.
    fn producer(&self, open: &v1::OpenSession) -> Result<Option<Producer>, Failure> {
        if open.session_id.is_empty() {
            return Ok(None);
        }
        if open.last_attach > MAX_ATTACH {
            return Err(Failure::new(Reason::InvalidField, "last_attach is no number this server gave out"));
        }
        Ok(Some(Producer::new(self.client.clone(), SessionId::parse(&open.session_id)?)))
    }

    /// Ends this session when a newer open takes its name. The alias may by then belong to another session, which
    /// still holds its own name and is left alone.
    fn kick(&self, alias: u32) -> Kick {
        let outbox = Arc::downgrade(&self.outbox);
        Box::new(move || {
            if let Some(outbox) = outbox.upgrade() {
                close_if_lost(&outbox, alias);
            }
        })
    }

    fn add(
        &self,
        open: &v1::OpenSession,
        feed: Arc<Feed>,
        attachment: Option<Attachment>,
        start: Start,
    ) -> Result<(), Failure> {
        let alias = open.session;
        let producer = attachment.as_ref().map_or_else(
            || Producer::new(self.client.clone(), SessionId::generate()),
            |attachment| attachment.producer().clone(),
        );
        let fresh = attachment.as_ref().is_none_or(Attachment::is_fresh);
        let log = feed.log();
        let (session, recovery) = Session::open(start, options(open), &log)?;
        let published_seq = log.published_seq(&producer);
        let reads = open.mode() != v1::SessionMode::PublishOnly;
        let opened = v1::SessionOpened {
            session: alias,
            start: Some(if reads { session.cursor() } else { log.head() }.into()),
            head: Some(log.head().into()),
            recovery: recovery_frame(recovery) as i32,
            attach: attachment.as_ref().map_or(1, Attachment::attach),
            published_seq,
            delivery_policy: v1::DeliveryPolicy::Lag as i32,
            topic_class: class_frame(feed.class()) as i32,
            max_rate_hz: 0,
        };
        drop(log);
        let reader = || feed.attach(Reader::new(alias, self.outbox.ready().clone()));
        let lane = Lane {
            numbering: Numbering::new(producer, fresh, published_seq),
            may_publish: open.mode() != v1::SessionMode::ReadOnly,
            attachment,
            reading: reads.then(|| Reading { session, reader: reader(), deficit: 0, blocked: false }),
            _active: Active::new(self.shared.metrics.clone()),
            feed: feed.clone(),
        };
        self.outbox.open(alias, lane, Frame::SessionOpened(opened));
        self.shared.metrics.session_opened(recovery.as_str());
        // A newer open may have come between taking the name and being there to be told.
        close_if_lost(&self.outbox, alias);
        Ok(())
    }
}

fn close_if_lost(outbox: &Outbox, alias: u32) {
    let taken_over = Failure::new(Reason::TakenOver, "a newer connection of this client has opened the session");
    outbox
        .close_session(alias, Some(taken_over), |lane| lane.attachment.as_ref().is_some_and(|held| !held.is_current()));
}

/// What a later version may ask for is refused: taking it for the default would be guessing.
fn check_policy(policy: i32) -> Result<(), Failure> {
    match v1::DeliveryPolicy::try_from(policy) {
        Ok(v1::DeliveryPolicy::Unspecified | v1::DeliveryPolicy::Lag) => Ok(()),
        Ok(other) => Err(Failure::new(Reason::Unsupported, format!("{} is not offered yet", other.as_str_name()))),
        Err(_) => Err(Failure::new(Reason::Unsupported, format!("there is no delivery policy {policy}"))),
    }
}

fn check_mode(mode: i32) -> Result<(), Failure> {
    let unknown = |_| Failure::new(Reason::Unsupported, format!("there is no session mode {mode}"));
    v1::SessionMode::try_from(mode).map(|_| ()).map_err(unknown)
}

fn options(open: &v1::OpenSession) -> Options {
    let credit = open.credit.as_ref().map(|credit| Credit { events: credit.events, bytes: credit.bytes });
    Options { strict: open.strict, no_follow: open.no_follow, credit }
}

fn start(wanted: Option<v1::StartPosition>, acked: Option<Cursor>) -> Result<Start, Failure> {
    use v1::start_position::Position;
    match wanted.and_then(|start| start.position) {
        None | Some(Position::Live(_)) => Ok(Start::Live),
        Some(Position::Earliest(_)) => Ok(Start::Earliest),
        Some(Position::Cursor(cursor)) => Ok(Start::Cursor(cursor.into())),
        Some(Position::Acked(_)) => Ok(acked.map_or(Start::Live, Start::Cursor)),
        Some(Position::LastN(last)) => Ok(Start::LastN(last.count)),
        Some(Position::Since(since)) => Ok(Start::Since(Timestamp(since.time_us))),
        Some(Position::Snapshot(_)) => {
            Err(Failure::new(Reason::Unsupported, "only keyed topics have snapshots, and they are not offered yet"))
        }
    }
}

fn recovery_frame(recovery: Recovery) -> v1::Recovery {
    match recovery {
        Recovery::Fresh => v1::Recovery::Fresh,
        Recovery::Full => v1::Recovery::Full,
        Recovery::Partial => v1::Recovery::Partial,
    }
}

fn class_frame(class: Class) -> v1::TopicClass {
    match class {
        Class::Log => v1::TopicClass::Log,
        Class::Echo => v1::TopicClass::Echo,
    }
}
