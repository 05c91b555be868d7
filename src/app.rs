//! The composition root: builds every part, hands each what it needs, and takes them down in order. It knows
//! everything and decides nothing.

mod operators;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use tokio::{
    sync::watch,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::Layer as _;

use crate::{
    admin,
    auth::Auth,
    bridge,
    broker::{
        self, Broker, Fleet, Matter,
        memory::Memory,
        nats::{Bounds, Nats},
    },
    canary,
    config::{Config, Loaded},
    connection,
    drain::{Drain, Order},
    health::Health,
    hub::Hub,
    lifecycle::{Lifecycle, Phase, Signals, Tasks},
    log::Total,
    proto,
    registry::Registry,
    service::{
        self,
        caller::{CallerLayer, KnowsCaller},
        crowd::Crowd,
        gate::{Gate, GateLayer},
        observe::{Methods, Observe, ObserveLayer},
    },
    session::{self, Directory},
    telemetry::{LogLevel, Traces, metrics::Metrics, report},
    transport::{self, Listener, Shutdown},
    types::Durability,
};

/// How long bridges may take to store what they have heard after clients have been told to leave.
const BRIDGE_GRACE: Duration = Duration::from_secs(1);
/// How long transports may take to end after the last connection has.
const TRANSPORT_GRACE: Duration = Duration::from_secs(2);
/// How long tasks may take to end after everything they serve has.
const TASK_GRACE: Duration = Duration::from_secs(1);
/// How often histories are trimmed and forgotten sessions dropped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A server that serves.
#[derive(Debug)]
pub struct App {
    lifecycle: Lifecycle,
    registry: Arc<Registry>,
    drain: Drain,
    address: SocketAddr,
    admin: Option<admin::Admin>,
    bridges: bridge::Bridges,
    end_transports: CancellationToken,
    transports: tokio::task::JoinHandle<()>,
    traces: Traces,
}

/// Serves until a signal, or a drain that is to end the process; then leaves in order. A signal after that skips the
/// waiting.
pub async fn run(loaded: Loaded, metrics: Arc<Metrics>) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let app = App::start(&loaded, metrics).await?;
    let drain = app.drain.clone();
    let reason = tokio::select! {
        signal = signals.next() => signal,
        () = drain.exit_wanted() => "a drain",
    };
    tracing::info!(reason, "told to leave");
    let hurry = async {
        let signal = signals.next().await;
        tracing::warn!(signal, "told to leave at once");
    };
    app.leave(hurry).await;
    Ok(())
}

impl App {
    /// Builds and starts every part; fails if an address is taken, a file cannot be read, or the broker cannot be used.
    pub async fn start(loaded: &Loaded, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let listener = Listener::bind(&loaded.config.transport).context("cannot serve clients")?;
        let lifecycle = Lifecycle::default();
        let config = &loaded.config;
        let broker = match config.broker.kind {
            broker::Kind::Memory => in_memory(config),
            broker::Kind::Nats => {
                let bounds = Bounds {
                    dedupe_window: config.topics.dedupe_window,
                    synced: config.topics.asks_for(Durability::Synced),
                    max_topics: config.topics.max_topics,
                    total: Total::new(config.topics.max_total_history.as_u64()),
                    metrics: metrics.clone(),
                };
                let (nats, node) = (config.broker.nats.clone(), config.server.node_name());
                let started = Nats::start(nats, bounds, &node, lifecycle.tasks()).await;
                Broker::Nats(started.context("cannot use the broker")?)
            }
        };
        Self::build(loaded, metrics, listener, lifecycle, broker)
    }

    /// Builds and starts every part behind a listener, with all topics in memory.
    #[cfg(test)]
    pub(crate) fn serve(loaded: &Loaded, metrics: Arc<Metrics>, listener: Listener) -> anyhow::Result<Self> {
        Self::build(loaded, metrics, listener, Lifecycle::default(), in_memory(&loaded.config))
    }

