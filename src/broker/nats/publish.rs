//! Publishing to a stream: one message, tried again under the same id until it is known what became of it.

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::{
    api::{self, Ack, Problem, header, number},
    entry::{Entry, unreachable},
    fences::{self, Closed},
    message,
    names::MessageId,
};
use crate::{
    broker::Publishing,
    error::{Failure, Reason},
    log::Origin,
    proto,
    telemetry::metrics::{Metrics, words::BrokerPublish},
    types::{Claim, NewEvent, Operation, Producer, Published},
};

/// How long one attempt may take. A stream that has lost its leader has another one in about four seconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after an attempt that was refused for the moment.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a record that is stored may take to come back by itself, before it is fetched.
const RETURN_TIMEOUT: Duration = Duration::from_millis(500);
/// How long it may take after that, before it is answered without having been seen.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the removal of a key is tried for: as long as its session could still be thought to be there.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(120);

/// A message, and what it takes to send it again.
struct Outgoing {
    entry: Arc<Entry>,
    event: NewEvent,
    id: MessageId,
    /// Of the removal of a key at the end of its session: whose, and which event it undoes.
    undoes: Option<Origin>,
    patience: Duration,
}

/// What was kept of a message.
struct Kept {
    ack: Ack,
    /// This is the publish that stored it, as far as that can be known.
    is_ours: bool,
}

/// Publishes an event; see [`crate::broker::Line::publish`].
pub(super) fn begin(entry: &Arc<Entry>, event: NewEvent) -> Publishing {
    // A topic that remembers no publishes stores each, whatever its id.
    let remembers = entry.limits.dedupe_depth > 0;
    let id = if remembers { MessageId::of(&entry.topic, &event) } else { MessageId::attempt() };
    if entry.is_in_sight() {
        match known(entry, &event, &id) {
            Ok(None) => {}
            Ok(Some(published)) => return Publishing::Done(Ok(published)),
            Err(failure) => return Publishing::Done(Err(failure)),
        }
    }
    let patience = entry.engine.config.publish_timeout;
    let outgoing = Outgoing { entry: entry.clone(), event, id, undoes: None, patience };
    // A task of its own: it goes on when nobody waits for the outcome any more.
    let outcome = entry.engine.tasks.spawn("publish", outgoing.send());
    let outcome = outcome.map(|outcome| outcome.unwrap_or_else(|_| Err(unknown())));
    Publishing::Later(outcome.boxed())
}

/// Removes the keys that die with a session; see [`crate::broker::Line::remove_owned`].
pub(super) fn remove(entry: &Arc<Entry>, owner: &Producer, owned: Vec<(Bytes, u64)>, claim: Option<Claim>) {
    entry.doubts.end(owner);
    for (key, offset) in owned {
        let (removal, topic) = (removal(entry, owner, key, offset, claim).send(), entry.topic.clone());
        drop(entry.engine.tasks.spawn("removal of a key", async move { note(&topic, removal.await) }));
    }
}

/// A message that was published from here has been stored: if it sets a key of a session that is over, it is undone.
pub(super) fn stored(entry: &Arc<Entry>, message: &Message) {
    let Some(owner) = header(message, "Nats-Msg-Id").and_then(|id| entry.doubts.settle(id)) else { return };
    let Some(offset) = number(message, "Nats-Sequence") else { return };
    let (tasks, entry) = (&entry.engine.tasks, entry.clone());
    let undo = async move {
        if let Some(ready) = entry.ready() {
            ready.await.ok();
        }
        let owned = entry.log().read().owned_keys(&owner);
        if let Some((key, _)) = owned.into_iter().find(|(_, at)| *at == offset) {
            note(&entry.topic, removal(&entry, &owner, key, offset, None).send().await);
        }
    };
    drop(tasks.spawn("removal of a key", undo));
}

/// The removal of a key at the end of its session. It names the event that it undoes, and means nothing if the key was
/// set again before it is stored.
fn removal(entry: &Arc<Entry>, owner: &Producer, key: Bytes, offset: u64, claim: Option<Claim>) -> Outgoing {
    let (operation, publisher) = (Operation::Delete, Some(owner.client_id().clone()));
    let event = NewEvent { key, operation, publisher, claim, ..NewEvent::default() };
    let id = MessageId::of_removal(&entry.topic, owner, offset);
    let undoes = Some(Origin { producer: owner.clone(), number: offset, scoped: true });
    Outgoing { entry: entry.clone(), event, id, undoes, patience: REMOVAL_TIMEOUT }
}

fn note(topic: &str, removed: Result<Published, Failure>) {
    // Whoever has taken the session over has its keys as well.
    if let Err(failure) = removed
        && failure.reason != Reason::TakenOver
    {
        tracing::warn!(topic, %failure, "a key outlives its session");
    }
}

/// What can be said of a publish from what is here.
fn known(entry: &Entry, event: &NewEvent, id: &MessageId) -> Result<Option<Published>, Failure> {
    let cursor = entry.log().read().consider(event, id.of_application())?;
    Ok(cursor.map(|cursor| Published { cursor, duplicate: true, durability: entry.durability() }))
}

