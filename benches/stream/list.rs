//! All kinds of work that can be measured, and beside whom.

use std::time::Duration;

use crate::{
    contenders::{ALL, Who},
    figures::Task,
    secure::trusting,
    talker::Shape,
    work::{FanOut, Pace, Work},
};

/// One kind of work.
pub struct Kind {
    /// What it is chosen by.
    pub name: &'static str,
    /// What is done, for whoever reads the table.
    pub says: &'static str,
    /// What its first figure is, by which contenders are compared. Less is better.
    pub of: &'static str,
    /// Most rounds that are worth their time.
    pub rounds: usize,
    /// Who does it. The first is compared with the others.
    pub contenders: fn() -> Vec<Contender>,
}

/// Somebody who does it.
pub struct Contender {
    /// The name in the table.
    pub label: &'static str,
    /// The server.
    pub who: Who,
    /// What exactly.
    pub task: Task,
}

const PER_MESSAGE: &str = "server CPU per message, µs";
const PER_DELIVERY: &str = "server CPU per delivery, µs";
/// As many rounds as are asked for.
const ANY: usize = usize::MAX;

/// Who sends messages back, too.
const BOTH_WAYS: &[Who] = &[Who::Bowline, Who::Guided, Who::Tonic, Who::GrpcGo, Who::Nats, Who::Send];
/// Who sends to many at once.
const TO_MANY: &[Who] = &[Who::Bowline, Who::Guided, Who::Tonic, Who::GrpcGo, Who::Nats, Who::Centrifugo, Who::Send];
/// Who has many receivers on one connection.
const SHARED: &[Who] = &[Who::Bowline, Who::Tonic, Who::GrpcGo, Who::Nats];
/// Who lets in crowds.
const CROWDED: &[Who] = &[Who::Bowline, Who::Guided, Who::Tonic, Who::GrpcGo, Who::Nats];
/// Who speaks TLS.
const SECURED: &[Who] = &[Who::Bowline, Who::Tonic, Who::GrpcGo, Who::Nats, Who::Centrifugo];

/// Who has streams.
const STREAMS: &[Who] = &[Who::Bowline, Who::Tonic, Who::GrpcGo];