    fn build(
        loaded: &Loaded,
        metrics: Arc<Metrics>,
        listener: Listener,
        lifecycle: Lifecycle,
        broker: Broker,
    ) -> anyhow::Result<Self> {
        let config = loaded.config.clone();
        say_worst_case(&config);
        let (tasks, health) = (lifecycle.tasks().clone(), Health::new(&lifecycle));

        let (node, telemetry) = (config.server.node_name(), &config.telemetry);
        let traces = Traces::start(&telemetry.otlp, &telemetry.traces, &node, &metrics)?;
        let (kind, name, method) = ("bidi_stream", "bowline.v1.StreamService", "StreamData");
        let auth = Arc::new(Auth::new(config.auth, metrics.clone()).context("cannot tell callers apart")?);
        let hub = Arc::new(Hub::new(config.topics, broker, metrics.clone()));
        let shared = Arc::new(connection::Shared {
            config: config.connection,
            node,
            auth: auth.clone(),
            registry: Arc::new(Registry::new(config.registry, metrics.clone())),
            directory: directory(config.session, &hub, &tasks),
            hub,
            messages: (metrics.rpc_msg_received(kind, name, method), metrics.rpc_msg_sent(kind, name, method)),
            metrics: metrics.clone(),
            traces: traces.clone(),
            tasks: tasks.clone(),
        });
        share_revocations(&auth, &shared.hub.fleet(), &tasks);
        let (address, drain) = (listener.local_addr(), Drain::new(config.drain, &lifecycle, &shared.registry));
        let admin = config
            .admin
            .enabled
            .then(|| operators::open(&config.admin, loaded, &lifecycle, &health, &drain, &shared))
            .transpose()?;

        auth.spawn(&health, &tasks);
        canary::release(config.health, &shared.hub, health.component("canary"), &tasks);
        tasks.spawn_until_stopped("cut off", drain.clone().follow_broker(health.clone(), config.broker.max_cut_off()));
        let bridges = bridge::open(&shared.hub, shared.config.max_payload(), &lifecycle, &metrics);
        tasks.spawn_until_stopped("registry sweep", shared.registry.clone().sweep());
        tasks.spawn_until_stopped("housekeeping", housekeeping(shared.clone()));
        expire_log_level(&tasks);
        tasks.spawn_until_stopped("report", report::run(metrics.clone(), config.telemetry.report_interval));
        tasks.spawn_until_stopped("phase metric", follow_phase(metrics.clone(), lifecycle.watch()));

        let end_transports = CancellationToken::new();
        let shutdown = Shutdown { begin: end_transports.clone(), grace: TRANSPORT_GRACE };
        let routes = service::routes(&shared, &health)?.prepare();
        let service = around(routes, auth, &config.transport, &metrics, &traces)?;
        let transports = tasks.spawn("transports", {
            let (tasks, transport) = (tasks.clone(), config.transport);
            async move { transport::serve(listener, service, &transport, &tasks, metrics, shutdown).await }
        });
        tracing::info!(%address, tls = loaded.config.transport.tls.enabled, "listening for clients");
        lifecycle.advance(Phase::Serving);
        let registry = shared.registry.clone();
        Ok(Self { lifecycle, registry, drain, address, admin, bridges, end_transports, transports, traces })
    }

    /// Where clients are served, with the port the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators are served, if they are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(admin::Admin::address)
    }

    /// Live connections.
    pub fn connection_count(&self) -> usize {
        self.registry.len()
    }

    /// Leaves: not ready, still serving; then clients are told to move; then whoever is left is closed. Joins a drain that
    /// is under way. `hurry` skips what is still to be waited for. Ends by itself, at the latest after the configured
    /// times and six seconds.
    pub async fn leave(self, hurry: impl Future<Output = ()>) {
        self.drain.begin(Order { reason: "shutdown".into(), exit: true, ..Order::default() });
        tokio::select! {
            biased;
            () = self.drain.drained() => {}
            () = hurry => {
                self.drain.hurry();
                self.drain.drained().await;
            }
        }
        if timeout(BRIDGE_GRACE, self.bridges.ended()).await.is_err() {
            tracing::warn!("what bridges have heard is not stored in time");
        }
        self.end_transports.cancel();
        if self.transports.await.is_err() {
            tracing::error!("serving transports ended in a panic");
        }
        self.lifecycle.advance(Phase::Stopped);
        if timeout(TASK_GRACE, self.lifecycle.ended()).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        if let Some(admin) = self.admin {
            admin.ended().await;
        }
        // Last, so that what the end itself left behind goes along.
        self.traces.shutdown().await;
    }
}

