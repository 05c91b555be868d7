//! What all topics hold together, and what the settings allow at worst.

use std::{process::Stdio, time::Duration};

use bowline::proto::v1::{NewEvent, PublishRequest, ReadHistoryRequest, stream_data_response::Frame};
use tokio::{process::Command, time::sleep};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    TestServer, assert_status, close, delete, earliest, event, eventually, get, open, publish, put, within,
};

/// Publishes, again when it is refused for want of room.
async fn store(server: &TestServer, topic: &str, event: NewEvent, count: usize) {
    let mut topics = server.topics().await;
    for _ in 0..count {
        let request = PublishRequest { topic: topic.to_owned(), event: Some(event.clone()) };
        while let Err(status) = within("an answer", topics.publish(request.clone())).await {
            assert_status(&status, Code::ResourceExhausted, "HISTORY_LIMIT");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_histories_together_hold_what_they_may_and_the_longest_pays() {
    let server = TestServer::with(&[("topics.max_total_history", "4MiB")]).await;
    let small: Vec<_> = (0..20).map(|n| format!("small {n}")).collect();
    server.store("small", &small).await;
    let mut reader = server.connect("reader").await;
    for round in 0..4 {
        // Eight times what there is room for, in all.
        store(&server, "large", event(vec![b'x'; 64 << 10]), 64).await;
        store(&server, "larger", event(vec![b'y'; 128 << 10]), 32).await;
        eventually("it is counted", || server.sample("bowline_history_bytes") <= (4 << 20) as f64).await;
        assert!(server.sample("bowline_history_bytes") > (2 << 20) as f64, "round {round}: too much was dropped");
    }
    assert!(server.sample("bowline_history_trimmed_bytes_total") > (16 << 20) as f64);

    let mut topics = server.topics().await;
    let mut kept = async |topic: &str| {
        let request = ReadHistoryRequest { topic: topic.to_owned(), after: None, last: 0, limit: 1000 };
        within("the history", topics.read_history(request)).await.unwrap().into_inner().events.len()
    };
    assert_eq!(kept("small").await, small.len(), "it is not the longest");
    let (large, larger) = (kept("large").await, kept("larger").await);
    assert!(large > 0 && larger > 0 && large > larger, "{large} of 64 KiB, {larger} of 128 KiB: one length, by bytes");

    let mut session = open(1, "large");
    session.start = earliest();
    reader.send(session).await;
    reader.opened().await;
    loop {
        match reader.frame().await {
            Frame::Gap(_) | Frame::SessionOpened(_) => {}
            Frame::Delivery(delivery) => {
                assert!(delivery.events[0].offset > 1, "what went is not delivered");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    reader.send(close(1)).await;
    server.leave().await;
}

/// The values of keys are not history: they cannot be cut.
#[tokio::test]
async fn what_cannot_be_cut_is_refused_until_there_is_room() {
    let server = TestServer::with(&[("topics.max_total_history", "1MiB")]).await;
    let mut topics = server.topics().await;
    let mut put = async |event: NewEvent| {
        let request = PublishRequest { topic: "state.desk".to_owned(), event: Some(event) };
        within("an answer", topics.publish(request)).await
    };
    // Until it is refused for longer than making room takes.
    let mut refused = None;
    let mut count = 0;
    while refused.is_none() {
        assert!(count < 40, "more than there is room for was stored");
        let begun = tokio::time::Instant::now();
        while let Err(status) = put(self::put(&count.to_string(), vec![b'v'; 60 << 10])).await {
            if begun.elapsed() > Duration::from_secs(3) {
                refused = Some(status);
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        count += usize::from(refused.is_none());
    }
    let status = refused.expect("a refusal");
    assert_status(&status, Code::ResourceExhausted, "HISTORY_LIMIT");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["limit"], "1048576");
    assert!(details.retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{details:?}");

    // By number, in a session.
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let reply = client.publish(publish(1, 1, "x")).await;
    let failure = reply.failure.expect("a refusal");
    assert_eq!((failure.reason.as_str(), failure.retry_after_ms), ("HISTORY_LIMIT", 1000));

    for n in 0..count {
        put(delete(&n.to_string())).await.expect("a removal makes room");
    }
    // What the removed values leave in the history is cut, as any history.
    for attempt in 0.. {
        if client.publish(publish(1, 1, "x")).await.failure.is_none() {
            break;
        }
        assert!(attempt < 1000, "no room was made");
        sleep(Duration::from_millis(20)).await;
    }
    server.leave().await;
}

fn bowline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn settings_that_allow_more_than_the_limit_stop_the_start() {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let limited = [&serve[..], &["--set", "server.memory_limit=1GiB"]].concat();
    let output = within("the end", bowline(&limited).output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let words =
        "--set server.memory_limit: server.memory_limit is 1.0 GiB, but the limits allow peers and topics to take";
    assert!(said.contains(words), "{said}");

    let output = within("the calculation", bowline(&["config", "--memory"]).output()).await.unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    for words in ["for connections, 5000 of", "(registry.max_connections, ", " at worst\n", "no limit"] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
}

/// The settings of docs/security.md, which says that they fit.
#[tokio::test]
async fn the_settings_in_the_document_fit_into_the_memory_that_it_says() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md")).unwrap();
    let (_, rest) = document.split_once("## Memory").expect("a chapter on memory");
    let toml = rest.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).expect("settings").0;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let path = file.path().to_str().unwrap();
    let output = within("the check", bowline(&["config", "--check", "--config", path]).output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let values: Vec<_> = toml.lines().filter(|line| line.contains(" = ")).collect();
    assert!(values.contains(&"memory_limit = \"1GiB\""), "{values:?}");
    // The server says the same of itself.
    let server = TestServer::with(&[("server.memory_limit", "1PiB")]).await;
    let status = get(server.admin, "/status", "").await.json();
    let worst = &status["memory_at_worst"];
    assert_eq!(worst["limit_bytes"], 1_u64 << 50);
    let sum: u64 = worst["shares"].as_array().unwrap().iter().map(|share| share["bytes"].as_u64().unwrap()).sum();
    assert_eq!(worst["bytes"].as_u64(), Some(sum));
    server.leave().await;
}

/// A call keeps its place until its answer has been taken.
#[tokio::test]
async fn one_call_more_than_there_may_be_is_refused_and_conversations_are_not_counted() {
    let server = TestServer::with(&[("transport.max_unary_calls", "1")]).await;
    server.store("t", &vec![vec![b'x'; 100 << 10]; 8]).await;
    let mut client = server.connect("alice").await;
    let request = || ReadHistoryRequest { topic: "t".to_owned(), after: None, last: 0, limit: 100 };
    let slow = crate::support::RawTransport::open(server.address, 0).await;
    let held = slow.unary("/bowline.v1.TopicService/ReadHistory", &request()).await;
    let mut topics = server.topics().await;
    let refused = within("an answer", topics.read_history(request())).await.expect_err("it was let in");
    assert_status(&refused, Code::ResourceExhausted, "CALL_LIMIT");
    assert!(refused.get_error_details().retry_info().is_some());
    client.open(open(1, "t")).await;
    client.publish(publish(1, 1, "y")).await;
    drop((held, slow));
    let mut admitted = false;
    for _ in 0..1000 {
        admitted = within("an answer", topics.read_history(request())).await.is_ok();
        if admitted {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert!(admitted, "the place is not free again");
    server.leave().await;
}
