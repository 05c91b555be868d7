//! What several replicas on NATS do and cost, beside one in memory: see `docs/benchmarks/cluster.md` for the method.
//!
//! `make cluster-bench`, or `cargo bench --profile release --features jemalloc,nats --bench cluster -- [--rounds N]
//! [--seconds N] [--json FILE] [NAME…]`.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "its modules are its own; what fails ends the measurement")]

#[path = "../tests/rollout/balancer.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod balancer;
#[path = "stream/bowline.rs"]
#[allow(dead_code, reason = "nobody comes back by it here")]
mod bowline;
#[path = "cluster/contender.rs"]
mod contender;
#[path = "stream/cpu.rs"]
#[allow(dead_code, reason = "nobody has a core of its own here")]
mod cpu;
#[path = "cluster/crowd.rs"]
mod crowd;
#[path = "../tests/rollout/fleet.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod fleet;
#[path = "../tests/support/logs.rs"]
mod logs;
#[path = "../tests/support/nats.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod nats;
#[path = "../tests/cluster/relay.rs"]
#[allow(dead_code, reason = "nobody is parted here")]
mod relay;
#[path = "../tests/support/served.rs"]
mod served;
#[path = "../tests/cluster/servers.rs"]
#[allow(dead_code, reason = "nobody is parted here")]
mod servers;
#[path = "../tests/support/signals.rs"]
#[allow(dead_code, reason = "nobody is told anything here")]
mod signals;
#[path = "stream/socket.rs"]
mod socket;
#[path = "stream/stage.rs"]
#[allow(dead_code, reason = "no server is alone here")]
mod stage;
#[path = "cluster/table.rs"]
mod table;
#[path = "stream/talker.rs"]
#[allow(dead_code, reason = "the peer is not measured here")]
mod talker;
#[path = "stream/wire.rs"]
#[allow(dead_code, reason = "no other server of gRPC is spoken to here")]
mod wire;
#[path = "stream/work.rs"]
#[allow(dead_code, reason = "some of the work is enough here")]
mod work;

use std::{env, fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use contender::{Contender, Contenders};
use crowd::{CONNECTIONS, Held, Resumed};
use fleet::Shape;
use stage::Stage;
use table::{Table, median};
use work::{Clock, FanOut, Pace, Sample, Work};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const NAMES: [&str; 4] = ["publish", "fan-out", "sessions", "resume"];

/// Publishes of one session wait for each other; those of several do not.
const PUBLISHES: [(&str, Work); 3] = [
    ("one at a time", Work::Publish { connections: 1, sessions: 1, window: 1 }),
    ("64 sessions, one each", Work::Publish { connections: 64, sessions: 1, window: 1 }),
    ("one session, 64 in flight", Work::Publish { connections: 1, sessions: 1, window: 64 }),
];
const FAN_OUTS: [(&str, Work); 2] =
    [("to 1", Work::FanOut(FanOut::to(1, Pace::Burst(1)))), ("to 100", Work::FanOut(FanOut::to(100, Pace::Burst(1))))];

/// What the arguments ask for.
struct Plan {
    rounds: usize,
    clock: Clock,
    json: Option<String>,
    names: Vec<String>,
}

impl Plan {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }
}

fn main() -> Result<()> {
    let plan = plan(env::args().skip(1))?;
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, measure(plan))
}

fn plan(mut arguments: impl Iterator<Item = String>) -> Result<Plan> {
    let clock = Clock { warm_up: Duration::from_secs(1), length: Duration::from_secs(3) };
    let mut plan = Plan { rounds: 5, clock, json: None, names: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<usize>().ok()).context("a number is missing");
        match argument.as_str() {
            "--bench" => {} // From cargo.
            "--json" => plan.json = Some(arguments.next().context("a file is missing")?),
            "--rounds" => plan.rounds = number()?.max(1),
            "--seconds" => plan.clock.length = Duration::from_secs(number()?.max(1) as u64),
            name if NAMES.contains(&name) => plan.names.push(argument),
            other => bail!("{other}: no such measurement; there are: {}", NAMES.join(", ")),
        }
    }
    Ok(plan)
}

async fn measure(plan: Plan) -> Result<()> {
    let mut all = Contenders::start().await?;
    let mut figures = Map::new();
    if plan.wants("publish") {
        figures.extend([publishes(&all, &plan).await?]);
    }
    if plan.wants("fan-out") {
        figures.extend([fan_outs(&all, &plan).await?]);
    }
    if plan.wants("sessions") {
        figures.extend([sessions(&all).await?]);
    }
    if plan.wants("resume") {
        figures.extend([resumes(&mut all.three, &plan).await?]);
    }
    if let Some(path) = &plan.json {
        let text = serde_json::to_string_pretty(&Value::Object(figures))?;
        fs::write(path, text + "\n").with_context(|| path.clone())?;
    }
    Ok(())
}

/// Each stage in every round, each time begun by another, so that a drift of the machine meets all alike.
async fn in_turns(work: Work, stages: &[Stage], name: &str, plan: &Plan) -> Result<Vec<Vec<Sample>>> {
    let mut samples: Vec<Vec<Sample>> = stages.iter().map(|_| Vec::new()).collect();
    for round in 0..plan.rounds {
        for turn in 0..stages.len() {
            let n = (round + turn) % stages.len();
            let topic = format!("{}.{n}.{round}", name.replace([' ', ','], "-"));
            let sample = work.measure(&stages[n], &topic, plan.clock).await;
            samples[n].push(sample.with_context(|| format!("{name}, {n}"))?);
        }
    }
    Ok(samples)
}

