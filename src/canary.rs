//! A canary: every few seconds an event is published to a topic of the server's own, and has to come back the way that
//! every event does. While it does not, this process is not ready, whatever else it knows of itself.
//!
//! The trip is a task of its own. A broker that is stuck would hold it up inside a lock, where no clock reaches it; the
//! one who waits for it has the clock. And what that one says is good for a while only: a runtime that is stuck as a
//! whole cannot say that it is.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{
    broker::{Line, Listener},
    error::Failure,
    health::{Component, Config},
    hub::Hub,
    lifecycle::Tasks,
    types::NewEvent,
};

/// Sends one every `canary_interval` until the process stops; `component` says how it went. The first is away before
/// this returns, and with an engine in this process also back; where it is not, another one follows at once.
pub fn release(config: Config, hub: &Arc<Hub>, component: Component, tasks: &Tasks) {
    let canary = Canary { config, hub: hub.clone(), component, tasks: tasks.clone() };
    let back = trip(hub.clone(), 0).now_or_never();
    let is_back = back.is_some();
    back.into_iter().for_each(|outcome| canary.note(outcome));
    tasks.spawn_until_stopped("canary", canary.run(is_back));
}

struct Canary {
    config: Config,
    hub: Arc<Hub>,
    component: Component,
    tasks: Tasks,
}

impl Canary {
    async fn run(self, is_first_back: bool) {
        let mut ticks = interval(self.config.canary_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if is_first_back {
            ticks.tick().await;
        }
        for number in 1.. {
            ticks.tick().await;
            let (hub, stop) = (self.hub.clone(), self.tasks.stop().clone());
            let stopped_trip = async move { stop.run_until_cancelled(trip(hub, number)).await };
            let mut away = self.tasks.spawn("canary trip", stopped_trip);
            match timeout(self.config.canary_timeout, &mut away).await {
                Ok(Ok(Some(outcome))) => self.note(outcome),
                Ok(Ok(None)) => return,
                Ok(Err(_)) => self.component.not_ready("publishing an event panicked"),
                Err(_) => {
                    let limit = humantime::format_duration(self.config.canary_timeout);
                    self.component.not_ready(format!("an event that was published did not come back within {limit}"));
                    away.abort();
                    // There is never more than one: what is stuck in a lock ends when that is free.
                    away.await.ok();
                }
            }
        }
    }

    fn note(&self, outcome: Result<(), Failure>) {
        match outcome {
            Ok(()) => self.component.ready_until(Instant::now() + self.freshness()),
            Err(failure) => self.component.not_ready(format!("an event could not be published: {failure}")),
        }
    }

    /// How long it is believed that all is well: until the next one would have been missed.
    fn freshness(&self) -> Duration {
        self.config.canary_interval.saturating_add(self.config.canary_timeout)
    }
}

/// One event, there and back.
async fn trip(hub: Arc<Hub>, number: u64) -> Result<(), Failure> {
    let (line, bell) = (hub.canary(), Arc::new(Bell::default()));
    let listener: Weak<Bell> = Arc::downgrade(&bell);
    line.listen(listener);
    let payload = Bytes::copy_from_slice(&number.to_be_bytes());
    line.seen().await?;
    let event = NewEvent { payload: payload.clone(), ..NewEvent::default() };
    let published = line.publish(event).outcome().await?;
    loop {
        bell.0.notified().await;
        if is_there(&line, published.cursor.offset, &payload) {
            return Ok(());
        }
    }
}

fn is_there(line: &Line, offset: u64, payload: &[u8]) -> bool {
    let log = line.log().read();
    let record = log.after(offset - 1).next().filter(|record| record.offset == offset);
    record.is_some_and(|record| record.encoded.windows(payload.len()).any(|part| part == payload))
}

/// Rings when the log has grown.
#[derive(Debug, Default)]
struct Bell(Notify);

impl Listener for Bell {
    fn grown(&self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{
            Broker,
            late::{self, Fate},
            memory::Memory,
        },
        health::Health,
        hub,
        lifecycle::{Lifecycle, Phase},
        planted::{self, Bug},
        telemetry::metrics::Metrics,
    };

