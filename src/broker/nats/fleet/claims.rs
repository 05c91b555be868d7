//! Who holds which session, over all replicas: an entry for each in the bucket, written by compare-and-set. The newest
//! wins; the place of its entry in the bucket puts it in order with all others of the session, for ever.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::Instant};

use super::{Answer, Fleet};
use crate::{
    broker::{
        fleet::{Claimed, Matter, Previous, STAYS, Taking},
        nats::{
            api::{self, Problem},
            entry::unreachable,
        },
    },
    error::Failure,
    types::{Claim, ClientId, Producer, SessionId, Topic},
};

/// How often it is tried again after somebody else was quicker.
const ATTEMPTS: usize = 20;
/// How often it is sent again if no answer comes.
const UNANSWERED: usize = 2;
/// How long whoever takes a session waits for the one that had it: what that one has under way is stored by then, or is
/// kept out.
const RELEASED_WITHIN: Duration = Duration::from_secs(2);

/// What the bucket holds of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    attach: u64,
    /// The replica that holds it.
    pub(super) replica: String,
    client: String,
    session: String,
    topic: String,
    /// It may be a member of its topic's presence.
    present: bool,
    /// Tells two that are otherwise alike apart: which of them is there.
    #[serde(default)]
    nonce: u64,
}

impl Entry {
    /// What it says to whoever comes after a replica that does not answer.
    pub(super) fn left(&self) -> Option<(Producer, Previous)> {
        let topic = Topic::parse(&self.topic).ok()?;
        Some((
            self.producer()?,
            Previous { topic, present: self.present, stays: false, answered: false, is_own: false },
        ))
    }

    fn producer(&self) -> Option<Producer> {
        let client = ClientId::parse(&self.client).ok()?;
        Some(Producer::new(client, SessionId::parse(&self.session).ok()?))
    }
}

/// A session that was taken: what the bucket holds of it now, and held before.
struct Taken {
    entry: Entry,
    claim: Claim,
    previous: Option<Entry>,
}

/// Where the answer goes to whoever asks for a session; closed once nobody waits for it.
type Asker = oneshot::Sender<Result<Parcel, Failure>>;

/// A session that was taken, on its way to whoever asked: abandoned if it does not get there.
struct Parcel {
    fleet: Arc<Fleet>,
    producer: Producer,
    claimed: Option<Claimed>,
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(Claimed { previous, claim, .. }) = self.claimed.take() {
            self.fleet.abandon(self.producer.clone(), previous.into_iter().collect(), claim);
        }
    }
}

/// What is told to whoever held a session before.
#[derive(Debug, Serialize, Deserialize)]
struct Release {
    entry: Entry,
    /// What is said of it in the presence that it is to be in; Base64.
    info: Option<String>,
}

/// Reads what is told to whoever held a session before.
pub(in crate::broker) fn read_taking(content: &[u8]) -> Option<Taking> {
    let Release { entry, info } = serde_json::from_slice(content).ok()?;
    let (producer, topic) = (entry.producer()?, Topic::parse(&entry.topic).ok()?);
    let presence = info.map(|info| BASE64_STANDARD.decode(info)).transpose().ok()?;
    Some(Taking { producer, topic, attach: entry.attach, presence: presence.map(Bytes::from) })
}

impl Fleet {
    /// See [`crate::broker::fleet::Fleet::claim`].
    pub(crate) async fn claim(self: &Arc<Self>, taking: &Taking) -> Result<Claimed, Failure> {
        let (answer, claimed) = oneshot::channel();
        let (fleet, taking) = (self.clone(), taking.clone());
        // In a task: whoever held it may have been told already when whoever takes it is gone.
        let work = async move {
            let claimed = fleet.take_over(&taking, &answer).await;
            let parcel = claimed.map(|claimed| Parcel { fleet, producer: taking.producer, claimed: Some(claimed) });
            drop(answer.send(parcel));
        };
        drop(self.engine.tasks.spawn("claim", work));
        let mut parcel = claimed.await.unwrap_or_else(|_| Err(unreachable()))?;
        parcel.claimed.take().ok_or_else(unreachable)
    }

    async fn take_over(&self, taking: &Taking, asker: &Asker) -> Result<Claimed, Failure> {
        let taken = self.take(taking, asker).await.map_err(|problem| {
            tracing::warn!(%problem, "a session could not be taken");
            unreachable()
        })?;
        // Nobody waits for the answer any more.
        let Some(Taken { entry, claim, previous }) = taken else { return Err(unreachable()) };
        let previous = match previous {
            Some(previous) if previous.replica == self.id => {
                previous.left().map(|(_, previous)| Previous { is_own: true, ..previous })
            }
            Some(previous) => self.release(&entry, taking, &previous).await,
            None => None,
        };
        Ok(Claimed { attach: entry.attach, claim, previous })
    }

