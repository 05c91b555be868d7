//! What is kept: streams, epochs, and by whose clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use async_nats::Client;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use super::{
    super::{
        super::{
            config,
            finding::{Finding, Needs},
        },
        api::{self, Described, Problem},
        epochs,
        names::Names,
        streams,
    },
    rounded,
};
use crate::types::Timestamp;

/// Streams that are asked about at once.
const AT_ONCE: usize = 8;
/// Clocks that differ by so much are worth a word, and by so much make what is said of times wrong.
const CLOCKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Looks at every stream.
pub(super) async fn examine(client: &Client, config: &config::Nats, needs: Needs, found: &mut Vec<Finding>) {
    let names = Names::new(&config.prefix, config.partitions);
    let (window, partitions) = (needs.dedupe_window, names.all(needs.synced));
    let wanted = partitions.clone().map(|partition| streams::partition(config, &names, partition, window));
    let wanted: Vec<Value> = wanted.chain([streams::epochs(config, &names), streams::fleet(config, &names)]).collect();
    let count = wanted.len();
    let looked = stream::iter(wanted).map(|wanted| async move {
        let name = wanted["name"].as_str().unwrap_or_default().to_owned();
        let begun = Timestamp::now();
        let described = api::stream(client, &name).await;
        (name, wanted, described, midway(begun, Timestamp::now()))
    });
    let looked: Vec<_> = looked.buffered(AT_ONCE).collect().await;
    let (mut missing, mut there, mut clocks) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    let before = found.len();
    for (name, wanted, described, asked) in looked {
        match described {
            Err(problem) if problem.is_no_stream() => missing.push(name),
            Err(problem) => {
                let says = format!("{name} cannot be looked at: {problem}");
                found.push(Finding::problem("stream", says, "see `nats stream info`, and the servers' log"));
            }
            Ok(described) => {
                differences(&name, &wanted, &described, found);
                keepers(&name, &described, found);
                if let (Some(leader), Some(time)) = (leader(&described), time_of(&described)) {
                    clocks.insert(leader.to_owned(), (asked, time));
                }
                there.insert(name, described);
            }
        }
    }
    if there.is_empty() && found.len() == before {
        let says = format!("none of the {count} streams is there; a server that starts makes them");
        return found.push(Finding::ok("stream", says));
    }
    if !missing.is_empty() {
        let says =
            format!("{} are not there, and others are; a server that starts makes them anew", missing.join(", "));
        let advice = "if somebody deleted them, what they held is lost, and sessions are told so";
        found.push(Finding::warning("stream", says, advice));
    }
    if found.len() == before {
        let (age, window) = (rounded(config.max_age), rounded(window));
        let says = format!("{count} are as they have to be: kept for {age}, repeats known for {window}");
        found.push(Finding::ok("stream", says));
    }
    known_epochs(client, &names, partitions, &there, found).await;
    compare_clocks(&clocks, found);
}

fn midway(begun: Timestamp, ended: Timestamp) -> Timestamp {
    Timestamp(begun.0 + ended.0.saturating_sub(begun.0) / 2)
}

fn differences(name: &str, wanted: &Value, described: &Described, found: &mut Vec<Finding>) {
    for (key, wanted, there) in streams::differences(wanted, &described.config) {
        let says = format!("{name} has {key} {there}, and the settings ask for {wanted}");
        let advice = "change the setting in [broker.nats] or [topics], or the stream with `nats stream edit`";
        found.push(Finding::problem("stream", says, advice));
    }
}

fn leader(described: &Described) -> Option<&str> {
    described.cluster.get("leader")?.as_str().filter(|leader| !leader.is_empty())
}

fn time_of(described: &Described) -> Option<Timestamp> {
    let time: jiff::Timestamp = described.ts.parse().ok()?;
    u64::try_from(time.as_microsecond()).ok().map(Timestamp)
}

/// Whether those who keep a stream are there.
fn keepers(name: &str, described: &Described, found: &mut Vec<Finding>) {
    if leader(described).is_none() {
        let says = format!("{name} has no leader: nothing can be published to its topics");
        let advice = "a majority of the servers that keep it has to be there: start them";
        return found.push(Finding::problem("stream", says, advice));
    }
    let others = described.cluster.get("replicas").and_then(Value::as_array);
    let away: BTreeSet<&str> = others
        .into_iter()
        .flatten()
        .filter(|keeper| keeper["offline"] == true || keeper["current"] == false)
        .filter_map(|keeper| keeper["name"].as_str())
        .collect();
    if !away.is_empty() {
        let away = away.into_iter().collect::<Vec<_>>().join(", ");
        let says = format!("{name} is kept by {away}, which are away or behind");
        found.push(Finding::warning("stream", says, "see whether they run, and whether they catch up"));
    }
}

