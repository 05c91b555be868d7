//! The streams as they have to be: made if they are not there, and held to it if they are.

use std::time::Duration;

use async_nats::Client;
use serde_json::{Map, Value, json};

use super::{
    super::config,
    api::{self, Described, Problem},
    names::Names,
};
use crate::types::Timestamp;

/// A cluster that is still coming together: too few of its servers are known, nobody leads, or too few answer.
const NOT_YET: [u64; 3] = [10005, 10008, 10023];
/// There is one of that name that is set otherwise.
const NAME_TAKEN: u64 = 10058;
/// Where a stream says how many there are of them.
const PARTITIONS: &str = "bowline.partitions";

/// What a partition's stream has to be. Nothing but its age and its size takes a record out of it, oldest first: so
/// whoever knows where it begins knows what is lost.
pub(super) fn partition(config: &config::Nats, names: &Names, partition: u16, window: Duration) -> Value {
    let max_bytes = match config.max_bytes.as_u64() {
        0 => -1,
        bytes => i64::try_from(bytes).unwrap_or(i64::MAX),
    };
    let mut stream = json!({
        "name": names.stream(partition),
        "description": "Topics of Bowline: one of the partitions they are spread over",
        "subjects": [names.log(partition, ">")],
        "republish": { "src": names.log(partition, ">"), "dest": names.live(partition, ">") },
        "retention": "limits",
        "discard": "old",
        "max_age": nanoseconds(config.max_age),
        "max_bytes": max_bytes,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "storage": config.storage.as_str(),
        "num_replicas": config.replicas,
        "duplicate_window": nanoseconds(window),
        "deny_delete": true,
        "deny_purge": true,
        "allow_direct": true,
        "metadata": { PARTITIONS: config.partitions.to_string() },
    });
    if names.is_synced(partition) {
        stream["description"] = "Topics of Bowline whose events are on disk before they are confirmed".into();
        stream["placement"] = json!({ "tags": [config.synced.tag] });
    }
    stream
}

/// What the bucket of epochs has to be.
pub(super) fn epochs(config: &config::Nats, names: &Names) -> Value {
    let mut bucket = bucket(config, names.bucket_stream(), format!("$KV.{}.>", names.bucket()));
    bucket["description"] = "Epochs of Bowline's streams".into();
    bucket["deny_delete"] = true.into();
    bucket
}

/// What the bucket has to be in which replicas leave what they know of each other. It begins where no bucket of that name
/// before it can have come to, at a place of this moment: so the places of two are never mistaken for each other.
pub(super) fn fleet(config: &config::Nats, names: &Names) -> Value {
    let mut bucket = bucket(config, names.fleet_stream(), names.fleet_keys());
    bucket["description"] = "Bowline's replicas".into();
    bucket["first_seq"] = (Timestamp::now().0 / 1000).into();
    bucket
}

