//! Rules 1 to 3: the chain, no silent loss, one reader.

use std::collections::HashMap;

use bowline::proto::v1::{DeliveryPolicy, Event, OpenSession, Operation, stream_data_response::Frame};

use super::{keyed, numbers, policy, server};
use crate::support::{credit, delete, earliest, grant, open, paused, payloads, publish, put};

/// What became of the events of one session.
#[derive(Default)]
struct Ledger {
    delivered: u64,
    skipped: u64,
    announced: u64,
    /// What is there, as far as the session has been told.
    keys: HashMap<String, String>,
}

impl Ledger {
    fn enter(&mut self, frame: &Frame) {
        match frame {
            Frame::Delivery(delivery) => {
                delivery.events.iter().for_each(|event| self.apply(event));
                if !delivery.snapshot {
                    self.delivered += delivery.events.len() as u64;
                    self.skipped += delivery.skipped;
                }
            }
            Frame::Gap(gap) => {
                self.announced += gap.count;
                self.keys.clear();
            }
            other => panic!("{other:?}"),
        }
    }

    fn apply(&mut self, event: &Event) {
        let key = String::from_utf8(event.key.to_vec()).unwrap();
        match event.operation() {
            Operation::Delete => self.keys.remove(&key),
            _ => self.keys.insert(key, payloads(std::slice::from_ref(event)).remove(0)),
        };
    }
}

/// A session that now and then gets a little credit or is paused, on a topic that is published to all the time: what
/// became of the events, and what the keys should be. That every frame goes on where the session is, the client checks.
async fn disturbed(topic: &str, chosen: DeliveryPolicy) -> Ledger {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(policy(OpenSession { credit: credit(0, 0), ..open(1, topic) }, chosen)).await;
    let (mut ledger, mut expected, mut stored, mut granted) = (Ledger::default(), HashMap::new(), 0, 0);
    for round in 0..40 {
        let mut events = Vec::new();
        for n in 0..fastrand::u64(1..20) {
            let (key, payload) = (fastrand::u8(..6).to_string(), format!("{round}.{n}"));
            if fastrand::u8(..4) == 0 {
                expected.remove(&key);
                events.push(delete(&key));
            } else {
                events.push(put(&key, &payload));
                expected.insert(key, payload);
            }
        }
        stored += events.len() as u64;
        server.publish(topic, events).await;
        match fastrand::u8(..4) {
            0 => client.send(paused(1, fastrand::bool())).await,
            1 => {}
            _ => {
                granted += fastrand::u64(..15);
                client.send(grant(1, granted)).await;
            }
        }
        client.settled().await.iter().for_each(|frame| ledger.enter(frame));
    }
    client.send(paused(1, false)).await;
    client.send(grant(1, u64::MAX)).await;
    while client.cursor(1).offset < stored {
        ledger.enter(&client.frame().await);
    }
    client.settled().await.iter().for_each(|frame| ledger.enter(frame));
    assert_eq!(ledger.delivered + ledger.skipped + ledger.announced, stored, "an event is unaccounted for");
    if topic.starts_with("state") {
        assert_eq!(ledger.keys, expected);
    }
    server.leave().await;
    ledger
}

#[tokio::test]
async fn rule_01_every_delivery_and_gap_begins_at_the_cursor_whatever_comes_between() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(0, 0), start: earliest(), ..open(1, "short") }).await;
    server.store("short", &numbers(1, 3)).await;
    client.send(grant(1, 2)).await;
    let delivery = client.delivery().await;
    assert_eq!((delivery.prev, payloads(&delivery.events)), (0, numbers(1, 2)));
    server.store("short", &numbers(4, 10)).await;
    client.send(grant(1, 4)).await;
    let gap = client.gap().await;
    assert_eq!((gap.from.unwrap().offset, gap.to.unwrap().offset), (2, 6));
    let delivery = client.delivery().await;
    assert_eq!((delivery.prev, payloads(&delivery.events)), (6, numbers(7, 8)));
    client.send(grant(1, 9)).await;
    let delivery = client.delivery().await;
    assert_eq!((delivery.prev, payloads(&delivery.events)), (8, numbers(9, 10)));
    server.leave().await;
}

#[tokio::test]
async fn rule_02_with_lag_every_event_is_delivered_or_announced() {
    let ledger = disturbed("any", DeliveryPolicy::Lag).await;
    assert_eq!((ledger.skipped, ledger.announced), (0, 0));
    let ledger = disturbed("short", DeliveryPolicy::Lag).await;
    assert!(ledger.announced > 0 && ledger.skipped == 0, "nothing was lost: {}", ledger.announced);
}

#[tokio::test]
async fn rule_02_with_drop_oldest_every_event_is_delivered_or_announced() {
    let ledger = disturbed("drop", DeliveryPolicy::DropOldest).await;
    assert!(ledger.announced > 0 && ledger.skipped == 0, "nothing was dropped: {}", ledger.announced);
    disturbed("state.t", DeliveryPolicy::DropOldest).await;
}

#[tokio::test]
async fn rule_02_with_conflate_every_event_is_delivered_or_counted_as_skipped() {
    let ledger = disturbed("state.fast", DeliveryPolicy::Conflate).await;
    assert!(ledger.skipped > 0 && ledger.announced == 0, "nothing was conflated: {}", ledger.skipped);
}

#[tokio::test]
async fn rule_02_of_a_keyed_topic_with_a_short_history_every_event_is_accounted_for_and_the_keys_come_right() {
    for chosen in [DeliveryPolicy::Lag, DeliveryPolicy::Conflate, DeliveryPolicy::DropOldest] {
        disturbed("state.short", chosen).await;
    }
}

#[tokio::test]
async fn rule_02_a_strict_session_ends_instead_of_losing_anything() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { strict: true, credit: credit(0, 0), start: earliest(), ..open(1, "short") }).await;
    server.store("short", &numbers(1, 9)).await;
    client.send(grant(1, 100)).await;
    assert_eq!(client.closed().await.failure.unwrap().reason, "CURSOR_TRIMMED");
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_03_a_session_goes_from_history_to_what_is_new_without_a_seam() {
    let server = server().await;
    server.store("t", &numbers(1, 500)).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { start: earliest(), ..open(1, "t") }).await;
    let publishing = async {
        for n in 0..50 {
            server.store("t", &numbers(501 + n * 10, 510 + n * 10)).await;
        }
    };
    let (events, ()) = tokio::join!(client.events(1, 1000), publishing);
    assert_eq!(payloads(&events), numbers(1, 1000));
    server.leave().await;
}

#[tokio::test]
async fn rule_03_a_publisher_reads_its_own_events_from_the_log_like_everybody() {
    let server = server().await;
    let (mut alice, mut bob) = (server.connect("alice").await, server.connect("bob").await);
    alice.open(open(1, "t")).await;
    bob.open(open(1, "t")).await;
    server.publish("t", keyed(&["k=1"])).await;
    alice.send(publish(1, 1, "2")).await;
    let own = alice.events(1, 2).await;
    assert_eq!((payloads(&own), own[1].publisher.as_str()), (numbers(1, 2), "alice"));
    assert_eq!(bob.events(1, 2).await, own);
    server.leave().await;
}
