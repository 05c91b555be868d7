//! The replicas of one prefix: what they tell each other, over subjects that nothing is kept of.
//!
//! What is told may be lost with a connection. So whoever tells waits for answers, and says who was silent.

pub(in crate::broker) mod claims;
mod leases;
mod losses;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use async_nats::{HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Engine,
    api::{Problem, header},
};
use crate::broker::fleet::{Handler, Holder, Legacy, Matter, Told};
use leases::Leases;

/// How long whoever tells something waits for the answers of the others.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// What is told to this replica, and is being done at once.
const AT_ONCE: usize = 256;
/// The pause before it listens again.
const PAUSE: Duration = Duration::from_millis(500);
/// Says who tells.
const FROM: &str = "Bowline-From";

/// See the module.
pub struct Fleet {
    engine: Arc<Engine>,
    /// This replica, in this life of it.
    id: String,
    handlers: RwLock<HashMap<Matter, Handler>>,
    leases: Leases,
    holder: OnceLock<Weak<dyn Holder>>,
    /// Sessions that were taken, and that nobody came to have, and since when; oldest first.
    orphans: Mutex<VecDeque<(Instant, Legacy)>>,
    /// What is to be undone now.
    legacies: Mutex<Vec<Legacy>>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    from: String,
    found: u32,
}

impl Fleet {
    /// Makes itself known, and listens from now on.
    pub(super) async fn join(engine: &Arc<Engine>, node: &str) -> Result<Arc<Self>, Problem> {
        let id = format!("{:016x}", fastrand::u64(..));
        let leases = Leases::take(engine, &id, node).await?;
        let fleet = Arc::new(Self {
            engine: engine.clone(),
            id,
            handlers: RwLock::default(),
            leases,
            holder: OnceLock::new(),
            orphans: Mutex::default(),
            legacies: Mutex::default(),
        });
        let told = fleet.listen().await?;
        engine.tasks.spawn_until_stopped("fleet", fleet.clone().run(told));
        engine.tasks.spawn_until_stopped("lease", fleet.clone().keep_lease());
        Ok(fleet)
    }

    pub(crate) fn serve(&self, matter: Matter, handler: Handler) {
        self.handlers.write().insert(matter, handler);
    }

    /// See [`crate::broker::fleet::Fleet::hold`]. Once.
    pub(crate) fn hold(&self, holder: Weak<dyn Holder>) {
        let set = self.holder.set(holder);
        debug_assert!(set.is_ok(), "a replica has one holder of its sessions");
    }

    /// See [`crate::broker::fleet::Fleet::tell`].
    pub(crate) async fn tell(&self, matter: Matter, content: Bytes) -> Told {
        let deadline = Instant::now() + ANSWERS_WITHIN;
        // Who came just now is to be waited for as well. If that cannot be learnt, those that are known are.
        if let Ok(Err(problem)) = timeout_at(deadline, self.look()).await {
            tracing::warn!(%problem, "it cannot be learnt which replicas there are");
        }
        let mut silent = self.others();
        let mut told = Told::default();
        if let Err(problem) = self.gather(matter, content, deadline, &mut silent, &mut told).await {
            tracing::warn!(matter = matter.as_str(), %problem, "other replicas could not be told");
        }
        told.silent = u32::try_from(silent.len()).unwrap_or(u32::MAX);
        if told.silent > 0 {
            tracing::warn!(matter = matter.as_str(), silent = told.silent, "not every replica has answered");
        }
        told
    }

    async fn gather(
        &self,
        matter: Matter,
        content: Bytes,
        deadline: Instant,
        silent: &mut HashSet<String>,
        told: &mut Told,
    ) -> Result<(), Problem> {
        let client = &self.engine.links.asking;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| unreachable(&error))?;
        let subject = self.engine.names.told("all", matter.as_str());
        let sent = client.publish_with_reply_and_headers(subject, inbox, self.from(), content).await;
        sent.map_err(|error| unreachable(&error))?;
        // What waits to be sent may wait for long, if there is no server to send it to.
        while !silent.is_empty()
            && let Ok(Some(message)) = timeout_at(deadline, answers.next()).await
        {
            let Ok(answer) = serde_json::from_slice::<Answer>(&message.payload) else { continue };
            silent.remove(&answer.from);
            told.answered += 1;
            told.found = told.found.saturating_add(answer.found);
        }
        Ok(())
    }

    fn from(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(FROM, self.id.as_str());
        headers
    }

    async fn listen(&self) -> Result<[Subscriber; 2], Problem> {
        let client = &self.engine.links.asking;
        let names = &self.engine.names;
        let all = client.subscribe(names.told("all", "*")).await.map_err(|error| unreachable(&error))?;
        let own = client.subscribe(names.told(&self.id, "*")).await.map_err(|error| unreachable(&error))?;
        Ok([all, own])
    }

    /// Does what is told, for as long as it is polled.
    async fn run(self: Arc<Self>, mut told: [Subscriber; 2]) {
        loop {
            let [all, own] = told;
            let done =
                futures_util::stream::select(all, own).for_each_concurrent(AT_ONCE, |message| self.done(message));
            done.await;
            told = loop {
                sleep(PAUSE).await;
                match self.listen().await {
                    Ok(told) => break told,
                    Err(problem) => tracing::warn!(%problem, "other replicas are not heard"),
                }
            };
        }
    }

    async fn done(&self, message: Message) {
        if header(&message, FROM) == Some(&self.id) {
            return;
        }
        let matter = message.subject.as_str().rsplit('.').next().and_then(Matter::parse);
        let handler = matter.and_then(|matter| self.handlers.read().get(&matter).cloned());
        // One that is newer tells of matters that are not known here.
        let Some(handler) = handler else { return };
        let answer = Answer { found: handler(message.payload).await, from: self.id.clone() };
        if let (Some(reply), Ok(answer)) = (message.reply, serde_json::to_vec(&answer))
            && let Err(error) = self.engine.links.asking.publish(reply, answer.into()).await
        {
            tracing::debug!(%error, "another replica was not answered");
        }
    }
}

fn unreachable(error: &dyn std::error::Error) -> Problem {
    Problem::Unreachable(error.to_string())
}