fn unknown() -> Failure {
    let message = "the broker did not say in time whether the event is stored; repeat it under the same number or id";
    Failure::new(Reason::UnknownOutcome, message).retry_after(Duration::from_secs(1))
}

/// Counts a publish that is under way.
struct UnderWay(Arc<Metrics>);

impl UnderWay {
    fn count(metrics: &Arc<Metrics>) -> Self {
        metrics.broker_publishes_active.inc();
        Self(metrics.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.broker_publishes_active.dec();
    }
}

/// What became of a publish, in the words of the metrics.
fn outcome(published: &Result<Published, Failure>) -> BrokerPublish {
    match published {
        Ok(published) if published.duplicate => BrokerPublish::Repeat,
        Ok(_) => BrokerPublish::Stored,
        Err(failure) => match failure.reason {
            Reason::UnknownOutcome => BrokerPublish::Unknown,
            Reason::Broker => BrokerPublish::Unreachable,
            _ => BrokerPublish::Refused,
        },
    }
}

impl Outgoing {
    async fn send(self) -> Result<Published, Failure> {
        let metrics = &self.entry.engine.metrics;
        let _under_way = UnderWay::count(metrics);
        let published = self.sent().await;
        metrics.broker_publish(outcome(&published));
        published
    }

    async fn sent(&self) -> Result<Published, Failure> {
        let deadline = Instant::now() + self.patience;
        if let Some(ready) = self.entry.ready() {
            ready.await?;
            if self.undoes.is_none()
                && let Some(published) = known(&self.entry, &self.event, &self.id)?
            {
                return Ok(published);
            }
        }
        let stored = self.store(deadline).await;
        if let (Err(failure), Some(owner)) = (&stored, &self.event.scope)
            && failure.reason == Reason::UnknownOutcome
        {
            self.entry.doubts.add(self.id.as_str(), owner);
        }
        let Kept { ack: Ack { seq, duplicate }, is_ours } = stored?;
        self.entry.engine.saw(self.entry.partition, seq);
        self.await_return(seq).await;
        let published = self.entry.published(seq, duplicate);
        if is_ours {
            self.entry.engine.bridge_out(&self.entry, &self.event, published.cursor);
        }
        Ok(published)
    }

    /// Whoever has the answer finds the event in the log of this replica.
    async fn await_return(&self, seq: u64) {
        if timeout(RETURN_TIMEOUT, self.entry.arrived(seq)).await.is_err() {
            self.entry.want(seq);
            if timeout(FETCH_TIMEOUT, self.entry.arrived(seq)).await.is_err() {
                tracing::warn!(topic = self.entry.topic, offset = seq, "a stored event has not come back yet");
            }
        }
    }

    async fn store(&self, deadline: Instant) -> Result<Kept, Failure> {
        let links = &self.entry.engine.links;
        if self.undoes.is_none() && links.apart_for() >= self.patience {
            // It is known that nobody can be reached, and has been for as long as anybody waits.
            return Err(unreachable());
        }
        let content = proto::encode_content(&self.event);
        let (mut expected, mut unsure, mut doubted, mut is_again) = (self.expected(), false, false, false);
        loop {
            if std::mem::replace(&mut is_again, true) {
                self.entry.engine.metrics.broker_publish_retries.inc();
            }
            let (headers, fence) = match self.headers(expected, doubted).await {
                Ok(headers) => headers,
                Err(Closed::Taken) => return Err(if unsure { unknown() } else { Failure::taken_over() }),
                Err(Closed::Problem(problem)) => {
                    self.pause(&problem, deadline, unsure).await?;
                    continue;
                }
            };
            let problem = match self.attempt(headers, content.clone(), deadline).await {
                // A repeat of an attempt whose answer was lost.
                Ok(ack) => return Ok(Kept { ack, is_ours: !ack.duplicate || unsure }),
                Err(problem) => problem,
            };
            if let Some(producer) = fence.filter(|_| problem.wrong_last().is_some()) {
                // Somebody else has written there, or is about to.
                self.entry.fences.doubt(producer);
                self.pause(&problem, deadline, unsure).await?;
                doubted = true;
                continue;
            }
            if let Some(actual) = problem.wrong_last() {
                match self.other_last(actual, &mut expected, unsure).await {
                    Some(outcome) => return outcome.map(|ack| Kept { ack, is_ours: unsure }),
                    None => continue,
                }
            }
            unsure |= matches!(problem, Problem::Late | Problem::Unreachable(_) | Problem::Strange);
            if let Some(failure) = refusal(&problem) {
                return Err(failure);
            }
            self.pause(&problem, deadline, unsure).await?;
        }
    }

