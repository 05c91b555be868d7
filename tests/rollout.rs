//! A rollout as its clients live through it: real server processes behind a load balancer, each replaced by another one
//! as a kubelet does it. Nobody is cut off, nobody comes in a crowd, and nothing is lost in silence.
//!
//! `BOWLINE_ROLLOUT_CLIENTS=2000` makes it one of two thousand clients, told at `BOWLINE_ROLLOUT_PACE` a second: a machine has
//! to be able to open that many while it carries the load of all sides. `BOWLINE_ROLLOUT_IMAGE=bowline:0.1.0` makes each server
//! a container of that image; `make image-test` does.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "its modules are its own; a test says no more than where")]
#![allow(clippy::print_stdout, reason = "what was measured is told with what came of it")]

#[path = "support/admin.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod admin;
#[path = "rollout/balancer.rs"]
mod balancer;
#[path = "rollout/crowd.rs"]
mod crowd;
#[path = "rollout/fleet.rs"]
mod fleet;
#[path = "support/logs.rs"]
mod logs;
#[path = "rollout/pod.rs"]
mod pod;
#[path = "support/served.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod served;
#[path = "rollout/unruly.rs"]
mod unruly;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bowline::checker::{
    self, Floor, Options,
    history::{Op, Outcome, Record},
};
use tokio::time::{Instant, sleep, timeout};

use balancer::Balancer;
use crowd::{Stalls, crowding};
use fleet::{Fleet, History};
use pod::{Deletion, Pace, Pod};

const ROLLOUTS: usize = 3;

/// The engine behind the servers, and what a rollout means for what it keeps.
struct Engine {
    settings: &'static [(&'static str, &'static str)],
    /// Whether a new server has what the old one had. If not, every session is told so by a Gap.
    keeps: bool,
}

const MEMORY: Engine = Engine { settings: &[], keeps: false };

fn given(name: &str) -> Option<u32> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn size() -> usize {
    given("BOWLINE_ROLLOUT_CLIENTS").unwrap_or(200) as usize
}

/// The default pace is made for thousands. The spread never has it exceeded.
fn pace(size: usize) -> Pace {
    let per_second = given("BOWLINE_ROLLOUT_PACE").unwrap_or(if size < 1000 { 40 } else { 100 });
    let spread = Duration::from_secs(30.max(size as u64 / u64::from(per_second) + 1));
    Pace { per_second, spread, grace: Duration::from_secs(5) }
}

