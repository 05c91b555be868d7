//! The conformance suite: what every engine owes. Each new engine is added to `engines`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;

use super::{memory::Memory, *};
use crate::{
    error::Reason,
    types::{ClientId, Dedupe, Producer, Seq, SessionId},
};

const LIMITS: Limits = Limits {
    max_events: 100,
    max_bytes: 1 << 20,
    max_age: Duration::ZERO,
    dedupe_window: Duration::from_secs(60),
    dedupe_depth: 16,
    max_keys: 0,
    max_lag: 0,
};

fn engines() -> Vec<Broker> {
    vec![Broker::Memory(Memory::new(3))]
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn event(payload: &'static str, dedupe: Dedupe) -> NewEvent {
    NewEvent { payload: payload.into(), dedupe, ..NewEvent::default() }
}

fn publish(line: &Line, event: NewEvent) -> Published {
    line.publish(event).outcome().now_or_never().expect("an engine in this process answers at once").unwrap()
}

#[test]
fn an_acknowledged_publish_is_in_the_log_at_its_cursor_on_every_line() {
    for broker in engines() {
        let (here, there) = (broker.open(&topic("t"), LIMITS).unwrap(), broker.open(&topic("t"), LIMITS).unwrap());
        let published = publish(&here, event("one", Dedupe::default()));
        let log = there.log().read();
        assert_eq!(log.head(), published.cursor);
        assert_eq!(log.after(published.cursor.offset - 1).next().unwrap().payload_len, 3);
    }
}

#[test]
fn a_repeat_is_answered_with_the_first_cursor_and_stored_once() {
    let producer = Producer::new(ClientId::parse("c").unwrap(), SessionId::parse("s").unwrap());
    let by_seq = Dedupe { id: None, seq: Some(Seq { producer, number: 1, through: 0 }) };
    for broker in engines() {
        let line = broker.open(&topic("t"), LIMITS).unwrap();
        for dedupe in [Dedupe { id: Some("x".into()), seq: None }, by_seq.clone()] {
            let first = publish(&line, event("once", dedupe.clone()));
            let again = publish(&line, event("once", dedupe));
            assert_eq!((again.cursor, again.duplicate, first.duplicate), (first.cursor, true, false));
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

#[test]
fn a_listener_is_told_of_growth_whoever_caused_it() {
    for broker in engines() {
        let count = Arc::new(Count::default());
        let heard: Arc<dyn Listener> = count.clone();
        let line = broker.open(&topic("t"), LIMITS).unwrap();
        line.listen(Arc::downgrade(&heard));
        publish(&broker.open(&topic("t"), LIMITS).unwrap(), event("x", Dedupe::default()));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn concurrent_publishes_each_get_a_place_of_their_own() {
    for broker in engines() {
        let line = broker.open(&topic("t"), Limits { max_events: 10_000, ..LIMITS }).unwrap();
        let mut offsets: Vec<u64> = std::thread::scope(|scope| {
            let place = |_| publish(&line, event("x", Dedupe::default())).cursor.offset;
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(move || (0..500).map(place).collect())).collect();
            threads.into_iter().flat_map(|thread| -> Vec<u64> { thread.join().unwrap() }).collect()
        });
        offsets.sort_unstable();
        assert_eq!(offsets, (1..=2000).collect::<Vec<_>>());
    }
}

#[test]
fn topics_are_limited_listed_in_order_and_dropped_when_nobody_needs_them() {
    for broker in engines() {
        let held = broker.open(&topic("b.2"), LIMITS).unwrap();
        broker.open(&topic("b.1"), LIMITS).unwrap();
        let kept = broker.open(&topic("a"), LIMITS).unwrap();
        publish(&kept, event("x", Dedupe::default()));
        drop(kept);
        assert_eq!(broker.open(&topic("c"), LIMITS).unwrap_err().reason, Reason::TopicLimit);

        let names = |prefix, after, limit| {
            broker.list(prefix, after, limit).into_iter().map(|(topic, _)| topic.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("", "", 10), ["a", "b.1", "b.2"]);
        assert_eq!(names("b.", "", 10), ["b.1", "b.2"]);
        assert_eq!(names("", "a", 1), ["b.1"]);
        assert_eq!(names("b", "b.1", 10), ["b.2"]);

        drop(broker.sweep());
        assert_eq!(names("", "", 10), ["a", "b.2"], "one has history, one is held");
        drop(held);
        drop(broker.sweep());
        assert_eq!(names("", "", 10), ["a"]);
    }
}
