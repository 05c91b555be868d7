//! The command line as people and scripts use it: the real program, against a real server of its own.

#![allow(clippy::unwrap_used, reason = "a helper of tests that fails says where")]

mod pipeline;
mod resume;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::{sleep, timeout},
};

/// Longest time for anything here.
const LIMIT: Duration = Duration::from_secs(60);
const BOWLINE: &str = env!("CARGO_BIN_EXE_bowline");

/// `examples/data/stocks.csv`, as lines.
fn stocks() -> (PathBuf, Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/stocks.csv");
    let lines = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    (path, lines)
}

/// A running `bowline serve`, and a home directory for the commands that talk to it.
struct Server {
    child: Child,
    port: u16,
    home: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let home = tempfile::tempdir().unwrap();
        let server = Self { child: Self::spawn(port), port, home };
        server.ready().await;
        server
    }

    fn spawn(port: u16) -> Child {
        Command::new(BOWLINE)
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--set", "admin.enabled=false"])
            .args(["--log-level", "warn"])
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn ready(&self) {
        let probes = async {
            while self.run(&["probe"]).await.status.code() != Some(0) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, probes).await.unwrap();
    }

    /// Kills the server, which forgets everything, and starts another in its place.
    async fn restart(&mut self) {
        self.child.kill().await.unwrap();
        self.child = Self::spawn(self.port);
        self.ready().await;
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A command that talks to this server, reads nothing and writes into pipes.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BOWLINE);
        command.args(args).env("BOWLINE_SERVER", self.url()).env("XDG_STATE_HOME", self.home.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&self, args: &[&str]) -> Output {
        timeout(LIMIT, self.command(args).output()).await.expect("a command takes too long").unwrap()
    }

    /// Runs a command with an input.
    async fn feed(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let write = async move {
            // A command may end without reading everything.
            stdin.write_all(input.as_bytes()).await.ok();
            drop(stdin);
        };
        let both = async { tokio::join!(write, child.wait_with_output()).1 };
        timeout(LIMIT, both).await.expect("a command takes too long").unwrap()
    }

    async fn publish(&self, topic: &str, lines: &[impl AsRef<str>]) {
        let input: String = lines.iter().map(|line| format!("{}\n", line.as_ref())).collect();
        let published = self.feed(&["pub", topic], &input).await;
        assert_eq!(code(&published), 0, "{}", stderr(&published));
    }
}

async fn signal(child: &Child, name: &str) {
    let id = child.id().expect("still running").to_string();
    assert!(Command::new("kill").args([name, &id]).status().await.unwrap().success());
}

async fn ended(child: Child) -> Output {
    timeout(LIMIT, child.wait_with_output()).await.expect("a command takes too long").unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    stdout(output).lines().map(str::to_owned).collect()
}

fn objects(output: &Output) -> Vec<serde_json::Value> {
    lines(output).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}
