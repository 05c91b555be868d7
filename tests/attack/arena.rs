//! One attack's place: a server of its own, an honest client that plays on, and eyes on what the server takes and says.

use std::{
    fs,
    net::Ipv4Addr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    honest::{Client, Report, Witness},
    served::Served,
    wire::Wire,
};

/// Between two looks at the server.
const LOOK: Duration = Duration::from_millis(50);
/// Looks in a second.
const LOOKS: usize = 20;
/// Most lines a second a server may write, whatever is done to it, but for its first second.
pub const MOST_LINES: u64 = 10;
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
}

/// See the module.
pub struct Arena {
    pub kind: Kind,
    pub server: Served,
    eyes: Arc<Eyes>,
    witness: Option<Witness>,
    _looking: JoinSet<()>,
    certificate: Option<TempDir>,
}

/// What was seen of the process.
#[derive(Default)]
struct Eyes {
    peak_kib: AtomicU64,
    /// Most lines within a second.
    lines: AtomicU64,
    over: AtomicBool,
}

impl Arena {
    pub async fn open(kind: Kind, setup: Setup) -> Self {
        let mut certificate = None;
        let server = tokio::task::block_in_place(|| match kind {
            Kind::Bowline => bowline(setup, &mut certificate),
            Kind::Stock => stock(setup),
        });
        // Tonic's client would have to be told of the certificate; there, newcomers are raw.
        let witness = if matches!(setup, Setup::Tls) { None } else { Some(Witness::start(server.address).await) };
        let eyes = Arc::<Eyes>::default();
        let mut looking = JoinSet::new();
        looking.spawn(look(eyes.clone(), server.child.id(), server.lines.clone()));
        Self { kind, server, eyes, witness, _looking: looking, certificate }
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
        self.certificate.as_ref().expect("a server with TLS").path().join("cert.pem")
    }

    /// The server's memory now, KiB; what it peaks at is counted from here.
    pub fn weigh(&self) -> u64 {
        let now = self.server.resident_kib();
        self.eyes.peak_kib.store(now, Ordering::Relaxed);
        now
    }

    /// Most memory since `weigh`, KiB.
    pub fn peak_kib(&self) -> u64 {
        self.eyes.peak_kib.load(Ordering::Relaxed).max(self.server.resident_kib())
    }

    /// Seconds of processor time the server has had.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.server.child.id())).expect("a process");
        // The name, in brackets, may hold anything.
        let after = stat.rsplit(')').next().expect("a name");
        let numbers: Vec<f64> = after.split_whitespace().map(|word| word.parse().unwrap_or(0.0)).collect();
        (numbers[11] + numbers[12]) / TICKS
    }

    /// How long a new honest client takes until it is answered, `None` if it is not within `limit`.
    pub async fn newcomer(&self, limit: Duration) -> Option<Duration> {
        let begun = Instant::now();
        let entry = async { Client::connect(self.server.address, "newcomer").await?.ping().await };
        timeout(limit, entry).await.ok()?.ok().map(|_| begun.elapsed())
    }

    /// Ends the honest game, and sees whether a new client gets in. `None` where there is no honest client.
    pub async fn honest(&mut self) -> Option<Report> {
        let mut report = self.witness.take()?.report().await;
        if report.failure.is_none() && self.newcomer(ENTRY).await.is_none() {
            report.failure = Some(format!("nobody new gets in within {ENTRY:?}"));
        }
        Some(report)
    }

    /// Most lines it wrote within a second.
    pub fn most_lines(&self) -> u64 {
        self.eyes.lines.load(Ordering::Relaxed)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.eyes.over.store(true, Ordering::Relaxed);
    }
}

/// The address of an attacker; honest clients come from 127.0.0.1.
pub fn address(attacker: u16) -> Ipv4Addr {
    let [high, low] = attacker.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

fn bowline(setup: Setup, certificate: &mut Option<TempDir>) -> Served {
    let program = env!("CARGO_BIN_EXE_bowline");
    match setup {
        Setup::Plain(settings) => Served::bowline(Command::new(program), settings),
        Setup::Descriptors(most) => Served::bowline(limited(most, program), &[]),
        Setup::Tls => {
            let folder = certificate.insert(tempfile::tempdir().unwrap());
            let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
            let CertifiedKey { cert: leaf, signing_key } = generate_simple_self_signed(["localhost".into()]).unwrap();
            fs::write(&cert, leaf.pem()).unwrap();
            write_private(&key, &signing_key.serialize_pem());
            let settings = [
                ("BOWLINE__TRANSPORT__TLS__ENABLED", "true"),
                ("BOWLINE__TRANSPORT__TLS__CERT_FILE", cert.to_str().unwrap()),
                ("BOWLINE__TRANSPORT__TLS__KEY_FILE", key.to_str().unwrap()),
            ];
            Served::bowline(Command::new(program), &settings)
        }
    }
}

/// A file that nobody else may read: a server may refuse a key that others can.
fn write_private(path: &std::path::Path, text: &str) {
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

async fn look(eyes: Arc<Eyes>, process: u32, said: Arc<AtomicU64>) {
    let status = format!("/proc/{process}/status");
    // What it says of its start does not count.
    let mut counts = Vec::new();
    while !eyes.over.load(Ordering::Relaxed) {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0);
        eyes.peak_kib.fetch_max(kib, Ordering::Relaxed);
        counts.push(said.load(Ordering::Relaxed));
        let second_ago = counts[counts.len().saturating_sub(LOOKS + 1)];
        eyes.lines.fetch_max(counts[counts.len() - 1] - second_ago, Ordering::Relaxed);
        sleep(LOOK).await;
    }
}
