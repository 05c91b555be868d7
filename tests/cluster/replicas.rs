//! Three replicas behind a load balancer, each with ways of its own to the NATS servers.

use std::{process::Command, time::Duration};

use bowline::lifecycle::Tasks;
use tokio::time::{Instant, sleep};

use crate::{balancer::Balancer, relay::Relay, served::Served, servers::Servers, signals};

const RULES: &str = r#"[{ pattern = "state.>", class = "state" }, { pattern = ">" }]"#;
/// Longer than a replica may take to leave.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);

pub struct Replicas {
    pub all: Vec<Replica>,
    pub balancer: Balancer,
}

pub struct Replica {
    name: String,
    served: Option<Served>,
    /// To each of the NATS servers.
    ways: Vec<Relay>,
    settings: Vec<(&'static str, String)>,
}

impl Replicas {
    pub async fn start(servers: &Servers, tasks: &Tasks) -> Self {
        let balancer = Balancer::open().await;
        let mut all = Vec::new();
        for n in 0..3 {
            let mut ways = Vec::new();
            for server in &servers.all {
                let way = Relay::open(tasks).await;
                way.lead_to(server.address());
                ways.push(way);
            }
            let mut replica = Replica::new(n, ways);
            replica.run(&balancer).await;
            all.push(replica);
        }
        Self { all, balancer }
    }
}

impl Replica {
    fn new(n: usize, ways: Vec<Relay>) -> Self {
        let urls: Vec<_> = ways.iter().map(|way| format!("\"nats://{}\"", way.address())).collect();
        let settings = [
            ("BOWLINE__SERVER__NODE", &*format!("replica-{n}")),
            ("BOWLINE__BROKER__KIND", "nats"),
            ("BOWLINE__BROKER__NATS__SERVERS", &format!("[{}]", urls.join(", "))),
            ("BOWLINE__BROKER__NATS__REPLICAS", "3"),
            ("BOWLINE__BROKER__NATS__PARTITIONS", "4"),
            ("BOWLINE__BROKER__NATS__CHECK_INTERVAL", "1s"),
            ("BOWLINE__BROKER__NATS__MAX_CUT_OFF", "2s"),
            ("BOWLINE__TOPICS__RULES", RULES),
            // A process that stands still is to be noticed soon.
            ("BOWLINE__REGISTRY__HEARTBEAT_INTERVAL", "1s"),
            ("BOWLINE__REGISTRY__RECEIVE_TIMEOUT", "3s"),
            ("BOWLINE__REGISTRY__PROBE_TIMEOUT", "2s"),
            ("BOWLINE__HEALTH__CANARY_INTERVAL", "1s"),
            ("BOWLINE__HEALTH__CANARY_TIMEOUT", "3s"),
        ];
        let settings = settings.map(|(key, value)| (key, value.to_owned())).to_vec();
        Self { name: format!("replica-{n}"), served: None, ways, settings }
    }

    /// Starts it, where it is not, and waits until clients may be sent to it.
    pub async fn run(&mut self, balancer: &Balancer) {
        let settings: Vec<_> = self.settings.iter().map(|(key, value)| (*key, &**value)).collect();
        let program = Command::new(env!("CARGO_BIN_EXE_bowline"));
        let served = tokio::task::block_in_place(|| Served::bowline(program, &settings));
        balancer.add(served.address, served.admin.expect("an admin port"));
        balancer.knows(served.address).await;
        self.served = Some(served);
    }

    pub fn served(&self) -> &Served {
        self.served.as_ref().unwrap_or_else(|| panic!("{} runs", self.name))
    }

    /// Ends it where it stands. The balancer finds out by itself.
    pub fn kill(&mut self) {
        drop(self.served.take());
    }

    /// Has it leave, as a rollout does: another one takes its place afterwards.
    pub async fn leave(&mut self, balancer: &Balancer) {
        self.signal("-TERM");
        let mut served = self.served.take().expect("it runs");
        balancer.forget(served.address).await;
        let begun = Instant::now();
        while served.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < LEAVES_WITHIN, "{} does not leave", self.name);
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn signal(&self, name: &str) {
        signals::send(self.served().child.id(), name);
    }

    /// What it says to NATS, and what NATS says to it, goes no further, or goes on.
    pub fn part(&self, there: bool, back: bool) {
        self.ways.iter().for_each(|way| way.stall(there, back));
    }
}
