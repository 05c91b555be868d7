//! A NATS server with JetStream, as a process of its own on a port of its own, with what it keeps in a folder of its own.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Longer than a server takes to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module. It ends with its owner.
pub struct NatsServer {
    binary: PathBuf,
    folder: TempDir,
    /// More words of its command line.
    words: Vec<String>,
    port: Option<u16>,
    child: Option<Child>,
}

impl NatsServer {
    /// A new one; `None` after saying so, if there is no such program.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The same, with more words on its command line.
    pub async fn start_with(words: &[&str]) -> Option<Self> {
        let binary = find()?;
        let folder = tempfile::tempdir().expect("a folder for the server");
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let mut server = Self { binary, folder, words, port: None, child: None };
        server.run().await;
        Some(server)
    }

    /// Starts it, on the port it had before if it had one, and waits until it serves.
    pub async fn run(&mut self) {
        let ports = self.folder.path().join("ports");
        fs::remove_dir_all(&ports).ok();
        fs::create_dir_all(&ports).expect("a folder for what it says of itself");
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).expect("a log");
        let port = self.port.map_or("-1".to_owned(), |port| port.to_string());
        let child = Command::new(&self.binary)
            .args(["--addr", "127.0.0.1", "--port", &port, "--jetstream", "--store_dir"])
            .arg(self.store())
            .arg("--ports_file_dir")
            .arg(&ports)
            .args(&self.words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
        let begun = Instant::now();
        self.port = loop {
            let port = said_port(&ports);
            if port.is_some() {
                break port;
            }
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "the NATS server did not start: {}", log());
            sleep(Duration::from_millis(20)).await;
        };
    }

    /// Where it serves.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port.unwrap_or_default())
    }

    /// Ends it where it stands.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Removes all that it keeps. To be called while it does not run.
    pub fn lose(&self) {
        assert!(self.child.is_none(), "it still runs");
        fs::remove_dir_all(self.store()).ok();
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The port that it says it serves on, once it has said so.
fn said_port(folder: &Path) -> Option<u16> {
    let file = fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .find(|file| file.file_name().to_string_lossy().ends_with(".ports"))?;
    let said: serde_json::Value = serde_json::from_str(&fs::read_to_string(file.path()).ok()?).ok()?;
    said["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

/// The program, as `.ci/tools interop` installs it.
pub fn find() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin");
    let folders = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let found = [ours].into_iter().chain(folders).map(|folder| folder.join("nats-server")).find(|path| path.is_file());
    if found.is_none() {
        assert!(env::var_os("BOWLINE_REQUIRE_INTEROP").is_none(), "nats-server is missing: run .ci/tools interop");
        // Past the test harness, which would swallow it: a test that did not run must be seen.
        writeln!(std::io::stderr(), "\nNOT RUN: a test with NATS, for want of nats-server: see `make test`\n").ok();
    }
    found
}