fn say_worst_case(config: &Config) {
    let worst = config.worst_case();
    let (bytes, limit) = (worst.bytes, worst.limit_bytes);
    tracing::info!(bytes, limit, "memory that peers and topics can take at worst; see `bowline config --memory`");
}

/// All topics in this process.
fn in_memory(config: &Config) -> Broker {
    let total = Total::new(config.topics.max_total_history.as_u64());
    Broker::Memory(Memory::bounded(config.topics.max_topics, total))
}

/// Who holds which session here, known to the other replicas; and what sees to those of replicas that are lost.
fn directory(config: session::Config, hub: &Arc<Hub>, tasks: &Tasks) -> Arc<Directory> {
    if hub.fleet().is_shared() {
        tasks.spawn_until_stopped("heir", session::see_to_lost(hub.clone(), config.key_grace));
    }
    let directory = Arc::new(Directory::new(config, hub.fleet()));
    directory.serve();
    directory
}

/// What is revoked at one replica is at all.
fn share_revocations(auth: &Arc<Auth>, fleet: &Fleet, tasks: &Tasks) {
    if !fleet.is_shared() || auth.is_constant() {
        return;
    }
    let (theirs, ours, tasks) = (auth.clone(), fleet.clone(), tasks.clone());
    fleet.serve(
        Matter::Revoke,
        Arc::new(move |content| {
            let revoked = std::str::from_utf8(&content).map_or(0, |text| theirs.revoke(text));
            std::future::ready(revoked).boxed()
        }),
    );
    auth.on_revoked(Box::new(move |text| {
        let fleet = ours.clone();
        drop(tasks.spawn("revocation", async move { fleet.tell(Matter::Revoke, text.into()).await }));
    }));
}

/// The services, and what stands around them: every call is recorded, also those that do not get in.
fn around<S>(
    services: S,
    auth: Arc<Auth>,
    config: &transport::Config,
    metrics: &Arc<Metrics>,
    traces: &Traces,
) -> anyhow::Result<Observe<Gate<KnowsCaller<Crowd<S>>>>> {
    let methods =
        Methods::default().with(proto::DESCRIPTORS).context("the descriptors built into the program are broken")?;
    let methods = Arc::new(methods);
    let services = Crowd::new(services, methods.clone(), config.max_unary_calls);
    let services = CallerLayer::new(auth).layer(services);
    let services = GateLayer::new(methods.clone(), config.unary_timeout, config.write_timeout).layer(services);
    Ok(ObserveLayer::new(methods, metrics.clone(), traces.clone()).layer(services))
}

fn expire_log_level(tasks: &Tasks) {
    if let Some(level) = LogLevel::of_process() {
        tasks.spawn_until_stopped("log level", level.clone().expire());
    }
}

async fn follow_phase(metrics: Arc<Metrics>, mut phase: watch::Receiver<Phase>) {
    loop {
        metrics.phase_entered(*phase.borrow_and_update());
        if phase.changed().await.is_err() {
            return;
        }
    }
}

async fn housekeeping(shared: Arc<connection::Shared>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.hub.crowded() => {
                shared.hub.make_room();
                continue;
            }
        }
        shared.hub.sweep();
        let expired = shared.directory.sweep();
        shared.metrics.sessions_expired.inc_by(expired as u64);
        if !shared.auth.is_constant() {
            shared.auth.expire_told();
            shared.registry.entries().iter().for_each(|entry| entry.review());
        }
    }
}
