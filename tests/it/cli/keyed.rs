//! Keyed topics, policies and presence on the command line.

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::*;

/// What kind of object each line is: the first key of an object that is no event.
fn kinds(objects: &[serde_json::Value]) -> Vec<String> {
    let kind = |object: &serde_json::Value| object.as_object().unwrap().keys().next().unwrap().clone();
    objects.iter().map(kind).collect()
}

fn payloads(objects: &[serde_json::Value]) -> Vec<String> {
    objects.iter().filter_map(|object| object["payload"].as_str().map(str::to_owned)).collect()
}

async fn publish(server: &Server, lines: &str) {
    let published = server.feed(&["pub", "state.prices", "--key-column", "1"], lines).await;
    assert_eq!(code(&published), 0, "{}", stderr(&published));
}

#[tokio::test]
async fn a_snapshot_has_the_latest_of_each_key_and_none_that_was_deleted() {
    let server = Server::start();
    publish(&server, "a,1\nb,1\nc,1\na,2\n").await;
    let deleted = server.feed(&["pub", "state.prices", "--delete"], "c\n").await;
    assert_eq!(code(&deleted), 0, "{}", stderr(&deleted));
    let snapshot = ["sub", "state.prices", "--from", "snapshot", "--no-follow"];
    assert_eq!(lines(&server.run(&snapshot).await), ["b,1", "a,2"]);
    let json = objects(&server.run(&[&snapshot[..], &["--json"]].concat()).await);
    assert_eq!(kinds(&json), ["opened", "snapshot_begin", "cursor", "cursor", "snapshot_end"]);
    assert_eq!((&json[2]["key"], &json[2]["snapshot"]), (&"b".into(), &true.into()));
    assert_eq!(json[1]["snapshot_begin"]["cursor"], json[0]["opened"]["start"]);

    let by_column = server.feed(&["pub", "state.prices", "--delete", "--key-column", "2"], "x,a\n").await;
    assert_eq!(code(&by_column), 0, "{}", stderr(&by_column));
    assert_eq!(lines(&server.run(&snapshot).await), ["b,1"]);
}

#[tokio::test]
async fn a_session_remembers_a_snapshot_once_it_is_complete() {
    let server = Server::start();
    publish(&server, "a,1\nb,1\n").await;
    let follow = ["sub", "state.prices", "--session", "desk", "--from", "snapshot"];
    // Cut in the middle: the place of a snapshot is its beginning.
    assert_eq!(lines(&server.run(&[&follow[..], &["--count", "1"]].concat()).await), ["a,1"]);
    let stop = [&follow[..], &["--no-follow"]].concat();
    assert_eq!(lines(&server.run(&stop).await), ["a,1", "b,1"]);
    publish(&server, "b,2\n").await;
    assert_eq!(lines(&server.run(&stop).await), ["b,2"]);
}

#[tokio::test]
async fn a_snapshot_follows_a_restart_of_the_server() {
    let mut server = Server::start();
    publish(&server, "a,1\n").await;
    let follow = ["sub", "state.prices", "--session", "desk", "--from", "snapshot", "--no-follow", "--json"];
    assert_eq!(payloads(&objects(&server.run(&follow).await)), ["a,1"]);
    server.restart();
    publish(&server, "b,1\nb,2\n").await;
    let after = objects(&server.run(&follow).await);
    assert_eq!(kinds(&after), ["opened", "gap", "snapshot_begin", "cursor", "snapshot_end"]);
    assert_eq!(payloads(&after), ["b,2"]);
}

#[tokio::test]
async fn a_conflating_reader_is_told_what_was_left_out() {
    let server = Server::start();
    let conflate = ["--policy", "conflate", "--max-rate", "2/s", "--credit", "10", "--json"];
    let mut reader =
        server.command(&[&["sub", "state.prices", "--from", "snapshot"], &conflate[..]].concat()).spawn().unwrap();
    let mut output = BufReader::new(reader.stdout.take().unwrap()).lines();
    let mut object = async || serde_json::from_str::<serde_json::Value>(&next_line(&mut output).await).unwrap();
    while object().await.get("snapshot_end").is_none() {}
    publish(&server, &(1..=100).map(|n| format!("a,{n}\n")).collect::<String>()).await;
    let (mut delivered, mut skipped, mut last) = (0, 0, String::new());
    while last != "a,100" {
        let event = object().await;
        delivered += 1;
        skipped += event["skipped"].as_u64().unwrap_or_default();
        last = event["payload"].as_str().unwrap().to_owned();
    }
    assert_eq!(delivered + skipped, 100);
    assert!(delivered < 20, "{delivered}");
}