async fn publishes(all: &Contenders, plan: &Plan) -> Result<(String, Value)> {
    let contenders = [&all.memory, &all.one, &all.three, &all.synced];
    let stages = contenders.map(|contender| contender.stage(0, 0));
    let columns = &["p50 µs", "p99 µs", "a second", "replicas' µs", "NATS' µs"];
    let mut table = Table::begin("publish", columns);
    for (name, work) in PUBLISHES {
        for (contender, samples) in contenders.iter().zip(in_turns(work, &stages, name, plan).await?) {
            let of = |figure: fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(figure));
            let broker = of(broker_cost).filter(|_| contender.is_shared());
            let row = [of(p50), of(p99), of(rate), of(server_cost), broker];
            table.row(&format!("{name}: {}", contender.name), &row);
        }
    }
    Ok(table.end())
}

async fn fan_outs(all: &Contenders, plan: &Plan) -> Result<(String, Value)> {
    let stages = [all.memory.stage(0, 0), all.three.stage(0, 0), all.three.stage(0, 1)];
    let names = ["memory", "NATS, at the same replica", "NATS, at another replica"];
    let columns = &["p50 µs", "p99 µs", "added p50 µs", "a second", "replicas' µs", "to memory", "NATS' µs"];
    let mut table = Table::begin("fan-out", columns);
    for (name, work) in FAN_OUTS {
        let samples = in_turns(work, &stages, name, plan).await?;
        for (n, stage) in names.iter().enumerate() {
            let of = |figure: fn(&Sample) -> Option<f64>| median(samples[n].iter().filter_map(figure));
            // Round by round.
            let beside = |figure: fn(&Sample) -> Option<f64>, compare: fn(f64, f64) -> f64| {
                let pairs = samples[n].iter().zip(&samples[0]);
                median(pairs.filter_map(|(own, memory)| Some(compare(figure(own)?, figure(memory)?)))).filter(|_| n > 0)
            };
            let (added, ratio) =
                (beside(p50, |own, memory| own - memory), beside(server_cost, |own, memory| own / memory));
            let broker = of(broker_cost).filter(|_| n > 0);
            let row = [of(p50), of(p99), added, of(rate), of(server_cost), ratio, broker];
            table.row(&format!("{name}: {stage}"), &row);
        }
    }
    Ok(table.end())
}

async fn sessions(all: &Contenders) -> Result<(String, Value)> {
    let columns = &[
        "sessions",
        "topics",
        "connections",
        "opened in s",
        "KiB a session",
        "deliveries/s",
        "replicas' cores",
        "NATS' cores",
        "consumers",
        "streams",
    ];
    let mut table = Table::begin("sessions", columns);
    for contender in [&all.memory, &all.three] {
        let shape = Shape { name: "held".to_owned(), sessions: 10_000, each: 10_000 / CONNECTIONS };
        let held = crowd::hold(contender, &shape).await.with_context(|| contender.name)?;
        let Held { sessions, topics, opened, resident_kib, servers, brokers, deliveries, jetstream } = held;
        let row = [
            Some(sessions as f64),
            Some(topics as f64),
            Some(CONNECTIONS as f64),
            Some(opened.as_secs_f64()),
            Some(resident_kib),
            Some(deliveries),
            Some(servers),
            contender.is_shared().then_some(brokers),
            jetstream.map(|(consumers, _)| consumers as f64),
            jetstream.map(|(_, streams)| streams as f64),
        ];
        table.row(&format!("{}, {} replicas", contender.name, contender.replicas.len()), &row);
    }
    Ok(table.end())
}

async fn resumes(contender: &mut Contender, plan: &Plan) -> Result<(String, Value)> {
    let columns =
        &["sessions", "p50 back s", "all back s", "p50 complete s", "all complete s", "publishes", "lost", "doubled"];
    let mut table = Table::begin("resume", columns);
    let (mut back, mut complete) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        let shape = Shape { name: format!("resume-{round}"), sessions: 5000, each: 5000 / CONNECTIONS };
        let Resumed { open, complete: had, stored } = crowd::resume(contender, &shape).await?;
        let seconds = |micros: Option<&u64>| micros.map(|micros| *micros as f64 / 1e6);
        let middle = |times: &[u64]| seconds(times.get(times.len() / 2));
        back.extend(seconds(open.last()));
        complete.extend(seconds(had.last()));
        let (sessions, stored) = (Some(open.len() as f64), Some(stored as f64));
        // More than none, and it would have failed.
        let row = [
            sessions,
            middle(&open),
            seconds(open.last()),
            middle(&had),
            seconds(had.last()),
            stored,
            Some(0.0),
            Some(0.0),
        ];
        table.row(&format!("round {}", round + 1), &row);
    }
    table.row("median", &[None, None, median(back), None, median(complete), None, None, None]);
    Ok(table.end())
}

fn server_cost(sample: &Sample) -> Option<f64> {
    Some(sample.cost())
}

/// Microseconds of their broker's CPU for each message.
fn broker_cost(sample: &Sample) -> Option<f64> {
    Some(sample.broker.as_secs_f64() * 1e6 / sample.messages as f64)
}

fn rate(sample: &Sample) -> Option<f64> {
    Some(sample.messages as f64 / sample.wall.as_secs_f64())
}

fn p50(sample: &Sample) -> Option<f64> {
    percentile(sample, 50.0)
}

fn p99(sample: &Sample) -> Option<f64> {
    percentile(sample, 99.0)
}

/// Of work that waits for each message.
fn percentile(sample: &Sample, percent: f64) -> Option<f64> {
    (!sample.waits.is_empty()).then(|| sample.percentile(percent))
}
