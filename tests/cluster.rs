//! Three replicas on three NATS servers, as processes, under faults: replicas and servers that are killed, stopped and
//! restarted, and parted from each other, in one direction or both. Clients go on wherever they can; everybody writes down
//! what it sees, and the checker holds it to the promises.
//!
//! `BOWLINE_CLUSTER_SECONDS=1800` makes a run of half an hour of it, with faults as long as they are in life;
//! `BOWLINE_SEED` repeats its dice, though not its timing. `BOWLINE_CLUSTER_FAULT=LeaderApart` has only that fault occur.

#![cfg(feature = "nats")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "its modules are its own; a test says no more than where")]
#![allow(clippy::print_stdout, reason = "what was done to it is told with what came of it")]

#[path = "rollout/balancer.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod balancer;
#[path = "cluster/crew.rs"]
mod crew;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "support/logs.rs"]
mod logs;
#[path = "support/nats.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod nats;
#[path = "cluster/relay.rs"]
mod relay;
#[path = "cluster/replicas.rs"]
mod replicas;
#[path = "support/served.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod served;
#[path = "cluster/servers.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod servers;
#[path = "support/signals.rs"]
mod signals;

use std::{collections::BTreeMap, fs::File, path::Path, time::Duration};

use bowline::{
    checker::{
        self, Floor, Options,
        history::{Op, Outcome, Record, Recorder},
    },
    lifecycle::Tasks,
};
use tokio::time::{Instant, sleep};

use crew::{Crew, History, TOPICS};
use faults::{Fault, World};
use replicas::Replicas;
use servers::Servers;

/// How long faults take in life.
const TIMES: [u64; 3] = [5, 15, 40];

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Everything, up and with clients.
async fn world(tasks: &Tasks) -> Option<(World, Crew)> {
    let servers = Servers::start(tasks, "").await?;
    let replicas = Replicas::start(&servers, tasks).await;
    let history = History::default();
    let crew = Crew::sign_on(replicas.balancer.address(), &history).await;
    Some((World { servers, replicas, history }, crew))
}

/// Who is on a replica that is cut off moves to another; where all are cut off, everybody stays where it is.
async fn cut_off(world: &World, crew: &Crew) {
    let World { replicas, history, .. } = world;
    history.fault("replica-0 is cut off, until it has no clients");
    replicas.all[0].part(true, true);
    let begun = Instant::now();
    while crew.whereabouts().iter().any(|node| node == "replica-0") {
        assert!(begun.elapsed() < Duration::from_secs(30), "they stay on a replica that is cut off");
        sleep(Duration::from_millis(50)).await;
    }
    println!("  it had none after {:.1?}", begun.elapsed());
    replicas.all[0].part(false, false);
    crew.catch_up("it").await;

    history.fault("all are cut off");
    replicas.all.iter().for_each(|replica| replica.part(true, true));
    // Longer than it takes until they are told, and to try.
    let (before, begun) = (crew.whereabouts(), Instant::now());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(crew.whereabouts(), before, "everybody is where it was");
    let tries = replicas.balancer.arrivals(begun).len();
    assert!(tries <= 2 * before.len(), "{tries} connections");
    replicas.all.iter().for_each(|replica| replica.part(false, false));
    history.fault("all are back");
    crew.catch_up("that").await;
}

/// One after the other, each followed by the proof that all is well again.
async fn go_wrong(world: &mut World, crew: &Crew) -> usize {
    let only = std::env::var("BOWLINE_CLUSTER_FAULT").ok();
    let is_wanted = |fault: &Fault| only.as_ref().is_none_or(|only| *only == format!("{fault:?}"));
    let mut faults: Vec<_> = Fault::ALL.into_iter().filter(is_wanted).collect();
    assert!(!faults.is_empty(), "no such fault: {only:?}");
    let Some(seconds) = given("BOWLINE_CLUSTER_SECONDS") else {
        for fault in &faults {
            world.strike(*fault, fault.short()).await;
            crew.catch_up(&format!("{fault:?}")).await;
        }
        return faults.len();
    };
    let (end, mut count) = (Instant::now() + Duration::from_secs(seconds), 0);
    while Instant::now() < end {
        fastrand::shuffle(&mut faults);
        for fault in faults.clone() {
            let time = Duration::from_secs(TIMES[fastrand::usize(..TIMES.len())]);
            world.strike(fault, time).await;
            crew.catch_up(&format!("{fault:?}")).await;
            world.whole().await;
            count += 1;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_of_a_cluster_no_promise_is_broken() {
    let seed = given("BOWLINE_SEED").unwrap_or_else(|| fastrand::u64(..));
    fastrand::seed(seed);
    println!("BOWLINE_SEED={seed}");
    let tasks = Tasks::default();
    let Some((mut world, crew)) = world(&tasks).await else { return };
    sleep(Duration::from_secs(1)).await;
    crew.catch_up("the beginning").await;
    let faults = go_wrong(&mut world, &crew).await;
    cut_off(&world, &crew).await;
    crew.end().await;

    let account = world.servers.ask("INFO").await.unwrap();
    assert_eq!(account["consumers"], 0, "{account}");
    let mut records = world.history.take();
    for op in logs::read(world.replicas.all[0].served().address, &TOPICS).await {
        records.push(Record { at: u64::MAX, client: "operator".into(), program: "operator".into(), connection: 0, op });
    }
    judge(&records, faults as u64, seed);
    tasks.stop().cancel();
}

/// No promise is broken, and nothing that was confirmed is lost: of a majority nothing was taken away.
fn judge(records: &[Record], faults: u64, seed: u64) {
    let report = checker::check(records, Options { sparse: true, ..Options::default() });
    println!("{report}");
    if !report.violations.is_empty() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster.jsonl");
        let recorder = Recorder::new(File::create(&path).unwrap());
        records.iter().for_each(|record| recorder.append(record).unwrap());
        panic!("BOWLINE_SEED={seed}, and what everybody saw is in {}", path.display());
    }
    let floor = Floor { operations: 1000, faults, resumes: faults, exercised: 0 };
    assert_eq!(report.vacuity(floor), Vec::<String>::new(), "this proves nothing; BOWLINE_SEED={seed}");
    let mut counts = BTreeMap::<&str, usize>::new();
    for record in records {
        match &record.op {
            Op::Gap { reason, .. } => *counts.entry(reason).or_default() += 1,
            Op::Answered { outcome, .. } => {
                let kind = match outcome {
                    Outcome::Stored { duplicate: true, .. } => "stored before",
                    Outcome::Stored { .. } => "stored",
                    Outcome::Refused(_) => "refused",
                    Outcome::Unknown => "unknown",
                };
                *counts.entry(kind).or_default() += 1;
            }
            _ => {}
        }
    }
    println!("{counts:?}");
    assert!(!counts.keys().any(|kind| kind.starts_with("GAP")), "a gap; BOWLINE_SEED={seed}");
}
