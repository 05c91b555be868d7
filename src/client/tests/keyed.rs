//! Snapshots that are cut, gaps in keyed topics, policies, presence.

use tonic::Status;

use super::{
    open, resumed_at,
    script::{Call, EPOCH, Script, at, end, event, item, within},
    text,
};
use crate::{
    client::{Client, DeliveryPolicy, ErrorKind, Item, Mirror, Open, Session, Start},
    proto::v1::{self, start_position::Position, stream_data_response::Frame},
};

fn state() -> Open {
    Open::topic("state.prices").session_id("s").start(Start::Snapshot)
}

/// A session on a keyed topic, whose snapshot is of position 10.
async fn keyed(client: &Client, call: &mut Call, open: Open) -> (Session, u32) {
    let (session, alias) = tokio::join!(client.open(open), async {
        let frame = call.opens().await;
        assert!(asks_for_a_snapshot(&frame));
        call.opened_keyed(&frame, at(10)).await;
        frame.session
    });
    let mut session = session.unwrap();
    assert!(matches!(item(&mut session).await, Item::Opened(_)));
    (session, alias)
}

fn asks_for_a_snapshot(open: &v1::OpenSession) -> bool {
    matches!(open.start.and_then(|start| start.position), Some(Position::Snapshot(_)))
}

fn gap(session: u32, from: v1::Cursor, to: v1::Cursor) -> Frame {
    let reason = v1::GapReason::Slow.into();
    Frame::Gap(v1::Gap { session, from: Some(from), to: Some(to), reason, count: 1, possible: false })
}

/// The offset of the position a snapshot begins or ends with.
async fn begins(session: &mut Session) -> u64 {
    match item(session).await {
        Item::SnapshotBegin(of) => of.offset,
        other => panic!("expected the begin of a snapshot, got {other:?}"),
    }
}

async fn ends(session: &mut Session) -> u64 {
    match item(session).await {
        Item::SnapshotEnd(of) => of.offset,
        other => panic!("expected the end of a snapshot, got {other:?}"),
    }
}

#[tokio::test]
async fn a_snapshot_is_framed_counts_as_a_place_at_its_end_and_takes_credit() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, alias) = keyed(&client, &mut call, state().credit(4, 1000)).await;
    call.piece(alias, 10, &[2, 7]).await;
    assert_eq!(begins(&mut session).await, 10);
    for offset in [2, 7] {
        let Item::Event(received) = item(&mut session).await else { panic!("no event") };
        assert!(received.snapshot);
        assert_eq!((received.event.offset, received.cursor.offset, received.prev), (offset, 10, 10));
    }
    assert_eq!(session.cursor(), None, "from here nobody could go on");
    let (_, flow) = call.flow().await;
    assert_eq!(flow.credit.unwrap().events, 6);
    call.piece(alias, 10, &[]).await;
    assert_eq!(ends(&mut session).await, 10);
    assert_eq!(session.cursor().unwrap().offset, 10);
    call.deliver(alias, 10, 11).await;
    assert_eq!(event(&mut session).await, 11);
}

#[tokio::test]
async fn a_connection_lost_in_a_snapshot_makes_a_new_one_and_one_lost_after_it_resumes() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, alias) = keyed(&client, &mut call, state()).await;
    let mut mirror = Mirror::new();
    call.piece(alias, 10, &[2, 7]).await;
    call.end(Status::unavailable("gone")).await;

    let mut call = script.welcomed().await;
    let again = call.opens().await;
    assert!(asks_for_a_snapshot(&again));
    // The topic has another epoch by now, and key 2 is gone.
    let start = v1::Cursor { epoch: EPOCH + 1, offset: 8, time_us: 0 };
    call.opened_keyed(&again, start).await;
    call.piece(again.session, 8, &[7]).await;
    call.piece(again.session, 8, &[]).await;
    loop {
        let item = item(&mut session).await;
        mirror.take(&item);
        if let Item::SnapshotEnd(of) = item {
            assert_eq!((of.epoch, of.offset), (EPOCH + 1, 8));
            break;
        }
    }
    assert!(mirror.is_complete() && mirror.len() == 1 && mirror.get(b"7").is_some());
    call.end(Status::unavailable("gone")).await;

    let mut call = script.welcomed().await;
    assert_eq!(resumed_at(&call.opens().await), Some((EPOCH + 1, 8)));
}

#[tokio::test]
async fn a_snapshot_that_a_gap_promised_is_asked_for_when_it_was_cut() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, alias) = keyed(&client, &mut call, state()).await;
    call.piece(alias, 10, &[]).await;
    assert_eq!((begins(&mut session).await, ends(&mut session).await), (10, 10));
    call.send(gap(alias, at(10), at(30))).await;
    assert!(matches!(item(&mut session).await, Item::Gap(gap) if gap.to.offset == 30));
    assert_eq!(session.cursor().unwrap().offset, 10, "a later process is told of the gap again");
    call.end(Status::unavailable("gone")).await;

    let mut call = script.welcomed().await;
    let again = call.opens().await;
    assert!(asks_for_a_snapshot(&again));
    call.opened_keyed(&again, at(33)).await;
    call.piece(again.session, 33, &[5]).await;
    assert!(matches!(item(&mut session).await, Item::Opened(_)));
    assert_eq!(begins(&mut session).await, 33);
}

#[tokio::test]
async fn a_change_in_a_snapshot_breaks_the_chain() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, alias) = keyed(&client, &mut call, state()).await;
    call.piece(alias, 10, &[2]).await;
    call.deliver(alias, 10, 11).await;
    assert!(call.closes().await.keep);
    assert!(asks_for_a_snapshot(&call.opens().await));
    assert_eq!(begins(&mut session).await, 10);
    assert_eq!(event(&mut session).await, 2);
    assert!(matches!(item(&mut session).await, Item::Broken(_)));
}

