//! The command line as people and scripts use it: the real program, against a real server of its own.

mod bench;
mod check;
#[cfg(feature = "nats")]
pub(crate) mod doctor;
mod examples;
mod keyed;
mod pipeline;
mod probe;
mod resume;

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncWriteExt as _, Lines},
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{served::Served, signals};

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
    served: Option<Served>,
    url: String,
    home: tempfile::TempDir,
    settings: &'static [(&'static str, &'static str)],
}

impl Server {
    fn start() -> Self {
        Self::with(&[])
    }

    /// Settings are environment variables.
    fn with(settings: &'static [(&'static str, &'static str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let served = Served::bowline(std::process::Command::new(BOWLINE), settings);
        Self { url: format!("http://{}", served.address), served: Some(served), home, settings }
    }

    /// Kills the server, which forgets everything, and starts another in its place.
    fn restart(&mut self) {
        let address = self.served.take().unwrap().address.to_string();
        let settings = [self.settings, &[("BOWLINE__TRANSPORT__LISTEN", address.as_str())]].concat();
        self.served = Some(Served::bowline(std::process::Command::new(BOWLINE), &settings));
    }

    /// A command that talks to this server, reads nothing and writes into pipes.
    fn command(&self, args: &[&str]) -> Command {
        self.program(Path::new(BOWLINE), args)
    }

    /// Any program that talks to this server, as a command does.
    fn program(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env("BOWLINE_SERVER", &self.url).env("XDG_STATE_HOME", self.home.path());
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

fn signal(child: &Child, name: &str) {
    signals::send(child.id().expect("still running"), name);
}

/// The next line a running command prints.
async fn next_line(output: &mut Lines<impl AsyncBufRead + Unpin>) -> String {
    timeout(LIMIT, output.next_line()).await.expect("a line takes too long").unwrap().expect("one more line")
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
