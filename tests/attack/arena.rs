//! One attack's place: a server of its own, an honest client that plays on, and an ear on what the server writes.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    admin::Admin,
    honest::{Client, Report, Witness},
    served::Served,
    wire::Wire,
};

/// Between two tries of a new client.
const PAUSE: Duration = Duration::from_millis(50);
/// Over how long lines are counted, whenever it begins.
const WINDOW: Duration = Duration::from_secs(1);
/// Most lines that a server may write in that, whatever is done to it.
pub const MOST_LINES: usize = 10;
/// How long a new client may take to get in, when an attack is over.
const ENTRY: Duration = Duration::from_secs(2);
/// The kernel counts a process's time in hundredths of a second.
const TICKS: f64 = 100.0;

/// Who is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bowline,
    /// The fixture: tonic with its defaults.
    Stock,
}

/// How its server is started.
#[derive(Debug, Clone, Copy)]
pub enum Setup {
    /// With these settings over the defaults.
    Plain(&'static [(&'static str, &'static str)]),
    /// With a certificate.
    Tls,
    /// With no more than so many descriptors.
    Descriptors(u32),
    /// With the settings of docs/security.md that fit into a memory.
    Small,
    /// For those who show a token of the tests' issuer.
    Tokens,
}

/// See the module.
pub struct Arena {
    pub kind: Kind,
    pub server: Served,
    /// What its settings let peers and topics take at worst, as it says itself, KiB; none of the fixture.
    pub worst_kib: Option<u64>,
    /// Lines that it had written before the attack.
    lines_before: usize,
    /// Most memory, as far as it has been looked at, KiB.
    highest_kib: AtomicU64,
    witness: Option<Witness>,
    files: Option<TempDir>,
}

impl Arena {
    pub async fn open(kind: Kind, setup: Setup) -> Self {
        let mut files = None;
        let (server, worst_kib) = tokio::task::block_in_place(|| match kind {
            Kind::Bowline => {
                let server = bowline(setup, &mut files);
                let worst = worst_kib(&server);
                (server, Some(worst))
            }
            Kind::Stock => (stock(setup), None),
        });
        // Tonic's client would have to be told of the certificate, or shown a token; there, newcomers are raw.
        let has_witness = !matches!(setup, Setup::Tls | Setup::Tokens);
        let witness = if has_witness { Some(Witness::start(server.address).await) } else { None };
        let lines_before = server.lines.lock().expect("no panic").len();
        Self { kind, server, worst_kib, lines_before, highest_kib: AtomicU64::default(), witness, files }
    }

    /// A socket of an attacker on which nothing has been said. Each number is an address of its own.
    pub async fn dial(&self, attacker: u16) -> Wire {
        Wire::dial(self.server.address, address(attacker)).await
    }

    /// A transport of an attacker that has said and heard settings.
    pub async fn greeted(&self, attacker: u16, settings: &[(u16, u32)]) -> Wire {
        Wire::greeted(self.server.address, address(attacker), settings).await
    }

    /// The file with the server's certificate, if it has one.
    pub fn certificate(&self) -> std::path::PathBuf {
        self.files.as_ref().expect("a server with TLS").path().join("cert.pem")
    }

    /// The server's memory now, KiB; what it peaks at is counted from here.
    pub fn weigh(&self) -> u64 {
        self.highest_kib();
        // The kernel's own mark of how high it was begins anew.
        fs::write(format!("/proc/{}/clear_refs", self.server.child.id()), "5").expect("a process of ours");
        self.server.resident_kib()
    }

    /// Most memory since `weigh`, KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.child.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its highest mark");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Most memory it ever had, KiB.
    pub fn highest_kib(&self) -> u64 {
        let now = self.peak_kib();
        self.highest_kib.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// Seconds of processor time the server has had.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.server.child.id())).expect("a process");
        // The name, in brackets, may hold anything.
        let after = stat.rsplit(')').next().expect("a name");
        let numbers: Vec<f64> = after.split_whitespace().map(|word| word.parse().unwrap_or(0.0)).collect();
        (numbers[11] + numbers[12]) / TICKS
    }

    /// How long a new honest client takes until it is answered, `None` if it is not within `limit`. As any client does,
    /// it tries again.
    pub async fn newcomer(&self, limit: Duration) -> Option<Duration> {
        let begun = Instant::now();
        let entry = async {
            loop {
                let entered = async { Client::connect(self.server.address, "newcomer").await?.ping().await };
                if entered.await.is_ok() {
                    return begun.elapsed();
                }
                sleep(PAUSE).await;
            }
        };
        timeout(limit, entry).await.ok()
    }

