//! `bowline doctor`: what it says of a real NATS server, the code it ends with, and that it leaves everything as it is.

use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

use super::BOWLINE;
use crate::{
    nats::NatsServer,
    replicas::{replica_with, settings},
    support::Settings,
};

/// What it prints, and its exit code.
async fn doctor(own: &[(&str, &str)], json: bool) -> (String, i32) {
    let mut command = Command::new(BOWLINE);
    command.arg("doctor").args(json.then_some("--json"));
    for (key, value) in own {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    let Output { status, stdout, .. } = command.output().await.unwrap();
    (String::from_utf8(stdout).unwrap(), status.code().unwrap())
}

/// What it prints of a server that replicas with these settings use, and its exit code.
pub(crate) async fn examined(nats: &NatsServer, own: Settings<'_>) -> (String, i32) {
    let shared = settings(nats);
    let shared: Vec<_> = shared.iter().map(|(key, value)| (*key, value.as_str())).collect();
    doctor(&[&shared, own].concat(), false).await
}

/// The line about that, of which there is one with such a beginning.
#[track_caller]
fn line<'t>(text: &'t str, verdict: &str, check: &str) -> &'t str {
    let begins = format!("{verdict:<7}  {check:<11}  ");
    text.lines()
        .find_map(|line| line.strip_prefix(&*begins))
        .unwrap_or_else(|| panic!("no {verdict} {check} in\n{text}"))
}

async fn streams(nats: &NatsServer) -> Value {
    let client = async_nats::connect(nats.url()).await.unwrap();
    let answer = client.request("$JS.API.INFO", "".into()).await.unwrap();
    serde_json::from_slice::<Value>(&answer.payload).unwrap()["streams"].clone()
}

#[tokio::test]
async fn in_memory_there_is_nothing_to_examine() {
    let (text, code) = doctor(&[], false).await;
    assert!(line(&text, "ok", "broker").contains("no broker to be examined"));
    assert_eq!((text.lines().count(), code), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_nobody_used_is_found_fit_and_left_as_it_is() {
    let Some(nats) = NatsServer::start().await else { return };
    let servers = settings(&nats);
    let own: Vec<_> = servers.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let (text, code) = doctor(&own, false).await;
    assert!(line(&text, "ok", "server").contains("of version 2."), "{text}");
    line(&text, "ok", "jetstream");
    assert!(line(&text, "ok", "stream").contains("none of the 4 streams is there"));
    assert!(line(&text, "warning", "max_payload").contains("connection.max_message_size is 5.0 MiB"));
    assert!(line(&text, "warning", "settings").contains("kept by one server"));
    assert!(line(&text, "warning", "sync").contains("sync_interval: always"));
    assert_eq!(code, 0);
    assert_eq!(streams(&nats).await, 0, "it makes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_held_to_the_settings_and_what_differs_is_said_with_what_to_change() {
    let Some(nats) = NatsServer::start().await else { return };
    replica_with(&nats, &[]).await.leave().await;
    let servers = settings(&nats);
    let own: Vec<_> = servers.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let (text, code) = doctor(&own, false).await;
    assert!(line(&text, "ok", "stream").contains("4 are as they have to be: kept for 1day"), "{text}");
    assert!(line(&text, "ok", "epoch").contains("of 2 streams"));
    assert!(line(&text, "ok", "clock").contains("differ by"));
    assert_eq!(code, 0);

    let other = [&own[..], &[("broker.nats.max_age", "2h"), ("topics.dedupe_window", "1m")]].concat();
    let (text, code) = doctor(&other, true).await;
    let found: Value = serde_json::from_str(&text).unwrap();
    // Of each of two streams.
    assert_eq!((&found["problems"], code), (&4.into(), 1));
    let problems = found["findings"].as_array().unwrap().iter().filter(|finding| finding["verdict"] == "problem");
    let said: Vec<_> = problems.map(|finding| finding["says"].as_str().unwrap()).collect();
    for key in ["max_age", "duplicate_window"] {
        assert_eq!(said.iter().filter(|says| says.contains(key)).count(), 2, "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_is_a_problem() {
    let nobody = [("broker.kind", "nats"), ("broker.nats.servers", "[\"nats://127.0.0.1:1\"]")];
    let (text, code) = doctor(&nobody, false).await;
    assert!(line(&text, "problem", "server").contains("nats://127.0.0.1:1 does not let us in"));
    assert_eq!(code, 1);

    let Some(plain) = NatsServer::start_plain().await else { return };
    let servers = settings(&plain);
    let own: Vec<_> = servers.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let (text, code) = doctor(&own, false).await;
    assert!(line(&text, "warning", "server").contains("without JetStream"), "{text}");
    line(&text, "problem", "jetstream");
    assert_eq!(code, 1);
}
