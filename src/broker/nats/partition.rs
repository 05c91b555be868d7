//! What is known of each partition's stream: its epoch, how far it has come, and how far it was looked at.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{TryStreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{
    sync::{self, watch},
    time::{Duration, Instant, sleep},
};

use super::{
    Engine,
    api::{self, Ack, Described, Problem, StreamState},
    epochs,
    names::PROBE,
    streams, synced,
};
use crate::{proto, types::NewEvent};

/// Streams that are asked about at once when the engine starts.
const AT_ONCE: usize = 8;
/// How long is waited before they are asked about again.
const PAUSE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(super) struct Partition {
    /// 0 until it is known. Its topics begin anew when it changes.
    epoch: watch::Sender<u64>,
    /// When the stream was created that this is about.
    created: Mutex<String>,
    /// The newest place that is known to have been reached, in this epoch.
    seen: AtomicU64,
    /// Up to here it was looked whether something of the topics that are open was missed.
    verified: AtomicU64,
    /// The last answer about it, and when it was asked for: whoever needs no newer one does not ask again.
    answer: sync::Mutex<Option<(Instant, Description)>>,
}

/// The part of what there is to know of a stream that changes.
#[derive(Debug, Clone)]
pub(super) struct Description {
    pub(super) created: String,
    pub(super) state: StreamState,
}

impl From<Described> for Description {
    fn from(info: Described) -> Self {
        Self { created: info.created, state: info.state }
    }
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            epoch: watch::Sender::new(0),
            created: Mutex::default(),
            seen: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            answer: sync::Mutex::new(None),
        }
    }
}

impl Partition {
    /// True if it is another epoch than the one that was known.
    fn settle(&self, epoch: u64, description: Description) -> bool {
        *self.created.lock() = description.created;
        let known = *self.epoch.borrow();
        if known != epoch {
            self.seen.store(description.state.last_seq, Ordering::Relaxed);
            self.verified.store(0, Ordering::Relaxed);
            self.epoch.send_replace(epoch);
        }
        known != 0 && known != epoch
    }
}

impl Engine {
    fn partition(&self, partition: u16) -> Option<&Partition> {
        self.partitions.get(usize::from(partition))
    }

    /// The partition's epoch, once it is known.
    pub(super) fn epoch(&self, partition: u16) -> Option<u64> {
        self.partition(partition).map(|partition| *partition.epoch.borrow()).filter(|epoch| *epoch != 0)
    }

    /// Follows the epoch.
    pub(super) fn epochs(&self, partition: u16) -> watch::Receiver<u64> {
        self.partition(partition).map_or_else(|| watch::Sender::new(0).subscribe(), |known| known.epoch.subscribe())
    }

    /// The newest place that is known to have been reached.
    pub(super) fn seen(&self, partition: u16) -> u64 {
        self.partition(partition).map_or(0, |partition| partition.seen.load(Ordering::Relaxed))
    }

    /// There is something at `seq`.
    pub(super) fn saw(&self, partition: u16, seq: u64) {
        if let Some(partition) = self.partition(partition) {
            partition.seen.fetch_max(seq, Ordering::Relaxed);
        }
    }

    /// Up to which place it was looked whether something was missed.
    pub(super) fn verified(&self, partition: u16) -> u64 {
        self.partition(partition).map_or(0, |partition| partition.verified.load(Ordering::Relaxed))
    }

    /// It was looked up to `up_to`, while the epoch was this one.
    pub(super) fn verify(&self, partition: u16, epoch: Option<u64>, up_to: u64) {
        if let Some(known) = self.partition(partition).filter(|_| self.epoch(partition) == epoch) {
            known.verified.store(up_to, Ordering::Relaxed);
        }
    }

