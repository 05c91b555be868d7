//! Client processes that are stopped as a laptop's lid stops them: their connections die, their sessions do not.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use tokio::process::{Child, Command};

use crate::{
    signals,
    support::{Settings, TestServer, eventually, within},
};

/// A process that is stopped is found out within about 0.6 s.
const SHORT: Settings<'_> = &[("registry.receive_timeout", "200ms"), ("registry.probe_timeout", "400ms")];

/// A command that talks to the server and keeps its state in `home`.
fn bowline(server: &TestServer, home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(args).env("BOWLINE_SERVER", format!("http://{}", server.address)).env("XDG_STATE_HOME", home);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn signal(child: &Child, name: &str) {
    signals::send(child.id().expect("still running"), name);
}

async fn ended(child: Child) -> Output {
    let output = within("the end of a command", child.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[tokio::test]
async fn a_reader_that_is_stopped_is_given_up_and_misses_nothing_once_it_goes_on() {
    let server = TestServer::with(SHORT).await;
    let home = tempfile::tempdir().unwrap();
    let output = home.path().join("out");
    let follow = ["sub", "t", "--session", "desk", "--from", "earliest", "--count", "90"];
    let reader =
        bowline(&server, home.path(), &follow).stdout(std::fs::File::create(&output).unwrap()).spawn().unwrap();
    let printed = || std::fs::read_to_string(&output).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    let mut expected = Vec::new();
    for round in 0..3 {
        let batch: Vec<_> = (0..15).map(|n| format!("{round} {n}")).collect();
        server.store("t", &batch).await;
        expected.extend(batch);
        eventually("it was printed", || printed().len() == expected.len()).await;

        signal(&reader, "-STOP");
        server.emptied().await;
        let batch: Vec<_> = (15..30).map(|n| format!("{round} {n}")).collect();
        server.store("t", &batch).await;
        expected.extend(batch);
        signal(&reader, "-CONT");
        eventually("what was missed was printed", || printed().len() == expected.len()).await;
    }
    ended(reader).await;
    assert_eq!(printed(), expected);
    assert_eq!(server.sample("bowline_connections_closed_total{cause=\"PEER_TIMEOUT\"}"), 3.0);
    assert_eq!(server.sample("bowline_session_opens_total{recovery=\"FULL\"}"), 3.0);
    server.leave().await;
}

#[tokio::test]
async fn a_publisher_that_is_stopped_stores_every_line_once_once_it_goes_on() {
    let server = TestServer::with(SHORT).await;
    let home = tempfile::tempdir().unwrap();
    let (file, lines) = (home.path().join("lines"), (0..1500).map(|n| n.to_string()).collect::<Vec<_>>());
    std::fs::write(&file, lines.join("\n")).unwrap();
    let publish = ["pub", "t", "--rate", "1000/s", "--file", file.to_str().unwrap()];
    let publisher = bowline(&server, home.path(), &publish).spawn().unwrap();
    for stored in [200, 700] {
        eventually("some of it was stored", || server.metrics().events_published.get() > stored).await;
        signal(&publisher, "-STOP");
        server.emptied().await;
        signal(&publisher, "-CONT");
    }
    ended(publisher).await;
    let history = ended(bowline(&server, home.path(), &["history", "t"]).spawn().unwrap()).await;
    let stored: Vec<_> = String::from_utf8(history.stdout).unwrap().lines().map(str::to_owned).collect();
    assert!(stored == lines, "{} of {} lines", stored.len(), lines.len());
    server.leave().await;
}
