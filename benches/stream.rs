//! Bowline beside its peers and the limit, in one run: see `benches/README.md` for the method.
//!
//! `make bench`, or `cargo bench --bench stream -- [--list] [--rounds N] [--millis N] [--control] [--record FOLDER]
//! [--guided PROGRAM] [--grpc-go PROGRAM] [--nats PROGRAM] [--centrifugo PROGRAM] [NAME…]`.
//! With `--control` a second tonic peer stands in Bowline's place: its ratio is 1, and the spread is the machine's noise.

#![allow(unreachable_pub, reason = "its modules are its own")]
#![allow(clippy::print_stdout, reason = "the tables are what a benchmark is for")]

#[path = "stream/again.rs"]
mod again;
#[path = "stream/awake.rs"]
mod awake;
#[path = "stream/bowline.rs"]
mod bowline;
#[path = "stream/bystander.rs"]
mod bystander;
#[path = "stream/centrifugo.rs"]
mod centrifugo;
#[path = "stream/contenders.rs"]
mod contenders;
#[path = "stream/cpu.rs"]
mod cpu;
#[path = "stream/figures.rs"]
mod figures;
#[path = "stream/grpc.rs"]
mod grpc;
#[path = "stream/idle.rs"]
mod idle;
#[path = "stream/limit.rs"]
mod limit;
#[path = "stream/list.rs"]
mod list;
#[path = "stream/machine.rs"]
mod machine;
#[path = "stream/nats.rs"]
mod nats;
#[path = "stream/peer.rs"]
mod peer;
#[path = "../tests/support/pki.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "tests need more of it, and may panic")]
mod pki;
#[path = "stream/plain.rs"]
mod plain;
#[path = "stream/plot.rs"]
mod plot;
#[path = "stream/report.rs"]
mod report;
#[path = "stream/secure.rs"]
mod secure;
#[path = "../tests/support/served.rs"]
mod served;
#[path = "stream/socket.rs"]
mod socket;
#[path = "stream/stage.rs"]
mod stage;
#[path = "stream/start.rs"]
mod start;
#[path = "stream/storm.rs"]
mod storm;
#[path = "stream/talker.rs"]
mod talker;
#[path = "stream/wire.rs"]
mod wire;
#[path = "stream/work.rs"]
#[allow(dead_code, reason = "nobody has a broker here")]
mod work;

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use contenders::{Programs, Who};
use figures::Measured;
use list::{Contender, KINDS, Kind};
use report::{Column, Row};
use work::Clock;

// The same for the peer as for Bowline: what differs is the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How often all kinds of work are gone through, each time with new servers: a machine that is shared has its moods, which last
/// for minutes, and not every program suffers alike from them.
const PASSES: usize = 6;

/// What the arguments ask for.
struct Plan {
    rounds: usize,
    clock: Clock,
    control: bool,
    /// How often the whole of it is done, in alternation.
    runs: usize,
    programs: Programs,
    record: Option<PathBuf>,
    names: Vec<String>,
}

fn main() -> Result<()> {
    match env::args().nth(1).as_deref() {
        Some("--serve-peer") => return Ok(tokio::runtime::Runtime::new()?.block_on(peer::serve(env::args().skip(2)))?),
        Some("--serve-limit") => return Ok(limit::serve()?),
        _ => {}
    }
    let plan = plan(env::args().skip(1))?;
    if plan.names.iter().any(|name| name == "--list") {
        for kind in KINDS {
            println!("{:<18} {}", kind.name, kind.says);
        }
        return Ok(());
    }
    ensure!(cpu::to_generator_core(), "needs two cores and taskset: server and generator must not share a core");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, measure(plan))
}

fn plan(mut arguments: impl Iterator<Item = String>) -> Result<Plan> {
    let clock = Clock { warm_up: Duration::from_millis(40), length: Duration::from_millis(100) };
    let programs = Programs::default();
    let mut plan = Plan { rounds: 144, clock, control: false, runs: 1, programs, record: None, names: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument}: what follows is missing"));
        match argument.as_str() {
            "--bench" => {} // From cargo.
            "--control" => plan.control = true,
            "--twice" => plan.runs = 2,
            "--guided" => plan.programs.guided = Some(value()?),
            "--grpc-go" => plan.programs.grpc_go = Some(value()?),
            "--nats" => plan.programs.nats = Some(value()?),
            "--centrifugo" => plan.programs.centrifugo = Some(value()?),
            "--record" => plan.record = Some(value()?.into()),
            "--rounds" => plan.rounds = value()?.parse::<usize>().context("--rounds")?.max(1),
            "--millis" => {
                plan.clock.length = Duration::from_millis(value()?.parse::<u64>().context("--millis")?.max(1))
            }
            "--list" => plan.names.push(argument),
            name if KINDS.iter().any(|kind| kind.name == name) => plan.names.push(argument),
            other => bail!("{other}: no such measurement; `--list` shows those there are"),
        }
    }
    Ok(plan)
}

