//! One publisher, many who receive.

use std::{cell::Cell, io, rc::Rc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use super::{Jobs, Tally, note, turn::Turn};
use crate::{
    stage::Stage,
    talker::{Role, Shape, Talker},
};

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

    /// Opens connections, and begins with the first turn.
    pub(super) async fn start(self, stage: &Stage, topic: &str, tally: &Tally, jobs: &mut Jobs) -> io::Result<()> {
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
            Pace::Every(interval) => {
                jobs.spawn_local(keep_pace(publisher, receivers, interval, audience, tally.turn.clone()))
            }
        };
        Ok(())
    }
}

/// Whoever receives.
#[derive(Default)]
struct Audience {
    /// Deliveries still to come of what has been sent.
    missing: Cell<u64>,
    complete: Notify,
    /// One of the events that keep a pace, by its number, and when it was due.
    paced: Cell<Option<(u64, Instant)>>,
}

impl Audience {
    fn expect(&self, deliveries: u64) {
        self.missing.set(self.missing.get() + deliveries);
    }

    /// Waits until everybody has everything.
    async fn complete(&self) {
        while self.missing.get() > 0 {
            self.complete.notified().await;
        }
    }
}

async fn listen(mut talker: Talker, pace: Pace, audience: Rc<Audience>, tally: Tally) -> io::Result<()> {
    loop {
        let received = talker.receive().await?;
        tally.messages.set(tally.messages.get() + received);
        if let (Pace::Every(interval), Some((one, due))) = (pace, audience.paced.get()) {
            for number in talker.seen() - received..talker.seen() {
                note(&tally, due + interval * u32::try_from(number - one).unwrap_or(u32::MAX));
            }
        }
        audience.missing.set(audience.missing.get() - received);
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
        tally.turn.mine().await;
        let begun = Instant::now();
        audience.expect(receivers * burst);
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
            audience.complete().await;
            note(&tally, begun);
        };
        tokio::join!(answered, delivered).0?;
    }
}

/// Whoever reads must have one receiver to a connection: they tell by its count what number has come.
async fn keep_pace(
    mut talker: Talker,
    receivers: u64,
    interval: Duration,
    audience: Rc<Audience>,
    turn: Rc<Turn>,
) -> io::Result<()> {
    loop {
        audience.complete().await;
        turn.mine().await;
        let mut due = Instant::now();
        audience.paced.set(Some((talker.seen(), due)));
        while turn.is_mine() {
            // By the clock itself: timers are a millisecond too coarse.
            while Instant::now() < due {
                tokio::task::yield_now().await;
            }
            audience.expect(receivers);
            talker.send();
            talker.receive().await?;
            due += interval;
        }
    }
}
