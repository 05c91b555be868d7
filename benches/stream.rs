//! Bowline beside a bare tonic service and one in Go, in one run: see `benches/README.md` for the method.
//!
//! `make bench`, or `cargo bench --bench stream -- [--rounds N] [--seconds N] [--grpc-go PROGRAM] [--control] [NAME…]`.
//! With `--control` a second tonic peer stands in Bowline's place: its ratio is 1, and the spread is the machine's noise.

#![allow(unreachable_pub, reason = "its modules are its own")]

#[path = "stream/cpu.rs"]
mod cpu;
#[path = "stream/peer.rs"]
mod peer;
#[path = "stream/report.rs"]
mod report;
#[path = "../tests/support/served.rs"]
mod served;
#[path = "stream/talker.rs"]
mod talker;
#[path = "stream/wire.rs"]
mod wire;
#[path = "stream/work.rs"]
#[allow(dead_code, reason = "nobody has a broker here")]
mod work;

use std::{env, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use report::Table;
use served::Served;
use talker::Side;
use work::{Clock, Work};

// The same for the peer as for Bowline: what differs is the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const WORKS: &[(&str, Work)] = &[
    ("ping-pong", Work::PingPong),
    ("pipelined-echo", Work::Echo { connections: 16, window: 64 }),
    ("pipelined-publish", Work::Publish { connections: 16, window: 64 }),
    ("fan-out", Work::FanOut { subscribers: 1000, burst: 1 }),
    ("fan-out-bursts", Work::FanOut { subscribers: 1000, burst: 8 }),
];

/// What the arguments ask for.
struct Plan {
    rounds: usize,
    clock: Clock,
    control: bool,
    /// The peer in Go, if it was built.
    grpc_go: Option<String>,
    names: Vec<String>,
}

/// A server that is measured.
struct Contender {
    name: &'static str,
    side: Side,
    server: Served,
}

fn main() -> Result<()> {
    if env::args().any(|argument| argument == "--serve-peer") {
        return Ok(tokio::runtime::Runtime::new()?.block_on(peer::serve())?);
    }
    let plan = plan(env::args().skip(1))?;
    ensure!(cpu::to_generator_core(), "needs two cores and taskset: server and generator must not share a core");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, measure(plan))
}

fn plan(mut arguments: impl Iterator<Item = String>) -> Result<Plan> {
    let clock = Clock { warm_up: Duration::from_secs(1), length: Duration::from_secs(3) };
    let mut plan = Plan { rounds: 5, clock, control: false, grpc_go: None, names: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<usize>().ok()).context("a number is missing");
        match argument.as_str() {
            "--bench" => {} // From cargo.
            "--control" => plan.control = true,
            "--grpc-go" => plan.grpc_go = Some(arguments.next().context("a program is missing")?),
            "--rounds" => plan.rounds = number()?.max(1),
            "--seconds" => plan.clock.length = Duration::from_secs(number()?.max(1) as u64),
            name if WORKS.iter().any(|(known, _)| *known == name) => plan.names.push(argument),
            other => {
                let known: Vec<_> = WORKS.iter().map(|(name, _)| *name).collect();
                bail!("{other}: no such measurement; there are: {}", known.join(", "));
            }
        }
    }
    Ok(plan)
}

/// Starts all servers, and lets them work in turns, each round begun by another: so that a drift of the machine meets all
/// alike.
async fn measure(plan: Plan) -> Result<()> {
    let contenders = contenders(&plan)?;
    let names = contenders.iter().map(|contender| contender.name).collect();
    let table = Table::begin(names, &plan.clock, plan.rounds);
    for (name, work) in WORKS.iter().filter(|(name, _)| plan.names.is_empty() || plan.names.iter().any(|n| n == name)) {
        let mut samples: Vec<Vec<_>> = contenders.iter().map(|_| Vec::new()).collect();
        for round in 0..plan.rounds {
            let mut turns: Vec<_> = contenders.iter().zip(&mut samples).collect();
            turns.rotate_left(round % contenders.len());
            for (contender, samples) in turns {
                let topic = format!("{name}.{round}");
                let sample = work.measure(contender.side, &(&contender.server).into(), &topic, plan.clock).await;
                samples.push(sample.with_context(|| format!("{name}, {}", contender.name))?);
            }
        }
        table.line(name, &samples);
    }
    Ok(())
}

/// The first is whose figures are compared with those of the others.
fn contenders(plan: &Plan) -> Result<Vec<Contender>> {
    let peer = |name, server| Contender { name, side: Side::Peer, server };
    let first = if plan.control {
        peer("control", start_peer()?)
    } else {
        let program = cpu::on_server_core(env!("CARGO_BIN_EXE_bowline"));
        Contender { name: "Bowline", side: Side::Bowline, server: Served::bowline(program, &[]) }
    };
    let mut all = vec![first, peer("tonic", start_peer()?)];
    if let Some(program) = &plan.grpc_go {
        let mut command = cpu::on_server_core(program);
        // It has one core; more threads would only get into each other's way.
        command.env("GOMAXPROCS", "1");
        all.push(peer("grpc-go", Served::spawn(command)));
    }
    Ok(all)
}

fn start_peer() -> Result<Served> {
    let mut command = cpu::on_server_core(&env::current_exe()?.to_string_lossy());
    command.arg("--serve-peer");
    Ok(Served::spawn(command))
}
