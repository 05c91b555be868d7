//! How clients are moved elsewhere before this process goes.
//!
//! ```text
//! serving ── begin ──▸ lame duck ──▸ draining ──▸ drained
//!    ▴                     │         one Drain frame per connection, in random order and at a pace;
//!    └────── call off ─────┘         then a grace, then whoever is left is closed
//! ```
//!
//! The pace is the server's, not the clients': each is served as ever until its turn comes, and is told then to move at
//! once. However clients are written, they do not arrive elsewhere together. A drain may be ordered again while it
//! runs: what is asked for then can hasten it, and never slows it down.

mod config;
mod cut_off;
mod pace;

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Failure, Reason},
    lifecycle::{Lifecycle, Phase},
    registry::Registry,
    types::Timestamp,
};

pub use config::Config;

/// How long those closed at the end have to hear why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is wished of a drain. A later order only hastens the one that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// Told to clients and operators.
    pub reason: Arc<str>,
    /// In place of `drain.spread`, if that is longer.
    pub spread: Option<Duration>,
    /// In place of `drain.grace`, if that is longer.
    pub grace: Option<Duration>,
    /// Whether the process is to end afterwards.
    pub exit: bool,
}

/// What operators are shown of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where it stands: the phase of the process.
    pub phase: Phase,
    /// Who or what ordered it; empty while there is none.
    pub reason: Arc<str>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// When whoever is left will be closed; none before anybody was told.
    pub deadline: Option<Timestamp>,
    /// Connections told to move.
    pub told: usize,
    /// Connections that are still here.
    pub remaining: usize,
    /// Connections that were closed because their time was over.
    pub forced: usize,
    /// Whether the process ends afterwards.
    pub exit: bool,
}

/// Why a drain cannot be called off any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLate {
    /// Clients have been told.
    #[error("clients have been told to move: a drain can be called off only before that, while drain.lame_duck lasts")]
    Told,
    /// So has the process.
    #[error("the process has been told to end")]
    Ending,
}

/// The drain of this process. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Drain {
    config: Config,
    lifecycle: Lifecycle,
    registry: Arc<Registry>,
    /// That of the clients.
    runtime: Handle,
    progress: watch::Sender<Progress>,
    /// Cancelled when nobody is waited for any longer.
    hurry: CancellationToken,
}

#[derive(Debug, Default)]
struct Progress {
    order: Order,
    since: Option<Timestamp>,
    deadline: Option<Timestamp>,
    told: usize,
    forced: usize,
    /// Cancelled when the drain under way is called off.
    off: CancellationToken,
}

impl Drain {
    /// None yet. Must be called inside the runtime of the clients.
    pub fn new(config: Config, lifecycle: &Lifecycle, registry: &Arc<Registry>) -> Self {
        Self {
            config,
            lifecycle: lifecycle.clone(),
            registry: registry.clone(),
            runtime: Handle::current(),
            progress: watch::Sender::default(),
            hurry: CancellationToken::new(),
        }
    }

    /// The section it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Begins, or hastens what has begun.
    pub fn begin(&self, order: Order) -> Status {
        let mut begun = None;
        self.progress.send_modify(|progress| {
            if self.lifecycle.advance(Phase::LameDuck) {
                *progress = Progress { order, since: Some(Timestamp::now()), ..Progress::default() };
                begun = Some(progress.off.clone());
            } else {
                progress.order.hasten(&order);
            }
        });
        if let Some(off) = begun {
            tracing::info!(reason = %self.progress.borrow().order.reason, "drain begins");
            let under_way = UnderWay { drain: self.clone(), off };
            // Whoever orders it may have a runtime of their own.
            let _inside = self.runtime.enter();
            drop(self.lifecycle.tasks().spawn("drain", async move { under_way.drain.run(&under_way.off).await }));
        }
        self.status()
    }

    /// Serves again, if nobody has been told to move or to end yet.
    pub fn call_off(&self) -> Result<Status, TooLate> {
        let mut late = None;
        self.progress.send_modify(|progress| {
            if progress.order.exit {
                late = Some(TooLate::Ending);
            } else if self.lifecycle.call_off() {
                progress.off.cancel();
                *progress = Progress::default();
            } else if self.lifecycle.phase() > Phase::LameDuck {
                late = Some(TooLate::Told);
            }
        });
        late.map_or_else(|| Ok(self.status()), Err)
    }

