//! Three NATS servers that keep streams together, each of which can be killed, stopped, restarted, and parted from another.

use std::{net::TcpListener, time::Duration};

use bowline::lifecycle::Tasks;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    nats::{CLUSTER_PORT, NatsServer},
    relay::Relay,
};

/// Longer than a cluster takes to agree on who leads.
const PATIENCE: Duration = Duration::from_secs(30);
/// Each reaches each other by a way of ours: the first is the one that dials. They dial nobody else, because what they say of
/// themselves to each other is no address.
const WAYS: [(usize, usize); 6] = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
/// They find out soon that one of them is away.
const IMPATIENT: &str = "ping_interval: \"2s\"\nping_max: 2";

pub struct Servers {
    pub all: Vec<NatsServer>,
    ways: Vec<Relay>,
}

impl Servers {
    /// `None` after saying so, if there is no such program. `settings` are for each.
    pub async fn start(tasks: &Tasks, settings: &str) -> Option<Self> {
        let (mut all, mut ways) = (Vec::new(), Vec::new());
        for _ in WAYS {
            ways.push(Relay::open(tasks).await);
        }
        for n in 0..3 {
            let dialled = WAYS.iter().zip(&ways).filter(|((from, _), _)| *from == n);
            let routes: Vec<_> = dialled.map(|(_, way)| format!("\"nats://{}\"", way.address())).collect();
            let routes = format!("advertise: \"127.0.0.1:9\"\nroutes: [{}]", routes.join(", "));
            let settings = of_cluster(n, CLUSTER_PORT, &routes, &format!("{IMPATIENT}\n{settings}"));
            let server = NatsServer::start_with(&settings).await?;
            for (_, way) in WAYS.iter().zip(&ways).filter(|((_, to), _)| *to == n) {
                way.lead_to(server.cluster_address());
            }
            all.push(server);
        }
        let servers = Self { all, ways };
        servers.settled().await;
        Some(servers)
    }

    /// The same with nothing between them, for what is measured. They cannot be parted.
    pub async fn direct(settings: &str) -> Option<Self> {
        // Each has to know where the others will be before they are there.
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = held.map(|listener| listener.local_addr().unwrap().port().to_string());
        let routes = ports.each_ref().map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
        let mut all = Vec::new();
        for (n, port) in ports.iter().enumerate() {
            let settings = of_cluster(n, port, &format!("routes: [{routes}]"), settings);
            all.push(NatsServer::start_with(&settings).await?);
        }
        let servers = Self { all, ways: Vec::new() };
        servers.settled().await;
        Some(servers)
    }

    /// What has a replica keep its topics in them.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let urls: Vec<_> = self.all.iter().map(|server| format!("\"{}\"", server.url())).collect();
        let servers = format!("[{}]", urls.join(", "));
        vec![("BOWLINE__BROKER__KIND", "nats".to_owned()), ("BOWLINE__BROKER__NATS__SERVERS", servers)]
    }

    /// What one of them says to another, and what it hears from it, goes no further, or goes on.
    pub fn part(&self, one: usize, other: usize, says: bool, hears: bool) {
        for ((from, to), way) in WAYS.iter().zip(&self.ways) {
            match (*from, *to) {
                pair if pair == (one, other) => way.stall(says, hears),
                pair if pair == (other, one) => way.stall(hears, says),
                _ => {}
            }
        }
    }

    /// Waits until JetStream answers: somebody leads.
    pub async fn settled(&self) {
        let begun = Instant::now();
        while self.ask("INFO").await.is_none_or(|answer| answer.get("error").is_some()) {
            assert!(begun.elapsed() < PATIENCE, "nobody leads:\n{}", self.all[0].log());
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks JetStream, by whichever server is reached.
    pub async fn ask(&self, what: &str) -> Option<Value> {
        let asked = async {
            let urls: Vec<_> = self.all.iter().map(NatsServer::url).collect();
            let client = async_nats::connect(urls).await.ok()?;
            let answer = client.request(format!("$JS.API.{what}"), "".into()).await.ok()?;
            serde_json::from_slice(&answer.payload).ok()
        };
        timeout(Duration::from_secs(5), asked).await.ok().flatten()
    }
}

/// One says nothing of the others to clients: each goes ways of its own.
fn of_cluster(n: usize, port: &str, routes: &str, settings: &str) -> String {
    format!(
        r#"
        server_name: "nats-{n}"
        cluster {{
            name: "cluster"
            listen: "127.0.0.1:{port}"
            no_advertise: true
            {routes}
        }}
        {settings}
        "#
    )
}