#[tokio::test]
async fn keys_of_a_session_are_there_for_as_long_as_its_command() {
    let mut server = Server::start();
    let scoped = ["pub", "state.desks", "--key-column", "1", "--session-scoped"];
    let mut holder = server.command(&scoped).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = holder.stdin.take().unwrap();
    let snapshot = ["sub", "state.desks", "--from", "snapshot", "--no-follow"];
    let is_there = async |server: &Server, expected: &[&str]| {
        let seen = async { while lines(&server.run(&snapshot).await) != expected {} };
        timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("{expected:?} is not there"));
    };
    input.write_all(b"desk-7,busy\n").await.unwrap();
    is_there(&server, &["desk-7,busy"]).await;
    // A server that has forgotten everything is told again.
    server.restart();
    is_there(&server, &["desk-7,busy"]).await;
    drop(input);
    assert_eq!(code(&ended(holder).await), 0);
    assert_eq!(lines(&server.run(&snapshot).await), [""; 0]);
}

#[tokio::test]
async fn presence_lists_and_follows_who_is_there() {
    let server = Server::start();
    assert_eq!(stdout(&server.run(&["presence", "room"]).await), "");
    let mut following = server.command(&["presence", "room", "--follow", "--json"]).spawn().unwrap();
    let mut moves = BufReader::new(following.stdout.take().unwrap()).lines();
    let join = ["sub", "room", "--client-id", "alice", "--session", "desk", "--presence", "at work"];
    let member = server.command(&join).spawn().unwrap();
    let joined: serde_json::Value = serde_json::from_str(&next_line(&mut moves).await).unwrap();
    let expected = ["alice", "desk", "at work"].map(serde_json::Value::from);
    let about = |member: &serde_json::Value| ["client_id", "session_id", "info"].map(|field| member[field].clone());
    assert_eq!(about(&joined["joined"]), expected);

    let listed = objects(&server.run(&["presence", "room", "--json"]).await);
    assert_eq!((listed.len(), about(&listed[0])), (1, expected.clone()));
    let row = stdout(&server.run(&["presence", "room"]).await);
    assert!(row.starts_with("alice ") && row.ends_with("  at work\n"), "{row}");

    signal(&member, "-INT");
    assert_eq!(code(&ended(member).await), 130);
    let left: serde_json::Value = serde_json::from_str(&next_line(&mut moves).await).unwrap();
    assert_eq!(about(&left["left"]), expected);
    signal(&following, "-INT");
    assert_eq!(code(&ended(following).await), 130);
}

#[tokio::test]
async fn what_a_topic_does_not_offer_is_refused_and_what_makes_no_sense_is_not_asked_for() {
    let server = Server::start();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["sub", "log", "--from", "snapshot"], 4, "UNSUPPORTED"),
        (&["sub", "log", "--policy", "conflate"], 4, "UNSUPPORTED"),
        (&["sub", "log", "--session", "desk", "--required"], 4, "UNSUPPORTED"),
        (&["sub", "log", "--required"], 2, "--session"),
        (&["sub", "log", "--policy", "wait"], 2, "drop-oldest"),
        (&["sub", "log", "--max-rate", "0.5/s"], 2, "whole number"),
        (&["pub", "state.x", "--session-scoped"], 2, "--key-column"),
    ];
    for (command, expected, word) in cases {
        let output = server.run(command).await;
        assert_eq!(code(&output), expected, "{command:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{command:?}: {}", stderr(&output));
    }
    let keyless = server.feed(&["pub", "state.x"], "x\n").await;
    assert_eq!(code(&keyless), 4, "{}", stderr(&keyless));
    assert!(stderr(&keyless).contains("INVALID_FIELD"), "{}", stderr(&keyless));
}