/// See the module.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "ping-pong",
        says: "one message in flight on one connection, and back",
        of: PER_MESSAGE,
        rounds: ANY,
        contenders: || all(BOTH_WAYS, Work::PingPong),
    },
    Kind {
        name: "pipelined-echo",
        says: "64 messages in flight on each of 16 connections, sent back",
        of: PER_MESSAGE,
        rounds: ANY,
        contenders: || all(BOTH_WAYS, Work::Echo { connections: 16, window: 64 }),
    },
    Kind {
        name: "pipelined-publish",
        says: "64 publishes in flight on each of 16 connections; Bowline stores them, the others acknowledge",
        of: PER_MESSAGE,
        rounds: ANY,
        contenders: || all(BOTH_WAYS, Work::Publish { connections: 16, sessions: 1, window: 64 }),
    },
    Kind {
        name: "fan-out",
        says: "one event to 1,000 connections, the next when all have it",
        of: PER_DELIVERY,
        rounds: ANY,
        contenders: || all(TO_MANY, Work::FanOut(FanOut::to(1000, Pace::Burst(1)))),
    },
    Kind {
        name: "fan-out-bursts",
        says: "8 events at once to 1,000 connections, the next 8 when all have them",
        of: PER_DELIVERY,
        rounds: ANY,
        contenders: || all(TO_MANY, Work::FanOut(FanOut::to(1000, Pace::Burst(8)))),
    },
    Kind {
        name: "fan-out-paced",
        says: "30 events a second to 1,000 connections, whatever has become of those before; waits are of each delivery, in \
               90 rounds of a second",
        of: PER_DELIVERY,
        rounds: 90,
        contenders: || {
            let work = Work::FanOut(FanOut::to(1000, Pace::Every(Duration::from_nanos(33_333_333))));
            each(ALL, Task::Long { work, length: Duration::from_secs(1) })
        },
    },
    Kind {
        name: "fan-out-sessions",
        says: "one event to 100 sessions on each of 10 connections; gRPC peers have streams instead, NATS subscriptions",
        of: PER_DELIVERY,
        rounds: ANY,
        contenders: || {
            let streams = Shape { streams: 100, ..Shape::ONE };
            let mut all = all(SHARED, shared(10, Shape { sessions: 100, ..Shape::ONE }));
            all.push(Contender { label: "Bowline, streams", who: Who::Bowline, task: shared(10, streams).into() });
            all
        },
    },
    Kind {
        name: "fan-out-streams",
        says: "one event to 10 streams on each of 100 connections; NATS has subscriptions instead",
        of: PER_DELIVERY,
        rounds: ANY,
        contenders: || {
            let task = shared(100, Shape { streams: 10, ..Shape::ONE });
            all(&[Who::Bowline, Who::Guided, Who::Tonic, Who::GrpcGo, Who::Nats], task)
        },
    },
    Kind {
        name: "stopped-readers",
        says: "64 events at once to 800 connections, beside which 200 have stopped reading, or none is, in 36 rounds of two \
               seconds",
        of: PER_DELIVERY,
        rounds: 36,
        contenders: || {
            let beside = |label, stopped| Contender {
                label,
                who: Who::Bowline,
                task: Task::Anew {
                    work: Work::FanOut(FanOut { stopped, ..FanOut::to(800, Pace::Burst(64)) }),
                    length: Duration::from_secs(2),
                },
            };
            vec![beside("200 stopped", 200), beside("none stopped", 0)]
        },
    },
    Kind {
        name: "many-topics",
        says: "publishes on 390 connections: to 256 topics each by as many sessions, or to one",
        of: PER_MESSAGE,
        rounds: ANY,
        contenders: || {
            let over = |label, sessions| Contender {
                label,
                who: Who::Bowline,
                task: Task::Many(Work::Publish { connections: 390, sessions, window: 64 }),
            };
            vec![over("99,840 topics", 256), over("390 topics", 1)]
        },
    },
    Kind {
        name: "long-history",
        says: "64 publishes in flight to one topic that keeps so many events and is full",
        of: PER_MESSAGE,
        rounds: ANY,
        contenders: || {
            let keeping = |label, kept| Contender { label, who: Who::Bowline, task: Task::History(kept) };
            vec![keeping("1,000,000 events", 1_000_000), keeping("10 events", 10)]
        },
    },
    Kind {
        name: "opening",
        says: "128 more connections, 64 of them on their way at any moment, each with a session or what others have for it",
        of: "server CPU for each, µs",
        rounds: ANY,
        contenders: || each(CROWDED, Task::Opening(128)),
    },
    Kind {
        name: "idle-connections",
        says: "5,000 connections, each with a session or what others have for it, which has said one word each way; on average \
               of two servers",
        of: "resident memory for each, KiB",
        rounds: 12,
        contenders: || each(ALL, Task::Connections { count: 5000, shape: Shape::ONE, servers: 2 }),
    },
    Kind {
        name: "idle-connections-tls",
        says: "the same over TLS 1.3",
        of: "resident memory for each, KiB",
        rounds: 6,
        contenders: || {
            let shape = Shape { tls: Some(trusting), ..Shape::ONE };
            each(SECURED, Task::Connections { count: 5000, shape, servers: 1 })
        },
    },
    Kind {
        name: "many-connections",
        says: "15,000 connections with 7 sessions each; the gRPC peers have streams instead, NATS subscriptions",
        of: "resident memory for each connection, KiB",
        rounds: 3,
        contenders: || {
            let shape = Shape { sessions: 7, ..Shape::ONE };
            each(SHARED, Task::Connections { count: 15_000, shape, servers: 1 })
        },
    },
    Kind {
        name: "idle-sessions",
        says: "200 more sessions on each of 100 connections; the peers have streams instead",
        of: "resident memory for each, KiB",
        rounds: 3,
        contenders: || each(STREAMS, Task::Sessions { connections: 100, more: 200 }),
    },
    Kind {
        name: "idle-cpu",
        says: "40 s of 5,000 connections on which nothing happens but heartbeats: Bowline's every 20 s, answered, \
               Centrifugo's every 25 s",
        of: "server CPU for each, µs a second",
        rounds: 6,
        contenders: || each(&[Who::Bowline, Who::Centrifugo], Task::Quiet(5000)),
    },
    Kind {
        name: "start",
        says: "from the start of the process to the first answer to a client",
        of: "ms",
        rounds: 120,
        contenders: || each(&[Who::Bowline, Who::GrpcGo, Who::Nats, Who::Centrifugo], Task::Start),
    },
    Kind {
        name: "storm",
        says: "5,000 subscribers come back at once, eight times, on connections of their own: Bowline's resume, and get the 10 \
               events they missed; those of others begin anew",
        of: "server CPU for each, µs",
        rounds: 18,
        contenders: || each(CROWDED, Task::Storm(5000)),
    },
];

/// One event to many receivers on few connections.
fn shared(connections: usize, shape: Shape) -> Work {
    Work::FanOut(FanOut { shape, ..FanOut::to(connections, Pace::Burst(1)) })
}

fn all(who: &[Who], work: Work) -> Vec<Contender> {
    each(who, work.into())
}

fn each(who: &[Who], task: Task) -> Vec<Contender> {
    who.iter().map(|&who| Contender { label: who.name(), who, task }).collect()
}
