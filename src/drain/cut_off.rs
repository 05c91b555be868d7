//! A server that is cut off from its broker moves its clients to those that are not, and stays: when the broker is back it
//! calls that off and serves again.
//!
//! It cannot know whether any other is better off. So nobody is closed: a client that is told opens another connection
//! first, and keeps the one it has if it gets none. While it is cut off a server lets nobody in, so where all are, everybody
//! stays where they are, and is there when the broker is back. How often they try is bounded by the time that
//! they are told to wait, which grows with their number.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{
    Drain,
    pace::{ROUND, due, notice},
};
use crate::health::{Health, Watch};

/// The component that says whether the broker does what it should.
const COMPONENT: &str = "canary";
/// How long whoever is not let in is told to wait, at least and at most.
const WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

impl Drain {
    /// Looks after that for as long as the process serves. A server counts as cut off once its broker has been out of reach
    /// for `limit`; without one, it never does.
    pub async fn follow_broker(self, health: Health, limit: Option<Duration>) {
        let Some(limit) = limit else { return };
        let mut watch = health.watch();
        loop {
            while !is_cut_off(&health) {
                watch.changed().await;
            }
            if timeout(limit, back(&health, &mut watch)).await.is_ok() {
                continue;
            }
            let clients = self.registry.len();
            tracing::warn!(clients, "the broker has been out of reach for too long: clients are told to move");
            self.registry.cut_off(Some(self.wait(clients)));
            tokio::select! {
                () = back(&health, &mut watch) => {}
                () = self.tell_at_the_pace() => back(&health, &mut watch).await,
            }
            self.registry.cut_off(None);
            tracing::info!(clients = self.registry.len(), "the broker is back: clients stay");
        }
    }

    /// So long that all who were told come no faster, one after the other, than they were told.
    fn wait(&self, clients: usize) -> Duration {
        let (least, most) = WAIT;
        self.unhurried(clients).saturating_mul(2).clamp(least, most)
    }

    /// How long it takes to tell so many. There is no end by which they have to be gone.
    fn unhurried(&self, clients: usize) -> Duration {
        match self.config.max_reconnects_per_second {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(clients as f64 / f64::from(rate)),
        }
    }

    async fn tell_at_the_pace(&self) {
        let mut waiting = self.registry.entries();
        fastrand::shuffle(&mut waiting);
        let (total, begun, reason) = (waiting.len(), Instant::now(), Arc::from("cut off from the broker"));
        let span = self.unhurried(total);
        let mut ticks = interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !waiting.is_empty() {
            ticks.tick().await;
            let due = due(total, begun.elapsed(), span).saturating_sub(total - waiting.len()).min(waiting.len());
            // Whoever is gone, or not welcomed yet, needs no telling: it finds out by itself.
            for entry in waiting.split_off(waiting.len() - due).into_iter().filter(|entry| entry.client_id().is_some())
            {
                entry.drain(notice(&reason, None, due));
            }
        }
    }
}

fn is_cut_off(health: &Health) -> bool {
    health.report().iter().any(|line| line.component == COMPONENT && line.problem.is_some())
}

async fn back(health: &Health, watch: &mut Watch) {
    while is_cut_off(health) {
        watch.changed().await;
    }
}
