//! Who is measured: replicas as processes, and what they keep their topics in.

use std::{process::Command, rc::Rc};

use anyhow::{Context as _, Result};

use crate::{balancer::Balancer, bowline::Bowline, served::Served, servers::Servers, stage::Stage};

/// Streams are kept on so many servers.
const COPIES: &str = "BOWLINE__BROKER__NATS__REPLICAS";
/// What the names of streams begin with.
const PREFIX: &str = "BOWLINE__BROKER__NATS__PREFIX";

type Settings = Vec<(&'static str, String)>;

/// Replicas that share their topics.
pub struct Contender {
    pub name: &'static str,
    pub replicas: Vec<Served>,
    /// None: the memory of the only one.
    servers: Option<Rc<Servers>>,
    settings: Settings,
}

/// All of them, up at the same time, so that they can take turns.
pub struct Contenders {
    pub memory: Contender,
    /// One copy of each event.
    pub one: Contender,
    /// Three, on three replicas.
    pub three: Contender,
    /// Three, each on the disk before it counts.
    pub synced: Contender,
}

impl Contenders {
    pub async fn start() -> Result<Self> {
        let missing = "nats-server is missing: run .ci/tools nats";
        let servers = Rc::new(Servers::direct("").await.context(missing)?);
        let careful = Rc::new(Servers::direct("jetstream { sync_interval: always }").await.context(missing)?);
        let other = vec![(COPIES, "1".to_owned()), (PREFIX, "one".to_owned())];
        Ok(Self {
            memory: Contender::start("memory", 1, None, Vec::new()).await,
            one: Contender::start("NATS, R1", 1, Some(&servers), other).await,
            three: Contender::start("NATS, R3", 3, Some(&servers), Vec::new()).await,
            synced: Contender::start("NATS, R3, synced", 1, Some(&careful), Vec::new()).await,
        })
    }
}

impl Contender {
    async fn start(name: &'static str, count: usize, servers: Option<&Rc<Servers>>, own: Settings) -> Self {
        let settings = servers.map(|servers| servers.settings()).into_iter().flatten().chain(own).collect();
        let mut contender = Self { name, replicas: Vec::new(), servers: servers.cloned(), settings };
        for n in 0..count {
            contender.replicas.push(contender.replica(n));
        }
        let balancer = Balancer::open().await;
        for replica in 0..count {
            contender.show(replica, &balancer).await;
        }
        contender.hide(&balancer).await;
        contender
    }

    fn replica(&self, n: usize) -> Served {
        let node = format!("replica-{n}");
        let mut settings: Vec<_> = self.settings.iter().map(|(key, value)| (*key, &**value)).collect();
        settings.push(("BOWLINE__SERVER__NODE", &node));
        Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), &settings)
    }

    /// Has a balancer send clients to that replica, once it is ready.
    pub async fn show(&self, replica: usize, balancer: &Balancer) {
        let Served { address, admin, .. } = &self.replicas[replica];
        balancer.add(*address, admin.expect("an admin port"));
        balancer.knows(*address).await;
    }

    /// Has a balancer look after none of them any more: that would be work for them.
    pub async fn hide(&self, balancer: &Balancer) {
        for replica in &self.replicas {
            balancer.forget(replica.address).await;
        }
    }

    /// Ends a replica where it stands.
    pub fn kill(&mut self, replica: usize) -> Result<()> {
        self.replicas[replica].child.kill()?;
        self.replicas[replica].child.wait()?;
        Ok(())
    }

    /// Another one in the place of one that was killed.
    pub fn revive(&mut self, replica: usize) {
        self.replicas[replica] = self.replica(replica);
    }

    pub fn is_shared(&self) -> bool {
        self.servers.is_some()
    }

    /// Publishing at one replica, receiving at another or the same.
    pub fn stage(&self, publish: usize, receive: usize) -> Stage {
        let address = |n: usize| self.replicas[n].address;
        let servers = self.replicas.iter().map(|replica| replica.child.id()).collect();
        Stage {
            dial: Bowline::dial,
            clients: address(receive),
            publishers: address(publish),
            servers,
            brokers: self.brokers(),
            has_own_core: false,
        }
    }

    fn brokers(&self) -> Vec<u32> {
        self.servers.iter().flat_map(|servers| &servers.all).map(|server| server.id()).collect()
    }

    /// Memory of all its replicas, KiB.
    pub fn resident_kib(&self) -> u64 {
        self.replicas.iter().map(Served::resident_kib).sum()
    }

    /// How many consumers and streams JetStream has; none where it is not there.
    pub async fn jetstream(&self) -> Result<Option<(u64, u64)>> {
        let Some(servers) = &self.servers else { return Ok(None) };
        let account = servers.ask("INFO").await.context("JetStream does not answer")?;
        let count = |what: &str| account[what].as_u64().with_context(|| format!("no {what}: {account}"));
        Ok(Some((count("consumers")?, count("streams")?)))
    }
}
