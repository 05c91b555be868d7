//! The one timer behind all liveness: it advances the coarse clock and looks at every connection.
//!
//! A timer for each connection would cost ten to fifty times as much and decide nothing better.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    Entry, Registry,
    vitals::{Finding, millis},
};
use crate::error::{Failure, Reason};

/// Longest time between two looks.
const MAX_PERIOD: Duration = Duration::from_secs(1);
/// Shortest, however small the timeouts.
const MIN_PERIOD: Duration = Duration::from_millis(10);

impl Registry {
    /// Looks at every connection for as long as it is polled.
    pub async fn sweep(self: Arc<Self>) {
        let mut ticks = interval(self.period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health_checked = Instant::now();
        loop {
            ticks.tick().await;
            let silence_limit = if !self.config.receive_timeout.is_zero() {
                Some(millis(self.config.receive_timeout))
            } else if health_checked.elapsed() >= self.config.health_interval {
                health_checked = Instant::now();
                Some(millis(self.config.silent_after))
            } else {
                None
            };
            self.look(silence_limit);
        }
    }

    /// A quarter of the shortest timeout, so that none is overrun by much.
    fn period(&self) -> Duration {
        let config = &self.config;
        let timeouts = [
            config.heartbeat_interval,
            config.receive_timeout,
            config.probe_timeout,
            config.probe_queue_timeout,
            config.send_timeout,
            config.health_interval,
        ];
        let shortest = timeouts.into_iter().filter(|timeout| !timeout.is_zero()).min().unwrap_or(MAX_PERIOD);
        (shortest / 4).clamp(MIN_PERIOD, MAX_PERIOD)
    }

    fn look(&self, silence_limit: Option<u64>) {
        let now = self.clock.advance();
        // The lock is not held while connections are asked: they come back for it when they end.
        let entries = self.entries();
        // A client that has not said Hello has a clock of its own, and nothing may come before its Welcome.
        for entry in entries.into_iter().filter(|entry| entry.client_id().is_some()) {
            self.act(&entry, entry.vitals().examine(now, silence_limit, &self.config), now);
        }
    }

    fn act(&self, entry: &Entry, finding: Finding, now: u64) {
        match finding {
            Finding::Fine => {}
            Finding::HeartbeatDue { reply_requested } => {
                if !entry.heartbeat(reply_requested) {
                    self.metrics.heartbeats_missed.inc();
                }
            }
            Finding::ProbeDue => {
                if entry.heartbeat(true) {
                    self.metrics.probes_sent.inc();
                    entry.vitals().probed(now);
                }
            }
            Finding::Dead => {
                tracing::debug!(connection.id = %entry.id(), peer.addr = %entry.peer_addr(), "peer is silent, given up");
                entry.close(Failure::new(Reason::PeerTimeout, "nothing was received, not even an answer to the probe"));
            }
            Finding::Stalled => {
                self.metrics.send_errors.inc();
                entry.close(Failure::new(Reason::SlowConnection, "nothing that was sent has been taken"));
            }
        }
    }
}
