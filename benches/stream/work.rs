//! Work by messages, each the same for every server.

mod fan_out;
mod turn;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    cpu,
    stage::Stage,
    talker::{Role, Shape, Talker},
};
pub use fan_out::{FanOut, Pace};
use turn::Turn;

/// Longer than what is on its way at the end of a turn may take.
const REST: Duration = Duration::from_secs(10);

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

/// How long one turn warms up and lasts.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Not counted.
    pub warm_up: Duration,
    /// Counted.
    pub length: Duration,
}

/// What one turn saw.
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

/// What the parts of the work have together.
#[derive(Clone, Default)]
struct Tally {
    messages: Rc<Cell<u64>>,
    waits: Rc<RefCell<Vec<u32>>>,
    turn: Rc<Turn>,
}

/// Work that has its connections, and rests but when it has its turn.
pub struct Running {
    stage: Stage,
    tally: Tally,
    jobs: Jobs,
    /// How many keep it going.
    workers: usize,
}

impl Work {
    /// Opens connections to the servers and has one turn: see [`Running::turn`].
    pub async fn measure(self, stage: &Stage, topic: &str, clock: Clock) -> io::Result<Sample> {
        self.begin(stage, topic).await?.turn(clock).await
    }

    /// Opens connections to the servers. `topic` is one that has not been used before, or is only published to.
    pub async fn begin(self, stage: &Stage, topic: &str) -> io::Result<Running> {
        let (mut jobs, tally) = (JoinSet::new(), Tally::default());
        self.start(stage, topic, &tally, &mut jobs).await?;
        let workers = match self {
            Self::PingPong | Self::FanOut(_) => 1,
            Self::Echo { connections, .. } | Self::Publish { connections, .. } => connections,
        };
        Ok(Running { stage: stage.clone(), tally, jobs, workers })
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

impl Running {
    /// Works, first to warm up, then measured, and comes to rest. An answer that is lost, doubled or out of order is an error.
    pub async fn turn(&mut self, clock: Clock) -> io::Result<Sample> {
        let mut awake = Jobs::new();
        if self.stage.has_own_core {
            stay_awake(&mut awake);
        }
        self.tally.turn.begin();
        until(Instant::now() + clock.warm_up, &mut self.jobs).await?;
        let sample = self.sample(clock.length).await?;
        self.tally.turn.end();
        tokio::select! {
            () = self.tally.turn.over(self.workers) => Ok(sample),
            ended = until(Instant::now() + REST, &mut self.jobs) => {
                ended?;
                Err(io::Error::other("what was on its way did not come"))
            }
        }
    }

    async fn sample(&mut self, length: Duration) -> io::Result<Sample> {
        let used = || (cpu::used_by("self"), self.stage.used(), cpu::used_by_all(&self.stage.brokers));
        let (begun, (own, servers, brokers)) = (Instant::now(), used());
        let already = self.tally.messages.get();
        self.tally.waits.take();
        until(begun + length, &mut self.jobs).await?;
        let after = used();
        let mut sample = Sample {
            messages: self.tally.messages.get() - already,
            server: after.1 - servers,
            broker: after.2 - brokers,
            generator: after.0 - own,
            wall: begun.elapsed(),
            waits: self.tally.waits.take(),
            resident_kib: self.stage.resident_kib(),
        };
        sample.waits.sort_unstable();
        if sample.messages == 0 {
            return Err(io::Error::other("nothing came"));
        }
        Ok(sample)
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
    let mut in_flight = 0;
    loop {
        if in_flight == 0 {
            tally.turn.mine().await;
        }
        let begun = Instant::now();
        if tally.turn.is_mine() {
            (in_flight..window).for_each(|_| talker.send());
            in_flight = window;
        }
        let answered = talker.receive().await?;
        in_flight -= answered;
        tally.messages.set(tally.messages.get() + answered);
        if window == 1 {
            note(&tally, begun);
        }
    }
}

fn note(tally: &Tally, begun: Instant) {
    tally.waits.borrow_mut().push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
}