    /// Ends the honest game, and sees whether a new client gets in. `None` where there is no honest client.
    pub async fn honest(&mut self) -> Option<Report> {
        let mut report = self.witness.take()?.report().await;
        if report.failure.is_none() && self.newcomer(ENTRY).await.is_none() {
            report.failure = Some(format!("nobody new gets in within {ENTRY:?}"));
        }
        Some(report)
    }

    /// Most lines that it wrote in any one second.
    pub fn most_lines(&self) -> usize {
        let times = self.server.lines.lock().expect("no panic");
        let of_attack = &times[self.lines_before..];
        let from = |first: usize| &of_attack[first..];
        let in_window = |times: &[Duration]| times.iter().take_while(|time| time.abs_diff(times[0]) < WINDOW).count();
        (0..of_attack.len()).map(|first| in_window(from(first))).max().unwrap_or(0)
    }
}

/// What the server has reckoned from its settings, when it started.
fn worst_kib(server: &Served) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&Admin::of(server).get("/status")).expect("JSON");
    status["memory_at_worst"]["bytes"].as_u64().expect("a number") >> 10
}

/// What other tests do without: here, attackers have addresses of their own.
const DEFAULT: (&str, &str) = ("BOWLINE__TRANSPORT__MAX_TRANSPORTS_PER_ADDRESS", "256");

/// The address of an attacker; honest clients come from 127.0.0.1.
pub fn address(attacker: u16) -> Ipv4Addr {
    let [high, low] = attacker.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

fn bowline(setup: Setup, files: &mut Option<TempDir>) -> Served {
    let program = env!("CARGO_BIN_EXE_bowline");
    let folder = || tempfile::tempdir().unwrap();
    match setup {
        Setup::Plain(settings) => Served::bowline(Command::new(program), &[&[DEFAULT], settings].concat()),
        Setup::Descriptors(most) => Served::bowline(limited(most, program), &[DEFAULT]),
        Setup::Small => {
            let file = files.insert(folder()).path().join("small.toml");
            fs::write(&file, small()).unwrap();
            Served::bowline(Command::new(program), &[DEFAULT, ("BOWLINE_CONFIG", file.to_str().unwrap())])
        }
        Setup::Tokens => {
            let file = files.insert(folder()).path().join("secret");
            write_private(&file, SECRET);
            let issuers = format!(
                "[{{ issuer = \"https://id.test\", audiences = [\"bowline\"], algorithms = [\"HS256\"], secret_files = [{file:?}] }}]"
            );
            let rules = "[{ topics = [\">\"], allow = [\"publish\", \"read\"] }]";
            let auth = [
                DEFAULT,
                ("BOWLINE__AUTH__MODE", "jwt"),
                ("BOWLINE__AUTH__ISSUERS", &*issuers),
                ("BOWLINE__AUTH__RULES", rules),
            ];
            Served::bowline(Command::new(program), &auth)
        }
        Setup::Tls => {
            let folder = files.insert(folder());
            let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
            let CertifiedKey { cert: leaf, signing_key } = generate_simple_self_signed(["localhost".into()]).unwrap();
            fs::write(&cert, leaf.pem()).unwrap();
            write_private(&key, &signing_key.serialize_pem());
            let settings = [
                DEFAULT,
                ("BOWLINE__TRANSPORT__TLS__ENABLED", "true"),
                ("BOWLINE__TRANSPORT__TLS__CERT_FILE", cert.to_str().unwrap()),
                ("BOWLINE__TRANSPORT__TLS__KEY_FILE", key.to_str().unwrap()),
            ];
            Served::bowline(Command::new(program), &settings)
        }
    }
}

/// The secret that a server for tokens shares with their issuer.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The settings that docs/security.md says to fit into the memory that it says.
fn small() -> &'static str {
    let (_, rest) = include_str!("../../docs/security.md").split_once("## Memory").expect("a chapter on memory");
    rest.split_once("```toml\n").and_then(|(_, rest)| rest.split_once("```")).expect("settings").0
}

/// A file that nobody else may read: a server may refuse a key that others can.
fn write_private(path: &Path, text: &str) {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn stock(setup: Setup) -> Served {
    let program = std::env::current_exe().unwrap();
    let mut command = match setup {
        Setup::Descriptors(most) => limited(most, program.to_str().unwrap()),
        _ => Command::new(program),
    };
    command.arg("--serve-stock");
    Served::spawn(command)
}

/// A program that cannot have more descriptors, however it asks.
fn limited(descriptors: u32, program: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""), program]);
    shell
}