    struct Bench {
        lifecycle: Lifecycle,
        health: Health,
        hub: Arc<Hub>,
        metrics: Arc<Metrics>,
    }

    impl Bench {
        /// A server that serves, and its canary.
        fn new(config: Config) -> Self {
            let lifecycle = Lifecycle::default();
            let health = Health::new(&lifecycle);
            let broker = Broker::Memory(Memory::new(10));
            let metrics = Arc::new(Metrics::default());
            let hub = Arc::new(Hub::new(hub::Config::default(), broker, metrics.clone()));
            release(config, &hub, health.component("canary"), lifecycle.tasks());
            lifecycle.advance(Phase::Serving);
            Self { lifecycle, health, hub, metrics }
        }

        /// What the canary lacks.
        fn problem(&self) -> Option<String> {
            let report = self.health.report();
            let line = report.into_iter().find(|line| line.component == "canary").expect("the canary's line");
            line.problem.map(Into::into)
        }

        async fn until(&self, ready: bool, patience: Duration) {
            let waited = timeout(patience, async {
                while self.health.ready() != ready {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
            waited.await.unwrap_or_else(|_| panic!("never ready = {ready}: {:?}", self.health.report()));
        }
    }

    fn often() -> Config {
        Config { canary_interval: Duration::from_millis(20), canary_timeout: Duration::from_millis(200) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_serves_is_ready_at_once_and_its_canary_is_nobody_elses_business() {
        let bench = Bench::new(often());
        assert!(bench.health.ready(), "{:?}", bench.health.report());
        bench.hub.sweep();
        assert!(bench.hub.list("", "", 100).is_empty());
        let metrics = &bench.metrics;
        assert_eq!((metrics.topics_active.get(), metrics.events_published.get()), (0, 0));
    }

    /// Looked at from outside of the runtime, as the admin port does: a lock that is stuck may stop all of it.
    #[test]
    fn a_broker_that_is_stuck_costs_readiness_until_it_is_free_again() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let bench = runtime.block_on(async { Bench::new(often()) });
        let becomes = |ready: bool| {
            let begun = Instant::now();
            while bench.health.ready() != ready {
                assert!(begun.elapsed() < Duration::from_secs(30), "never ready = {ready}: {:?}", bench.problem());
                std::thread::park_timeout(Duration::from_millis(5));
            }
        };
        let line = bench.hub.canary();
        let stuck = line.log().write();
        becomes(false);
        assert!(bench.problem().is_some());
        drop(stuck);
        becomes(true);
        runtime.block_on(async {
            bench.lifecycle.advance(Phase::Stopped);
            bench.lifecycle.ended().await;
        });
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_is_answered_and_not_stored_is_noticed() {
        let bench = Bench::new(Config::default());
        planted::plant(Some(Bug::AnswersUnstored));
        // It strikes now and then.
        bench.until(false, Duration::from_secs(3600)).await;
        planted::plant(None);
        bench.until(true, Duration::from_secs(60)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_is_stored_later_is_waited_for_and_one_that_is_not_is_noticed() {
        let (soon, later) = (Some(Duration::from_millis(50)), Some(Duration::from_millis(100)));
        let planned = late::plan(move |_| Some(Fate { stored: soon, answered: later }));
        let bench = Bench::new(Config::default());
        assert!(!bench.health.ready());
        // The next one is not waited for.
        bench.until(true, Duration::from_secs(1)).await;
        drop(planned);
        let _planned = late::plan(move |_| Some(Fate { stored: None, answered: later }));
        bench.until(false, Duration::from_secs(60)).await;
        assert!(bench.problem().is_some_and(|problem| problem.contains("BROKER")), "{:?}", bench.problem());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_as_it_is_stays_ready() {
        let bench = Bench::new(Config::default());
        for _ in 0..1000 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(bench.health.ready(), "{:?}", bench.health.report());
        }
    }
}
