//! The servers: which can be reached, what they are, and whether JetStream is on.

use std::{collections::HashSet, sync::Arc};

use async_nats::{Client, ServerInfo};
use futures_util::future::join_all;
use serde::Deserialize;
use tokio::sync::Notify;

use super::super::{
    super::{config, finding::Finding},
    access::Visitor,
    api::{self, Problem},
    links::{self, OLDEST_SERVER},
};
use crate::telemetry::metrics::Metrics;

/// JetStream is off, or the account has none.
const NO_JETSTREAM: [u64; 2] = [10039, 10076];

/// What came of it.
pub(super) struct Reached {
    /// A connection to one of them.
    pub(super) client: Client,
    /// How many there are, JetStream or not.
    pub(super) count: usize,
    /// The least that any of them takes, bytes.
    pub(super) max_payload: u64,
}

/// Connects to each server that is named, and to those that they name. None if none lets us in.
pub(super) async fn examine(config: &config::Nats, found: &mut Vec<Finding>) -> Option<Reached> {
    let first = reach(config, &config.servers).await;
    let mut clients = Vec::new();
    let (mut seen, mut others) = (HashSet::new(), HashSet::new());
    let is_one_there = first.iter().any(|(_, reached)| reached.is_ok());
    for (server, reached) in first {
        match reached {
            Ok(client) => {
                let info = client.server_info();
                others.extend(info.connect_urls.iter().cloned());
                found.push(described(&server, &client, &info));
                if seen.insert(info.server_id) {
                    clients.push(client);
                }
            }
            Err(problem) => found.push(unreached(&server, &problem, is_one_there)),
        }
    }
    let scheme = config.servers.first().and_then(|server| server.split("://").next()).unwrap_or("nats");
    let others: Vec<String> = others.into_iter().map(|address| format!("{scheme}://{address}")).collect();
    let others: Vec<String> = others.into_iter().filter(|server| !config.servers.contains(server)).collect();
    for (server, reached) in reach(config, &others).await {
        match reached {
            Ok(client) => {
                let info = client.server_info();
                if seen.insert(info.server_id.clone()) {
                    found.push(described(&server, &client, &info));
                    clients.push(client);
                }
            }
            Err(problem) => {
                let says = format!("{server} is named by another server, and cannot be reached from here: {problem}");
                let advice = "open the way to it, or set client_advertise in the servers: replicas go there when they \
                              lose their own";
                found.push(Finding::warning("server", says, advice));
            }
        }
    }
    let max_payload = clients.iter().map(|client| client.server_info().max_payload as u64).min()?;
    Some(Reached { count: clients.len(), max_payload, client: clients.into_iter().next()? })
}

async fn reach(config: &config::Nats, servers: &[String]) -> Vec<(String, Result<Client, Problem>)> {
    let all = servers.iter().map(|server| async {
        let alone = config::Nats { servers: vec![server.clone()], ..config.clone() };
        let (alarm, metrics) = (Arc::new(Notify::new()), Arc::new(Metrics::new()));
        let client = links::once(&alone, Visitor::own(&alone), "doctor", &alarm, &metrics).await;
        (server.clone(), client)
    });
    join_all(all).await
}

fn unreached(server: &str, problem: &Problem, is_one_there: bool) -> Finding {
    let says = format!("{server} does not let us in: {problem}");
    let advice = if problem.may_pass() {
        "see whether it runs there, and whether the way to it is open"
    } else {
        "correct what [broker.nats] says, or what the server is to believe"
    };
    if is_one_there { Finding::warning("server", says, advice) } else { Finding::problem("server", says, advice) }
}

fn described(server: &str, client: &Client, info: &ServerInfo) -> Finding {
    let says = format!("{server} is {:?} of version {}", info.server_name, info.version);
    let (major, minor, patch) = OLDEST_SERVER;
    if !client.is_server_compatible(major, minor, patch) {
        return Finding::problem("server", says, format!("install {major}.{minor} or later"));
    }
    if !info.jetstream {
        let advice = "start it with jetstream, or do not name it";
        return Finding::warning("server", format!("{says}, without JetStream"), advice);
    }
    Finding::ok("server", says)
}

#[derive(Debug, Deserialize)]
struct Account {
    streams: i64,
    limits: Limits,
}

#[derive(Debug, Deserialize)]
struct Limits {
    max_storage: i64,
    max_memory: i64,
    max_streams: i64,
}

/// Whether JetStream is there for us.
pub(super) async fn jetstream(client: &Client, config: &config::Nats, synced: bool, found: &mut Vec<Finding>) -> bool {
    let check = "jetstream";
    let account: Account = match api::account(client).await {
        Ok(account) => account,
        Err(Problem::Refused { code, text }) if NO_JETSTREAM.contains(&code) => {
            let says = format!("the account that we are of has no JetStream: {text}");
            found.push(Finding::problem(check, says, "enable jetstream for it in the servers' configuration"));
            return false;
        }
        Err(problem) => {
            let says = format!("JetStream does not answer: {problem}");
            let advice = "start the servers with jetstream; in a cluster, see whether a majority of them is there";
            found.push(Finding::problem(check, says, advice));
            return false;
        }
    };
    let Limits { max_storage, max_memory, max_streams } = account.limits;
    let room = if config.storage == config::Storage::File { max_storage } else { max_memory };
    if room == 0 {
        let says = format!("the account may keep nothing in {}", config.storage.as_str());
        found.push(Finding::problem(check, says, "raise its limit in the servers' configuration"));
    }
    // The partitions, and the buckets of epochs and of replicas.
    let wanted = i64::from(config.partitions) * if synced { 2 } else { 1 } + 2;
    if (0..wanted).contains(&max_streams) {
        let says = format!("the account may have {max_streams} streams, and {wanted} are needed");
        let advice = "raise its limit, or lower broker.nats.partitions before there are streams";
        found.push(Finding::problem(check, says, advice));
    }
    found.push(Finding::ok(check, format!("on; the account has {} streams", account.streams)));
    true
}
