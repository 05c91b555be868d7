//! The connections to the servers: one to publish, one to listen, one to ask. A flood on the one that listens must not
//! delay what is answered to a publisher.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, Event, ServerAddr, connection::State};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{super::config, access::Visitor, api::Problem};
use crate::telemetry::metrics::{
    Metrics,
    words::{BridgeIn, Link},
};

/// A peer that does not answer is given up at the third: another server may be there, and readers wait.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long a server may take to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before another attempt, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Messages of one subscription that may wait to be taken: what comes on top is dropped, and fetched again. The library's
/// own number.
const HEARD_AT_ONCE: usize = 65_536;
/// The same of a bridge, where nothing can be fetched. Who takes them has bounds of its own, and takes them at once.
const BRIDGED_AT_ONCE: usize = 1024;
/// What asking for several records at once, and for the latest of several subjects, needs of a server.
pub(super) const OLDEST_SERVER: (i64, i64, i64) = (2, 11, 0);

/// Since when a link has no connection; none while it has one.
type Apart = Arc<Mutex<Option<Instant>>>;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Links {
    /// Carries publishes, and their answers.
    pub(super) publishing: Client,
    /// Since when it does not.
    apart: Apart,
    /// Carries the events of topics that are open here.
    pub(super) listening: Client,
    /// Carries questions, and their answers.
    pub(super) asking: Client,
    /// Carries what goes over bridges; none if there are none.
    pub(super) bridging: Option<Client>,
}

/// What is done about what happens to a connection.
struct Told {
    link: Link,
    alarm: Arc<Notify>,
    metrics: Arc<Metrics>,
    apart: Apart,
    /// It has been up before.
    was_up: AtomicBool,
}

impl Links {
    /// Connects, trying again until `start_timeout` is over. `alarm` rings whenever something may have been missed.
    pub(super) async fn open(
        config: &config::Nats,
        name: &str,
        alarm: &Arc<Notify>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, Problem> {
        let deadline = Instant::now() + config.start_timeout;
        let open = async |link: Link, apart: &Apart| {
            let mut attempt = 0;
            loop {
                let name = format!("{name} {}", link.as_str());
                let (alarm, metrics, apart) = (alarm.clone(), metrics.clone(), apart.clone());
                let told = Told { link, alarm, metrics, apart, was_up: AtomicBool::new(false) };
                match connect(config, Visitor::own(config), &name, told).await {
                    Ok(client) => return Ok(client),
                    Err(problem) if !problem.may_pass() || Instant::now() >= deadline => return Err(problem),
                    Err(problem) => tracing::warn!(%problem, "no NATS server lets us in yet"),
                }
                attempt += 1;
                sleep(pause(attempt)).await;
            }
        };
        let (apart, unasked) = (Apart::default(), Apart::default());
        let publishing = open(Link::Publishing, &apart).await?;
        let (listening, asking) = (open(Link::Listening, &unasked).await?, open(Link::Asking, &unasked).await?);
        let bridging = if config.bridges.is_empty() { None } else { Some(open(Link::Bridging, &unasked).await?) };
        let (major, minor, patch) = OLDEST_SERVER;
        if !asking.is_server_compatible(major, minor, patch) {
            let version = asking.server_info().version;
            return Err(Problem::Unfit(format!(
                "the NATS server is of version {version}; {major}.{minor} or later is needed"
            )));
        }
        Ok(Self { publishing, apart, listening, asking, bridging })
    }
}

impl Links {
    /// Whether what is published now would only wait for a connection.
    pub(super) fn is_apart(&self) -> bool {
        self.publishing.connection_state() != State::Connected
    }

    /// For how long that has been so.
    pub(super) fn apart_for(&self) -> Duration {
        self.apart.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Goes to another server, if there is one: this one takes what is sent, and nothing comes of it.
    pub(super) async fn move_on(&self) {
        let all = [&self.publishing, &self.listening, &self.asking].into_iter().chain(&self.bridging);
        for link in all {
            // One that is looking for a server finds another by itself.
            if link.connection_state() == State::Connected {
                timeout(CONNECT_TIMEOUT, link.force_reconnect()).await.ok();
            }
        }
    }
}

/// One connection, tried once.
pub(super) async fn once(
    config: &config::Nats,
    visitor: Visitor<'_>,
    name: &str,
    alarm: &Arc<Notify>,
    metrics: &Arc<Metrics>,
) -> Result<Client, Problem> {
    let (alarm, metrics) = (alarm.clone(), metrics.clone());
    let (apart, was_up) = (Apart::default(), AtomicBool::new(false));
    connect(config, visitor, name, Told { link: Link::Asking, alarm, metrics, apart, was_up }).await
}

async fn connect(config: &config::Nats, visitor: Visitor<'_>, name: &str, told: Told) -> Result<Client, Problem> {
    let heard_at_once = if told.link == Link::Bridging { BRIDGED_AT_ONCE } else { HEARD_AT_ONCE };
    let options = visitor
        .options(config)?
        .name(name)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .subscription_capacity(heard_at_once)
        .reconnect_delay_callback(pause)
        .event_callback(move |event| {
            told.note(&event);
            std::future::ready(())
        });
    let servers: Result<Vec<ServerAddr>, _> = config.servers.iter().map(|server| server.parse()).collect();
    let servers = servers.map_err(|error| Problem::Unfit(format!("broker.nats.servers: {error}")))?;
    options.connect(servers).await.map_err(|error| visitor.refused(config, &error))
}

/// Half as long again each time, and not all replicas at once.
fn pause(attempt: usize) -> Duration {
    let doubled = Duration::from_millis(50).saturating_mul(1 << attempt.min(10));
    doubled.min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)
}

impl Told {
    fn note(&self, event: &Event) {
        let is_bridging = self.link == Link::Bridging;
        match event {
            Event::Connected => {
                tracing::info!(link = self.link.as_str(), "connected to NATS");
                *self.apart.lock() = None;
                self.metrics.broker_link(self.link, true);
                if self.was_up.swap(true, Ordering::Relaxed) {
                    self.metrics.broker_reconnects.inc();
                }
            }
            Event::Disconnected => {
                tracing::warn!(link = self.link.as_str(), "the connection to NATS is lost");
                self.apart.lock().get_or_insert_with(Instant::now);
                self.metrics.broker_link(self.link, false);
            }
            // One for each message that found no room.
            Event::SlowConsumer(_) if is_bridging => self.metrics.bridge_in(BridgeIn::Overflow),
            Event::SlowConsumer(_) => {
                tracing::warn!("events came faster than they could be taken; some are fetched again");
            }
            Event::ServerError(error) => tracing::warn!(%error, "NATS refuses something"),
            other => tracing::info!(event = %other, "NATS says"),
        }
        if matches!(event, Event::Connected | Event::SlowConsumer(_)) && !is_bridging {
            self.alarm.notify_one();
        }
    }
}