    /// What stands before the content, with the one condition that there is room for; and whose claim that is about, if it
    /// is about one.
    async fn headers(&self, expected: Option<u64>, doubted: bool) -> Result<(HeaderMap, Option<&Producer>), Closed> {
        let mut headers = message::headers(&self.event, &self.id);
        if let Some(origin) = &self.undoes {
            message::set_origin(&mut headers, origin);
        }
        if let Some(expected) = expected {
            headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
            return Ok((headers, None));
        }
        let Some((producer, claim)) = self.claim() else { return Ok((headers, None)) };
        let place = fences::place(&self.entry, producer, claim, doubted).await?;
        let fence = self.entry.engine.names.fence(self.entry.partition, &self.entry.topic, producer);
        message::set_fence(&mut headers, fence, place);
        Ok((headers, Some(producer)))
    }

    /// Sends it once, and waits for the answer.
    async fn attempt(&self, headers: HeaderMap, content: Bytes, deadline: Instant) -> Result<Ack, Problem> {
        let (begun, engine) = (Instant::now(), &self.entry.engine);
        // What is handed to a link without a connection is sent when it has one, whoever still waits for it then.
        if engine.links.is_apart() {
            return Err(Problem::Nobody);
        }
        let subject = engine.names.log(self.entry.partition, &self.entry.topic);
        let deadline = deadline.min(begun + ATTEMPT_TIMEOUT);
        let answer = api::ask(&engine.links.publishing, subject, Some(headers), content, deadline).await?;
        engine.metrics.broker_round_trip.observe(begun.elapsed());
        api::answer::<Ack>(&answer)
    }

    /// Waits before it is tried again; fails if there is no time left for that.
    async fn pause(&self, problem: &Problem, deadline: Instant, unsure: bool) -> Result<(), Failure> {
        if Instant::now() + PAUSE >= deadline {
            tracing::warn!(topic = self.entry.topic, %problem, unsure, "a publish is given up");
            return Err(if unsure { unknown() } else { unreachable() });
        }
        if !matches!(problem, Problem::Late) {
            sleep(PAUSE.mul_f64(1.0 + fastrand::f64())).await;
        }
        Ok(())
    }

    /// The session in whose name it is published, and its claim.
    fn claim(&self) -> Option<(&Producer, Claim)> {
        let numbered = self.event.dedupe.seq.as_ref().map(|seq| &seq.producer);
        let producer = numbered.or(self.undoes.as_ref().map(|origin| &origin.producer))?;
        Some((producer, self.event.claim?))
    }

    /// The condition, in the server's terms: for a topic of which nothing is kept, the newest record is 0.
    fn expected(&self) -> Option<u64> {
        let log = self.entry.log().read();
        self.event.if_last.map(|if_last| if log.last() == 0 && if_last == log.head().offset { 0 } else { if_last })
    }

    /// The newest record is another one than was expected. The outcome, or none to try it again with another number.
    async fn other_last(
        &self,
        actual: Option<u64>,
        expected: &mut Option<u64>,
        unsure: bool,
    ) -> Option<Result<Ack, Failure>> {
        let engine = &self.entry.engine;
        let (stream, subject) =
            (engine.names.stream(self.entry.partition), engine.names.log(self.entry.partition, &self.entry.topic));
        let newest = match actual {
            Some(0) => Ok(None),
            Some(seq) => api::at(&engine.links.asking, &stream, seq).await,
            // Another publish was under way at that moment; it is over by now.
            None => api::newest(&engine.links.asking, &stream, &subject).await,
        };
        let newest = match newest {
            Ok(newest) => newest,
            Err(problem) => {
                tracing::warn!(topic = self.entry.topic, %problem, "the newest record of a topic is not known");
                return Some(Err(if unsure { unknown() } else { unreachable() }));
            }
        };
        // Ours: an attempt before this one was stored, and its answer was lost. Some servers look at the condition first.
        if let Some(stored) = newest.as_ref().filter(|stored| stored.has_id(self.id.as_str())) {
            return Some(Ok(Ack { seq: stored.seq, duplicate: !unsure }));
        }
        let actual = newest.map_or(0, |stored| stored.seq);
        let head = self.entry.log().read().head().offset;
        if actual == 0 && *expected == Some(head) && head != 0 {
            // What the topic had last has run out where it is kept, and nothing has come since.
            *expected = Some(0);
            return None;
        }
        if unsure {
            // Ours may be one of those before the newest.
            return Some(Err(unknown()));
        }
        let actual = if actual == 0 { head } else { actual };
        let message = format!("the newest offset is {actual}, not {}", self.event.if_last.unwrap_or_default());
        Some(Err(Failure::new(Reason::WrongLast, message).with("actual", actual)))
    }
}

/// What a publisher is told of a problem that will not pass.
fn refusal(problem: &Problem) -> Option<Failure> {
    /// The message is larger than the stream, or the account, allows.
    const TOO_LARGE: [u64; 2] = [10054, 10097];
    match problem {
        Problem::TooLarge => Some(Failure::new(Reason::TooLarge, "the event is larger than the broker takes")),
        Problem::Refused { code, .. } if TOO_LARGE.contains(code) => {
            Some(Failure::new(Reason::TooLarge, "the event is larger than the broker takes"))
        }
        _ => None,
    }
}