#[tokio::test]
async fn what_exceeds_the_credit_of_a_snapshot_does_not_end_it() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, alias) = keyed(&client, &mut call, state().credit(1, 1000)).await;
    call.piece(alias, 10, &[2]).await;
    call.piece(alias, 10, &[3]).await;
    call.closes().await;
    assert!(asks_for_a_snapshot(&call.opens().await));
    assert_eq!(begins(&mut session).await, 10);
    assert_eq!(event(&mut session).await, 2);
    assert!(matches!(item(&mut session).await, Item::Broken(_)));
}

#[tokio::test]
async fn everything_an_open_asks_for_is_asked_for_again_after_a_reconnect() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let wanted = Open::topic("t").session_id("s").delivery_policy(DeliveryPolicy::Conflate);
    let wanted = wanted.max_rate_hz(5).required().presence("me");
    let (_session, first) = open(&client, &mut call, wanted, 0).await;
    call.end(Status::unavailable("gone")).await;
    let again = script.welcomed().await.opens().await;
    for open in [first, again] {
        assert_eq!((open.delivery_policy(), open.max_rate_hz, open.required), (DeliveryPolicy::Conflate, 5, true));
        assert_eq!(open.presence.unwrap().info, "me");
    }
    let long = Open::topic("t").presence(vec![0; 1025]);
    assert_eq!(client.open(long).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn what_a_conflating_policy_left_out_is_told_with_the_first_event_of_its_run() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, alias) = keyed(&client, &mut call, state()).await;
    call.piece(alias, 10, &[]).await;
    let events = [15, 20].map(|offset| v1::Event { offset, ..v1::Event::default() }).into();
    let run = v1::Delivery { session: alias, prev: 10, skipped: 8, events, snapshot: false };
    call.send(Frame::Delivery(run)).await;
    begins(&mut session).await;
    ends(&mut session).await;
    for expected in [(15, 10, 8), (20, 15, 0)] {
        let Item::Event(received) = item(&mut session).await else { panic!("no event") };
        assert_eq!((received.cursor.offset, received.prev, received.skipped), expected);
    }
}

#[tokio::test]
async fn a_session_ended_for_slowness_goes_on_at_its_cursor_by_itself() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, frame) = open(&client, &mut call, super::prices(), 0).await;
    call.deliver(frame.session, 0, 3).await;
    let slow = v1::Failure { advice: v1::Advice::Retry.into(), reason: "SLOW_SESSION".into(), ..Default::default() };
    call.closed(frame.session, Some(slow)).await;
    let again = call.opens().await;
    assert_eq!(resumed_at(&again), Some((EPOCH, 3)));
    call.opened(&again, 3, 0).await;
    call.deliver(again.session, 3, 4).await;
    for offset in 1..=4 {
        assert_eq!(event(&mut session).await, offset);
    }
}

#[tokio::test]
async fn a_session_the_server_has_forgotten_ends_and_the_application_decides() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, frame) = open(&client, &mut call, super::prices(), 0).await;
    let expired =
        v1::Failure { advice: v1::Advice::NewSession.into(), reason: "SESSION_EXPIRED".into(), ..Default::default() };
    call.closed(frame.session, Some(expired)).await;
    let error = end(&mut session).await.unwrap();
    assert_eq!((error.reason(), error.advice()), (Some("SESSION_EXPIRED"), crate::error::Advice::NewSession));
}

#[tokio::test]
async fn a_signal_topic_goes_on_live_after_a_reconnect() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, frame) = open(&client, &mut call, Open::topic("signal.mouse"), 0).await;
    call.deliver(frame.session, 0, 1).await;
    assert_eq!(event(&mut session).await, 1);
    call.end(Status::unavailable("gone")).await;
    let mut call = script.welcomed().await;
    let again = call.opens().await;
    let class = v1::TopicClass::Signal.into();
    let opened =
        v1::SessionOpened { session: again.session, start: Some(at(50)), topic_class: class, ..Default::default() };
    call.send(Frame::SessionOpened(opened)).await;
    call.deliver(again.session, 50, 51).await;
    assert_eq!(event(&mut session).await, 51);
}

#[tokio::test]
async fn publishes_that_are_held_back_are_sent_again_until_they_are_stored() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (session, _) = open(&client, &mut call, super::prices(), 0).await;
    let mut receipts = Vec::new();
    for payload in ["a", "b", "c"] {
        receipts.push(session.publish(text(payload)).await.unwrap());
    }
    let held = v1::Failure {
        advice: v1::Advice::Retry.into(),
        reason: "BACKPRESSURE".into(),
        retry_after_ms: 10,
        ..Default::default()
    };
    let mut requests = Vec::new();
    for _ in 0..3 {
        requests.push(call.publishes().await.0);
    }
    for (request_id, reason) in requests.into_iter().zip(["BACKPRESSURE", "WRONG_SEQ", "WRONG_SEQ"]) {
        let advice = if reason == "WRONG_SEQ" { v1::Advice::None } else { v1::Advice::Retry };
        let failure = Some(v1::Failure { reason: reason.into(), advice: advice.into(), ..held.clone() });
        call.send(Frame::Reply(v1::Reply { request_id, failure, ..v1::Reply::default() })).await;
    }
    for seq in 1..=3 {
        let (request, publish) = call.publishes().await;
        assert_eq!(publish.seq, seq);
        call.reply(request, seq).await;
    }
    for receipt in receipts {
        within("a receipt", receipt).await.unwrap();
    }
}