async fn measure(plan: Plan) -> Result<()> {
    let (warm_up, length) = (plan.clock.warm_up, plan.clock.length);
    let method = format!(
        "Server on one core, generator on another; {} B payload; {} rounds of {length:?} each, in turns, after \
         {warm_up:?} of warm-up,\nwhere the work does not say otherwise, a sixth of them each time that all kinds were gone \
         through. CPU is the server's own time.\nA figure is the median of the rounds (least to most), the ratio the first \
         line's to another's in the same round. Every answer was\nthere, once and in order, or this would have stopped.",
        talker::PAYLOAD,
        plan.rounds,
    );
    println!("{method}\n");
    let mut runs: Vec<Vec<Row>> = (0..plan.runs).map(|_| Vec::new()).collect();
    // If it ends with an error, what was found before is still true.
    let ended = go_through(&plan, &mut runs).await;
    for rows in &mut runs {
        rows.sort_by_key(|row| KINDS.iter().position(|kind| kind.name == row.name));
    }
    for row in &runs[0] {
        println!("{}", row.table());
    }
    if let [once, again] = &runs[..] {
        println!("{}", again::compare(once, again));
    }
    if let Some(folder) = &plan.record {
        report::record(folder, &machine::describe(&plan.programs), &method, &runs)?;
    }
    ended
}

/// Has all kinds of work done that were asked for, in passes; if there are two runs, each kind's part by one after the other:
/// what a machine's moods do to one they do to both.
async fn go_through(plan: &Plan, runs: &mut [Vec<Row>]) -> Result<()> {
    let chosen = |kind: &&Kind| plan.names.is_empty() || plan.names.iter().any(|name| name == kind.name);
    for pass in 0..PASSES {
        for kind in KINDS.iter().filter(chosen) {
            for rows in &mut *runs {
                if let Some(row) = one(kind, plan, pass).await? {
                    merge(rows, row);
                }
            }
        }
        eprintln!("{} of {PASSES} done", pass + 1);
    }
    Ok(())
}

/// Adds what a pass has found to what was found before.
fn merge(rows: &mut Vec<Row>, found: Row) {
    match rows.iter_mut().find(|row| row.name == found.name) {
        None => rows.push(found),
        Some(row) => row.columns.iter_mut().zip(found.columns).for_each(|(had, new)| had.rounds.extend(new.rounds)),
    }
}

/// The part of a kind of work that falls to one pass. All contenders work in turns: so that a drift of the machine meets all
/// alike. Nothing where there is nobody to compare, or no round left.
async fn one(kind: &Kind, plan: &Plan, pass: usize) -> Result<Option<Row>> {
    let most = plan.rounds.min(kind.rounds);
    let rounds = most * pass / PASSES..most * (pass + 1) / PASSES;
    if rounds.is_empty() {
        return Ok(None);
    }
    let mut all = Vec::new();
    for Contender { label, who, task } in (kind.contenders)() {
        let label = if plan.control && who == Who::Bowline { "control" } else { label };
        let who = if plan.control && who == Who::Bowline { Who::Tonic } else { who };
        if plan.programs.file(who)?.is_some() {
            let measured =
                Measured { programs: &plan.programs, who, task, server: None, running: None, opened: Vec::new() };
            all.push((measured, Column { label: label.to_owned(), rounds: Vec::new() }));
        }
    }
    // What Bowline does alone, or against itself, has no control.
    if plan.control && !all.iter().any(|(_, column)| column.label == Who::Tonic.name()) {
        return Ok(None);
    }
    for round in rounds {
        // In another order each time: nobody is always measured after the same one.
        let mut order: Vec<usize> = (0..all.len()).collect();
        fastrand::shuffle(&mut order);
        for turn in order {
            let (measured, column) = &mut all[turn];
            let figures = measured.round(&format!("{}.{round}", kind.name), plan.clock).await;
            column.rounds.push(figures.with_context(|| format!("{}, {}", kind.name, column.label))?);
        }
    }
    let columns = all.into_iter().map(|(_, column)| column).collect();
    Ok(Some(Row { name: kind.name, says: kind.says, of: kind.of, columns }))
}
