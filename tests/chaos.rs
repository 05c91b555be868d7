//! Real processes under real faults: a server that is killed, clients that are killed and stopped, connections that are
//! cut. Everybody writes down what it sees, and the checker holds it to the promises.
//!
//! `BOWLINE_LOAD_SECONDS=300` makes a run of five minutes of it; `BOWLINE_SEED` repeats its dice, though not its timing.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "its modules are its own; a test says no more than where")]
#![allow(clippy::print_stdout, reason = "what was done to it is told with what came of it")]

#[path = "support/logs.rs"]
mod logs;
#[path = "chaos/proxy.rs"]
mod proxy;
#[path = "support/served.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod served;
#[path = "support/signals.rs"]
mod signals;

use std::{
    fs::File,
    io::BufReader,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bowline::checker::{
    self, Floor, Options,
    history::{self, Op, Record},
};
use proxy::Proxy;
use served::Served;
use tokio::time::Instant;

/// Client, topic.
const WITNESSES: [(&str, &str); 6] = [
    ("ann", "prices"),
    ("ben", "prices"),
    ("cat", "prices"),
    ("dan", "small"),
    ("eve", "small"),
    ("fay", "state.board"),
];
/// A history that a reader who is away for a second or two runs out of.
const RULES: &str = r#"[
    { pattern = "small", history = { max_events = 60 } },
    { pattern = "state.>", class = "state" },
    { pattern = ">" },
]"#;
/// What the server may occupy: a debug build, three topics of at most 16 MiB, seven clients.
const MEMORY: u64 = 128 << 20;
/// How long after the last fault everybody has to have caught up and gone: G13 says 30 s.
const CALM: Duration = Duration::from_secs(30);

/// A client process, the way it reaches the server, and what it has been started with.
struct Actor {
    client: &'static str,
    arguments: Vec<String>,
    program: PathBuf,
    proxy: Proxy,
    child: Child,
    /// When it goes on, if it is stopped.
    stopped: Option<Instant>,
}

impl Actor {
    fn start(program: &Path, home: &Path, server: SocketAddr, client: &'static str, topic: &str, end: Instant) -> Self {
        let proxy = Proxy::open(server);
        let (url, history) = (format!("http://{}", proxy.address()), home.join(client));
        let arguments = [&*url, client, topic, history.to_str().unwrap()].map(str::to_owned).to_vec();
        let child = spawn(program, &arguments, end);
        Self { client, arguments, program: program.to_owned(), proxy, child, stopped: None }
    }

    /// Cuts its connections.
    fn cut(&self) -> Record {
        let sockets = self.proxy.cut();
        fault(format!("cut {}: {sockets} sockets", self.client), sockets > 0)
    }

    fn kill(&mut self, end: Instant) -> Record {
        self.child.kill().and_then(|()| self.child.wait()).unwrap();
        self.child = spawn(&self.program, &self.arguments, end);
        self.stopped = None;
        fault(format!("kill -9 {}", self.client), true)
    }

    fn stop(&mut self, time: Duration) -> Record {
        self.signal("-STOP");
        self.stopped = Some(Instant::now() + time);
        fault(format!("stopped {} for {time:?}", self.client), true)
    }

    /// Lets it go on if it has been stopped for as long as it was to be.
    fn go_on(&mut self) {
        if self.stopped.is_some_and(|until| until <= Instant::now()) {
            self.signal("-CONT");
            self.stopped = None;
        }
    }

    fn signal(&self, name: &str) {
        signals::send(self.child.id(), name);
    }
}

fn spawn(program: &Path, arguments: &[String], end: Instant) -> Child {
    let seconds = end.saturating_duration_since(Instant::now()).as_secs_f64();
    let mut command = Command::new(program);
    command.args(arguments).arg(format!("{seconds:.1}")).arg("40");
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// The example, built here: cargo builds the program for a test, but no examples.
fn witness() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_bowline")).parent().unwrap();
    let profile = if built.ends_with("debug") { "dev" } else { "release" };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--offline", "--quiet", "--example", "witness", "--profile", profile]);
    cargo.arg("--target-dir").arg(built.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    if cfg!(feature = "nats") {
        cargo.args(["--features", "nats"]);
    }
    assert!(cargo.status().unwrap().success());
    built.join("examples/witness")
}

fn serve(address: SocketAddr) -> Served {
    let address = address.to_string();
    let settings = [
        ("BOWLINE__TRANSPORT__LISTEN", &*address),
        ("BOWLINE__TOPICS__RULES", RULES),
        ("BOWLINE__REGISTRY__RECEIVE_TIMEOUT", "2s"),
        ("BOWLINE__REGISTRY__PROBE_TIMEOUT", "2s"),
    ];
    Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), &settings)
}