/// Whether each stream is the one whose epoch is known.
async fn known_epochs(
    client: &Client,
    names: &Names,
    partitions: Range<u16>,
    there: &BTreeMap<String, Described>,
    found: &mut Vec<Finding>,
) {
    let mut known = 0;
    if !there.contains_key(&names.bucket_stream()) {
        return;
    }
    for partition in partitions {
        let Some(described) = there.get(&names.stream(partition)) else { continue };
        match epochs::known(client, names, partition).await {
            Ok(Some(created)) if created == described.created => known += 1,
            Ok(_) => {
                let says = format!("{} is not the stream whose epoch is known: it is new", names.stream(partition));
                let advice = "nothing needs to be done; sessions of its topics are told that what was there is gone";
                found.push(Finding::warning("epoch", says, advice));
            }
            Err(problem) => found.push(unknown(&problem)),
        }
    }
    found.push(Finding::ok("epoch", format!("of {known} streams it is known, and they are still the same")));
}

fn unknown(problem: &Problem) -> Finding {
    let advice = "see `nats stream info` of the bucket, and the servers' log";
    Finding::problem("epoch", format!("an epoch cannot be read: {problem}"), advice)
}

/// This machine's clock against those of the servers that lead: what a server says, and when it was asked here.
fn compare_clocks(clocks: &BTreeMap<String, (Timestamp, Timestamp)>, found: &mut Vec<Finding>) {
    let differences = clocks.iter().map(|(leader, (here, there))| (here.0.abs_diff(there.0), leader));
    let Some((micros, leader)) = differences.max() else { return };
    let difference = Duration::from_micros(micros);
    let says = format!("that of {leader} and this machine's differ by {}", rounded(difference));
    let advice = "let NTP set the clocks: events have the servers' time, and histories are trimmed by this machine's";
    found.push(if difference >= CLOCKS.1 {
        Finding::problem("clock", says, advice)
    } else if difference >= CLOCKS.0 {
        Finding::warning("clock", says, advice)
    } else {
        Finding::ok("clock", says)
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::broker::finding::Verdict;

    fn described(cluster: Value) -> Described {
        let config = json!({});
        serde_json::from_value(json!({
            "created": "", "config": config, "state": { "first_seq": 1, "last_seq": 0 }, "cluster": cluster,
            "ts": "2026-01-02T03:04:05.25Z"
        }))
        .unwrap()
    }

    #[test]
    fn a_stream_without_a_leader_is_a_problem_and_one_whose_keeper_is_away_a_warning() {
        let judge = |cluster| {
            let mut found = Vec::new();
            keepers("s", &described(cluster), &mut found);
            found.first().map(|finding| finding.verdict)
        };
        let keeper = |offline| json!([{ "name": "b", "current": true, "offline": offline }]);
        assert_eq!(judge(json!({ "leader": "a", "replicas": keeper(false) })), None);
        assert_eq!(judge(json!({ "leader": "a" })), None);
        assert_eq!(judge(json!({ "leader": "a", "replicas": keeper(true) })), Some(Verdict::Warning));
        assert_eq!(judge(json!({ "leader": "" })), Some(Verdict::Problem));
        assert_eq!(judge(Value::Null), Some(Verdict::Problem));
    }

    #[test]
    fn clocks_are_compared_by_the_one_that_differs_most() {
        let time = time_of(&described(Value::Null)).unwrap();
        let judge = |seconds: f64| {
            let there = Timestamp(time.0 + Duration::from_secs_f64(seconds).as_micros() as u64);
            let clocks = BTreeMap::from([("a".to_owned(), (time, there)), ("b".to_owned(), (time, time))]);
            let mut found = Vec::new();
            compare_clocks(&clocks, &mut found);
            (found[0].verdict, found[0].says.clone())
        };
        assert_eq!(judge(0.01).0, Verdict::Ok);
        assert_eq!(judge(2.0), (Verdict::Warning, "that of a and this machine's differ by 2s".to_owned()));
        assert_eq!(judge(61.0).0, Verdict::Problem);
    }
}
