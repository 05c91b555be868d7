//! The conformance suite: what every engine owes. Each new engine is added to `engines`.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

#[cfg(feature = "nats")]
use self::served::NatsServer;
use super::{memory::Memory, *};
use crate::{
    error::Reason,
    types::{ClientId, Dedupe, Producer, Seq, SessionId},
};

#[cfg(feature = "nats")]
#[path = "../../tests/support/nats.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with tests outside of the library")]
pub(super) mod served;
#[cfg(feature = "nats")]
#[path = "../../tests/support/signals.rs"]
#[allow(unreachable_pub, reason = "shared with tests outside of the library")]
mod signals;

const LIMITS: Limits = Limits {
    max_events: 100,
    max_bytes: 1 << 20,
    max_age: Duration::ZERO,
    dedupe_window: Duration::from_secs(60),
    dedupe_depth: 16,
    max_keys: 0,
    max_lag: 0,
};

/// An engine, and what it needs for as long as it is used.
enum Bench {
    Memory(Broker),
    #[cfg(feature = "nats")]
    Nats {
        replica: super::nats::tests::Replica,
        /// What all its topics are asked for with.
        least: Durability,
        #[expect(dead_code, reason = "it ends with the bench")]
        server: NatsServer,
    },
}

impl Deref for Bench {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        match self {
            Self::Memory(broker) => broker,
            #[cfg(feature = "nats")]
            Self::Nats { replica, .. } => &replica.broker,
        }
    }
}

impl Bench {
    async fn open(&self, name: &str, limits: Limits) -> Line {
        let line = self.try_open(name, limits).unwrap();
        line.seen().await.unwrap();
        line
    }

    fn try_open(&self, name: &str, limits: Limits) -> Result<Line, Failure> {
        Broker::open(self, &topic(name), limits, self.durability())
    }

    /// What publishes are answered with.
    fn durability(&self) -> Durability {
        match self {
            Self::Memory(_) => Durability::Accepted,
            #[cfg(feature = "nats")]
            Self::Nats { least, .. } => *least,
        }
    }
}

async fn engines() -> Vec<Bench> {
    let memory = Bench::Memory(Broker::Memory(Memory::new(3)));
    [memory].into_iter().chain(on_nats(Durability::Accepted).await).chain(on_nats(Durability::Synced).await).collect()
}

#[cfg(feature = "nats")]
async fn on_nats(least: Durability) -> Option<Bench> {
    let is_synced = least == Durability::Synced;
    let server = if is_synced { NatsServer::start_syncing().await? } else { NatsServer::start().await? };
    let replica = super::nats::tests::Replica::start_for(&server, least, |_| {}).await.unwrap();
    Some(Bench::Nats { replica, least, server })
}

/// A build without it has nothing to ask.
#[cfg(not(feature = "nats"))]
async fn on_nats(_: Durability) -> Option<Bench> {
    None
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn event(payload: &'static str, dedupe: Dedupe) -> NewEvent {
    NewEvent { payload: payload.into(), dedupe, ..NewEvent::default() }
}

async fn publish(line: &Line, event: NewEvent) -> Published {
    line.publish(event).outcome().await.unwrap()
}

#[tokio::test]
async fn an_engine_in_this_process_answers_at_once() {
    let broker = Broker::Memory(Memory::new(3));
    let line = broker.open(&topic("t"), LIMITS, Durability::Accepted).unwrap();
    assert!(line.ready().is_none());
    assert!(matches!(line.publish(event("x", Dedupe::default())), Publishing::Done(Ok(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_publish_is_in_the_log_at_its_cursor_on_every_line() {
    for broker in engines().await {
        let (here, there) = (broker.open("t", LIMITS).await, broker.open("t", LIMITS).await);
        let published = publish(&here, event("one", Dedupe::default())).await;
        assert_eq!(published.durability, broker.durability());
        let log = there.log().read();
        assert_eq!(log.head(), published.cursor);
        assert_eq!(log.after(published.cursor.offset - 1).next().unwrap().payload_len, 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_answered_with_the_first_cursor_and_stored_once() {
    let producer = Producer::new(ClientId::parse("c").unwrap(), SessionId::parse("s").unwrap());
    let by_seq = Dedupe { id: None, seq: Some(Seq { producer, number: 1, through: 0 }) };
    for broker in engines().await {
        let line = broker.open("t", LIMITS).await;
        for dedupe in [Dedupe { id: Some("x".into()), seq: None }, by_seq.clone()] {
            let first = publish(&line, event("once", dedupe.clone())).await;
            let again = publish(&line, event("once", dedupe)).await;
            assert_eq!((again.cursor, again.duplicate, first.duplicate), (first.cursor, true, false));
            assert_eq!(again.durability, broker.durability());
        }
        assert_eq!(line.log().read().size().0, 2);
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Listener for Count {
    fn grown(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_is_told_of_growth_whoever_caused_it() {
    for broker in engines().await {
        let count = Arc::new(Count::default());
        let heard: Arc<dyn Listener> = count.clone();
        let line = broker.open("t", LIMITS).await;
        line.listen(Arc::downgrade(&heard));
        publish(&broker.open("t", LIMITS).await, event("x", Dedupe::default())).await;
        let begun = Instant::now();
        while count.0.load(Ordering::SeqCst) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody was told");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_publishes_each_get_a_place_of_their_own() {
    for broker in engines().await {
        let line = broker.open("t", Limits { max_events: 10_000, ..LIMITS }).await;
        let publisher = |line: Line| async move {
            let mut offsets = Vec::new();
            for _ in 0..250 {
                offsets.push(publish(&line, event("x", Dedupe::default())).await.cursor.offset);
            }
            offsets
        };
        let each = join_all((0..4).map(|_| publisher(line.clone()))).await;
        assert!(each.iter().all(|own| own.is_sorted()), "those of one are in order");
        let mut offsets = each.concat();
        offsets.sort_unstable();
        assert_eq!(offsets, line.log().read().after(0).map(|record| record.offset).collect::<Vec<_>>());
        assert_eq!(offsets.len(), 1000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_limited_and_listed_in_order() {
    for broker in engines().await {
        for name in ["b.2", "b.1", "a"] {
            broker.open(name, LIMITS).await;
        }
        assert_eq!(broker.try_open("c", LIMITS).unwrap_err().reason, Reason::TopicLimit);
        let names = |prefix, after, limit| {
            broker.list(prefix, after, limit).into_iter().map(|(topic, _)| topic.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("", "", 10), ["a", "b.1", "b.2"]);
        assert_eq!(names("b.", "", 10), ["b.1", "b.2"]);
        assert_eq!(names("", "a", 1), ["b.1"]);
        assert_eq!(names("b", "b.1", 10), ["b.2"]);
    }
}

#[tokio::test]
async fn topics_in_memory_are_dropped_when_nobody_needs_them() {
    let broker = Bench::Memory(Broker::Memory(Memory::new(3)));
    let held = broker.open("b.2", LIMITS).await;
    broker.open("b.1", LIMITS).await;
    publish(&broker.open("a", LIMITS).await, event("x", Dedupe::default())).await;
    let names = || broker.list("", "", 10).into_iter().map(|(topic, _)| topic.to_string()).collect::<Vec<_>>();
    drop(broker.sweep());
    assert_eq!(names(), ["a", "b.2"], "one has history, one is held");
    drop(held);
    drop(broker.sweep());
    assert_eq!(names(), ["a"]);
}
