//! Thousands of sessions on the replicas: what they take, and what becomes of them when a replica is killed.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::bowline::checker::{
    self, Floor, Options,
    history::{Op, Outcome, Record},
};
use anyhow::{Result, ensure};
use tokio::time::{Instant, sleep};

use crate::{
    balancer::Balancer,
    contender::Contender,
    cpu,
    fleet::{Fleet, History, Shape},
    logs,
};

/// How long the load is looked at.
const LOAD: Duration = Duration::from_secs(10);
/// How long it takes until everybody has published who is going to.
const SETTLING: Duration = Duration::from_secs(20);
/// Longer than it may take until everybody is back.
const PATIENCE: Duration = Duration::from_secs(90);
/// Connections, among which the sessions are.
pub const CONNECTIONS: usize = 250;

/// What so many sessions take.
pub struct Held {
    pub sessions: usize,
    pub topics: usize,
    /// Until all were open.
    pub opened: Duration,
    /// Memory of all replicas for each session, with its part of a connection and of a topic, KiB.
    pub resident_kib: f64,
    /// Cores' time of the replicas and of their broker under the load, as a share of one core.
    pub servers: f64,
    pub brokers: f64,
    /// Deliveries a second meanwhile.
    pub deliveries: f64,
    /// Consumers and streams of JetStream meanwhile.
    pub jetstream: Option<(u64, u64)>,
}

/// Opens them on all replicas, and has them talk.
pub async fn hold(contender: &Contender, shape: &Shape) -> Result<Held> {
    let before = contender.resident_kib();
    let (balancer, history) = (Balancer::open().await, History::default());
    for replica in 0..contender.replicas.len() {
        contender.show(replica, &balancer).await;
    }
    let begun = Instant::now();
    let fleet = Fleet::connect(balancer.address(), shape, &history).await;
    let opened = begun.elapsed();
    sleep(SETTLING).await;
    let stage = contender.stage(0, 0);
    let used = || (cpu::used_by_all(&stage.servers), cpu::used_by_all(&stage.brokers));
    let (loaded, was) = (now(), used());
    sleep(LOAD).await;
    let (took, is) = ((now() - loaded) as f64 / 1e6, used());
    let is_delivery = |record: &Record| record.at >= loaded && matches!(record.op, Op::Deliver { .. });
    let deliveries = history.count(is_delivery) as f64 / took;
    let (after, jetstream) = (contender.resident_kib(), contender.jetstream().await?);
    let losses = fleet.losses();
    ensure!(losses.is_empty(), "clients were cut off: {losses:?}");
    fleet.end().await;
    contender.hide(&balancer).await;
    judge(history.take(), stage.clients, shape, contender.is_shared(), 0).await?;
    Ok(Held {
        sessions: shape.sessions,
        topics: shape.topics().len(),
        opened,
        resident_kib: after.saturating_sub(before) as f64 / shape.sessions as f64,
        servers: (is.0 - was.0).as_secs_f64() / took,
        brokers: (is.1 - was.1).as_secs_f64() / took,
        deliveries,
        jetstream,
    })
}

/// What became of sessions whose replica was killed.
pub struct Resumed {
    /// Microseconds from the kill until each was open again, in order.
    pub open: Vec<u64>,
    /// The same until each had all that was stored when it was opened.
    pub complete: Vec<u64>,
    /// Publishes that were stored, all in all.
    pub stored: usize,
}

/// Kills the replica that has all of them, while they talk. They go to the others, by a load balancer, which finds out late.
pub async fn resume(contender: &mut Contender, shape: &Shape) -> Result<Resumed> {
    let (balancer, history) = (Balancer::open().await, History::default());
    contender.show(0, &balancer).await;
    let fleet = Fleet::connect(balancer.address(), shape, &history).await;
    for replica in 1..contender.replicas.len() {
        contender.show(replica, &balancer).await;
    }
    sleep(LOAD / 2).await;
    let killed = now();
    contender.kill(0)?;
    history.note(&"test".into(), Op::Fault { what: "replica-0 is killed".to_owned(), took_hold: true });
    let is_opening = |record: &Record| record.at >= killed && matches!(record.op, Op::Opened { .. });
    let begun = Instant::now();
    while history.count(is_opening) < shape.sessions {
        ensure!(begun.elapsed() < PATIENCE, "{} of {} are back", history.count(is_opening), shape.sessions);
        sleep(Duration::from_millis(100)).await;
    }
    sleep(LOAD / 2).await;
    fleet.end().await;
    contender.hide(&balancer).await;
    let records = history.take();
    let (open, complete) = back(&records, killed);
    ensure!(complete.len() == shape.sessions, "{} of {} sessions have everything", complete.len(), shape.sessions);
    let address = contender.replicas[1].address;
    let stored = judge(records, address, shape, true, shape.sessions as u64).await?;
    contender.revive(0);
    Ok(Resumed { open, complete, stored })
}

/// When each session was open again, and when it had all that was stored by then; microseconds since the kill, in order.
fn back(records: &[Record], killed: u64) -> (Vec<u64>, Vec<u64>) {
    let (mut heads, mut open, mut complete) = (HashMap::new(), Vec::new(), Vec::new());
    for record in records.iter().filter(|record| record.at >= killed) {
        let since = record.at - killed;
        match &record.op {
            Op::Opened { session, start, head, .. } => {
                open.push(since);
                if start == head {
                    complete.push(since);
                } else {
                    heads.insert(session, head.1);
                }
            }
            Op::Deliver { session, events, .. } => {
                let last = events.last().map_or(0, |event| event.offset);
                if heads.get(session).is_some_and(|head| last >= *head) {
                    heads.remove(session);
                    complete.push(since);
                }
            }
            _ => {}
        }
    }
    open.sort_unstable();
    complete.sort_unstable();
    (open, complete)
}

/// Nothing was lost, doubled or out of order, no session was told of a gap, and every publish is stored: how many there were.
async fn judge(
    mut records: Vec<Record>,
    address: SocketAddr,
    shape: &Shape,
    shared: bool,
    resumes: u64,
) -> Result<usize> {
    let operator: Arc<str> = "operator".into();
    for op in logs::read(address, &shape.topics()).await {
        records.push(Record { at: u64::MAX, client: operator.clone(), program: operator.clone(), connection: 0, op });
    }
    let report = checker::check(&records, Options { sparse: shared, ..Options::default() });
    ensure!(report.violations.is_empty(), "{report}");
    let sessions = shape.sessions as u64;
    let floor = Floor { operations: sessions, faults: u64::from(resumes > 0), resumes, exercised: 0 };
    let missing = report.vacuity(floor);
    ensure!(missing.is_empty(), "this proves nothing: {missing:?}");
    let gap = records.iter().find(|record| matches!(record.op, Op::Gap { .. }));
    ensure!(gap.is_none(), "a session was told of a gap: {gap:?}");
    let (mut stored, mut failed) = (HashSet::new(), Vec::new());
    for record in &records {
        match &record.op {
            Op::Answered { id, outcome: Outcome::Stored { .. }, .. } => drop(stored.insert(id.clone())),
            Op::Answered { id, outcome, .. } => failed.push(format!("{id}: {outcome:?}")),
            _ => {}
        }
    }
    ensure!(failed.is_empty(), "publishes failed: {failed:?}");
    Ok(stored.len())
}

/// Microseconds, as records have them.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}
