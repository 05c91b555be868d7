//! Who the others are: each replica keeps a lease, which it renews, and looks at those of the others.
//!
//! A replica is known by an id that it has for one life. Time is told by each observer's own clock, from the moment it
//! sees a lease renewed: clocks need not agree.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Engine, Fleet};
use crate::broker::nats::api::{self, Problem, header, number};

/// A lease is renewed so often in the time it is for: one that is late is no loss.
const RENEWALS: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Leases {
    /// This replica's, as it is kept.
    content: Vec<u8>,
    others: Mutex<HashMap<String, Seen>>,
    /// When it was renewed last.
    renewed: Mutex<Instant>,
}

/// Another replica's lease.
#[derive(Debug, Clone, Copy)]
struct Seen {
    revision: u64,
    /// When it was seen renewed last.
    since: Instant,
}

/// What a lease says.
#[derive(Debug, Serialize, Deserialize)]
struct Lease {
    /// The replica's name, for people.
    node: String,
}

impl Leases {
    /// A lease for this replica.
    pub(super) async fn take(engine: &Engine, id: &str, node: &str) -> Result<Self, Problem> {
        let content = serde_json::to_vec(&Lease { node: node.to_owned() }).map_err(|_| Problem::Strange)?;
        let leases = Self { content, others: Mutex::default(), renewed: Mutex::new(Instant::now()) };
        leases.renew(engine, id).await?;
        leases.look(engine, id).await?;
        Ok(leases)
    }

    /// Renews it. For how long it had not been.
    async fn renew(&self, engine: &Engine, id: &str) -> Result<Duration, Problem> {
        let content = self.content.clone().into();
        let begun = Instant::now();
        api::put(&engine.links.asking, engine.names.lease(id), content, None).await?;
        let before = std::mem::replace(&mut *self.renewed.lock(), begun);
        Ok(begun.duration_since(before))
    }

    /// Sees which leases there are.
    async fn look(&self, engine: &Engine, id: &str) -> Result<(), Problem> {
        let (stream, all) = (engine.names.fleet_stream(), [engine.names.lease("*")]);
        let found = api::latest(&engine.links.asking, &stream, &all).await?;
        let now = Instant::now();
        let mut others = self.others.lock();
        let mut there = HashSet::new();
        for message in &found {
            let Some((subject, revision)) = header(message, "Nats-Subject").zip(number(message, "Nats-Sequence"))
            else {
                continue;
            };
            let Some(other) = subject.rsplit('.').next().filter(|other| *other != id) else { continue };
            there.insert(other.to_owned());
            let seen = others.entry(other.to_owned()).or_insert(Seen { revision, since: now });
            // A server that is behind tells what was.
            if revision > seen.revision {
                *seen = Seen { revision, since: now };
            }
        }
        others.retain(|other, _| there.contains(other));
        Ok(())
    }

    /// One that nobody has renewed for so long, and its place.
    pub(super) fn lost(&self, after: Duration) -> Option<(String, u64)> {
        let now = Instant::now();
        let others = self.others.lock();
        let mut lost = others.iter().filter(|(_, seen)| now.duration_since(seen.since) >= after);
        lost.next().map(|(id, seen)| (id.clone(), seen.revision))
    }

    /// It was renewed, as somebody says, or is not there any more.
    pub(super) fn forget(&self, id: &str) {
        self.others.lock().remove(id);
    }

    /// The others that are there, as far as is known.
    pub(super) fn others(&self, within: Duration) -> HashSet<String> {
        let now = Instant::now();
        let others = self.others.lock();
        let there = others.iter().filter(|(_, seen)| now.duration_since(seen.since) < within);
        there.map(|(id, _)| id.clone()).collect()
    }
}

impl Fleet {
    /// Sees who the others are.
    pub(super) async fn look(&self) -> Result<(), Problem> {
        self.leases.look(&self.engine, &self.id).await
    }

    /// The others that are there, as far as is known.
    pub(super) fn others(&self) -> HashSet<String> {
        self.leases.others(self.engine.config.replica_timeout)
    }

    /// Renews the lease, and looks at those of the others, for as long as it is polled.
    pub(super) async fn keep_lease(self: Arc<Self>) {
        let mut ticks = interval(self.engine.config.replica_timeout / RENEWALS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(problem) = self.keep_up().await {
                tracing::warn!(%problem, "leases could not be renewed or looked at");
            }
        }
    }

    async fn keep_up(&self) -> Result<(), Problem> {
        let pause = self.leases.renew(&self.engine, &self.id).await?;
        // Whatever was told meanwhile may not have been heard.
        if pause > self.engine.config.replica_timeout * 2 / RENEWALS {
            self.compare().await?;
        }
        self.look().await
    }
}