fn bucket(config: &config::Nats, stream: String, keys: String) -> Value {
    json!({
        "name": stream,
        "subjects": [keys],
        "retention": "limits",
        "discard": "new",
        "max_age": 0,
        "max_bytes": -1,
        "max_msgs": -1,
        "max_msgs_per_subject": 1,
        "storage": config.storage.as_str(),
        "num_replicas": config.replicas,
        "allow_rollup_hdrs": true,
        "allow_direct": true,
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Settings that would break what replicas conclude from a stream, and which ours therefore do not have.
const ABSENT: &[&str] = &[
    "mirror",
    "sources",
    "subject_transform",
    "allow_msg_ttl",
    "allow_msg_counter",
    "sealed",
    "no_ack",
    "persist_mode",
];

/// The stream of that name, as it has to be: made if there is none; [`Problem::Unfit`] if it is another one.
pub(super) async fn provide(client: &Client, wanted: &Value) -> Result<Described, Problem> {
    let name = wanted["name"].as_str().unwrap_or_default();
    let info = match api::stream(client, name).await {
        Err(problem) if problem.is_no_stream() => {
            tracing::info!(stream = name, "making a stream");
            match api::create_stream(client, name, wanted).await {
                // Another replica was quicker.
                Err(Problem::Refused { code: NAME_TAKEN, .. }) => api::stream(client, name).await?,
                Err(Problem::Refused { code, text }) if !NOT_YET.contains(&code) => {
                    return Err(Problem::Unfit(format!("the stream {name} cannot be made: {text}")));
                }
                Err(Problem::Refused { code, text }) if !wanted["placement"].is_null() => {
                    return Err(Problem::Refused { code, text: unplaced(name, wanted, &text) });
                }
                made => made?,
            }
        }
        other => other?,
    };
    match differences(wanted, &info.config).into_iter().next() {
        None => Ok(info),
        Some((key, wanted, found)) => Err(Problem::Unfit(format!(
            "the stream {name} has {key} {found}, but the settings of broker.nats ask for {wanted}: change one of the two"
        ))),
    }
}

fn unplaced(name: &str, wanted: &Value, text: &str) -> String {
    let (count, tag) = (&wanted["num_replicas"], &wanted["placement"]["tags"][0]);
    format!(
        "the stream {name} is kept by {count} servers with the tag {tag} (broker.nats.synced.tag), of which there are too \
             few: {text}"
    )
}

/// The settings that are not as they have to be: the name of each, and both values.
pub(super) fn differences(wanted: &Value, found: &Value) -> Vec<(String, String, String)> {
    let mut differ = Vec::new();
    // Neither is of any consequence once the stream is there.
    let matters = |key: &str| !["description", "first_seq"].contains(&key);
    let all = wanted.as_object().into_iter().flatten().filter(|(key, _)| matters(key));
    for (key, value) in all {
        let there = found.get(key).unwrap_or(&Value::Null);
        let same = match (value, there) {
            // Servers add words of their own.
            (Value::Object(ours), Value::Object(theirs)) => is_part(ours, theirs),
            (Value::Bool(false) | Value::Number(_), Value::Null) => value.as_i64().unwrap_or(0) <= 0,
            (ours, theirs) => ours == theirs,
        };
        if !same {
            differ.push((key.clone(), value.to_string(), there.to_string()));
        }
    }
    let there = ABSENT.iter().filter_map(|key| Some((*key, found.get(*key)?)));
    let extra = there.filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)) && *value != "default");
    differ.extend(extra.map(|(key, value)| (key.to_owned(), "none".to_owned(), value.to_string())));
    differ
}

fn is_part(ours: &Map<String, Value>, theirs: &Map<String, Value>) -> bool {
    ours.iter().all(|(key, value)| theirs.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_right_if_all_that_matters_is_as_it_was_asked_for() {
        let (config, names) = (config::Nats::default(), Names::new("bowline", 16));
        let wanted = partition(&config, &names, 3, Duration::from_secs(180));
        let mut found = wanted.clone();
        found["metadata"]["_nats.ver"] = "2.15.3".into();
        found["max_consumers"] = (-1).into();
        found["description"] = "mine".into();
        found["allow_msg_ttl"] = false.into();
        assert_eq!(differences(&wanted, &found), []);

        let changes = [
            ("max_age", json!(1)),
            ("max_msgs_per_subject", json!(5)),
            ("republish", Value::Null),
            ("allow_direct", json!(false)),
            ("num_replicas", json!(1)),
            ("metadata", json!({ PARTITIONS: "8" })),
            ("allow_msg_ttl", json!(true)),
            ("sources", json!([{ "name": "other" }])),
            ("persist_mode", json!("async")),
        ];
        for (key, value) in changes {
            let mut changed = found.clone();
            changed[key] = value;
            let differ = differences(&wanted, &changed);
            assert_eq!(differ.iter().map(|(key, ..)| key.as_str()).collect::<Vec<_>>(), [key]);
        }
    }
}
