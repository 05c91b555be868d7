//! The live connections of this process, with their limit.
//!
//! A connection is in the registry from the moment it is admitted until its [`Admission`] is dropped, on whatever path
//! that happens. The limit is checked and the entry made in one step, under one lock. A second connection of a client
//! stands beside the first; neither can remove the other's entry, because entries go by connection.

mod entry;
mod sweep;
mod vitals;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use crate::{
    error::Failure,
    telemetry::metrics::{
        Metrics,
        words::{ConnectionEnd, Refusal},
    },
    types::{ClientId, Clock, ConnectionId, Limiter, Party, Rate},
};

pub use entry::{Admission, Backlog, DrainNotice, Entry, Peer, SessionStatus};
pub use vitals::{State, Vitals};

/// `[registry]`: how many connections there may be, and when one counts as lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most live connections.
    pub max_connections: usize,
    /// Most connections admitted in a second, after a burst of as many; 0: as many as come.
    pub max_opens_per_second: u32,
    /// The same of one address, or of one network of IPv6; 0: as many as come.
    pub max_opens_per_address: u32,
    /// The same of one client; 0: as many as come.
    pub max_opens_per_client: u32,
    /// Most live connections of one client; 0: as many as there may be.
    pub max_per_client: usize,
    /// How often a heartbeat is sent, ± 10 %.
    #[serde(with = "humantime_serde")]
    pub heartbeat_interval: Duration,
    /// A connection silent for this long is suspect and probed at once. `0s` leaves silence to the health check.
    #[serde(with = "humantime_serde")]
    pub receive_timeout: Duration,
    /// How long a probed connection has to answer before it is dead.
    #[serde(with = "humantime_serde")]
    pub probe_timeout: Duration,
    /// How long a probe may wait to be queued before the connection is dead.
    #[serde(with = "humantime_serde")]
    pub probe_queue_timeout: Duration,
    /// How often the health check looks, where `receive_timeout` is off.
    #[serde(with = "humantime_serde")]
    pub health_interval: Duration,
    /// Silence after which the health check probes.
    #[serde(with = "humantime_serde")]
    pub silent_after: Duration,
    /// How long a connection may take nothing of what is ready for it.
    #[serde(with = "humantime_serde")]
    pub send_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 5000,
            max_opens_per_second: 1000,
            max_opens_per_address: 0,
            max_opens_per_client: 0,
            max_per_client: 0,
            heartbeat_interval: Duration::from_secs(20),
            receive_timeout: Duration::from_secs(25),
            probe_timeout: Duration::from_secs(10),
            probe_queue_timeout: Duration::from_secs(2),
            health_interval: Duration::from_secs(45),
            silent_after: Duration::from_secs(120),
            send_timeout: Duration::from_secs(15),
        }
    }
}

impl Config {
    /// Everything wrong with the section, as `(key, sentence)`.
    pub fn problems(&self) -> Vec<(String, String)> {
        let times = [
            ("heartbeat_interval", self.heartbeat_interval),
            ("probe_timeout", self.probe_timeout),
            ("probe_queue_timeout", self.probe_queue_timeout),
            ("health_interval", self.health_interval),
            ("silent_after", self.silent_after),
            ("send_timeout", self.send_timeout),
        ];
        let zero = times.into_iter().filter(|(_, time)| time.is_zero());
        let mut problems: Vec<_> =
            zero.map(|(key, _)| (key.to_owned(), "must be longer than zero".to_owned())).collect();
        if self.max_connections == 0 {
            problems.push(("max_connections".into(), "must be at least 1".into()));
        }
        problems
    }
}

/// See the module.
#[derive(Debug)]
pub struct Registry {
    config: Config,
    clock: Clock,
    metrics: Arc<Metrics>,
    live: Mutex<Live>,
    /// How often each address, and each client, may open a connection.
    opens: (Limiter, Limiter),
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Live {
    // By admission, so that pages are stable and the oldest come first.
    entries: BTreeMap<u64, Arc<Entry>>,
    numbers: HashMap<ConnectionId, u64>,
    clients: HashMap<ClientId, Vec<u64>>,
    next_number: u64,
    /// Set when the server drains: nobody is admitted any more.
    refusing: bool,
    /// While the server is cut off from its broker nobody is admitted either: the longest that they are told to wait.
    cut_off: Option<Duration>,
    /// Whoever has a connection pays for each that is opened: names are looked up, sessions resumed, histories read.
    /// When another replica is lost, everybody it had comes here at once; those who are too many wait a little.
    opens: Rate,
}

const LEAVING: &str = "this server is leaving";

/// What somebody is told who comes while the server leaves.
fn leaving() -> Failure {
    refused(Refusal::Draining, LEAVING)
}

/// With a time to wait that is spread, so that those who are refused together do not come back together.
fn refused(refusal: Refusal, message: &'static str) -> Failure {
    refused_for(refusal, message, LONGEST_WAIT)
}

/// The same, for at most so long.
fn refused_for(refusal: Refusal, message: &'static str, longest: Duration) -> Failure {
    let spread = longest.saturating_sub(SHORTEST_WAIT).mul_f64(fastrand::f64());
    Failure::new(refusal.reason(), message).retry_after(SHORTEST_WAIT + spread)
}

/// How long whoever is refused waits before coming again.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Registry {
    /// An empty registry.
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Self {
        metrics.connections_limit.set(gauge(config.max_connections));
        let opens = Rate::new(config.max_opens_per_second, Instant::now());
        let (live, clock) = (Mutex::new(Live { opens, ..Live::default() }), Clock::default());
        let opens =
            (Limiter::new(config.max_opens_per_address.into()), Limiter::new(config.max_opens_per_client.into()));
        Self { config, clock, metrics, live, opens, count: watch::Sender::new(0) }
    }

