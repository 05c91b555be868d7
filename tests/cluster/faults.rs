//! What is made to go wrong, and how it is mended again.

use std::time::Duration;

use tokio::time::sleep;

use crate::{crew::History, replicas::Replicas, servers::Servers};

/// One of them at a time, each with an end.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    KillReplica,
    StopReplica,
    /// The NATS server that leads the stream in which most is stored.
    KillLeader,
    StopLeader,
    /// The same is killed, and what it kept is cut short: the others have it all.
    CutStore,
    /// A replica is not heard by any NATS server, does not hear any, or both.
    ReplicaMute,
    ReplicaDeaf,
    ReplicaApart,
    /// The leader is not heard by the other two, or hears and is heard by none.
    LeaderMute,
    LeaderApart,
    RollServers,
    RollReplicas,
}

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::KillReplica,
        Self::StopReplica,
        Self::KillLeader,
        Self::StopLeader,
        Self::CutStore,
        Self::ReplicaMute,
        Self::ReplicaDeaf,
        Self::ReplicaApart,
        Self::LeaderMute,
        Self::LeaderApart,
        Self::RollServers,
        Self::RollReplicas,
    ];

    /// How long it takes where time is short. A client has lost a replica that says nothing after 4.5 s, a replica a server
    /// after 6 s.
    pub fn short(self) -> Duration {
        Duration::from_secs(match self {
            Self::KillReplica => 1,
            Self::StopReplica => 5,
            Self::LeaderApart => 5,
            Self::LeaderMute => 3,
            _ => 2,
        })
    }
}

/// All there is to break.
pub struct World {
    pub servers: Servers,
    pub replicas: Replicas,
    pub history: History,
}

impl World {
    /// Breaks something for so long, and mends it.
    pub async fn strike(&mut self, fault: Fault, time: Duration) {
        let n = fastrand::usize(..3);
        match fault {
            Fault::RollServers => return self.roll_servers().await,
            Fault::RollReplicas => return self.roll_replicas().await,
            Fault::KillLeader | Fault::StopLeader | Fault::CutStore | Fault::LeaderMute | Fault::LeaderApart => {
                let n = self.busiest().await;
                self.history.fault(&format!("{fault:?}: nats-{n}, {time:?}"));
                self.strike_server(fault, n, time).await;
            }
            _ => {
                self.history.fault(&format!("{fault:?}: replica-{n}, {time:?}"));
                self.strike_replica(fault, n, time).await;
            }
        }
        self.history.fault(&format!("{fault:?} is over"));
    }

    async fn strike_replica(&mut self, fault: Fault, n: usize, time: Duration) {
        let balancer = self.replicas.balancer.clone();
        let replica = &mut self.replicas.all[n];
        match fault {
            Fault::KillReplica => {
                let address = replica.served().address;
                replica.kill();
                sleep(time).await;
                balancer.forget(address).await;
                replica.run(&balancer).await;
            }
            Fault::StopReplica => {
                replica.signal("-STOP");
                sleep(time).await;
                replica.signal("-CONT");
            }
            _ => {
                let (there, back) = (!matches!(fault, Fault::ReplicaDeaf), !matches!(fault, Fault::ReplicaMute));
                replica.part(there, back);
                sleep(time).await;
                replica.part(false, false);
            }
        }
    }

    async fn strike_server(&mut self, fault: Fault, n: usize, time: Duration) {
        let server = &mut self.servers.all[n];
        match fault {
            Fault::KillLeader => {
                server.kill();
                sleep(time).await;
                server.run().await;
            }
            Fault::CutStore => {
                server.kill();
                assert!(server.cut_short("bowline-L", 4096) > 0, "there was something to cut");
                sleep(time).await;
                server.run().await;
            }
            Fault::StopLeader => {
                server.signal("-STOP");
                sleep(time).await;
                server.signal("-CONT");
            }
            _ => {
                let both = matches!(fault, Fault::LeaderApart);
                let others = || (0..3).filter(|other| *other != n);
                others().for_each(|other| self.servers.part(n, other, true, both));
                sleep(time).await;
                others().for_each(|other| self.servers.part(n, other, false, false));
            }
        }
    }

    async fn roll_servers(&mut self) {
        for n in 0..3 {
            self.history.fault(&format!("nats-{n} is restarted"));
            self.servers.all[n].stop();
            self.servers.all[n].run().await;
            self.whole().await;
        }
    }

    async fn roll_replicas(&mut self) {
        let balancer = self.replicas.balancer.clone();
        for n in 0..3 {
            self.history.fault(&format!("replica-{n} is replaced"));
            self.replicas.all[n].leave(&balancer).await;
            self.replicas.all[n].run(&balancer).await;
        }
    }

    /// Who leads the stream that holds most.
    async fn busiest(&self) -> usize {
        loop {
            let listed = self.servers.ask("STREAM.LIST").await.unwrap_or_default();
            let streams = listed["streams"].as_array().cloned().unwrap_or_default();
            let busiest = streams.iter().max_by_key(|stream| stream["state"]["messages"].as_u64());
            let leader =
                busiest.and_then(|stream| stream["cluster"]["leader"].as_str()?.strip_prefix("nats-")?.parse().ok());
            match leader {
                Some(leader) => return leader,
                None => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Waits until every stream has a leader and all its copies are current: whoever rolls servers waits for that.
    pub async fn whole(&self) {
        let begun = tokio::time::Instant::now();
        loop {
            let listed = self.servers.ask("STREAM.LIST").await.unwrap_or_default();
            let streams = listed["streams"].as_array().cloned().unwrap_or_default();
            let is_whole = |stream: &serde_json::Value| {
                let others = stream["cluster"]["replicas"].as_array().cloned().unwrap_or_default();
                let current = |other: &serde_json::Value| other["current"] == true && other["offline"] != true;
                stream["cluster"]["leader"].is_string() && others.len() == 2 && others.iter().all(current)
            };
            if !streams.is_empty() && streams.iter().all(is_whole) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the streams are not whole again: {listed}");
            sleep(Duration::from_millis(200)).await;
        }
    }
}
