//! Whether what is confirmed is on disk.

use std::collections::BTreeMap;

use async_nats::Client;

use super::super::{
    super::{config, finding::Finding},
    api::{self, Problem},
    names::Names,
    synced,
};

const CHECK: &str = "sync";

/// Asks the servers, if it is said who may. `needed`: there are topics that ask for it.
pub(super) async fn examine(client: &Client, config: &config::Nats, needed: bool, found: &mut Vec<Finding>) {
    if config.synced.access().named().is_empty() {
        return found.push(Finding::warning(
            CHECK,
            "whether servers confirm before or after the disk is not to be seen over this connection",
            "a power cut of a majority loses what was confirmed just before, unless nats-server has sync_interval: always in \
             its jetstream section; with a user of the system account in [broker.nats.synced] it can be seen",
        ));
    }
    let servers = match synced::servers(config).await {
        Ok(servers) => servers,
        Err(problem) => {
            let says = format!("servers do not say whether they confirm after the disk: {problem}");
            let advice = "name a user of the system account in [broker.nats.synced]";
            return found.push(Finding::problem(CHECK, says, advice));
        }
    };
    let names_of = |syncs: bool| {
        let named = servers.iter().filter(|server| server.syncs == syncs).map(|server| &*server.name);
        named.collect::<Vec<_>>().join(", ")
    };
    let lazy = names_of(false);
    if needed {
        let keepers = keepers(client, config).await;
        match keepers.and_then(|keepers| synced::judge(&config.synced.tag, &servers, &keepers)) {
            Ok(()) => tagged(config, &servers, found),
            Err(problem) => {
                let advice = "a server of Bowline does not start so: topics.rules ask for durability \"synced\"";
                found.push(Finding::problem(CHECK, problem.to_string(), advice));
            }
        }
    } else if lazy.is_empty() {
        found.push(Finding::ok(CHECK, format!("{} confirm after the disk", names_of(true))));
    } else {
        let says = format!("{lazy} confirm before the disk");
        let advice = "a power cut of a majority loses what was confirmed just before; sync_interval: always, in the jetstream \
                      section of nats-server, changes that";
        found.push(Finding::warning(CHECK, says, advice));
    }
}

/// Whether there are enough of those that may keep what has to be on disk.
fn tagged(config: &config::Nats, servers: &[synced::Server], found: &mut Vec<Finding>) {
    let tag = &*config.synced.tag;
    let named: Vec<&str> =
        servers.iter().filter(|server| synced::has(server, tag)).map(|server| &*server.name).collect();
    let says = format!("{} servers have the tag {tag:?} and confirm after the disk: {}", named.len(), named.join(", "));
    let wanted = usize::from(config.replicas);
    // A server that is alone places streams whatever it is called.
    if named.len() >= wanted || servers.len() == 1 {
        return found.push(Finding::ok(CHECK, says));
    }
    let advice = format!("{wanted} are needed (broker.nats.replicas): give others with sync_interval: always the tag");
    found.push(Finding::problem(CHECK, says, advice));
}

/// Who keeps the streams in question, of those that are there.
async fn keepers(client: &Client, config: &config::Nats) -> Result<BTreeMap<String, Vec<String>>, Problem> {
    let names = Names::new(&config.prefix, config.partitions);
    let mut keepers = BTreeMap::new();
    for partition in names.all(true).filter(|partition| names.is_synced(*partition)) {
        let stream = names.stream(partition);
        match api::stream(client, &stream).await {
            Ok(described) => drop(keepers.insert(stream, synced::kept_by(&described))),
            Err(problem) if problem.is_no_stream() => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(keepers)
}
