//! One run: a server, its clients, a network, and what goes wrong in a given order of dice.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{
    frames,
    history::History,
    library,
    network::{Loss, Network, Way},
    operator,
    replica::{DRAIN, Replica},
};
use crate::{
    broker::late::{self, Fate, Planned},
    checker::history::{Op, Record},
    lifecycle::Tasks,
    types::{Timestamp, simulated_clock},
};

/// How long things go wrong.
const CHAOS: Duration = Duration::from_secs(9);
/// How long after that everybody has to have caught up.
const CALM: Duration = Duration::from_secs(30);
/// How long clients may take to leave.
const LEAVE: Duration = Duration::from_secs(60);
/// The moment the simulated wall clock begins at, microseconds since the Unix epoch.
const ORIGIN: u64 = 1_700_000_000_000_000;
/// What is talked about: the first in every run, others in some.
const TOPICS: [&str; 7] = ["prices.a", "prices.d", "small.b", "brief.c", "state.e", "signal.f", "paced.g"];

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Log,
    State,
    Signal,
}

/// What a topic of this name is for.
pub(super) fn kind(topic: &str) -> Kind {
    match topic.split('.').next() {
        Some("state" | "~presence") => Kind::State,
        Some("signal") => Kind::Signal,
        _ => Kind::Log,
    }
}

/// The key an event has in a keyed topic: one of a few, and always the same for the same event.
pub(super) fn key(id: &str) -> String {
    format!("key-{}", id.bytes().map(u64::from).sum::<u64>() % 8)
}

/// What everybody in a run shares. Cheap to clone.
#[derive(Clone)]
pub(super) struct World {
    pub(super) history: History,
    pub(super) network: Network,
    pub(super) tasks: Tasks,
    topics: Arc<[Arc<str>]>,
    /// From then on nothing is published and nothing goes wrong.
    pub(super) publish_until: Instant,
    /// By then everybody must have caught up.
    pub(super) read_until: Instant,
}

impl World {
    /// One of the run's topics.
    pub(super) fn topic(&self, rng: &mut Rng) -> Arc<str> {
        self.topics[rng.usize(..self.topics.len())].clone()
    }

    /// One of the run's topics that are plain logs.
    pub(super) fn log(&self, rng: &mut Rng) -> Arc<str> {
        let logs: Vec<_> = self.topics.iter().filter(|topic| kind(topic) == Kind::Log).collect();
        logs[rng.usize(..logs.len())].clone()
    }

    /// All of the run's topics.
    pub(super) fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    /// A payload that can be told from all others.
    pub(super) fn payload(&self, id: &str, rng: &mut Rng) -> String {
        let padding = if rng.u8(..10) == 0 { rng.usize(..3000) } else { rng.usize(..40) };
        format!("{id}|{}", "x".repeat(padding))
    }
}

/// Runs a seed and returns what was seen.
pub(super) fn run(seed: u64) -> Vec<Record> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(live(seed))
}

/// In every third run the broker takes its time, and now and then does not know what it has done.
fn moods(seed: u64) -> Option<Planned> {
    let mut rng = Rng::with_seed(seed ^ 0x1A7E);
    let millis = |rng: &mut Rng, most: u64| Duration::from_millis(rng.u64(..most));
    (rng.u8(..3) == 0).then(|| {
        late::plan(move |event| {
            // Without a name it is another session on each connection, and these are in no order.
            let seq = event.dedupe.seq.as_ref();
            if seq.is_some_and(|seq| seq.producer.session_id().as_str().starts_with('~')) {
                return None;
            }
            let stored = millis(&mut rng, 150);
            let answered = stored + millis(&mut rng, 150);
            Some(match rng.u8(..64) {
                0..24 => return None,
                24 => Fate { stored: None, answered: Some(answered) },
                25 => Fate { stored: None, answered: None },
                // What dies with a session is not stored after its end: see the contract.
                26 if event.scope.is_none() => Fate { stored: Some(stored * 20), answered: None },
                27 => Fate { stored: Some(stored), answered: None },
                _ => Fate { stored: Some(stored), answered: Some(answered) },
            })
        })
    })
}

