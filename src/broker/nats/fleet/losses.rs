//! Replicas that are lost: one of the others sees to what they have left. And one that comes back, and finds what has become
//! of its own meanwhile.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Fleet, claims::Entry};
use crate::{
    broker::{
        fleet::{Legacy, Lost, Previous},
        nats::{
            BATCH,
            api::{self, Problem, number},
            entry::unreachable,
        },
    },
    error::Failure,
    types::{Claim, Producer},
};

/// Claims that are looked at, or made, at once.
const AT_ONCE: usize = 16;
/// How often it is looked who is lost, of the time after which one is.
const LOOKS: u32 = 3;

impl Fleet {
    /// See [`crate::broker::fleet::Fleet::lost`].
    pub(crate) async fn lost(&self, grace: Duration) -> Lost {
        let timeout = self.engine.config.replica_timeout;
        let mut ticks = interval(timeout / LOOKS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let sessions = self.left_here(grace);
            if !sessions.is_empty() {
                return Lost { sessions, lease: None };
            }
            let Some((id, revision)) = self.leases.lost(timeout.max(grace)) else { continue };
            match self.succeed(&id, revision).await {
                Ok(Some(lost)) => return lost,
                Ok(None) => {}
                Err(problem) => tracing::warn!(replica = id, %problem, "a lost replica cannot be seen to yet"),
            }
        }
    }

    /// See [`crate::broker::fleet::Fleet::abandon`].
    pub(crate) fn abandon(self: &Arc<Self>, producer: Producer, previous: Vec<Previous>, claim: Claim) {
        if previous.is_empty() {
            return self.give_back(vec![claim]);
        }
        let now = Instant::now();
        let legacy = |previous| (now, Legacy { producer: producer.clone(), previous, claim, is_kept: false });
        self.orphans.lock().extend(previous.into_iter().map(legacy));
    }

    /// See [`crate::broker::fleet::Fleet::bequeath`].
    pub(crate) fn bequeath(&self, legacies: Vec<Legacy>) {
        self.legacies.lock().extend(legacies);
    }

    /// What is to be undone, and what was abandoned so long ago that nobody will come back for it.
    fn left_here(&self, grace: Duration) -> Vec<Legacy> {
        let (mut orphans, now) = (self.orphans.lock(), Instant::now());
        let due = orphans.partition_point(|(since, _)| now.duration_since(*since) >= grace);
        let mut left: Vec<_> = orphans.drain(..due).map(|(_, legacy)| legacy).collect();
        left.append(&mut self.legacies.lock());
        left
    }

    /// See [`crate::broker::fleet::Fleet::stands`].
    pub(crate) async fn stands(&self, claim: Claim) -> Result<bool, Failure> {
        let stream = self.engine.names.fleet_stream();
        let found = api::at(&self.engine.links.asking, &stream, claim.order).await;
        found.map(|found| found.is_some()).map_err(|problem| {
            tracing::warn!(%problem, "it cannot be learnt who has a session");
            unreachable()
        })
    }

    /// Takes what a replica has left, unless somebody else does, or it is there after all.
    async fn succeed(&self, id: &str, revision: u64) -> Result<Option<Lost>, Problem> {
        let client = &self.engine.links.asking;
        // Whoever sees to it renews its lease: the others wait once more, in case this one is lost over it.
        let lease = match api::put(client, self.engine.names.lease(id), "{}".into(), Some(revision)).await {
            Ok(ack) => ack.seq,
            Err(problem) if problem.wrong_last().is_some() => {
                self.leases.forget(id);
                return Ok(None);
            }
            Err(problem) => return Err(problem),
        };
        let left = self.entries_of(id).await?;
        let taken = stream::iter(left).map(|(place, entry)| self.inherit(place, entry));
        let sessions: Vec<_> = taken.buffer_unordered(AT_ONCE).try_collect().await?;
        let sessions: Vec<_> = sessions.into_iter().flatten().collect();
        tracing::warn!(replica = id, sessions = sessions.len(), "a replica is lost; its sessions are seen to");
        Ok(Some(Lost { sessions, lease: Some(lease) }))
    }

    /// The sessions that a replica holds, as far as the bucket says, and the places of their entries.
    async fn entries_of(&self, id: &str) -> Result<Vec<(u64, Entry)>, Problem> {
        let (client, stream) = (&self.engine.links.asking, self.engine.names.fleet_stream());
        let (mut found, mut from) = (Vec::new(), 1);
        loop {
            let batch = api::records(client, &stream, &self.engine.names.sessions(), from, BATCH).await?;
            for message in &batch.messages {
                let place = number(message, "Nats-Sequence").ok_or(Problem::Strange)?;
                from = place + 1;
                let entry = serde_json::from_slice::<Entry>(&message.payload).ok();
                found.extend(entry.filter(|entry| entry.replica == id).map(|entry| (place, entry)));
            }
            if batch.left == 0 || batch.messages.is_empty() {
                return Ok(found);
            }
        }
    }

    /// Takes a session of a lost replica; none if it has gone on elsewhere.
    async fn inherit(&self, place: u64, mut entry: Entry) -> Result<Option<Legacy>, Problem> {
        let Some((producer, previous)) = entry.left() else { return Ok(None) };
        entry.replica.clone_from(&self.id);
        let content = serde_json::to_vec(&entry).map_err(|_| Problem::Strange)?.into();
        match api::put(&self.engine.links.asking, self.engine.names.session(&producer), content, Some(place)).await {
            Ok(ack) => {
                let claim = Claim { order: ack.seq, first: false };
                Ok(Some(Legacy { producer, previous, claim, is_kept: false }))
            }
            Err(problem) if problem.wrong_last().is_some() => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// See [`crate::broker::fleet::Fleet::buried`].
    pub(crate) async fn buried(&self, lost: Lost) {
        let stream = self.engine.names.fleet_stream();
        if let Some(lease) = lost.lease
            && let Err(problem) = api::delete(&self.engine.links.asking, &stream, lease).await
        {
            tracing::warn!(%problem, "the lease of a lost replica outlives it");
        }
    }

    /// Sees whether this replica still has what it holds.
    pub(super) async fn compare(&self) -> Result<(), Problem> {
        let Some(holder) = self.holder.get().and_then(Weak::upgrade) else { return Ok(()) };
        let (client, stream) = (&self.engine.links.asking, self.engine.names.fleet_stream());
        let looks = stream::iter(holder.held()).map(|claim| {
            let stream = &stream;
            async move { Ok::<_, Problem>((claim, api::at(client, stream, claim.order).await?.is_some())) }
        });
        let stand: Vec<_> = looks.buffer_unordered(AT_ONCE).try_collect().await?;
        let lost: Vec<_> = stand.into_iter().filter(|(_, stands)| !stands).map(|(claim, _)| claim).collect();
        if !lost.is_empty() {
            tracing::warn!(sessions = lost.len(), "this replica was out of reach, and has lost sessions meanwhile");
            holder.lost(&lost);
        }
        Ok(())
    }
}
