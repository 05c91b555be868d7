//! A rollout as its clients live through it: real server processes behind a load balancer, each replaced by another one
//! as a kubelet does it. Nobody is cut off, nobody comes in a crowd, and nothing is lost in silence.
//!
//! On NATS there are three of them at a time, which share one history: there nobody even notices.
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
#[cfg(feature = "nats")]
#[path = "support/nats.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod nats;
#[path = "rollout/pod.rs"]
mod pod;
#[cfg(feature = "nats")]
#[path = "cluster/relay.rs"]
#[allow(dead_code, reason = "nobody is parted here")]
mod relay;
#[path = "support/served.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod served;
#[cfg(feature = "nats")]
#[path = "cluster/servers.rs"]
#[allow(dead_code, reason = "nobody is parted here")]
mod servers;
#[path = "support/signals.rs"]
mod signals;
#[path = "rollout/unruly.rs"]
mod unruly;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bowline::checker::{
    self, Floor, Options,
    history::{Op, Outcome, Record},
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use balancer::Balancer;
use crowd::{Stalls, crowding};
use fleet::{Fleet, History, Shape};
use pod::{Deletion, Pace, Pod};

const ROLLOUTS: usize = 3;

/// What one rollout measures, another beside it would disturb.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The engine behind the servers, and what a rollout means for what it keeps.
struct Engine {
    settings: Vec<(&'static str, String)>,
    /// How many servers there are, but for the moment in which one is replaced.
    servers: usize,
    /// Whether a new server has what the old one had. If not, every session is told so by a Gap.
    keeps: bool,
}

impl Engine {
    fn memory() -> Self {
        Self { settings: Vec::new(), servers: 1, keeps: false }
    }

