//! OpenSession: everything that has to be right before a session exists, and what it registers.

mod register;

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    Served, denied,
    wish::{self, Wish},
};
use crate::{
    auth::{Ask, Caller},
    connection::{
        lane::{Active, Lane, Reading},
        outbox::Outbox,
    },
    error::{Failure, Reason},
    hub::{Class, Feed, Policy, PolicyName, Reader},
    log::Log,
    proto::v1::{self, stream_data_response::Frame},
    session::{Attachment, Estate, Kick, Numbering, Recovery, Session, Start},
    telemetry::{
        Span,
        metrics::words::{self, SessionEnd},
    },
    types::{Cursor, Producer, SessionId, Timestamp, Topic},
};

/// How long an opening waits for what an older holder of the name has under way. What is not over by then the broker
/// tells apart: the same number is not stored twice.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

impl Served {
    /// Opens a session. A refusal is told as SessionClosed and returned for the Reply; the outer `Err` ends the stream.
    pub(super) async fn open_session(self, open: v1::OpenSession, span: Span) -> Result<Result<(), Failure>, Failure> {
        let alias = open.session;
        let (taken, count) = self.outbox.occupancy(alias);
        if alias == 0 || taken {
            return Err(Failure::new(Reason::Protocol, format!("the session alias {alias} is zero or in use")));
        }
        let done = span.around(self.try_open(open, count)).await;
        match &done {
            Ok(recovery) => span.set("bowline.recovery", words::Recovery::from(*recovery).as_str()),
            Err(failure) => span.failed(failure.reason.as_str(), failure.reason.code()),
        }
        if let Err(failure) = &done {
            let (reason, failure) = (failure.reason, Some(failure.clone().into()));
            self.shared.metrics.session_closed(SessionEnd::Failed(reason));
            self.outbox.send(Frame::SessionClosed(v1::SessionClosed { session: alias, failure }));
        }
        Ok(done.map(|_| ()))
    }

    async fn try_open(&self, open: v1::OpenSession, count: usize) -> Result<Recovery, Failure> {
        let limit = self.shared.config.max_sessions;
        if count >= limit {
            let message = format!("a connection may have {limit} sessions open");
            return Err(Failure::new(Reason::SessionLimit, message).with("limit", limit));
        }
        let topic = Topic::parse(&open.topic)?;
        let caller = self.standing.caller()?;
        // Before anything else is said of the topic: whether it exists is for those to know who may use it.
        wish::check_rights(&open, &topic, &caller)?;
        let feed = self.shared.hub.join(&topic, self.party)?;
        feed.seen().await?;
        let named = (!open.session_id.is_empty()).then(|| SessionId::parse(&open.session_id)).transpose()?;
        let producer = Producer::new(self.client.clone(), named.clone().unwrap_or_else(SessionId::generate));
        let kept = named.as_ref().and_then(|_| self.shared.directory.estate(&producer, &topic));
        let acked = kept.as_ref().and_then(|kept| kept.acked());
        let wish = Wish::read(open, &feed, acked)?;
        if let Start::Cursor(cursor) = wish.start {
            feed.reaches(cursor).await?;
        }
        // Whatever can be refused is refused before the name is taken: a refusal must not cost its holder the session.
        let (session, recovery, floor) = {
            let log = feed.log();
            let (session, recovery) = Session::open(wish.start, wish.options, &log)?;
            (session, recovery, floor(&log))
        };
        if wish.reads && !caller.may(Ask::History(&topic)) {
            self.check_reach(&wish, &session, &feed, acked)?;
        }
        let presence = match &wish.presence {
            Some(info) => Some(self.shared.hub.check_announce(&topic, &producer, info).await?),
            None => None,
        };
        if wish.required {
            Estate::check_hold(kept.as_deref(), &feed)?;
        }
        let directory = &self.shared.directory;
        let taken = match &named {
            Some(_) => directory.claim(&producer, &topic, wish.last_attach, wish.presence.as_ref()).await?,
            None => None,
        };
        let kick = self.kick(wish.alias);
        let attach = || directory.attach(producer.clone(), &topic, wish.last_attach, taken, kick);
        let attachment = named.map(|_| attach()).transpose()?;
        let permitted = caller.may(Ask::Publish(&topic));
        let opening = Opening { wish, feed, producer, session, recovery, floor, permitted };
        let recovery = self.add(opening, attachment).await?;
        drop(presence);
        self.recheck(&caller);
        Ok(recovery)
    }

    /// Without the right to a topic's history a session reads what is stored from now on, the latest of each key, what was
    /// stored since its place that is kept here, and what came within `session.ttl`: what a client that was away has missed.
    fn check_reach(&self, wish: &Wish, session: &Session, feed: &Feed, acked: Option<Cursor>) -> Result<(), Failure> {
        let kept = acked.is_some_and(|acked| wish.start == Start::Cursor(acked));
        if kept || matches!(wish.start, Start::Live | Start::Snapshot) {
            return Ok(());
        }
        let log = feed.log();
        let oldest = log.after(session.onward(&log).offset).next().map(|record| record.time);
        let reach = Timestamp::now().minus(self.shared.directory.config().ttl);
        if oldest.is_none_or(|oldest| oldest >= reach) { Ok(()) } else { Err(denied()) }
    }