/// Everybody is on this server, within the time it may take after the last was told.
async fn all_on(fleet: &Fleet, name: &str, size: usize) {
    let wanted = BTreeMap::from([(name.to_owned(), size)]);
    let moved = timeout(Duration::from_secs(15), async {
        while fleet.whereabouts() != wanted {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(moved.await.is_ok(), "not all are on {name}: {:?}", fleet.whereabouts());
}

/// One server is replaced by another, which is there first. Returns that.
async fn roll(old: Pod, name: &str, engine: &Engine, balancer: &Balancer, run: &Run) -> Pod {
    let new = Pod::start(name, run.pace, engine.settings);
    balancer.add(new.address(), new.admin());
    balancer.knows(new.address()).await;
    let (begun, node) = (Instant::now(), old.name.clone());
    let operator: Arc<str> = "kubelet".into();
    let deadline = (run.pace.span(run.size) + run.pace.grace).as_micros() as u64;
    let told = || {
        run.history.note(&operator, Op::Fault { what: format!("{node} is replaced by {name}"), took_hold: true });
        run.history.note(&operator, Op::Leaving { node: node.clone(), deadline });
    };
    let Deletion { took, code, drain } = old.delete(balancer, told).await;
    run.history.note(&operator, Op::Left { node: node.clone() });
    println!("{node} left after {took:?}: {drain}");
    assert_eq!(code, Some(0), "{node} after {took:?}: {drain}");
    assert!(took < run.pace.termination_grace(), "{node} took {took:?}");
    // The last that it said may be older than the last that it told.
    let (forced, told) = (drain["forced"].as_u64(), drain["told"].as_u64());
    assert!(forced == Some(0) && told.is_some_and(|told| told > run.size as u64 * 9 / 10), "{drain}");

    all_on(&run.fleet, name, run.size).await;
    let arrivals: Vec<_> =
        balancer.arrivals(begun).iter().filter(|a| a.server == new.address()).map(|a| a.at).collect();
    // Each comes once; a few may find the door of a moment shut, and come again.
    assert!((run.size..=run.size + run.size / 20).contains(&arrivals.len()), "{} arrivals", arrivals.len());
    let crowding = crowding(&arrivals, f64::from(run.pace.per_second), &run.stalls);
    println!("{} arrivals; in their busiest second {:.2} × the pace", arrivals.len(), crowding);
    assert!(crowding <= 1.5, "in some second {crowding:.2} × the pace arrived");
    new
}

struct Run {
    size: usize,
    pace: Pace,
    history: History,
    fleet: Fleet,
    stalls: Stalls,
}

async fn rollouts(engine: Engine) {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let (size, history) = (size(), History::default());
    let (pace, stalls, balancer) = (pace(size), Stalls::watch(), Balancer::open().await);
    let mut pod = Pod::start("pod-0", pace, engine.settings);
    balancer.add(pod.address(), pod.admin());
    balancer.knows(pod.address()).await;
    let fleet = Fleet::connect(balancer.address(), size, &history).await;
    let run = Run { size, pace, history, fleet, stalls };
    all_on(&run.fleet, "pod-0", size).await;
    for n in 1..=ROLLOUTS {
        pod = roll(pod, &format!("pod-{n}"), &engine, &balancer, &run).await;
    }

    assert_eq!(run.fleet.losses(), Vec::<String>::new(), "clients were cut off without having been told");
    let topics = run.fleet.topics();
    run.fleet.end().await;
    let mut records = run.history.take();
    let operator: Arc<str> = "operator".into();
    for op in logs::read(pod.address(), &topics).await {
        records.push(Record { at: u64::MAX, client: operator.clone(), program: operator.clone(), connection: 0, op });
    }
    judge(&records, size, &engine);
}

/// What everybody saw keeps every promise, no publish failed, and what a new server has not is announced.
fn judge(records: &[Record], size: usize, engine: &Engine) {
    let report = checker::check(records, Options::default());
    println!("{report}");
    assert!(report.violations.is_empty());
    let (resumes, faults) = ((size * ROLLOUTS) as u64, ROLLOUTS as u64);
    let floor = Floor { operations: (size * 4) as u64, faults, resumes, exercised: 0 };
    assert_eq!(report.vacuity(floor), Vec::<String>::new(), "this proves nothing");

    let (mut published, mut failed) = (0, Vec::new());
    let mut gaps = BTreeMap::<&str, usize>::new();
    for record in records {
        match &record.op {
            Op::Answered { outcome: Outcome::Stored { .. }, .. } => published += 1,
            Op::Answered { outcome, .. } => failed.push(format!("{}: {outcome:?}", record.client)),
            Op::Gap { reason, .. } => *gaps.entry(reason).or_default() += 1,
            _ => {}
        }
    }
    println!("{published} publishes; gaps: {gaps:?}");
    assert!(published > 500 && failed.is_empty(), "{published} publishes, and these failed: {failed:?}");
    let told = if engine.keeps { BTreeMap::new() } else { BTreeMap::from([("GAP_REASON_EPOCH", size * ROLLOUTS)]) };
    assert_eq!(gaps, told, "a loss, or a silence about one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_cut_off_nobody_comes_in_a_crowd_and_nothing_is_lost_in_silence() {
    rollouts(MEMORY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_nothing_of_what_they_are_told_hold_no_server_up() {
    let pace = Pace { per_second: 100, spread: Duration::from_secs(2), grace: Duration::from_secs(2) };
    let pod = Pod::start("pod", pace, MEMORY.settings);
    let (balancer, address) = (Balancer::open().await, pod.address());
    let crowd = unruly::Crowd::gather(address).await;
    let Deletion { took, code, drain } = pod.delete(&balancer, || {}).await;
    println!("left after {took:?}: {drain}");
    assert_eq!(code, Some(0), "{took:?} {drain}");
    assert!(took < pace.termination_grace(), "{took:?}");
    assert_eq!(drain["told"].as_u64(), Some(crowd.conversations() as u64), "{drain}");
    crowd.was_told().await;
}