    async fn start(&self, n: usize, pace: Pace, balancer: &Balancer) -> Pod {
        let settings: Vec<_> = self.settings.iter().map(|(key, value)| (*key, &**value)).collect();
        let pod = Pod::start(&format!("pod-{n}"), pace, &settings);
        balancer.add(pod.address(), pod.admin());
        balancer.knows(pod.address()).await;
        pod
    }
}

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

struct Run {
    engine: Engine,
    size: usize,
    pace: Pace,
    balancer: Balancer,
    history: History,
    fleet: Fleet,
    stalls: Stalls,
}

impl Run {
    /// Everybody is on these servers, within the time it may take after the last was told.
    async fn all_on(&self, pods: &VecDeque<Pod>) {
        let is_there = |node: &String| pods.iter().any(|pod| pod.name == *node);
        let moved = timeout(Duration::from_secs(15), async {
            while !self.fleet.whereabouts().keys().all(is_there) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(moved.await.is_ok(), "not all are where they should be: {:?}", self.fleet.whereabouts());
    }

    /// A server goes, now that those which stay are there. How many clients it had.
    async fn replace(&self, old: Pod, pods: &VecDeque<Pod>) -> usize {
        let (begun, node, address) = (Instant::now(), old.name.clone(), old.address());
        let clients = self.fleet.whereabouts()[&node];
        let operator: Arc<str> = "kubelet".into();
        let deadline = (self.pace.span(clients) + self.pace.grace).as_micros() as u64;
        let told = || {
            self.history.note(&operator, Op::Fault { what: format!("{node} is replaced"), took_hold: true });
            self.history.note(&operator, Op::Leaving { node: node.clone(), deadline });
        };
        let Deletion { took, code, drain } = old.delete(&self.balancer, told).await;
        self.history.note(&operator, Op::Left { node: node.clone() });
        println!("{node}, with {clients} clients, left after {took:?}: {drain}");
        assert_eq!(code, Some(0), "{node} after {took:?}: {drain}");
        assert!(took < self.pace.termination_grace(), "{node} took {took:?}");
        // The last that it said may be older than the last that it told.
        let (forced, told) = (drain["forced"].as_u64(), drain["told"].as_u64());
        assert!(forced == Some(0) && told.is_some_and(|told| told > clients as u64 * 9 / 10), "{drain}");

        self.all_on(pods).await;
        let arrivals: Vec<_> =
            self.balancer.arrivals(begun).iter().filter(|a| a.server != address).map(|a| a.at).collect();
        // Each comes once; a few may find the door of a moment shut, and come again.
        assert!((clients..=clients + self.size / 20).contains(&arrivals.len()), "{} arrivals", arrivals.len());
        let crowding = crowding(&arrivals, f64::from(self.pace.per_second), &self.stalls);
        println!("{} arrivals; in their busiest second {:.2} × the pace", arrivals.len(), crowding);
        assert!(crowding <= 1.5, "in some second {crowding:.2} × the pace arrived");
        clients
    }
}

async fn rollouts(engine: Engine) {
    let _alone = ONE_AT_A_TIME.lock().await;
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let (size, history) = (size(), History::default());
    let (pace, stalls, balancer) = (pace(size), Stalls::watch(), Balancer::open().await);
    let mut pods = VecDeque::new();
    for n in 0..engine.servers {
        pods.push_back(engine.start(n, pace, &balancer).await);
    }
    let shape = Shape { name: "room".to_owned(), sessions: size, each: 1 };
    let fleet = Fleet::connect(balancer.address(), &shape, &history).await;
    let run = Run { engine, size, pace, balancer, history, fleet, stalls };
    run.all_on(&pods).await;
    let mut moved = 0;
    for n in 0..ROLLOUTS {
        pods.push_back(run.engine.start(run.engine.servers + n, pace, &run.balancer).await);
        let old = pods.pop_front().unwrap();
        moved += run.replace(old, &pods).await;
    }

    assert_eq!(run.fleet.losses(), Vec::<String>::new(), "clients were cut off without having been told");
    run.fleet.end().await;
    let mut records = run.history.take();
    let operator: Arc<str> = "operator".into();
    for op in logs::read(pods[0].address(), &shape.topics()).await {
        records.push(Record { at: u64::MAX, client: operator.clone(), program: operator.clone(), connection: 0, op });
    }
    judge(&records, size, moved, run.engine.keeps);
}

/// What everybody saw keeps every promise, no publish failed, and what a new server has not is announced.
/// `keeps`: it has that.
fn judge(records: &[Record], size: usize, moved: usize, keeps: bool) {
    // What outlives its servers is in NATS, where the offsets of a topic have holes.
    let report = checker::check(records, Options { sparse: keeps, ..Options::default() });
    println!("{report}");
    assert!(report.violations.is_empty());
    let (resumes, faults) = (moved as u64, ROLLOUTS as u64);
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
    let told = if keeps { BTreeMap::new() } else { BTreeMap::from([("GAP_REASON_EPOCH", moved)]) };
    assert_eq!(gaps, told, "a loss, or a silence about one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_cut_off_nobody_comes_in_a_crowd_and_nothing_is_lost_in_silence() {
    rollouts(Engine::memory()).await;
}

#[cfg(feature = "nats")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_nats_nothing_is_lost_or_doubled_and_no_session_hears_of_it() {
    let Some(nats) = servers::Servers::direct("").await else { return };
    let mut settings = nats.settings();
    settings.push(("BOWLINE__BROKER__NATS__PARTITIONS", "4".to_owned()));
    rollouts(Engine { settings, servers: 3, keeps: true }).await;
    let account = nats.ask("INFO").await.unwrap();
    assert_eq!(account["consumers"], 0, "{account}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_nothing_of_what_they_are_told_hold_no_server_up() {
    let pace = Pace { per_second: 100, spread: Duration::from_secs(2), grace: Duration::from_secs(2) };
    let _alone = ONE_AT_A_TIME.lock().await;
    let pod = Pod::start("pod", pace, &[]);
    let (balancer, address) = (Balancer::open().await, pod.address());
    let crowd = unruly::Crowd::gather(address).await;
    let Deletion { took, code, drain } = pod.delete(&balancer, || {}).await;
    println!("left after {took:?}: {drain}");
    assert_eq!(code, Some(0), "{took:?} {drain}");
    assert!(took < pace.termination_grace(), "{took:?}");
    assert_eq!(drain["told"].as_u64(), Some(crowd.conversations() as u64), "{drain}");
    crowd.was_told().await;
}
