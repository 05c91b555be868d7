//! Whether the servers that keep events of durability SYNCED confirm them once they are on disk.
//!
//! Over the connection of an ordinary user that is not to be seen. In the system account each server says how it was
//! started, and the tags it has; who keeps which stream, JetStream says to everybody.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::{Client, Message};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    super::config,
    access::Visitor,
    api::{self, Described, Problem},
    links,
    names::Names,
};
use crate::telemetry::metrics::Metrics;

/// How long the first server may take to answer, and how long after one another may.
const ANSWERS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(500));
/// What every server with JetStream answers in the system account.
const QUESTION: &str = "$SYS.REQ.SERVER.PING.JSZ";

/// A server, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    /// It confirms what it keeps once that is on disk.
    pub(super) syncs: bool,
}

#[derive(Debug, Deserialize)]
struct Answer {
    server: Itself,
    data: Option<Jetstream>,
}

#[derive(Debug, Deserialize)]
struct Itself {
    name: String,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Jetstream {
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    config: Value,
}

/// All servers with JetStream, as far as they answer in time.
pub(super) async fn servers(config: &config::Nats) -> Result<Vec<Server>, Problem> {
    let visitor = Visitor { section: "broker.nats.synced", access: config.synced.access() };
    let (alarm, metrics) = (Arc::new(Notify::new()), Arc::new(Metrics::new()));
    let client = links::once(config, visitor, "bowline durability", &alarm, &metrics).await?;
    let unreachable = |error: &dyn std::error::Error| Problem::Unreachable(error.to_string());
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| unreachable(&error))?;
    let asked = client.publish_with_reply(QUESTION, inbox, "".into()).await;
    asked.map_err(|error| unreachable(&error))?;
    let (mut servers, mut deadline) = (Vec::new(), Instant::now() + ANSWERS.0);
    while let Ok(Some(message)) = timeout_at(deadline, answers.next()).await {
        if message.status.is_some() {
            return Err(Problem::Unfit(
                "who asks about the disks of NATS servers is answered by none of them: broker.nats.synced needs a user of \
                 the system account (system_account in the servers' configuration)"
                    .to_owned(),
            ));
        }
        servers.extend(read(&message));
        deadline = deadline.min(Instant::now() + ANSWERS.1);
    }
    if servers.is_empty() { Err(Problem::Late) } else { Ok(servers) }
}

/// None of a server that keeps nothing.
fn read(message: &Message) -> Option<Server> {
    let Answer { server: Itself { name, tags }, data } = serde_json::from_slice(&message.payload).ok()?;
    let jetstream = data.filter(|data| !data.disabled)?;
    Some(Server { name, tags, syncs: jetstream.config["sync_always"] == true })
}

/// The streams of durability SYNCED are kept by servers that confirm after the disk.
pub(super) async fn verify(config: &config::Nats, names: &Names, asking: &Client) -> Result<(), Problem> {
    let servers = servers(config).await?;
    let mut keepers = BTreeMap::new();
    for partition in names.all(true).filter(|partition| names.is_synced(*partition)) {
        let stream = names.stream(partition);
        let described = api::stream(asking, &stream).await?;
        keepers.insert(stream, kept_by(&described));
    }
    judge(&config.synced.tag, &servers, &keepers)?;
    tracing::info!(tag = config.synced.tag, "servers that confirm after the disk keep the topics that ask for it");
    Ok(())
}

/// Who keeps a stream.
pub(super) fn kept_by(described: &Described) -> Vec<String> {
    let others = described.cluster["replicas"].as_array().into_iter().flatten().map(|keeper| &keeper["name"]);
    let all = [&described.cluster["leader"]].into_iter().chain(others);
    all.filter_map(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whoever has the tag, and whoever keeps one of the streams, confirms after the disk, as far as they answer; of each
/// stream a majority does.
pub(super) fn judge(tag: &str, servers: &[Server], keepers: &BTreeMap<String, Vec<String>>) -> Result<(), Problem> {
    let advice = "set sync_interval: always in its jetstream section";
    if let Some(Server { name, .. }) = servers.iter().find(|server| has(server, tag) && !server.syncs) {
        return Err(Problem::Unfit(format!(
            "the NATS server {name} has the tag {tag:?} (broker.nats.synced.tag), and confirms before the disk: {advice}, or take \
             the tag away"
        )));
    }
    for (stream, keepers) in keepers {
        let known: Vec<&Server> =
            keepers.iter().filter_map(|keeper| servers.iter().find(|server| server.name == *keeper)).collect();
        if let Some(Server { name, .. }) = known.iter().find(|server| !server.syncs) {
            return Err(Problem::Unfit(format!(
                "the NATS server {name} keeps {stream}, and confirms before the disk: {advice}, or move the stream to servers \
                 with the tag {tag:?}"
            )));
        }
        if known.len() * 2 <= keepers.len() {
            return Err(Problem::Unreachable(format!(
                "of the {} servers that keep {stream}, {} say whether they confirm after the disk",
                keepers.len(),
                known.len()
            )));
        }
    }
    Ok(())
}

pub(super) fn has(server: &Server, tag: &str) -> bool {
    server.tags.iter().any(|own| own.eq_ignore_ascii_case(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, tags: &[&str], syncs: bool) -> Server {
        Server { name: name.to_owned(), tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), syncs }
    }

    #[test]
    fn whoever_keeps_it_has_to_say_that_it_is_on_disk() {
        let (a, b, c) = (server("a", &["disk"], true), server("b", &["disk"], true), server("c", &[], false));
        let kept = |by: &[&str]| BTreeMap::from([("S".to_owned(), by.iter().map(|name| (*name).to_owned()).collect())]);
        let says = |servers: &[&Server], by: &[&str]| {
            let servers: Vec<_> = servers.iter().map(|server| (*server).clone()).collect();
            judge("disk", &servers, &kept(by)).map_err(|problem| (problem.may_pass(), problem.to_string()))
        };
        assert_eq!(says(&[&a, &b, &c], &["a", "b"]), Ok(()), "whoever else there is");
        assert_eq!(says(&[&a, &b], &["a", "b", "d"]), Ok(()), "one is away");
        let (may_pass, sentence) = says(&[&a], &["a", "b", "d"]).unwrap_err();
        assert!(may_pass && sentence.contains("of the 3 servers that keep S, 1 say"), "{sentence}");
        assert!(says(&[&a], &[]).is_err(), "nobody keeps it yet");
        let (may_pass, sentence) = says(&[&a, &b, &c], &["a", "c"]).unwrap_err();
        assert!(!may_pass && sentence.contains("the NATS server c keeps S"), "{sentence}");
        let lazy = server("d", &["disk"], false);
        let (may_pass, sentence) = says(&[&a, &lazy], &["a"]).unwrap_err();
        assert!(!may_pass && sentence.contains("d has the tag \"disk\"") && sentence.contains("sync_interval: always"));
    }
}