    /// The section it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The clock liveness is judged by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Admits a connection: MAX_CONNECTIONS, OPEN_RATE, DRAINING or BROKER, each with a time to wait.
    pub fn admit(self: &Arc<Self>, peer: SocketAddr) -> Result<Admission, Failure> {
        let now = Instant::now();
        let mut live = self.live.lock();
        let refusal = if live.refusing {
            Some((Refusal::Draining, LEAVING))
        } else if live.cut_off.is_some() {
            Some((Refusal::Broker, "this server is cut off from its broker"))
        } else if live.entries.len() >= self.config.max_connections {
            Some((Refusal::MaxConnections, "maximum connections reached"))
        } else if self.opens.0.take(Party::address(peer.ip()), 1, now).is_err() {
            // Before it takes from what there is for everybody.
            Some((Refusal::OpenRate, "too many connections are being opened from this address"))
        } else if !live.opens.take(now) {
            Some((Refusal::OpenRate, "too many connections are being opened at once"))
        } else {
            None
        };
        if let Some((refusal, message)) = refusal {
            self.metrics.rejected(refusal);
            return Err(refused_for(refusal, message, live.cut_off.unwrap_or(LONGEST_WAIT)));
        }
        live.next_number += 1;
        let number = live.next_number;
        let vitals = Vitals::new(self.clock.millis(), self.config.heartbeat_interval);
        let entry = Arc::new(Entry::new(number, peer, vitals));
        live.numbers.insert(entry.id(), number);
        live.entries.insert(number, entry.clone());
        self.count.send_replace(live.entries.len());
        self.metrics.connections_opened.inc();
        self.metrics.connections_active.inc();
        Ok(Admission::new(self.clone(), entry))
    }

    /// The connection is this client's: MAX_CONNECTIONS or OPEN_RATE if it has or opens too many.
    fn identified(&self, entry: &Entry, client: &ClientId) -> Result<(), Failure> {
        let mut live = self.live.lock();
        let (count, most) = (live.clients.get(client).map_or(0, Vec::len), self.config.max_per_client);
        let refusal = if most > 0 && count >= most {
            Some((Refusal::MaxConnections, "this client has as many connections as it may"))
        } else if self.opens.1.take(Party::client(client), 1, Instant::now()).is_err() {
            Some((Refusal::OpenRate, "this client opens too many connections at once"))
        } else {
            None
        };
        if let Some((refusal, message)) = refusal {
            self.metrics.rejected(refusal);
            return Err(refused(refusal, message));
        }
        live.clients.entry(client.clone()).or_default().push(entry.number());
        Ok(())
    }

    fn remove(&self, entry: &Entry, end: ConnectionEnd) {
        let mut live = self.live.lock();
        live.entries.remove(&entry.number());
        live.numbers.remove(&entry.id());
        if let Some(client) = entry.client_id()
            && let Some(numbers) = live.clients.get_mut(client)
        {
            numbers.retain(|number| *number != entry.number());
            if numbers.is_empty() {
                live.clients.remove(client);
            }
        }
        self.count.send_replace(live.entries.len());
        self.metrics.connections_active.dec();
        self.metrics.connection_closed(end);
        live.show_remaining(&self.metrics);
    }

    /// One connection.
    pub fn get(&self, id: ConnectionId) -> Option<Arc<Entry>> {
        let live = self.live.lock();
        live.entries.get(live.numbers.get(&id)?).cloned()
    }

    /// Connections, oldest first, from after the one numbered `after`, at most `limit`; of one client, if one is named.
    pub fn page(&self, client: Option<&ClientId>, after: u64, limit: usize) -> Vec<Arc<Entry>> {
        let live = self.live.lock();
        match client {
            None => live.entries.range(after.saturating_add(1)..).take(limit).map(|(_, entry)| entry.clone()).collect(),
            Some(client) => {
                let numbers = live.clients.get(client).map_or(&[][..], Vec::as_slice);
                let wanted = numbers.iter().filter(|number| **number > after).take(limit);
                wanted.filter_map(|number| live.entries.get(number).cloned()).collect()
            }
        }
    }

    /// Live connections.
    pub fn len(&self) -> usize {
        *self.count.borrow()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Completes when there is none. Cancel-safe.
    pub async fn emptied(&self) {
        // Fails only if the sender is gone, and `self` holds it.
        let _unreachable = self.count.subscribe().wait_for(|count| *count == 0).await.is_err();
    }

    /// From now on admits nobody: DRAINING.
    pub fn refuse(&self) {
        let mut live = self.live.lock();
        live.refusing = true;
        live.show_remaining(&self.metrics);
    }

    /// From now on, and until it is told otherwise, admits nobody: BROKER, with a time to wait of at most `longest`.
    pub fn cut_off(&self, longest: Option<Duration>) {
        self.live.lock().cut_off = longest;
    }

    /// Every connection, oldest first.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.live.lock().entries.values().cloned().collect()
    }

    /// Closes every connection that is left.
    pub fn close_all(&self, failure: &Failure) {
        for entry in self.entries() {
            entry.close(failure.clone());
        }
    }
}

impl Live {
    /// Who is still to leave, once nobody may come any more.
    fn show_remaining(&self, metrics: &Metrics) {
        if self.refusing {
            metrics.drain_remaining.set(gauge(self.entries.len()));
        }
    }
}

/// A number as a gauge takes it.
fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
