//! The work measured, each the same for either server.

use std::{cell::Cell, io, net::SocketAddr, rc::Rc, time::Duration};

use tokio::{sync::Notify, task::JoinSet, time::Instant};

use crate::{
    cpu,
    served::Served,
    talker::{Role, Side, Talker},
};

/// What a server is made to do.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// One message in flight on one connection, and back.
    PingPong,
    /// So many messages in flight on each of so many connections, each sent back.
    Echo { connections: usize, window: u64 },
    /// The same, but stored and acknowledged instead of sent back. The peer stores nothing; its echo acknowledges.
    Publish { connections: usize, window: u64 },
    /// One publisher, so many subscribers; the next burst goes out when everybody has the last one.
    FanOut { subscribers: usize, burst: u64 },
}

/// Who does it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Where messages are sent to.
    pub publish: SocketAddr,
    /// Where subscribers are.
    pub receive: SocketAddr,
    /// The processes of the servers.
    pub servers: Vec<u32>,
    /// Those of their broker.
    pub brokers: Vec<u32>,
    /// Whether a core is the generator's alone.
    pub has_own_core: bool,
}

impl From<&Served> for Stage {
    /// One server, on the other core.
    fn from(server: &Served) -> Self {
        let (address, servers) = (server.address, vec![server.child.id()]);
        Self { publish: address, receive: address, servers, brokers: Vec::new(), has_own_core: true }
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
    /// Microseconds of each round trip, or until the last subscriber had a burst; only of work that waits for each.
    pub waits: Vec<u32>,
}

/// What the parts of the work count together.
#[derive(Clone, Default)]
struct Tally {
    messages: Rc<Cell<u64>>,
    waits: Rc<Cell<Vec<u32>>>,
}

impl Work {
    /// Opens connections to the servers, warms up, and measures. An answer that is lost, doubled or out of order is an
    /// error. `topic` is one that has not been used before.
    pub async fn measure(self, side: Side, stage: &Stage, topic: &str, clock: Clock) -> io::Result<Sample> {
        let (mut jobs, tally) = (JoinSet::new(), Tally::default());
        if stage.has_own_core {
            // Busy, not asleep: waking a sleeping generator would be paid by each send of the server.
            jobs.spawn_local(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
        }
        self.start(side, stage, topic, &tally, &mut jobs).await?;
        until(Instant::now() + clock.warm_up, &mut jobs).await?;
        let used = || (cpu::used_by("self"), cpu::used_by_all(&stage.servers), cpu::used_by_all(&stage.brokers));
        let (begun, (own, servers, brokers)) = (Instant::now(), used());
        let already = tally.messages.get();
        tally.waits.set(Vec::new());
        until(begun + clock.length, &mut jobs).await?;
        let after = used();
        Ok(Sample {
            messages: tally.messages.get() - already,
            server: after.1 - servers,
            broker: after.2 - brokers,
            generator: after.0 - own,
            wall: begun.elapsed(),
            waits: tally.waits.take(),
        })
    }

    async fn start(self, side: Side, stage: &Stage, topic: &str, tally: &Tally, jobs: &mut Jobs) -> io::Result<()> {
        let Stage { publish, receive, .. } = *stage;
        match self {
            Self::PingPong => {
                let talker = Talker::open(side, publish, Role::Echo, &format!("echo.{topic}")).await?;
                jobs.spawn_local(pump(talker, 1, tally.clone()));
            }
            Self::Echo { connections, window } => {
                for n in 0..connections {
                    let talker = Talker::open(side, publish, Role::Echo, &format!("echo.{topic}.{n}")).await?;
                    jobs.spawn_local(pump(talker, window, tally.clone()));
                }
            }
            Self::Publish { connections, window } => {
                for n in 0..connections {
                    let talker = Talker::open(side, publish, Role::Publisher, &format!("bench.{topic}.{n}")).await?;
                    jobs.spawn_local(pump(talker, window, tally.clone()));
                }
            }
            Self::FanOut { subscribers, burst } => {
                let topic = format!("bench.{topic}");
                let all = Rc::new(Audience { missing: Cell::new(0), complete: Notify::new() });
                for _ in 0..subscribers {
                    let talker = Talker::open(side, receive, Role::Subscriber, &topic).await?;
                    jobs.spawn_local(listen(talker, all.clone(), tally.clone()));
                }
                let publisher = Talker::open(side, publish, Role::Publisher, &topic).await?;
                jobs.spawn_local(broadcast(publisher, subscribers as u64, burst, all, tally.clone()));
            }
        }
        Ok(())
    }
}

type Jobs = JoinSet<io::Result<()>>;

/// Lets the work run; it never ends by itself but with an error.
async fn until(moment: Instant, jobs: &mut Jobs) -> io::Result<()> {
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

/// Deliveries still to come of the burst that is out.
struct Audience {
    missing: Cell<u64>,
    complete: Notify,
}

async fn listen(mut talker: Talker, all: Rc<Audience>, tally: Tally) -> io::Result<()> {
    loop {
        let received = talker.receive().await?;
        tally.messages.set(tally.messages.get() + received);
        all.missing.set(all.missing.get() - received);
        if all.missing.get() == 0 {
            all.complete.notify_one();
        }
    }
}

async fn broadcast(
    mut talker: Talker,
    subscribers: u64,
    burst: u64,
    all: Rc<Audience>,
    tally: Tally,
) -> io::Result<()> {
    let mut sent = 0;
    loop {
        let begun = Instant::now();
        all.missing.set(subscribers * burst);
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
            all.complete.notified().await;
            note(&tally, begun);
        };
        tokio::join!(answered, delivered).0?;
    }
}

fn note(tally: &Tally, begun: Instant) {
    let mut all = tally.waits.take();
    all.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
    tally.waits.set(all);
}
