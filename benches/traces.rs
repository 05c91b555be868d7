//! What traces cost a server, whatever its collector does: see `benches/README.md` for the method.
//!
//! `make cost`, or `cargo bench --bench traces -- [--rounds N] [--seconds N]`.

#![allow(unreachable_pub, reason = "its modules are its own")]
#![allow(clippy::unwrap_used, reason = "what fails ends the measurement")]

#[path = "stream/bowline.rs"]
#[allow(dead_code, reason = "nobody resumes here")]
mod bowline;
#[path = "../tests/support/collector.rs"]
#[allow(dead_code, reason = "what it is sent is not looked at here")]
mod collector;
#[path = "stream/cpu.rs"]
mod cpu;
#[path = "../tests/support/served.rs"]
#[allow(dead_code, reason = "no peer is measured here")]
mod served;
#[path = "stream/socket.rs"]
mod socket;
#[path = "stream/stage.rs"]
#[allow(dead_code, reason = "the server is alone here")]
mod stage;
#[path = "stream/talker.rs"]
#[allow(dead_code, reason = "no peer is measured here")]
mod talker;
#[path = "stream/wire.rs"]
#[allow(dead_code, reason = "no peer is measured here")]
mod wire;
#[path = "stream/work.rs"]
#[allow(dead_code, reason = "one kind of work is enough here")]
mod work;

use std::{env, time::Duration};

use crate::bowline::Bowline;
use anyhow::{Context as _, Result, bail, ensure};
use collector::{Collector, Manner};
use served::Served;
use stage::Stage;
use work::{Clock, FanOut, Pace, Sample, Work};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One event to so many connections, the next when all have it: each wait is that of the last.
const WORK: Work = Work::FanOut(FanOut::to(20, Pace::Burst(1)));

/// A server under one condition, and what was seen of it.
struct Case {
    name: &'static str,
    /// Held so that it goes on serving.
    _server: Served,
    stage: Stage,
    samples: Vec<Sample>,
    /// Resident memory after the first round and the last, KiB.
    resident: (u64, u64),
    /// Held so that it goes on misbehaving.
    _collector: Option<Collector>,
}

fn main() -> Result<()> {
    let (mut rounds, mut clock) = (7, Clock { warm_up: Duration::from_secs(1), length: Duration::from_secs(3) });
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        let number = arguments.next().and_then(|text| text.parse::<u64>().ok()).context("a number is missing")?;
        match argument.as_str() {
            "--rounds" => rounds = usize::try_from(number.max(1))?,
            "--seconds" => clock.length = Duration::from_secs(number.max(1)),
            other => bail!("{other}: there are --rounds and --seconds"),
        }
    }
    ensure!(cpu::to_generator_core(), "needs two cores and taskset: server and generator must not share a core");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, measure(rounds, clock))
}

/// Every condition in every round, each time beginning with another, so that a drift of the machine meets all alike.
async fn measure(rounds: usize, clock: Clock) -> Result<()> {
    let mut cases = vec![case("off", None, &[]), case("off again", None, &[])];
    let (all, slow) = (("BOWLINE__TELEMETRY__TRACES__SAMPLE_RATIO", "1"), Manner::Slow(Duration::from_secs(1)));
    for (name, manner, settings) in [
        ("takes", Some(Manner::Takes), &[][..]),
        ("not there", None, &[]),
        ("refuses", Some(Manner::Refuses), &[]),
        ("silent", Some(Manner::Silent), &[]),
        ("slow", Some(slow), &[]),
        ("silent, every publish traced", Some(Manner::Silent), &[all]),
    ] {
        let collector = match manner {
            Some(manner) => Some(Collector::start(manner).await),
            None => None,
        };
        let url = collector.as_ref().map_or("http://127.0.0.1:1".to_owned(), Collector::url);
        let on = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())];
        cases.push(case(name, collector, &on.iter().chain(settings).copied().collect::<Vec<_>>()));
    }
    let count = cases.len();
    for round in 0..rounds {
        for turn in 0..count {
            let case = &mut cases[(round + turn) % count];
            let sample = WORK.measure(&case.stage, &format!("traces.{round}"), clock).await;
            case.samples.push(sample.with_context(|| case.name)?);
            let resident = case.stage.resident_kib();
            case.resident = (if round == 0 { resident } else { case.resident.0 }, resident);
        }
    }
    report(&cases, rounds, &clock);
    Ok(())
}

fn case(name: &'static str, collector: Option<Collector>, settings: &[(&str, &str)]) -> Case {
    let server = Served::bowline(cpu::on_server_core(env!("CARGO_BIN_EXE_bowline")), settings);
    let stage = Stage::alone(Bowline::dial, server.address, server.child.id());
    Case { name, _server: server, stage, samples: Vec::new(), resident: (0, 0), _collector: collector }
}

/// Ratios are taken to the first case in the same round; the second, which is the same, shows the noise.
#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn report(cases: &[Case], rounds: usize, clock: &Clock) {
    println!("{WORK:?}; {rounds} rounds of {:?}, medians; ratios to `off` in the same round\n", clock.length);
    println!(
        "| collector | p50 µs | p99 µs | p99 ratio | CPU µs per delivery | CPU ratio | memory, first and last round, MiB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for case in cases {
        let of = |measure: fn(&Sample) -> f64| median(case.samples.iter().map(measure));
        let ratio = |measure: fn(&Sample) -> f64| {
            median(case.samples.iter().zip(&cases[0].samples).map(|(own, off)| measure(own) / measure(off)))
        };
        let p50: fn(&Sample) -> f64 = |sample| sample.percentile(50.0);
        let p99: fn(&Sample) -> f64 = |sample| sample.percentile(99.0);
        let (first, last) = (case.resident.0 as f64 / 1024.0, case.resident.1 as f64 / 1024.0);
        println!(
            "| {} | {:.0} | {:.0} | {:.3} | {:.2} | {:.3} | {first:.1}, {last:.1} |",
            case.name,
            of(p50),
            of(p99),
            ratio(p99),
            of(Sample::cost),
            ratio(Sample::cost),
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
