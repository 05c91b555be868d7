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
mod pace;

use std::{sync::Arc, time::Duration};

use tokio::{
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

/// Where a drain stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// There is none.
    #[default]
    Serving,
    /// Not ready any more, and still serving. It can be called off.
    LameDuck,
    /// Clients are being told.
    Draining,
    /// Nobody is left.
    Drained,
}

impl State {
    /// The word at `/drain`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::LameDuck => "lame_duck",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }
}

/// What operators are shown of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where it stands.
    pub state: State,
    /// Who or what ordered it; empty while there is none.
    pub reason: Arc<str>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// When whoever is left will be closed; none before anybody was told.
    pub deadline: Option<Timestamp>,
    /// Connections told to move.
    pub notified: usize,
    /// Connections that are still here.
    pub remaining: usize,
    /// Connections that were closed because their time was over.
    pub forced: usize,
    /// Whether the process ends afterwards.
    pub exit: bool,
}

/// It is too late to call a drain off: clients have been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("clients have been told to move: a drain can be called off only before")]
pub struct TooLate;

/// The drain of this process. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Drain {
    config: Config,
    lifecycle: Lifecycle,
    registry: Arc<Registry>,
    progress: watch::Sender<Progress>,
    /// Cancelled when nobody is waited for any longer.
    hurry: CancellationToken,
}

#[derive(Debug, Default)]
struct Progress {
    state: State,
    order: Order,
    since: Option<Timestamp>,
    deadline: Option<Timestamp>,
    notified: usize,
    forced: usize,
    /// Cancelled when the drain under way is called off.
    off: CancellationToken,
}

impl Drain {
    /// None yet.
    pub fn new(config: Config, lifecycle: &Lifecycle, registry: &Arc<Registry>) -> Self {
        Self {
            config,
            lifecycle: lifecycle.clone(),
            registry: registry.clone(),
            progress: watch::Sender::default(),
            hurry: CancellationToken::new(),
        }
    }

    /// Begins, or hastens what has begun. Must be called inside the runtime of the clients.
    pub fn begin(&self, order: Order) -> Status {
        let mut begun = None;
        self.progress.send_modify(|progress| {
            if progress.state == State::Serving {
                *progress =
                    Progress { state: State::LameDuck, order, since: Some(Timestamp::now()), ..Progress::default() };
                begun = Some(progress.off.clone());
            } else {
                progress.order.hasten(&order);
            }
        });
        if let Some(off) = begun {
            tracing::info!(reason = %self.progress.borrow().order.reason, "drain begins");
            self.lifecycle.advance(Phase::LameDuck);
            let drain = self.clone();
            drop(self.lifecycle.tasks().spawn("drain", async move { drain.run(off).await }));
        }
        self.status()
    }

    /// Serves again, if nobody has been told to move yet.
    pub fn call_off(&self) -> Result<Status, TooLate> {
        let mut late = false;
        self.progress.send_modify(|progress| match progress.state {
            State::Serving => {}
            State::LameDuck if !progress.order.exit => {
                progress.off.cancel();
                *progress = Progress::default();
                self.lifecycle.call_off();
            }
            _ => late = true,
        });
        if late { Err(TooLate) } else { Ok(self.status()) }
    }

    /// Closes whoever is left at once.
    pub fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        let progress = self.progress.borrow();
        Status {
            state: progress.state,
            reason: progress.order.reason.clone(),
            since: progress.since,
            deadline: progress.deadline,
            notified: progress.notified,
            remaining: self.registry.len(),
            forced: progress.forced,
            exit: progress.order.exit,
        }
    }

    /// Completes when a drain is under way that is to end the process. Cancel-safe.
    pub async fn exit_wanted(&self) {
        self.follow(|progress| progress.order.exit).await;
    }

    /// Completes when nobody is left. Cancel-safe.
    pub async fn drained(&self) {
        self.follow(|progress| progress.state == State::Drained).await;
    }

    async fn follow(&self, reached: impl FnMut(&Progress) -> bool) {
        // Fails only if the sender is gone, and `self` holds it.
        drop(self.progress.subscribe().wait_for(reached).await);
    }

    async fn run(&self, off: CancellationToken) {
        let lame = self.hurry.run_until_cancelled(sleep(self.config.lame_duck));
        if off.run_until_cancelled(lame).await.is_none() || !self.enter_draining() {
            return;
        }
        let moved = async {
            self.tell_all().await;
            self.last_grace().await
        };
        if self.hurry.run_until_cancelled(moved).await != Some(true) {
            self.sweep().await;
        }
        self.progress.send_modify(|progress| progress.state = State::Drained);
        tracing::info!(forced = self.progress.borrow().forced, "drained");
    }

    /// False if it was called off in the last moment.
    fn enter_draining(&self) -> bool {
        let entered = self.progress.send_if_modified(|progress| {
            let on = progress.state == State::LameDuck;
            progress.state = if on { State::Draining } else { progress.state };
            on
        });
        if entered {
            self.lifecycle.advance(Phase::Draining);
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
        self.registry.close_all(&Failure::new(Reason::Draining, "this server has left"));
        // What does not end by then is cut with its transport.
        timeout(LAST_WORDS, self.registry.emptied()).await.ok();
    }

    fn grace(&self, order: &Order) -> Duration {
        order.grace.map_or(self.config.grace, |grace| grace.min(self.config.grace))
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