    /// The rules may have changed between the look at them and the session's being there to be reviewed.
    fn recheck(&self, before: &Caller) {
        if self.standing.caller().is_ok_and(|now| !now.is_of_same_policy(before)) {
            self.standing.apply(&self.outbox);
        }
    }

    /// Ends this session when a newer open takes its name. The alias may by then belong to another session, which
    /// still holds its own name and is left alone.
    fn kick(&self, alias: u32) -> Kick {
        let outbox = Arc::downgrade(&self.outbox);
        Box::new(move |failure| {
            if let Some(outbox) = outbox.upgrade() {
                close_if_lost(&outbox, alias, failure);
            }
        })
    }

    async fn add(&self, mut opening: Opening, mut attachment: Option<Attachment>) -> Result<Recovery, Failure> {
        let alias = opening.wish.alias;
        let attach = attachment.as_ref().map_or(1, Attachment::attach);
        let own = || Estate::new(opening.feed.topic().clone(), attach, None, Vec::new());
        let estate = attachment.as_ref().map_or_else(own, |attachment| attachment.estate().clone());
        timeout(SETTLED_WITHIN, estate.settled()).await.ok();
        let registered = async {
            // What the session published elsewhere may not have come here yet, and numbers go on after it.
            if attachment.is_some() && opening.wish.publishes {
                opening.feed.current().await?;
            }
            self.register(&opening, &estate, attach).await
        };
        if let Err(failure) = registered.await {
            attachment.as_mut().filter(|attachment| attachment.is_fresh()).map(Attachment::forget);
            return Err(failure);
        }
        opening.look_again();
        let Opening { wish, feed, producer, session, recovery, permitted, .. } = opening;
        // Only now, with the name taken and what others began settled: nobody else stores a publish of the session.
        let (head, published_seq) = {
            let log = feed.log();
            (log.head(), log.published_seq(&producer))
        };
        let opened = v1::SessionOpened {
            session: alias,
            start: Some(if wish.reads { session.cursor() } else { head }.into()),
            head: Some(head.into()),
            recovery: recovery_frame(recovery) as i32,
            attach,
            published_seq,
            delivery_policy: policy_frame(session.policy()) as i32,
            topic_class: class_frame(feed.class()) as i32,
            max_rate_hz: rate(session.policy()),
        };
        let reader = || feed.attach(Reader::new(alias, self.outbox.ready().clone()));
        let fresh = attachment.as_ref().is_none_or(Attachment::is_fresh);
        let lane = Lane {
            numbering: Numbering::new(producer.clone(), fresh, published_seq),
            may_publish: wish.publishes && feed.topic().presence_of().is_none(),
            permitted,
            producer,
            attach,
            attachment,
            estate,
            reading: wish.reads.then(|| Reading::new(session, reader())),
            _active: Active::new(self.shared.metrics.clone()),
            feed: feed.clone(),
        };
        self.outbox.open(alias, lane, Frame::SessionOpened(opened));
        self.shared.metrics.session_opened(recovery.into());
        // A newer open may have come between taking the name and being there to be told.
        close_if_lost(&self.outbox, alias, Failure::taken_over());
        Ok(recovery)
    }
}

/// A session that may be, on its way.
struct Opening {
    wish: Wish,
    feed: Arc<Feed>,
    producer: Producer,
    session: Session,
    recovery: Recovery,
    /// The epoch and the floor of the log when the session was begun.
    floor: (u64, u64),
    /// Its client may publish there.
    permitted: bool,
}

impl Opening {
    /// What the session begins with may have gone while the broker was waited for: it begins anew, and its client is told
    /// how. Where it cannot, it ends with its first turn.
    fn look_again(&mut self) {
        let log = self.feed.log();
        if floor(&log) != self.floor
            && let Ok((session, recovery)) = Session::open(self.wish.start, self.wish.options, &log)
        {
            (self.session, self.recovery) = (session, recovery);
        }
    }
}

fn floor(log: &Log) -> (u64, u64) {
    let floor = log.floor();
    (floor.epoch, floor.offset)
}

fn close_if_lost(outbox: &Outbox, alias: u32, failure: Failure) {
    let is_lost = |lane: &mut Lane| lane.attachment.as_ref().is_some_and(|held| !held.is_current());
    outbox.close_session(alias, Some(failure), is_lost);
}

fn recovery_frame(recovery: Recovery) -> v1::Recovery {
    match recovery {
        Recovery::Fresh => v1::Recovery::Fresh,
        Recovery::Full => v1::Recovery::Full,
        Recovery::Partial => v1::Recovery::Partial,
    }
}

fn policy_frame(policy: Policy) -> v1::DeliveryPolicy {
    match policy.name() {
        PolicyName::Lag => v1::DeliveryPolicy::Lag,
        PolicyName::DropOldest => v1::DeliveryPolicy::DropOldest,
        PolicyName::Conflate => v1::DeliveryPolicy::Conflate,
        PolicyName::Disconnect => v1::DeliveryPolicy::Disconnect,
    }
}

fn rate(policy: Policy) -> u32 {
    match policy {
        Policy::Conflate { interval } => (1.0 / interval.as_secs_f64()).round() as u32,
        _ => 0,
    }
}

pub(crate) fn class_frame(class: Class) -> v1::TopicClass {
    match class {
        Class::Log => v1::TopicClass::Log,
        Class::State => v1::TopicClass::State,
        Class::Signal => v1::TopicClass::Signal,
        Class::Echo => v1::TopicClass::Echo,
    }
}
