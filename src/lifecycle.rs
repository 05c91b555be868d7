//! How the process lives and ends: its phase, its tasks, its signals.
//!
//! Every task has a parent, a name and an end: it is spawned through [`Tasks`], and the process does not exit before
//! the tracker is empty or the deadline has passed.

use std::future::Future;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where the process stands in its life. Only ever moves forward, but for a lame duck that may serve again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Parts are being built; not ready.
    Starting,
    /// Ready.
    Serving,
    /// Not ready, still serving, waiting for the endpoints to forget us.
    LameDuck,
    /// Telling clients to move; new streams are refused.
    Draining,
    /// No client is left; the process goes on if nobody wants it to end.
    Drained,
    /// Everything is closed; tasks end.
    Stopped,
}

impl Phase {
    /// The word in logs, in `/readyz` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::LameDuck => "lame_duck",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Stopped => "stopped",
        }
    }
}

/// Owner of the phase. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
    tasks: Tasks,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Starting), tasks: Tasks::default() }
    }
}

impl Lifecycle {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Follows the phase.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Moves forward to `next`; true if it did. Going back is ignored.
    pub fn advance(&self, next: Phase) -> bool {
        let moved = self.phase.send_if_modified(|phase| {
            let forward = next > *phase;
            if forward {
                *phase = next;
            }
            forward
        });
        if moved {
            tracing::info!(phase = next.as_str(), "lifecycle phase changed");
        }
        if next == Phase::Stopped {
            self.tasks.stop.cancel();
        }
        moved
    }

    /// A lame duck serves again; true if it was one.
    pub fn call_off(&self) -> bool {
        let back = self.phase.send_if_modified(|phase| {
            let lame = *phase == Phase::LameDuck;
            *phase = if lame { Phase::Serving } else { *phase };
            lame
        });
        if back {
            tracing::info!(phase = Phase::Serving.as_str(), "lifecycle phase changed");
        }
        back
    }

    /// Where tasks are spawned.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Waits until every task has ended. Call after `advance(Phase::Stopped)`. Cancel-safe.
    pub async fn ended(&self) {
        self.tasks.tracker.close();
        self.tasks.tracker.wait().await;
    }
}

/// The only place tasks are spawned from. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Spawns a tracked task. `name` says what it is for, to whoever reads the code or a console.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "the one place that may spawn")]
    pub fn spawn<F>(&self, _name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(future))
    }

    /// Spawns a tracked task that is dropped where it stands when the process stops.
    #[track_caller]
    pub fn spawn_until_stopped<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        drop(self.spawn(name, async move {
            stop.run_until_cancelled_owned(future).await;
        }));
    }

    /// Cancelled when the process stops.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

/// SIGTERM and SIGINT, as one stream of wishes to leave.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over both signals.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Completes at the next of them, with its name. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_phase_never_goes_back() {
        let lifecycle = Lifecycle::default();
        lifecycle.advance(Phase::Draining);
        lifecycle.advance(Phase::Serving);
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }

    #[tokio::test]
    async fn only_a_lame_duck_can_serve_again() {
        let lifecycle = Lifecycle::default();
        for (phase, after) in [(Phase::Starting, Phase::Starting), (Phase::LameDuck, Phase::Serving)] {
            lifecycle.advance(phase);
            lifecycle.call_off();
            assert_eq!(lifecycle.phase(), after);
        }
        lifecycle.advance(Phase::Draining);
        lifecycle.call_off();
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }

    #[tokio::test]
    async fn stopping_ends_background_tasks() {
        let lifecycle = Lifecycle::default();
        lifecycle.tasks().spawn_until_stopped("forever", std::future::pending());
        lifecycle.advance(Phase::Stopped);
        lifecycle.ended().await;
    }
}