    /// Closes whoever is left at once.
    pub fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        let progress = self.progress.borrow();
        Status {
            phase: self.lifecycle.phase(),
            reason: progress.order.reason.clone(),
            since: progress.since,
            deadline: progress.deadline,
            told: progress.told,
            remaining: self.registry.len(),
            forced: progress.forced,
            exit: progress.order.exit,
        }
    }

    /// Completes when a drain is under way that is to end the process. Cancel-safe.
    pub async fn exit_wanted(&self) {
        // Fails only if the sender is gone, and `self` holds it.
        drop(self.progress.subscribe().wait_for(|progress| progress.order.exit).await);
    }

    /// Completes when nobody is left. Cancel-safe.
    pub async fn drained(&self) {
        // As before: the lifecycle holds the sender.
        drop(self.lifecycle.watch().wait_for(|phase| *phase >= Phase::Drained).await);
    }

    async fn run(&self, off: &CancellationToken) {
        let lame = self.hurry.run_until_cancelled(sleep(self.config.lame_duck));
        if off.run_until_cancelled(lame).await.is_none() || !self.enter_draining(off) {
            return;
        }
        let moved = async {
            self.tell_all().await;
            self.last_grace().await
        };
        if self.hurry.run_until_cancelled(moved).await != Some(true) {
            self.sweep().await;
        }
    }

    /// False if it was called off in the last moment.
    fn enter_draining(&self, off: &CancellationToken) -> bool {
        let mut entered = false;
        // Under the lock that calling off is done under.
        self.progress.send_modify(|_| entered = !off.is_cancelled() && self.lifecycle.advance(Phase::Draining));
        if entered {
            self.registry.refuse();
        }
        entered
    }

    /// True if everybody is gone before the time of those told last is over.
    async fn last_grace(&self) -> bool {
        let told = Instant::now();
        let mut orders = self.progress.subscribe();
        loop {
            let left = self.grace(&orders.borrow_and_update().order).saturating_sub(told.elapsed());
            tokio::select! {
                emptied = timeout(left, self.registry.emptied()) => return emptied.is_ok(),
                // A shorter grace may have been ordered.
                _ = orders.changed() => {}
            }
        }
    }

    async fn sweep(&self) {
        let left = self.registry.len();
        tracing::warn!(connections = left, "closing the connections that are left");
        self.progress.send_modify(|progress| progress.forced = left);
        self.close_all();
        // What does not end by then is cut with its transport.
        timeout(LAST_WORDS, self.registry.emptied()).await.ok();
    }

    fn close_all(&self) {
        self.registry.close_all(&Failure::new(Reason::Draining, "this server has left"));
    }

    fn grace(&self, order: &Order) -> Duration {
        order.grace.map_or(self.config.grace, |grace| grace.min(self.config.grace))
    }
}

/// The task of a drain. However it ends, it is over then: whoever waits for that must not wait for ever.
struct UnderWay {
    drain: Drain,
    off: CancellationToken,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.off.is_cancelled() {
            return;
        }
        let Drain { lifecycle, registry, progress, .. } = &self.drain;
        if std::thread::panicking() {
            tracing::error!("the drain ended in a panic; whoever is left is closed");
            registry.refuse();
            self.drain.close_all();
        }
        lifecycle.advance(Phase::Drained);
        tracing::info!(forced = progress.borrow().forced, "drained");
    }
}

impl Order {
    fn hasten(&mut self, other: &Self) {
        let shorter = |mine: Option<Duration>, other: Option<Duration>| match (mine, other) {
            (Some(mine), Some(other)) => Some(mine.min(other)),
            (mine, other) => mine.or(other),
        };
        self.spread = shorter(self.spread, other.spread);
        self.grace = shorter(self.grace, other.grace);
        self.exit |= other.exit;
    }
}

#[cfg(test)]
mod tests;
