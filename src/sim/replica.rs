//! A server of the simulation: the whole program but for its sockets, its signals and its admin port.

use std::{future, sync::Arc};

use super::network::Network;
use crate::{app::App, config, lifecycle::Tasks, telemetry::metrics::Metrics, transport::Listener};

/// Small and quick, so that limits are met and clocks run out within a run.
const CONFIG: &str = r#"
[registry]
heartbeat_interval = "2s"
receive_timeout = "3s"
probe_timeout = "2s"
probe_queue_timeout = "1s"
send_timeout = "4s"

[connection]
queue_size = 32
batch_size = "2KiB"
close_grace = "500ms"

[session]
ttl = "20s"
key_grace = "2s"

[topics]
dedupe_window = "60s"

[[topics.rules]]
pattern = "small.>"
history = { max_events = 24 }
delivery = { queue_size = 4 }

[[topics.rules]]
pattern = "brief.>"
history = { max_age = "3s" }

[[topics.rules]]
pattern = "state.>"
class = "state"
max_keys = 6
history = { max_events = 24 }
delivery = { queue_size = 6, max_rate_hz = 5 }

[[topics.rules]]
pattern = "signal.>"
class = "signal"
delivery = { queue_size = 4 }

[[topics.rules]]
pattern = "paced.>"
max_lag = 12

[[topics.rules]]
pattern = ">"

[drain]
max_reconnects_per_second = 5
spread = "2s"
grace = "2s"

[admin]
enabled = false

[telemetry]
report_interval = "0s"
"#;

/// How long its clients have when it leaves, microseconds: `drain.spread` and `drain.grace`.
pub(super) const DRAIN: u64 = 4_000_000;

/// See the module.
pub(super) struct Replica {
    number: usize,
    network: Network,
    app: App,
    metrics: Arc<Metrics>,
}

impl Replica {
    /// Starts one, and leads new connections there.
    pub(super) fn start(network: &Network) -> Self {
        let (number, peers) = network.join();
        let mut loaded = config::load(&config::Sources::default()).expect("the defaults are right");
        loaded.config = toml::from_str(CONFIG).expect("the configuration is right");
        loaded.config.server.node = format!("replica-{number}");
        let listener = Listener::simulated(&loaded.config.transport, peers);
        let metrics = Arc::new(Metrics::new());
        let app = App::serve(&loaded, metrics.clone(), listener).expect("it starts");
        network.route(Some(number));
        Self { number, network: network.clone(), app, metrics }
    }

    /// What it calls itself.
    pub(super) fn node(&self) -> String {
        format!("replica-{}", self.number)
    }

    /// How many clients it has given up because they took nothing: what those can not be told.
    pub(super) fn given_up(&self) -> u64 {
        self.metrics.send_errors.get()
    }

    /// Ends as if the machine had lost power: nobody is told anything. What it has in memory is lost.
    pub(super) fn crash(self, tasks: &Tasks) -> usize {
        let lost = self.network.lose_replica(self.number);
        // It goes on where nobody sees it until its tasks have ended.
        drop(tasks.spawn("crashed replica", self.app.leave(future::ready(()))));
        lost
    }

    /// Leaves in order, while another replica already serves.
    pub(super) async fn leave(self) {
        self.app.leave(future::pending()).await;
    }
}
