//! Who holds which session, over all replicas: an entry for each in the bucket, written by compare-and-set. The newest
//! wins; the place of its entry in the bucket puts it in order with all others of the session, for ever.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

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
    /// It is a member of its topic's presence.
    present: bool,
}

impl Entry {
    /// What it says to whoever comes after a replica that does not answer.
    pub(super) fn left(&self) -> Option<(Producer, Previous)> {
        let topic = Topic::parse(&self.topic).ok()?;
        Some((self.producer()?, Previous { topic, present: self.present, stays: false, answered: false }))
    }

    fn producer(&self) -> Option<Producer> {
        let client = ClientId::parse(&self.client).ok()?;
        Some(Producer::new(client, SessionId::parse(&self.session).ok()?))
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
    pub(crate) async fn claim(&self, taking: &Taking) -> Result<Claimed, Failure> {
        let (entry, claim, previous) = self.take(taking).await.map_err(|problem| {
            tracing::warn!(%problem, "a session could not be taken");
            unreachable()
        })?;
        let previous = match previous {
            Some(previous) if previous.replica != self.id => self.release(&entry, taking, &previous).await,
            _ => None,
        };
        Ok(Claimed { attach: entry.attach, claim, previous })
    }

    async fn take(&self, taking: &Taking) -> Result<(Entry, Claim, Option<Entry>), Problem> {
        let (client, stream) = (&self.engine.links.asking, self.engine.names.fleet_stream());
        let key = self.engine.names.session(&taking.producer);
        let (client_id, session_id) = (taking.producer.client_id(), taking.producer.session_id());
        // Of a session that nobody has seen there is most likely nothing.
        let mut known = taking.attach > 0;
        for _ in 0..ATTEMPTS {
            let _turn = self.engine.questions.acquire().await;
            let held = if known { api::newest(client, &stream, &key).await? } else { None };
            let revision = held.as_ref().map_or(0, |held| held.seq);
            let previous = held.and_then(|held| serde_json::from_slice::<Entry>(&held.content()).ok());
            let entry = Entry {
                attach: previous.as_ref().map_or(0, |previous| previous.attach).max(taking.attach) + 1,
                replica: self.id.clone(),
                client: client_id.as_str().to_owned(),
                session: session_id.as_str().to_owned(),
                topic: taking.topic.as_str().to_owned(),
                present: taking.presence.is_some(),
            };
            let content = serde_json::to_vec(&entry).map_err(|_| Problem::Strange)?.into();
            match api::put(client, key.clone(), content, Some(revision)).await {
                Ok(ack) => return Ok((entry, Claim { order: ack.seq, first: !known }, previous)),
                Err(problem) if problem.wrong_last().is_some() => known = true,
                Err(problem) => return Err(problem),
            }
        }
        Err(Problem::Late)
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
        let stays = asked.as_ref().is_ok_and(|found| *found == STAYS);
        Some(Previous { topic, present: previous.present, stays, answered: asked.is_ok() })
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