    /// What the partition's stream is, as its leader says it when it is asked after `moment`.
    pub(super) async fn description_after(&self, partition: u16, moment: Instant) -> Result<Description, Problem> {
        let known = self.partition(partition).ok_or(Problem::Strange)?;
        let mut answer = known.answer.lock().await;
        if let Some((asked, description)) = answer.as_ref().filter(|(asked, _)| *asked >= moment) {
            tracing::trace!(partition, ?asked, "it was asked already");
            return Ok(description.clone());
        }
        let asked = Instant::now();
        let info = api::stream(&self.links.asking, &self.names.stream(partition)).await?;
        let description = Description::from(info);
        *answer = Some((asked, description.clone()));
        Ok(description)
    }

    /// What the stream holds; see [`Engine::description_after`].
    pub(super) async fn state_after(&self, partition: u16, moment: Instant) -> Result<StreamState, Problem> {
        Ok(self.description_after(partition, moment).await?.state)
    }

    /// Does something at the start, and tries again until `deadline`: servers that have just started may not have agreed yet
    /// on who leads, and replicas that start together make the same streams.
    pub(super) async fn in_time<T, W>(&self, deadline: Instant, work: impl Fn() -> W) -> Result<T, Problem>
    where
        W: Future<Output = Result<T, Problem>>,
    {
        loop {
            match work().await {
                Err(problem) if problem.may_pass() && Instant::now() < deadline => {
                    tracing::warn!(%problem, "the servers are not as they have to be yet");
                    sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Sees to it that every stream is there, is as it has to be, has an epoch, and is kept by whom it has to be kept by.
    pub(super) async fn prepare_all(&self) -> Result<(), Problem> {
        self.prepare_buckets().await?;
        let all = stream::iter(self.names.all(self.synced).map(Ok::<u16, Problem>));
        all.try_for_each_concurrent(AT_ONCE, |partition| self.prepare_stream(partition)).await?;
        if self.synced { synced::verify(&self.config, &self.names, &self.links.asking).await } else { Ok(()) }
    }

    /// The same for one that is not there any more.
    pub(super) async fn prepare(&self, partition: u16) -> Result<(), Problem> {
        self.prepare_buckets().await?;
        self.prepare_stream(partition).await
    }

    async fn prepare_buckets(&self) -> Result<(), Problem> {
        for bucket in [streams::epochs(&self.config, &self.names), streams::fleet(&self.config, &self.names)] {
            streams::provide(&self.links.asking, &bucket).await?;
        }
        Ok(())
    }

    async fn prepare_stream(&self, partition: u16) -> Result<(), Problem> {
        let wanted = streams::partition(&self.config, &self.names, partition, self.window);
        let info = streams::provide(&self.links.asking, &wanted).await?;
        self.agree(partition, info.into(), None).await
    }

    /// Whether this is another stream than the one that is known.
    pub(super) fn is_another(&self, partition: u16, description: &Description) -> bool {
        self.partition(partition).is_some_and(|known| *known.created.lock() != description.created)
    }

    /// Takes the epoch that all replicas agree on; see [`epochs::agree`].
    pub(super) async fn agree(
        &self,
        partition: u16,
        description: Description,
        lost: Option<u64>,
    ) -> Result<(), Problem> {
        let (client, created) = (&self.links.asking, &description.created);
        let epoch = epochs::agree(client, &self.names, partition, created, lost).await?;
        if self.partition(partition).is_some_and(|known| known.settle(epoch, description)) {
            self.metrics.broker_epochs_changed.inc();
        }
        Ok(())
    }

    /// Stores an event that nobody reads: only a leader that a majority follows can.
    pub(super) async fn probe(&self, partition: u16) -> Result<Ack, Problem> {
        let (subject, content) = (self.names.log(partition, PROBE), proto::encode_content(&NewEvent::default()));
        let deadline = Instant::now() + self.config.publish_timeout;
        api::answer(&api::ask(&self.links.publishing, subject, None, content, deadline).await?)
    }

    /// The stream is not what it was: it needs another epoch, unless it has one by now.
    pub(super) async fn renew(&self, partition: u16) -> Result<(), Problem> {
        let lost = self.epoch(partition);
        let description = self.description_after(partition, Instant::now()).await?;
        self.agree(partition, description, lost).await
    }
}