    /// None if nobody waits for it any more: most likely the same client has it elsewhere by now, and must not lose it to
    /// an older open of its own.
    async fn take(&self, taking: &Taking, asker: &Asker) -> Result<Option<Taken>, Problem> {
        let (client, stream) = (&self.engine.links.asking, self.engine.names.fleet_stream());
        let key = self.engine.names.session(&taking.producer);
        // Of a session that nobody has seen there is most likely nothing.
        let mut known = taking.attach > 0;
        // What was sent, and not answered: it may be there all the same.
        let mut sent: Vec<Taken> = Vec::new();
        for _ in 0..ATTEMPTS {
            let _turn = self.engine.questions.acquire().await;
            let held = if known { api::newest(client, &stream, &key).await? } else { None };
            let revision = held.as_ref().map_or(0, |held| held.seq);
            let previous = held.and_then(|held| serde_json::from_slice::<Entry>(&held.content()).ok());
            if let Some(ours) = sent.iter().position(|sent| previous.as_ref() == Some(&sent.entry)) {
                let taken = sent.swap_remove(ours);
                return Ok(Some(Taken { claim: Claim { order: revision, ..taken.claim }, ..taken }));
            }
            // What was sent may be stored yet: it has to be found, to be abandoned.
            if sent.is_empty() && asker.is_closed() {
                return Ok(None);
            }
            let entry = self.entry(taking, previous.as_ref());
            let content = serde_json::to_vec(&entry).map_err(|_| Problem::Strange)?.into();
            let taken = |order| Taken { entry, claim: Claim { order, first: !known }, previous };
            match api::put(client, key.clone(), content, Some(revision)).await {
                Ok(ack) => return Ok(Some(taken(ack.seq))),
                Err(problem) if problem.wrong_last().is_some() => known = true,
                Err(Problem::Late | Problem::Unreachable(_)) if sent.len() < UNANSWERED => {
                    sent.push(taken(0));
                    known = true;
                }
                Err(problem) => return Err(problem),
            }
        }
        Err(Problem::Late)
    }

    fn entry(&self, taking: &Taking, previous: Option<&Entry>) -> Entry {
        let (client, session) = (taking.producer.client_id(), taking.producer.session_id());
        let topic = taking.topic.as_str();
        // Until whoever takes it has seen to that.
        let may_be_present = previous.is_some_and(|previous| previous.present && previous.topic == topic);
        Entry {
            attach: previous.map_or(0, |previous| previous.attach).max(taking.attach) + 1,
            replica: self.id.clone(),
            client: client.as_str().to_owned(),
            session: session.as_str().to_owned(),
            topic: topic.to_owned(),
            present: taking.presence.is_some() || may_be_present,
            nonce: fastrand::u64(..),
        }
    }

    /// Has the replica that held a session let it go. What there is still to be done about what it leaves.
    async fn release(&self, entry: &Entry, taking: &Taking, previous: &Entry) -> Option<Previous> {
        let topic = Topic::parse(&previous.topic).ok()?;
        let info = taking.presence.as_ref().map(|info| BASE64_STANDARD.encode(info));
        let content = serde_json::to_vec(&Release { entry: entry.clone(), info }).unwrap_or_default();
        let asked = self.ask(&previous.replica, Matter::Release, content.into(), RELEASED_WITHIN).await;
        if let Err(problem) = &asked {
            tracing::info!(replica = previous.replica, %problem, "a session is taken from a replica that does not answer");
        }
        let found = asked.unwrap_or(0);
        // One that has nothing of the session has undone nothing of it.
        Some(Previous { topic, present: previous.present, stays: found == STAYS, answered: found > 0, is_own: false })
    }

    /// Tells one replica something, and waits until it is done there. How many it concerned.
    async fn ask(&self, id: &str, matter: Matter, content: Bytes, within: Duration) -> Result<u32, Problem> {
        let deadline = Instant::now() + within;
        let subject = self.engine.names.told(id, matter.as_str());
        let answer = api::ask(&self.engine.links.asking, subject, Some(self.from()), content, deadline).await?;
        let answer: Answer = serde_json::from_slice(&answer.payload).map_err(|_| Problem::Strange)?;
        Ok(answer.found)
    }

    /// Nobody holds these sessions any more, and nothing is kept of them.
    pub(crate) fn give_back(self: &Arc<Self>, claims: Vec<Claim>) {
        let fleet = self.clone();
        let forget = async move {
            for claim in claims {
                let _turn = fleet.engine.questions.acquire().await;
                let stream = fleet.engine.names.fleet_stream();
                // One that is not there any more was taken by somebody else.
                if let Err(problem) = api::delete(&fleet.engine.links.asking, &stream, claim.order).await {
                    tracing::debug!(%problem, "the entry of a session outlives it");
                }
            }
        };
        drop(self.engine.tasks.spawn("end of sessions", forget));
    }
}