async fn live(seed: u64) -> Vec<Record> {
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed ^ 0x5EED);
    let _moods = moods(seed);
    let _clock = simulated_clock(Timestamp(ORIGIN));
    let mut others = TOPICS[1..].to_vec();
    rng.shuffle(&mut others);
    others.truncate(rng.usize(1..=3));
    let now = Instant::now();
    let world = World {
        history: History::begin(),
        network: Network::new(rng.u64(..)),
        tasks: Tasks::default(),
        topics: TOPICS[..1].iter().chain(&others).map(|&topic| topic.into()).collect(),
        publish_until: now + CHAOS,
        read_until: now + CHAOS + CALM,
    };
    let replica = Replica::start(&world.network);

    let mut callers: Vec<Arc<str>> = Vec::new();
    let mut clients = Vec::new();
    for number in 0..rng.usize(1..=2) {
        let name: Arc<str> = format!("program-{number}").into();
        clients.push(world.tasks.spawn("program", library::run(world.clone(), name.clone(), rng.fork())));
        callers.push(name);
    }
    for number in 0..rng.usize(1..=3) {
        let name: Arc<str> = format!("frames-{number}").into();
        clients.push(world.tasks.spawn("frames", frames::run(world.clone(), name.clone(), None, rng.fork())));
        callers.push(name);
    }
    // Two that call themselves the same and want the same session.
    for instance in 1..=2 {
        let name: Arc<str> = "rival".into();
        clients.push(world.tasks.spawn("rival", frames::run(world.clone(), name.clone(), Some(instance), rng.fork())));
    }
    callers.push("rival".into());
    clients.push(world.tasks.spawn("back end", operator::publish(world.clone(), rng.fork())));

    let replica = go_wrong(&world, replica, &callers, &mut rng).await;
    // Before they leave: what is bound to them goes with them.
    sleep_until(world.read_until - Duration::from_secs(1)).await;
    operator::look(&world).await;
    for client in clients {
        match timeout_at(world.read_until + LEAVE, client).await {
            Ok(left) => left.expect("it does not panic"),
            // It waits for something that will never come: it is not where it should be.
            Err(_) => world.history.writer("stuck").record(Op::Stands {
                session: "".into(),
                topic: world.topics()[0].clone(),
                place: None,
            }),
        }
    }
    replica.leave().await;
    world.history.take()
}

/// Breaks things until it is time to stop.
async fn go_wrong(world: &World, mut replica: Replica, callers: &[Arc<str>], rng: &mut Rng) -> Replica {
    let writer = world.history.writer("faults");
    // A run without a restart keeps its epochs, and what depends on them.
    let mut restarts = rng.usize(..=2);
    loop {
        let wait = Duration::from_millis(rng.u64(100..1800));
        if Instant::now() + wait >= world.publish_until {
            break;
        }
        sleep(wait).await;
        let caller = &callers[rng.usize(..callers.len())];
        let time = Duration::from_millis(rng.u64(50..6000));
        let (what, hit) = match rng.u8(..16) {
            0..4 => {
                let loss = [Loss::Both, Loss::ClientOnly, Loss::ServerOnly, Loss::Nobody][rng.usize(..4)];
                (format!("lose {loss:?} {caller}"), world.network.lose(caller, loss))
            }
            4..8 => {
                let way = [Way::Up, Way::Down, Way::Both][rng.usize(..3)];
                (format!("stall {way:?} {time:?} {caller}"), world.network.stall(caller, way, time))
            }
            8..10 => {
                let rate = rng.u64(500..20_000);
                (format!("slow {rate} {caller}"), world.network.set_rate(caller, rate))
            }
            10..12 => (format!("disconnect {caller}"), operator::disconnect(world, caller).await),
            12 if restarts > 0 => {
                restarts -= 1;
                let lost = replica.crash(&world.tasks);
                world.network.route(None);
                sleep(Duration::from_millis(rng.u64(..1500))).await;
                replica = Replica::start(&world.network);
                ("crash".to_owned(), lost)
            }
            13 if restarts > 0 => {
                restarts -= 1;
                let left = std::mem::replace(&mut replica, Replica::start(&world.network));
                let node = left.node();
                writer.record(Op::Leaving { node: node.clone(), deadline: DRAIN });
                left.leave().await;
                writer.record(Op::Left { node });
                ("drain".to_owned(), 1)
            }
            _ => continue,
        };
        writer.record(Op::Fault { what, took_hold: hit > 0 });
    }
    for caller in callers {
        world.network.set_rate(caller, 10_000_000);
    }
    let took_hold = replica.given_up() > 0;
    writer.record(Op::Fault { what: "clients that take nothing".into(), took_hold });
    sleep_until(world.publish_until).await;
    replica
}
