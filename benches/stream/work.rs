//! Work by messages, each the same for every server.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use tokio::{sync::Notify, task::JoinSet, time::Instant};

use crate::{
    cpu,
    stage::Stage,
    talker::{Role, Shape, Talker},
};

/// What a server is made to do.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// One message in flight on one connection, and back.
    PingPong,
    /// So many messages in flight on each of so many connections, each sent back.
    Echo { connections: usize, window: u64 },
    /// The same, but stored and acknowledged instead of sent back. The peers store nothing; an echo acknowledges. With
    /// several sessions on each connection they take turns, and each has a topic of its own.
    Publish { connections: usize, sessions: usize, window: u64 },
    /// One publisher, many who receive.
    FanOut(FanOut),
}

/// See `Work::FanOut`.
#[derive(Debug, Clone, Copy)]
pub struct FanOut {
    /// Of subscribers that read.
    pub connections: usize,
    /// Of each.
    pub shape: Shape,
    /// Connections beside them that have stopped reading.
    pub stopped: usize,
    /// When the publisher publishes.
    pub pace: Pace,
}

/// See the variants.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// So many at once, the next as soon as everybody has the last. A wait is that of the last subscriber.
    Burst(u64),
    /// One each time, whatever has become of those before. A wait is that of each delivery, from when its event was due:
    /// so that a server that stops is charged for all that it kept waiting.
    Every(Duration),
}

impl FanOut {
    /// To so many connections.
    pub const fn to(connections: usize, pace: Pace) -> Self {
        Self { connections, shape: Shape::ONE, stopped: 0, pace }
    }
}

/// How long one measurement warms up and lasts.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Not counted.
    pub warm_up: Duration,
    /// Counted.
    pub length: Duration,
}

/// What one measurement saw.
#[derive(Debug, Default)]
pub struct Sample {
    /// Messages that came back, or deliveries.
    pub messages: u64,
    /// CPU time of the servers' processes.
    pub server: Duration,
    /// CPU time of their broker's.
    pub broker: Duration,
    /// CPU time of this process.
    pub generator: Duration,
    /// The measured time.
    pub wall: Duration,
    /// Microseconds of each wait, ascending; only of work that waits for each.
    pub waits: Vec<u32>,
    /// The servers' memory at the end, KiB.
    pub resident_kib: u64,
}

impl Sample {
    /// Microseconds of the servers' CPU per message.
    pub fn cost(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / self.messages as f64
    }

    /// Of the waits, in microseconds. There must be some.
    pub fn percentile(&self, percent: f64) -> f64 {
        let place = (self.waits.len() as f64 * percent / 100.0) as usize;
        f64::from(self.waits[place.min(self.waits.len() - 1)])
    }
}

/// What the parts of the work count together.
#[derive(Clone, Default)]
struct Tally {
    messages: Rc<Cell<u64>>,
    waits: Rc<RefCell<Vec<u32>>>,
}

impl Work {
    /// Opens connections to the servers, warms up, and measures. An answer that is lost, doubled or out of order is an
    /// error. `topic` is one that has not been used before, or is only published to.
    pub async fn measure(self, stage: &Stage, topic: &str, clock: Clock) -> io::Result<Sample> {
        let (mut jobs, tally) = (JoinSet::new(), Tally::default());
        if stage.has_own_core {
            stay_awake(&mut jobs);
        }
        self.start(stage, topic, &tally, &mut jobs).await?;
        until(Instant::now() + clock.warm_up, &mut jobs).await?;
        let used = || (cpu::used_by("self"), stage.used(), cpu::used_by_all(&stage.brokers));
        let (begun, (own, servers, brokers)) = (Instant::now(), used());
        let already = tally.messages.get();
        tally.waits.take();
        until(begun + clock.length, &mut jobs).await?;
        let after = used();
        let mut sample = Sample {
            messages: tally.messages.get() - already,
            server: after.1 - servers,
            broker: after.2 - brokers,
            generator: after.0 - own,
            wall: begun.elapsed(),
            waits: tally.waits.take(),
            resident_kib: stage.resident_kib(),
        };
        sample.waits.sort_unstable();
        if sample.messages == 0 {
            return Err(io::Error::other("nothing came"));
        }
        Ok(sample)
    }

    async fn start(self, stage: &Stage, topic: &str, tally: &Tally, jobs: &mut Jobs) -> io::Result<()> {
        match self {
            Self::PingPong => {
                let talker = Talker::open(stage, Role::Echo, &format!("echo.{topic}"), Shape::ONE).await?;
                jobs.spawn_local(pump(talker, 1, tally.clone()));
            }
            Self::Echo { connections, window } => {
                for n in 0..connections {
                    let talker = Talker::open(stage, Role::Echo, &format!("echo.{topic}.{n}"), Shape::ONE).await?;
                    jobs.spawn_local(pump(talker, window, tally.clone()));
                }
            }
            Self::Publish { connections, sessions, window } => {
                let shape = Shape { sessions, ..Shape::ONE };
                for n in 0..connections {
                    let talker = Talker::open(stage, Role::Publisher, &format!("bench.{topic}.{n}"), shape).await?;
                    jobs.spawn_local(pump(talker, window, tally.clone()));
                }
            }
            Self::FanOut(fan_out) => fan_out.start(stage, &format!("bench.{topic}"), tally, jobs).await?,
        }
        Ok(())
    }
}

