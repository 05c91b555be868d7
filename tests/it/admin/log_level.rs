//! `/log-level` of a real process: what it writes changes, and changes back.

use std::{net::SocketAddr, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::support::{ask, get, within};

/// A server whose log lines are read.
struct Talkative {
    _child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    admin: SocketAddr,
}

impl Talkative {
    async fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--set", "telemetry.format=json", "--set", "telemetry.report_interval=0s"]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut server = Self { _child: child, lines, admin: ([127, 0, 0, 1], 0).into() };
        let opened = server.line("admin port open").await.1;
        server.admin = opened["address"].as_str().unwrap().parse().unwrap();
        server.line("listening for clients").await;
        server
    }

    /// The messages up to the one with these words, and all of that line.
    async fn line(&mut self, words: &str) -> (Vec<String>, Value) {
        let mut before = Vec::new();
        loop {
            let line = within(words, self.lines.next_line()).await.unwrap().expect("it still runs");
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let message = line["message"].as_str().unwrap_or_default().to_owned();
            if message.contains(words) {
                return (before, line);
            }
            before.push(message);
        }
    }

    async fn put(&self, body: &str) -> Value {
        ask(self.admin, "PUT", "/log-level", "", body).await.json()
    }

    /// Does something that is worth a line at level debug only.
    async fn refused(&self) {
        let answer = ask(self.admin, "DELETE", "/log-level", "origin: http://evil.example", "").await;
        assert_eq!(answer.status, 403);
    }
}

const REFUSED: &str = "a change was refused";
const CHANGED: &str = "an operator's change";

#[tokio::test]
async fn what_is_logged_is_changed_and_taken_back_and_each_change_has_its_line() {
    let mut server = Talkative::start().await;
    let shown = get(server.admin, "/log-level", "").await.json();
    assert_eq!(shown, json!({ "directives": "info", "configured": "info" }));

    server.refused().await;
    let body = "{\"directives\": \"info,bowline::admin=debug\"}";
    assert_eq!(server.put(body).await["directives"], "info,bowline::admin=debug");
    let (before, line) = server.line(CHANGED).await;
    assert!(!before.iter().any(|message| message.contains(REFUSED)), "{before:?}");
    assert_eq!([&line["by"], &line["method"], &line["path"], &line["body"]], ["loopback", "PUT", "/log-level", body]);
    assert_eq!((line["status"].as_u64(), line["caller"].is_string()), (Some(200), true));

    server.refused().await;
    server.line(REFUSED).await;

    assert_eq!(ask(server.admin, "DELETE", "/log-level", "", "").await.json(), shown);
    server.line(CHANGED).await;
    server.refused().await;
    server.put("{\"directives\": \"info\"}").await;
    let (before, _) = server.line(CHANGED).await;
    assert!(!before.iter().any(|message| message.contains(REFUSED)), "{before:?}");
}

#[tokio::test]
async fn a_change_for_a_time_ends_by_itself() {
    let mut server = Talkative::start().await;
    let changed = server.put("{\"directives\": \"debug\", \"ttl\": \"300ms\"}").await;
    assert_eq!((&changed["directives"], &changed["configured"]), (&json!("debug"), &json!("info")));
    assert!(changed["until_us"].is_u64(), "{changed}");
    server.line("the configured log level is back").await;
    let shown = get(server.admin, "/log-level", "").await.json();
    assert_eq!(shown, json!({ "directives": "info", "configured": "info" }));
}

#[tokio::test]
async fn directives_that_are_none_are_refused_and_change_nothing() {
    let server = Talkative::start().await;
    for (body, why) in [
        ("{\"directives\": \"bowline[x]=info\"}", "\"bowline[x]\" can match nothing"),
        ("{\"directives\": \"debgu\"}", "\"debgu\" is no level"),
        ("{}", "directives must not be empty"),
        ("{\"directives\": \"debug\", \"ttl\": \"0s\"}", "ttl must be longer than zero"),
        ("{\"directives\": \"debug\", \"ttl\": \"soon\"}", "the body is not what is wanted here"),
        ("{\"level\": \"debug\"}", "unknown field `level`"),
    ] {
        let answer = ask(server.admin, "PUT", "/log-level", "", body).await;
        let message = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && message.contains(why), "{body}: {} {message}", answer.status);
    }
    assert_eq!(get(server.admin, "/log-level", "").await.json()["directives"], "info");
}