fn observed(op: Op) -> Record {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    Record { at, client: "test".into(), program: "test".into(), connection: 0, op }
}

fn fault(what: String, took_hold: bool) -> Record {
    println!("{what}");
    observed(Op::Fault { what, took_hold })
}

#[derive(Clone, Copy)]
enum Wrong {
    Cut,
    Kill,
    Stop,
    Server,
}

/// What goes wrong within a few seconds, in an order by chance. Only the order: a die that is thrown for each can come up the
/// same all the time that a run lasts, and then nothing else is put to the test.
fn deck() -> [Wrong; 10] {
    use Wrong::{Cut, Kill, Server, Stop};
    let mut deck = [Cut, Cut, Cut, Cut, Cut, Kill, Kill, Stop, Stop, Server];
    fastrand::shuffle(&mut deck);
    deck
}

/// Breaks things until it is time to stop; what was done.
fn go_wrong(actors: &mut [Actor], server: &mut Option<Served>, address: SocketAddr, end: Instant) -> Vec<Record> {
    let mut faults = Vec::new();
    // The server is killed in the first half: afterwards logs are to be held against what was acknowledged.
    let (begun, mut server_kills) = (Instant::now(), 2);
    let in_time = |_: &Wrong| Instant::now() + Duration::from_secs(3) < end;
    for wrong in std::iter::repeat_with(deck).flatten().take_while(in_time) {
        std::thread::park_timeout(Duration::from_millis(fastrand::u64(100..700)));
        actors.iter_mut().for_each(Actor::go_on);
        let bytes = server.as_ref().map_or(0, |server| server.resident_kib() * 1024);
        faults.push(observed(Op::Memory { bytes, limit: MEMORY }));
        let actor = &mut actors[fastrand::usize(..WITNESSES.len())];
        let left = end.saturating_duration_since(Instant::now());
        match wrong {
            Wrong::Cut => faults.push(actor.cut()),
            Wrong::Kill => faults.push(actor.kill(end)),
            Wrong::Stop if actor.stopped.is_none() => {
                faults.push(actor.stop(Duration::from_millis(fastrand::u64(200..5000)).min(left)));
            }
            Wrong::Server if server_kills > 0 && begun.elapsed() < left => {
                server_kills -= 1;
                drop(server.take());
                std::thread::park_timeout(Duration::from_millis(fastrand::u64(..1500)));
                *server = Some(serve(address));
                faults.push(fault("kill -9 of the server".to_owned(), true));
            }
            Wrong::Stop | Wrong::Server => {}
        }
    }
    while actors.iter().any(|actor| actor.stopped.is_some()) {
        std::thread::park_timeout(Duration::from_millis(50));
        actors.iter_mut().for_each(Actor::go_on);
    }
    faults
}

/// What the logs hold when all is over.
async fn look(address: SocketAddr) -> Vec<Record> {
    let said = |op| Record { at: u64::MAX, client: "operator".into(), program: "operator".into(), connection: 0, op };
    logs::read(address, &["prices", "small", "state.board"]).await.into_iter().map(said).collect()
}

#[tokio::test]
async fn real_processes_under_real_faults_break_no_promise() {
    let seed =
        std::env::var("BOWLINE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    fastrand::seed(seed);
    println!("BOWLINE_SEED={seed}");
    let seconds = std::env::var("BOWLINE_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let (program, home) = (witness(), tempfile::tempdir().unwrap());
    // A port that was free a moment ago: a server that is started again has to be found where it was.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut server = Some(serve(address));
    let end = Instant::now() + Duration::from_secs(seconds);
    let start =
        |&(client, topic): &(&'static str, &str)| Actor::start(&program, home.path(), address, client, topic, end);
    let mut actors: Vec<_> = WITNESSES.iter().map(start).collect();

    let mut records = go_wrong(&mut actors, &mut server, address, end);
    for actor in &mut actors {
        let deadline = end + CALM;
        while actor.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "{} is not done {CALM:?} after the last fault", actor.client);
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
    for (client, _) in WITNESSES {
        records.extend(history::read(BufReader::new(File::open(home.path().join(client)).unwrap())).unwrap());
    }
    records.extend(look(address).await);
    records.sort_by_key(|record| record.at);

    let report = checker::check(&records, Options::default());
    println!("{report}");
    assert!(report.violations.is_empty(), "BOWLINE_SEED={seed}");
    let floor = Floor { operations: 1000, faults: 5, resumes: 5, exercised: 0 };
    assert_eq!(report.vacuity(floor), Vec::<String>::new(), "this proves nothing; BOWLINE_SEED={seed}");
}
