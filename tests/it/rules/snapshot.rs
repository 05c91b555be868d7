//! Rule 12, snapshots: one event for each key, then changes.

use std::collections::BTreeMap;

use bowline::proto::v1::{
    Advice, Cursor, DeliveryPolicy, Event, GapReason, OpenSession, Operation, Recovery, stream_data_response::Frame,
};
use tonic::Code;

use super::{assert_advised, keyed, policy, server};
use crate::support::{Heard, after, changes, close, credit, grant, open, payloads, publish, put, snapshot};

fn reading(topic: &str) -> OpenSession {
    OpenSession { start: snapshot(), ..open(1, topic) }
}

#[tokio::test]
async fn rule_12_a_snapshot_is_the_latest_event_of_each_key_and_changes_follow_from_its_position() {
    let server = server().await;
    let stored = server.publish("state.t", keyed(&["a=1", "b=1", "a=2", "c=1", "-b"])).await;
    let mut client = server.connect("alice").await;
    let opened = client.open(reading("state.t")).await;
    assert_eq!((opened.start, opened.head, opened.recovery()), (stored[4].cursor, stored[4].cursor, Recovery::Fresh));
    let events = client.snapshot(1).await;
    assert_eq!(changes(&events), ["a=2", "c=1"], "what was removed is not in it");
    assert_eq!((events[0].offset, events[0].time_us), (3, stored[2].cursor.unwrap().time_us), "as they were published");
    assert_eq!(client.cursor(1), stored[4].cursor.unwrap());
    server.publish("state.t", keyed(&["b=2", "-a"])).await;
    assert_eq!(changes(&client.events(1, 2).await), ["b=2", "-a"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_snapshot_of_nothing_is_its_end_alone() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(reading("state.t")).await;
    let end = client.delivery().await;
    assert!(end.snapshot && end.events.is_empty() && end.prev == 0, "{end:?}");
    server.publish("state.t", keyed(&["a=1", "-a"])).await;
    client.events(1, 2).await;
    client.send(close(1)).await;
    client.closed().await;
    client.open(reading("state.t")).await;
    let end = client.delivery().await;
    assert!(end.snapshot && end.events.is_empty() && end.prev == 2, "{end:?}");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_key_that_changes_while_its_snapshot_is_taken_comes_once_as_a_change() {
    let server = server().await;
    server.publish("state.t", keyed(&["a=1", "b=1", "c=1", "d=1"])).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(1, 0), ..reading("state.t") }).await;
    assert_eq!(changes(&client.events(1, 1).await), ["a=1"]);
    server.publish("state.t", keyed(&["c=2", "-d", "a=2", "e=1"])).await;
    client.send(grant(1, 100)).await;
    assert_eq!(changes(&client.snapshot(1).await), ["b=1"]);
    assert_eq!(changes(&client.events(1, 4).await), ["c=2", "-d", "a=2", "e=1"]);
    server.leave().await;
}

fn apply(keys: &mut BTreeMap<Vec<u8>, String>, event: &Event) {
    match event.operation() {
        Operation::Delete => keys.remove(&event.key[..]),
        _ => keys.insert(event.key.to_vec(), payloads(std::slice::from_ref(event)).remove(0)),
    };
}

#[tokio::test]
async fn rule_12_with_little_credit_and_keys_that_change_all_the_time_a_snapshot_ends_and_comes_right() {
    for (topic, chosen) in [
        ("state.t", DeliveryPolicy::Lag),
        ("state.t", DeliveryPolicy::DropOldest),
        ("state.fast", DeliveryPolicy::Conflate),
        ("state.short", DeliveryPolicy::Lag),
    ] {
        let server = server().await;
        let (mut truth, mut known, mut snapshots) = (BTreeMap::new(), BTreeMap::new(), 0);
        let mut client = server.connect("alice").await;
        server.publish(topic, keyed(&["0=x", "1=x", "2=x", "3=x", "4=x", "5=x"])).await;
        (0..6).for_each(|n: u8| drop(truth.insert(n.to_string().into_bytes(), "x".to_owned())));
        client.open(policy(OpenSession { credit: credit(0, 0), ..reading(topic) }, chosen)).await;
        let (mut granted, mut head) = (0, 6);
        for round in 0..30 {
            let key = fastrand::u8(..8).to_string();
            if fastrand::u8(..3) == 0 {
                truth.remove(key.as_bytes());
                server.publish(topic, keyed(&[&format!("-{key}")])).await;
            } else {
                truth.insert(key.clone().into_bytes(), round.to_string());
                server.publish(topic, vec![put(&key, round.to_string())]).await;
            }
            head += 1;
            granted = if round == 29 { u64::MAX } else { granted + fastrand::u64(..2) };
            client.send(grant(1, granted)).await;
            loop {
                for frame in client.settled().await {
                    match frame {
                        Frame::Delivery(delivery) => {
                            snapshots += usize::from(delivery.snapshot && delivery.events.is_empty());
                            delivery.events.iter().for_each(|event| apply(&mut known, event));
                        }
                        Frame::Gap(_) => known.clear(),
                        other => panic!("{other:?}"),
                    }
                }
                if round < 29 || client.cursor(1).offset == head {
                    break;
                }
            }
        }
        assert!(snapshots > 0 && known == truth, "{topic} {chosen:?}: {known:?} is not {truth:?}");
        server.leave().await;
    }
}

#[tokio::test]
async fn rule_12_a_snapshot_that_is_not_followed_ends_the_session() {
    let server = server().await;
    server.publish("state.short", keyed(&["a=1", "b=1", "c=1"])).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { no_follow: true, credit: credit(1, 0), ..reading("state.short") }).await;
    client.events(1, 1).await;
    // However much comes after its position, and even if the history does not reach back to it any more.
    server.publish("state.short", keyed(&["d=1", "d=2", "d=3", "d=4", "d=5", "d=6"])).await;
    client.send(grant(1, 100)).await;
    assert_eq!(changes(&client.snapshot(1).await), ["b=1", "c=1"]);
    assert_eq!(client.closed().await.failure, None);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_after_every_gap_in_a_keyed_topic_a_snapshot_of_the_head_follows() {
    let server = server().await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(0, 0), ..open(1, "state.short") }).await;
    for first in [1, 21] {
        let changes_made: Vec<_> = (first..first + 20).map(|n| format!("{}={n}", n % 3)).collect();
        let changes_made: Vec<_> = changes_made.iter().map(String::as_str).collect();
        server.publish("state.short", keyed(&changes_made)).await;
        client.send(grant(1, first + 2)).await;
        let gap = client.gap().await;
        assert_eq!((gap.reason(), gap.to.unwrap().offset), (GapReason::Retention, first + 19));
        assert_eq!(changes(&client.snapshot(1).await), changes_made[17..]);
    }
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_cursor_of_another_log_of_a_keyed_topic_gets_a_gap_and_a_snapshot() {
    let server = server().await;
    let stored = server.publish("state.t", keyed(&["a=1", "b=1"])).await;
    let head = stored[1].cursor.unwrap();
    let strange = Cursor { epoch: head.epoch ^ 1, offset: 900, time_us: 0 };
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: after(strange), ..open(1, "state.t") }).await;
    assert_eq!(opened.recovery(), Recovery::Partial);
    let gap = client.gap().await;
    assert_eq!((gap.reason(), gap.to), (GapReason::Epoch, Some(head)));
    assert_eq!(changes(&client.snapshot(1).await), ["a=1", "b=1"]);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_reader_of_keys_resumes_by_cursor_with_the_changes_as_long_as_the_history_has_them() {
    let server = server().await;
    server.publish("state.short", keyed(&["a=1", "b=1"])).await;
    let mut client = server.connect("alice").await;
    client.open(reading("state.short")).await;
    client.snapshot(1).await;
    let cursor = client.cursor(1);
    client.sever();
    server.publish("state.short", keyed(&["a=2", "-b", "c=1", "c=2"])).await;
    let mut client = server.connect("alice").await;
    let again = || OpenSession { start: after(cursor), ..open(1, "state.short") };
    assert_eq!(client.open(again()).await.recovery(), Recovery::Full);
    assert_eq!(changes(&client.events(1, 4).await), ["a=2", "-b", "c=1", "c=2"]);
    client.sever();
    // One more, and the removal is the oldest that is kept: what came before it is gone.
    server.publish("state.short", keyed(&["d=1"])).await;
    let mut client = server.connect("alice").await;
    assert_eq!(client.open(again()).await.recovery(), Recovery::Partial);
    let gap = client.gap().await;
    assert_eq!((gap.from.unwrap().offset, gap.to.unwrap().offset, gap.count), (2, 7, 5));
    assert_eq!(changes(&client.snapshot(1).await), ["a=2", "c=2", "d=1"]);
    client.send(OpenSession { strict: true, session: 2, ..again() }).await;
    let closed = client.closed().await;
    assert_advised(closed.failure.as_ref(), Code::OutOfRange, "CURSOR_TRIMMED", Advice::None);
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_snapshot_that_was_cut_off_is_asked_for_anew() {
    let server = server().await;
    server.publish("state.t", keyed(&["a=1", "b=1"])).await;
    let mut client = server.connect("alice").await;
    client.open(OpenSession { credit: credit(1, 0), ..reading("state.t") }).await;
    client.events(1, 1).await;
    client.sever();
    server.publish("state.t", keyed(&["-a"])).await;
    let mut client = server.connect("alice").await;
    client.open(reading("state.t")).await;
    assert_eq!(changes(&client.snapshot(1).await), ["b=1"], "of the position it has now");
    server.leave().await;
}

#[tokio::test]
async fn rule_12_a_half_close_in_the_middle_of_a_snapshot_still_gets_all_of_it() {
    let server = server().await;
    let events = (0..2000).map(|n: u32| put(&n.to_string(), [0; 100])).collect();
    server.publish("state.t", events).await;
    let mut client = server.connect("alice").await;
    client.send(reading("state.t")).await;
    client.send(OpenSession { mode: 2, ..open(2, "t") }).await;
    client.send(publish(2, 1, "x")).await;
    client.half_close();
    client.opened().await;
    let (mut taken, mut ended) = (0, false);
    loop {
        match client.heard().await {
            Heard::Frame(Frame::Delivery(piece)) => {
                taken += piece.events.len();
                ended = piece.events.is_empty();
            }
            Heard::Frame(_) => {}
            Heard::End(status) => break assert!(status.is_none(), "{status:?}"),
        }
    }
    assert!(taken == 2000 && ended, "{taken}");
    server.leave().await;
}
