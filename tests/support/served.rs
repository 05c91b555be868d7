//! `bowline serve` as a process of its own, on ports of its own: for tests and benchmarks that need the real program.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

/// How long a server may take until it serves.
const START: Duration = Duration::from_secs(20);

/// A running server; killed when dropped.
pub struct Served {
    /// The process.
    pub child: Child,
    /// Where it listens for clients.
    pub address: SocketAddr,
    /// Where it listens for operators, if it said so before.
    pub admin: Option<SocketAddr>,
    /// When each line was written that it has said so far, as it says itself: the time of the day. Those of a server that
    /// does not write JSON are not here.
    #[allow(dead_code, reason = "not every test counts them")]
    pub lines: Arc<Mutex<Vec<Duration>>>,
}

/// What every server here is told.
pub const SETTINGS: [(&str, &str); 4] = [
    ("BOWLINE__TRANSPORT__LISTEN", "127.0.0.1:0"),
    // Whoever calls it comes from loopback.
    ("BOWLINE__TRANSPORT__MAX_TRANSPORTS_PER_ADDRESS", "0"),
    ("BOWLINE__ADMIN__LISTEN", "127.0.0.1:0"),
    ("BOWLINE__TELEMETRY__FORMAT", "json"),
];

impl Served {
    /// Starts `bowline serve` with these settings (`BOWLINE__SECTION__KEY`), on free ports of loopback. `program` is
    /// the binary, or a command that ends in it.
    ///
    /// Panics with what the server said, if it does not say in time where it listens.
    pub fn bowline(mut program: Command, settings: &[(&str, &str)]) -> Self {
        program.arg("serve").envs(SETTINGS).envs(settings.iter().copied());
        Self::spawn(program)
    }

    /// Starts any server that prints a line with `listening` and its address on stderr.
    pub fn spawn(command: Command) -> Self {
        Self::spawn_saying(command, "listening")
    }

    /// Starts any server that prints a line with these words, in whatever case, and its address on stderr.
    pub fn spawn_saying(mut command: Command, words: &str) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("a pipe");
        let (sender, lines) = mpsc::sync_channel(1024);
        let times = Arc::<Mutex<Vec<Duration>>>::default();
        let noted = times.clone();
        // Reads to the end, so that the server never waits for us; keeps what was said until it listens.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                noted.lock().expect("no panic").extend(time_of(&line));
                if std::env::var_os("BOWLINE_TEST_LOG").is_some() {
                    eprintln!("server: {line}");
                }
                drop(sender.try_send(line));
            }
        });
        let mut served = Self { child, address: (Ipv4Addr::UNSPECIFIED, 0).into(), admin: None, lines: times };
        let (mut said, words) = (Vec::new(), words.to_ascii_lowercase());
        while let Ok(line) = lines.recv_timeout(START) {
            match address_in(&line) {
                Some(address) if line.contains("admin") => served.admin = Some(address),
                Some(address) if line.to_ascii_lowercase().contains(&words) => {
                    served.address = address;
                    return served;
                }
                _ => {}
            }
            said.push(line);
        }
        panic!("the server did not say where it listens; it said:\n{}", said.join("\n"));
    }
}

impl Served {
    /// Its resident memory, KiB.
    #[allow(dead_code, reason = "not every test looks")]
    pub fn resident_kib(&self) -> u64 {
        resident_kib(self.child.id())
    }
}

/// The resident memory of a process, KiB.
#[allow(dead_code, reason = "not every test looks")]
pub fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}

/// The time of the day in a line of JSON: not when we read it, which may be later, and of several lines at once.
fn time_of(line: &str) -> Option<Duration> {
    let (_, stamp) = line.split_once("\"timestamp\":\"")?;
    let mut parts = stamp.split_once('T')?.1.split_once('Z')?.0.split(':');
    let mut part = || parts.next()?.parse::<f64>().ok();
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    Some(Duration::from_secs_f64(hours * 3600.0 + minutes * 60.0 + seconds))
}

/// The first loopback address in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let rest = &line[line.find("127.0.0.1:")?..];
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
