//! A NATS server with JetStream, as a process of its own on a port of its own, with what it keeps in a folder of its own.

use std::{
    env, fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::signals;

/// Longer than a server takes to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stands in a server's settings for the port on which others of its cluster reach it.
pub const CLUSTER_PORT: &str = "CLUSTER_PORT";

/// The password of the system account's user.
pub const SYSTEM_PASSWORD: &str = "canary-of-the-system-account-18b4";

/// Settings of a server with a system account, that has these tags, and confirms after the disk or does not.
pub fn accounts(syncs: bool, tags: &[&str]) -> String {
    let sync_interval = if syncs { "sync_interval: always" } else { "" };
    format!(
        r#"
        server_tags: {tags:?}
        jetstream {{ {sync_interval} }}
        accounts {{
            APP {{ jetstream: enabled, users: [{{ user: app, password: app }}] }}
            SYS {{ users: [{{ user: sys, password: "{SYSTEM_PASSWORD}", permissions: {{
                publish: ["$SYS.REQ.SERVER.PING.JSZ"], subscribe: ["_INBOX.>"]
            }} }}] }}
        }}
        system_account: SYS
        no_auth_user: app
        "#
    )
}

/// See the module. It ends with its owner.
pub struct NatsServer {
    binary: PathBuf,
    folder: TempDir,
    /// What its own file of settings says.
    settings: String,
    /// Whether it keeps anything.
    keeps: bool,
    ports: Option<Ports>,
    child: Option<Child>,
}

/// Where it serves: clients, and others of its cluster if it has one.
#[derive(Clone, Copy)]
struct Ports {
    clients: u16,
    cluster: Option<u16>,
}

impl NatsServer {
    /// A new one; `None` after saying so, if there is no such program.
    pub async fn start() -> Option<Self> {
        Self::start_with("").await
    }

    /// The same, with settings beside those that it is given here.
    pub async fn start_with(settings: &str) -> Option<Self> {
        Self::begin(settings, true).await
    }

    /// One that confirms after the disk, has the tag `disk`, and says so to a user of its system account. Whoever names nobody
    /// is of another account.
    pub async fn start_syncing() -> Option<Self> {
        Self::start_with(&accounts(true, &["disk"])).await
    }

    /// One without JetStream.
    pub async fn start_plain() -> Option<Self> {
        Self::begin("", false).await
    }

    async fn begin(settings: &str, keeps: bool) -> Option<Self> {
        let binary = find()?;
        let folder = tempfile::tempdir().expect("a folder for the server");
        let mut server = Self { binary, folder, settings: settings.to_owned(), keeps, ports: None, child: None };
        server.run().await;
        Some(server)
    }

    /// Starts it, on the ports it had before if it had any, and waits until it serves.
    pub async fn run(&mut self) {
        let ports = self.folder.path().join("ports");
        fs::remove_dir_all(&ports).ok();
        fs::create_dir_all(&ports).expect("a folder for what it says of itself");
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).expect("a log");
        let (any, cluster) = ("-1".to_owned(), self.ports.and_then(|ports| ports.cluster));
        let port = self.ports.map_or(any.clone(), |ports| ports.clients.to_string());
        let cluster = cluster.map_or(any, |port| port.to_string());
        let settings = self.folder.path().join("settings");
        fs::write(&settings, self.settings.replace(CLUSTER_PORT, &cluster)).expect("its settings");
        let child = Command::new(&self.binary)
            .args(["--addr", "127.0.0.1", "--port", &port])
            .args(self.keeps.then_some("--jetstream"))
            .arg("--store_dir")
            .arg(self.store())
            .arg("--ports_file_dir")
            .arg(&ports)
            .arg("--config")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
        let begun = Instant::now();
        self.ports = loop {
            let said = said_ports(&ports);
            if said.is_some() {
                break said;
            }
            assert!(begun.elapsed() < PATIENCE, "the NATS server did not start: {}", self.log());
            sleep(Duration::from_millis(20)).await;
        };
    }

    /// Where it serves.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// The same, as a socket's address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.map_or(0, |ports| ports.clients)).into()
    }

    /// Where others of its cluster reach it.
    pub fn cluster_address(&self) -> SocketAddr {
        let port = self.ports.and_then(|ports| ports.cluster).expect("a server of a cluster");
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends it a signal, by its name: `-STOP`, `-CONT`, `-TERM`.
    pub fn signal(&self, name: &str) {
        signals::send(self.id(), name);
    }

    /// Has it leave in its own time.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        if let Some(mut child) = self.child.take() {
            child.wait().ok();
        }
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

    /// Takes away the last so many bytes of each file of events that it keeps of streams whose names begin so: what a disk has
    /// not taken when its power goes. How many files there were. To be called while it does not run.
    pub fn cut_short(&self, streams: &str, bytes: u64) -> usize {
        assert!(self.child.is_none(), "it still runs");
        let (mut folders, mut count) = (vec![self.store()], 0);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder of its store").filter_map(Result::ok) {
                let path = entry.path();
                let is_of_stream = || path.iter().any(|part| part.to_string_lossy().starts_with(streams));
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "blk") && is_of_stream() {
                    let file = fs::File::options().write(true).open(&path).expect("a file of its store");
                    let length = file.metadata().expect("its length").len();
                    file.set_len(length.saturating_sub(bytes)).expect("a shorter file");
                    count += 1;
                }
            }
        }
        count
    }

    /// A user of the system account of [`accounts`], and a file with its password.
    pub fn system_user(&self) -> (String, PathBuf) {
        let path = self.folder.path().join("password");
        fs::write(&path, SYSTEM_PASSWORD).expect("a file for the password");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours alone");
        ("sys".to_owned(), path)
    }

    /// Where it keeps what it keeps.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The ports that it says it serves on, once it has said so.
fn said_ports(folder: &Path) -> Option<Ports> {
    let file = fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .find(|file| file.file_name().to_string_lossy().ends_with(".ports"))?;
    let said: serde_json::Value = serde_json::from_str(&fs::read_to_string(file.path()).ok()?).ok()?;
    let port = |kind: &str| said[kind][0].as_str()?.rsplit(':').next()?.parse().ok();
    Some(Ports { clients: port("nats")?, cluster: port("cluster") })
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
