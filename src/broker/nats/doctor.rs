//! Examines the NATS side as a replica would find it, and changes nothing: it asks what is there, and makes nothing that
//! is not.

mod servers;
mod stored;
mod sync;

use std::time::Duration;

use super::super::{
    config,
    finding::{Finding, Needs},
};

/// Everything there is to be said, in the order in which it builds on each other. Takes some seconds where servers do not
/// answer.
pub async fn examine(config: &config::Nats, needs: Needs) -> Vec<Finding> {
    let mut found = Vec::new();
    let reached = servers::examine(config, &mut found).await;
    settings(config, &mut found);
    secrecy(config, &mut found);
    let Some(reached) = reached else { return found };
    payload(reached.max_payload, needs.max_message, &mut found);
    if servers::jetstream(&reached.client, config, needs.synced, &mut found).await {
        replicas(reached.count, config, &mut found);
        stored::examine(&reached.client, config, needs, &mut found).await;
    }
    sync::examine(&reached.client, config, needs.synced, &mut found).await;
    found
}

/// What is set in a way that may not be meant.
fn settings(config: &config::Nats, found: &mut Vec<Finding>) {
    let check = "settings";
    if config.replicas == 1 {
        let says =
            "broker.nats.replicas is 1: each event is kept by one server, and its topics stop while that is away";
        found.push(Finding::warning(check, says, "set it to 3 where there are three servers"));
    }
    if config.storage == config::Storage::Memory {
        let says = "broker.nats.storage is \"memory\": what servers keep is gone when a majority of them restarts";
        found.push(Finding::warning(check, says, "set it to \"file\" before there are streams"));
    }
}

/// What a network that others see could take from what is shown to the servers.
fn secrecy(config: &config::Nats, found: &mut Vec<Finding>) {
    let shown = config.access().named().into_iter().find(|key| ["token_file", "user"].contains(key));
    if let Some(key) = shown.filter(|_| !config.insists_on_tls()) {
        let says =
            format!("what broker.nats.{key} is for can be read on the way: TLS is used only if a server asks for it");
        found.push(Finding::warning("settings", says, "set broker.nats.tls to true, or write tls:// in servers"));
    }
}

/// What servers take, against what clients may send.
fn payload(max_payload: u64, max_message: u64, found: &mut Vec<Finding>) {
    let check = "max_payload";
    let (takes, sends) = (bytesize::ByteSize::b(max_payload), bytesize::ByteSize::b(max_message));
    if max_payload < max_message {
        let says = format!(
            "servers take {takes}, but connection.max_message_size is {sends}: events between the two are TOO_LARGE"
        );
        let advice = format!("lower connection.max_message_size to {takes}, or raise max_payload in the servers");
        found.push(Finding::warning(check, says, advice));
    } else {
        found.push(Finding::ok(check, format!("servers take {takes}, clients may send {sends}")));
    }
}

fn replicas(reached: usize, config: &config::Nats, found: &mut Vec<Finding>) {
    let wanted = usize::from(config.replicas);
    let says = format!("{reached} servers were reached, and broker.nats.replicas is {wanted}");
    if reached >= wanted {
        return found.push(Finding::ok("replicas", says));
    }
    let advice = format!(
        "a stream of {wanted} replicas needs as many servers with JetStream in one cluster: name or start them, or set \
         broker.nats.replicas to {} before there are streams",
        if reached >= 3 { 3 } else { 1 }
    );
    found.push(Finding::warning("replicas", says, advice));
}

/// A time for people, not finer than milliseconds.
fn rounded(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::finding::Verdict;

    #[test]
    fn what_may_not_be_meant_is_a_warning_and_says_what_to_change() {
        let mut found = Vec::new();
        payload(1 << 20, 5 << 20, &mut found);
        replicas(1, &config::Nats::default(), &mut found);
        settings(
            &config::Nats { replicas: 1, storage: config::Storage::Memory, ..config::Nats::default() },
            &mut found,
        );
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|finding| finding.verdict == Verdict::Warning && !finding.advice.is_empty()));
        assert!(found[0].says.contains("1.0 MiB") && found[0].says.contains("5.0 MiB"), "{}", found[0].says);
        found.clear();
        payload(8 << 20, 5 << 20, &mut found);
        replicas(3, &config::Nats::default(), &mut found);
        settings(&config::Nats::default(), &mut found);
        assert_eq!(found.iter().map(|finding| finding.verdict).collect::<Vec<_>>(), [Verdict::Ok; 2]);
    }
}