impl FanOut {
    async fn start(self, stage: &Stage, topic: &str, tally: &Tally, jobs: &mut Jobs) -> io::Result<()> {
        let audience = Rc::new(Audience::default());
        for talker in Talker::open_all(stage, Role::Subscriber, topic, self.shape, self.connections).await? {
            jobs.spawn_local(listen(talker, self.pace, audience.clone(), tally.clone()));
        }
        let small = Shape { small: true, ..self.shape };
        for talker in Talker::open_all(stage, Role::Subscriber, topic, small, self.stopped).await? {
            jobs.spawn_local(async move {
                let _held = talker;
                std::future::pending().await
            });
        }
        let receivers = (self.connections * self.shape.receivers()) as u64;
        let publisher = Talker::open(stage, Role::Publisher, topic, Shape::ONE).await?;
        match self.pace {
            Pace::Burst(burst) => jobs.spawn_local(broadcast(publisher, receivers, burst, audience, tally.clone())),
            Pace::Every(interval) => jobs.spawn_local(keep_pace(publisher, interval, audience)),
        };
        Ok(())
    }
}

/// What goes on at once. None of it ends by itself but with an error.
pub type Jobs = JoinSet<io::Result<()>>;

/// Busy, not asleep: waking a sleeping generator would be paid by each send of the server.
pub fn stay_awake(jobs: &mut Jobs) {
    jobs.spawn_local(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
}

/// Lets the work run until then.
pub async fn until(moment: Instant, jobs: &mut Jobs) -> io::Result<()> {
    match tokio::time::timeout_at(moment, jobs.join_next()).await {
        Err(_) => Ok(()),
        Ok(Some(Ok(result))) => result,
        Ok(ended) => Err(io::Error::other(format!("{ended:?}"))),
    }
}

/// Keeps `window` messages in flight.
async fn pump(mut talker: Talker, window: u64, tally: Tally) -> io::Result<()> {
    let mut answered = window;
    loop {
        let begun = Instant::now();
        for _ in 0..answered {
            talker.send();
        }
        answered = talker.receive().await?;
        tally.messages.set(tally.messages.get() + answered);
        if window == 1 {
            note(&tally, begun);
        }
    }
}

/// Whoever receives.
#[derive(Default)]
struct Audience {
    /// Deliveries still to come of the burst that is out.
    missing: Cell<u64>,
    complete: Notify,
    /// When the first event of those that keep a pace was due.
    first: Cell<Option<Instant>>,
}

async fn listen(mut talker: Talker, pace: Pace, audience: Rc<Audience>, tally: Tally) -> io::Result<()> {
    loop {
        let received = talker.receive().await?;
        tally.messages.set(tally.messages.get() + received);
        match (pace, audience.first.get()) {
            (Pace::Every(interval), Some(first)) => {
                for number in talker.seen() - received..talker.seen() {
                    note(&tally, first + interval * u32::try_from(number).unwrap_or(u32::MAX));
                }
            }
            _ => audience.missing.set(audience.missing.get() - received),
        }
        if audience.missing.get() == 0 {
            audience.complete.notify_one();
        }
    }
}

async fn broadcast(
    mut talker: Talker,
    receivers: u64,
    burst: u64,
    audience: Rc<Audience>,
    tally: Tally,
) -> io::Result<()> {
    let mut sent = 0;
    loop {
        let begun = Instant::now();
        audience.missing.set(receivers * burst);
        for _ in 0..burst {
            talker.send();
        }
        sent += burst;
        let answered = async {
            while talker.seen() < sent {
                talker.receive().await?;
            }
            io::Result::Ok(())
        };
        let delivered = async {
            audience.complete.notified().await;
            note(&tally, begun);
        };
        tokio::join!(answered, delivered).0?;
    }
}

/// Whoever reads must have one receiver to a connection: they tell by its count what number has come.
async fn keep_pace(mut talker: Talker, interval: Duration, audience: Rc<Audience>) -> io::Result<()> {
    let mut due = Instant::now();
    audience.first.set(Some(due));
    loop {
        // By the clock itself: timers are a millisecond too coarse.
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        talker.send();
        talker.receive().await?;
        due += interval;
    }
}

fn note(tally: &Tally, begun: Instant) {
    tally.waits.borrow_mut().push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
}
