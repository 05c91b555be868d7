//! The client against a server that follows a script.

mod keyed;
mod moving;
mod script;

use std::time::Duration;

use futures_util::StreamExt;
use tonic::Status;

use super::{Client, Cursor, ErrorKind, Item, NewEvent, Open, Receipt, Session, Start};
use crate::{
    error::{Failure, Reason},
    proto::v1::{self, start_position::Position, stream_data_response::Frame},
};
use script::{Call, EPOCH, Script, at, end, event, item, welcome, within};

async fn open(client: &Client, call: &mut Call, open: Open, published_seq: u64) -> (Session, v1::OpenSession) {
    let (session, frame) = tokio::join!(client.open(open), async {
        let frame = call.opens().await;
        call.opened(&frame, 0, published_seq).await;
        frame
    });
    (session.unwrap(), frame)
}

fn prices() -> Open {
    Open::topic("prices").session_id("s").start(Start::Earliest)
}

fn text(payload: &str) -> NewEvent {
    NewEvent { payload: payload.to_owned().into(), ..NewEvent::default() }
}

async fn publish(session: &Session, payloads: &[&str]) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for payload in payloads {
        receipts.push(within("a permit", session.publish(text(payload))).await.unwrap());
    }
    receipts
}

fn resumed_at(open: &v1::OpenSession) -> Option<(u64, u64)> {
    match open.start?.position? {
        Position::Cursor(cursor) => Some((cursor.epoch, cursor.offset)),
        _ => None,
    }
}

fn place(epoch: u64, offset: u64) -> Cursor {
    Cursor { epoch, offset, ..Cursor::default() }
}

fn failure(reason: Reason) -> Option<v1::Failure> {
    let advice = match reason.advice() {
        crate::error::Advice::Fatal => v1::Advice::Fatal,
        crate::error::Advice::Retry => v1::Advice::Retry,
        crate::error::Advice::Reconnect => v1::Advice::Reconnect,
        crate::error::Advice::NewSession => v1::Advice::NewSession,
        _ => v1::Advice::None,
    };
    let code = reason.code().into();
    Some(v1::Failure { code, reason: reason.as_str().into(), advice: advice.into(), ..v1::Failure::default() })
}

#[tokio::test]
async fn connecting_ends_with_the_welcome_and_tells_who_calls() {
    let mut script = Script::new().await;
    let builder = script.client().agent("test/1");
    let (client, ()) = tokio::join!(builder.connect(), async {
        let mut call = script.call().await;
        assert_eq!(call.client_id, "alice");
        let hello = call.hello().await;
        assert_eq!((hello.client_id.as_str(), hello.agent.as_str(), hello.version_max), ("alice", "test/1", 1));
        call.welcome().await;
    });
    assert!(client.is_ok(), "although the connection was lost at once");
}

#[tokio::test]
async fn the_first_connection_fails_at_once_where_no_server_is_or_it_refuses() {
    let nobody = Client::builder("http://127.0.0.1:1").connect().await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Connect);
    assert_eq!(Client::builder("ftp://x").connect().await.unwrap_err().kind(), ErrorKind::Invalid);

    let mut script = Script::new().await;
    let (client, ()) = tokio::join!(script.client().connect(), async {
        let status = Status::from(Failure::new(Reason::Denied, "no"));
        script.call().await.end(status).await;
    });
    let error = client.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Refused, Some("DENIED")));
}

#[tokio::test]
async fn a_patient_client_comes_back_when_told_to_but_not_when_refused_for_good() {
    let mut script = Script::new().await;
    let (client, ()) = tokio::join!(script.client().wait_for_server().connect(), async {
        let full = Failure::new(Reason::MaxConnections, "full").retry_after(Duration::from_millis(50));
        script.call().await.end(full.into()).await;
        script.call().await.end(Failure::new(Reason::Version, "old").into()).await;
    });
    assert_eq!(client.unwrap_err().reason(), Some("VERSION"));
}

#[tokio::test]
async fn after_a_broken_connection_sessions_go_on_at_their_cursor_before_the_welcome() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, frame) = open(&client, &mut call, prices(), 0).await;
    call.deliver(frame.session, 0, 3).await;
    assert_eq!(event(&mut session).await, 1);
    // The cursor is what was received, not what was taken.
    while session.cursor().unwrap().offset < 3 {
        tokio::task::yield_now().await;
    }
    call.end(Status::unavailable("gone")).await;

    let mut call = script.call().await;
    call.hello().await;
    let again = call.opens().await;
    assert_eq!(resumed_at(&again), Some((EPOCH, 3)));
    assert_eq!((again.session_id.as_str(), again.last_attach), ("s", 1));
    call.welcome().await;
    call.opened(&again, 3, 0).await;
    call.deliver(again.session, 3, 4).await;
    for offset in 2..=4 {
        assert_eq!(event(&mut session).await, offset);
    }
}

#[tokio::test]
async fn unanswered_publishes_are_sent_again_in_order_under_their_numbers() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (session, _) = open(&client, &mut call, prices(), 0).await;
    let mut receipts = publish(&session, &["a", "b", "c"]).await;
    let (first, _) = call.publishes().await;
    call.publishes().await;
    call.publishes().await;
    call.reply(first, 1).await;
    assert_eq!(receipts.remove(0).await.unwrap().cursor.offset, 1);
    call.end(Status::unavailable("gone")).await;

    let mut call = script.welcomed().await;
    let again = call.opens().await;
    call.opened(&again, 0, 2).await;
    for (seq, payload) in [(2, "b"), (3, "c")] {
        let (request, publish) = call.publishes().await;
        assert_eq!((publish.seq, publish.event.unwrap().payload), (seq, payload.as_bytes().into()));
        call.reply(request, seq).await;
        assert_eq!(receipts.remove(0).await.unwrap().cursor.offset, seq);
    }
}

#[tokio::test]
async fn a_new_process_numbers_on_from_what_the_server_knows() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (session, _) = open(&client, &mut call, prices(), 41).await;
    let _receipts = publish(&session, &["a"]).await;
    assert_eq!(call.publishes().await.1.seq, 42);
}

#[tokio::test]
async fn a_session_that_only_publishes_has_no_place_to_resume_at() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (session, _) = open(&client, &mut call, prices().publish_only(), 0).await;
    call.end(Status::unavailable("gone")).await;
    let mut call = script.welcomed().await;
    let again = call.opens().await;
    assert!(matches!(again.start.unwrap().position, Some(Position::Live(_))));
    // The topic has grown meanwhile; that breaks no chain.
    call.opened(&again, 99, 0).await;
    let receipt = session.publish(text("a")).await.unwrap();
    let (request, _) = call.publishes().await;
    call.reply(request, 100).await;
    assert!(receipt.await.is_ok());
}

#[tokio::test]
async fn publishing_waits_at_the_servers_limit_and_one_refusal_does_not_spoil_the_rest() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (session, _) = open(&client, &mut call, prices(), 0).await;
    let mut receipts = publish(&session, &["1", "2", "3", "4", "5", "6", "7", "8"]).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), session.publish(text("9"))).await.is_err());

    let mut requests = Vec::new();
    for _ in 0..8 {
        requests.push(call.publishes().await.0);
    }
    call.send(Frame::Reply(v1::Reply {
        request_id: requests[0],
        failure: failure(Reason::WrongLast),
        ..v1::Reply::default()
    }))
    .await;
    let error = receipts.remove(0).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::PublishFailed, Some("WRONG_LAST")));
    let (request, again) = call.publishes().await;
    assert_eq!((again.seq, again.event.unwrap().payload), (1, "2".into()));
    call.reply(request, 1).await;
    assert!(receipts.remove(0).await.is_ok());
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused_without_asking() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (session, _) = open(&client, &mut call, prices(), 0).await;
    let receipt = session.publish(text(&"x".repeat(1025))).await.unwrap();
    assert_eq!(receipt.await.unwrap_err().reason(), Some("TOO_LARGE"));
}

#[tokio::test]
async fn a_drain_is_followed_by_making_before_breaking() {
    let mut script = Script::new().await;
    let (client, mut old) = script.connected().await;
    let (mut session, frame) = open(&client, &mut old, prices(), 0).await;
    old.deliver(frame.session, 0, 1).await;
    let mut receipts = publish(&session, &["a"]).await;
    let (_, before) = old.publishes().await;
    let drain = v1::Drain { reason: "test".into(), reconnect_delay_ms: 20, deadline_ms: 10_000 };
    old.send(Frame::Drain(drain)).await;

    let mut new = script.call().await;
    new.hello().await;
    // Until the new connection stands, the old one delivers.
    old.deliver(frame.session, 1, 2).await;
    while session.cursor().unwrap().offset < 2 {
        tokio::task::yield_now().await;
    }
    new.welcome().await;
    let moved = new.opens().await;
    assert_eq!(resumed_at(&moved), Some((EPOCH, 2)));
    // Afterwards it does not count, not even when it says that it lost the session.
    old.deliver(frame.session, 2, 3).await;
    old.closed(frame.session, failure(Reason::TakenOver)).await;
    new.opened(&moved, 2, 1).await;
    let (request, again) = new.publishes().await;
    assert_eq!((again.seq, again.event), (before.seq, before.event));
    new.reply(request, 9).await;
    assert_eq!(receipts.remove(0).await.unwrap().cursor.offset, 9);
    assert!(old.next().await.is_none(), "the old connection is half-closed");
    new.deliver(moved.session, 2, 3).await;
    for offset in 1..=3 {
        assert_eq!(event(&mut session).await, offset);
    }
}

#[tokio::test]
async fn if_the_new_connection_fails_the_old_one_goes_on_and_it_is_tried_again() {
    let mut script = Script::new().await;
    let (client, mut old) = script.connected().await;
    let (mut session, frame) = open(&client, &mut old, prices(), 0).await;
    old.send(Frame::Drain(v1::Drain::default())).await;
    script.call().await.end(Status::unavailable("not yet")).await;
    old.deliver(frame.session, 0, 1).await;
    assert_eq!(event(&mut session).await, 1);
    let mut new = script.welcomed().await;
    assert_eq!(resumed_at(&new.opens().await), Some((EPOCH, 1)));
}

#[tokio::test]
async fn a_broken_chain_is_reported_and_the_session_opened_again_at_its_own_cursor() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, frame) = open(&client, &mut call, prices(), 0).await;
    call.deliver(frame.session, 0, 1).await;
    call.deliver(frame.session, 2, 3).await;
    let closed = call.closes().await;
    assert_eq!((closed.session, closed.keep), (frame.session, true));
    let again = call.opens().await;
    assert_ne!(again.session, frame.session);
    assert_eq!(resumed_at(&again), Some((EPOCH, 1)));
    // Late frames of the attach before are void.
    call.deliver(frame.session, 1, 2).await;
    call.opened(&again, 1, 0).await;
    call.deliver(again.session, 1, 3).await;

    assert_eq!(event(&mut session).await, 1);
    match item(&mut session).await {
        Item::Broken(broken) => assert_eq!((broken.expected.offset, broken.found.offset), (1, 2)),
        other => panic!("expected the break, got {other:?}"),
    }
    assert_eq!(event(&mut session).await, 2);
    assert_eq!(event(&mut session).await, 3);
}

#[tokio::test]
async fn a_gap_is_handed_on_and_the_chain_goes_on_behind_it() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, frame) = open(&client, &mut call, prices(), 0).await;
    let gap = v1::Gap {
        session: frame.session,
        from: Some(at(0)),
        to: Some(at(9)),
        reason: v1::GapReason::Retention.into(),
        count: 9,
        possible: false,
    };
    call.send(Frame::Gap(gap)).await;
    call.deliver(frame.session, 9, 10).await;
    assert!(matches!(item(&mut session).await, Item::Opened(_)));
    assert!(matches!(item(&mut session).await, Item::Gap(gap) if gap.count == 9 && gap.to.offset == 9));
    assert_eq!(event(&mut session).await, 10);
}

#[tokio::test]
async fn a_slow_application_withholds_credit_while_the_worker_reads_on() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, frame) = open(&client, &mut call, prices().credit(4, 1000), 0).await;
    assert_eq!(frame.credit, Some(v1::Credit { events: 4, bytes: 1000 }));
    call.deliver(frame.session, 0, 4).await;
    // It still answers probes, and grants nothing: the next frame is the answer.
    let probe = v1::Heartbeat { nonce: 5, reply_requested: true, marks: Vec::new() };
    call.send(Frame::Heartbeat(probe)).await;
    assert_eq!(call.beat().await, v1::Heartbeat { nonce: 5, reply_requested: false, marks: Vec::new() });
    assert_eq!(event(&mut session).await, 1);
    assert_eq!(event(&mut session).await, 2);
    let (_, flow) = call.flow().await;
    assert_eq!(flow.credit, Some(v1::Credit { events: 6, bytes: 1002 }));
}

#[tokio::test]
async fn what_exceeds_the_credit_is_not_taken() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, frame) = open(&client, &mut call, prices().credit(4, 1000), 0).await;
    call.deliver(frame.session, 0, 5).await;
    call.closes().await;
    let again = call.opens().await;
    assert_eq!(resumed_at(&again), Some((EPOCH, 4)));
    assert_eq!(again.credit, Some(v1::Credit::default()), "the window is full");
    assert_eq!(event(&mut session).await, 1);
}

#[tokio::test]
async fn what_was_acknowledged_is_said_again_after_a_resume_but_not_where_a_gap_follows() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, frame) = open(&client, &mut call, prices(), 0).await;
    call.deliver(frame.session, 0, 3).await;
    assert_eq!(event(&mut session).await, 1);
    session.ack(place(EPOCH, 1));
    assert_eq!(call.flow().await.1.acked, Some(1));
    call.end(Status::unavailable("gone")).await;

    let mut call = script.welcomed().await;
    let again = call.opens().await;
    call.opened(&again, 3, 0).await;
    assert_eq!(call.flow().await.1.acked, Some(1));
    call.end(Status::unavailable("gone")).await;

    let mut call = script.welcomed().await;
    let again = call.opens().await;
    let (session_alias, start) = (again.session, Some(at(3)));
    let recovery = v1::Recovery::Partial.into();
    let opened = v1::SessionOpened { session: session_alias, start, recovery, ..v1::SessionOpened::default() };
    call.send(Frame::SessionOpened(opened)).await;
    let to = v1::Cursor { epoch: EPOCH + 1, offset: 0, time_us: 0 };
    let reason = v1::GapReason::Epoch.into();
    call.send(Frame::Gap(v1::Gap {
        session: session_alias,
        from: Some(at(3)),
        to: Some(to),
        reason,
        ..v1::Gap::default()
    }))
    .await;
    call.deliver(session_alias, 0, 1).await;
    // Of the log before, which the server no longer has.
    assert_eq!(event(&mut session).await, 2);
    session.ack(place(EPOCH, 2));
    assert_eq!(event(&mut session).await, 3);
    while !matches!(item(&mut session).await, Item::Gap(_)) {}
    assert_eq!(event(&mut session).await, 1);
    session.ack(place(EPOCH + 1, 1));
    assert_eq!(call.flow().await.1.acked, Some(1), "the first that is heard");
}

#[tokio::test]
async fn a_session_taken_over_ends_and_is_not_opened_again() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, frame) = open(&client, &mut call, prices(), 0).await;
    let receipt = session.publish(text("a")).await.unwrap();
    call.publishes().await;
    call.closed(frame.session, failure(Reason::TakenOver)).await;
    let error = end(&mut session).await.unwrap();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::SessionClosed, Some("TAKEN_OVER")));
    assert!(session.next().await.is_none());
    assert_eq!(receipt.await.unwrap_err().kind(), ErrorKind::UnknownOutcome);
    assert_eq!(session.publish(text("b")).await.unwrap_err().reason(), Some("TAKEN_OVER"));
    // The next thing the server hears is the end.
    drop((session, client));
    assert!(call.next().await.is_none());
}

#[tokio::test]
async fn a_refused_open_fails_and_leaves_the_connection_alone() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (refused, ()) = tokio::join!(client.open(prices()), async {
        let open = call.opens().await;
        call.closed(open.session, failure(Reason::UnknownTopic)).await;
    });
    assert_eq!(refused.unwrap_err().reason(), Some("UNKNOWN_TOPIC"));
    assert_eq!(client.open(Open::topic("no good")).await.unwrap_err().kind(), ErrorKind::Invalid);
    open(&client, &mut call, prices(), 0).await;
}

#[tokio::test]
async fn a_pause_is_acknowledged_and_outlives_the_connection() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (session, _) = open(&client, &mut call, prices(), 0).await;
    let (paused, ()) = tokio::join!(session.pause(), async {
        let (request, flow) = call.flow().await;
        assert_eq!(flow.paused, Some(true));
        call.reply(request, 0).await;
    });
    paused.unwrap();
    call.end(Status::unavailable("gone")).await;

    let mut call = script.welcomed().await;
    let again = call.opens().await;
    assert_eq!(again.credit, Some(v1::Credit::default()));
    assert_eq!(call.flow().await.1.paused, Some(true));
    call.opened(&again, 0, 0).await;
    let (resumed, ()) = tokio::join!(session.resume(), async {
        let (request, flow) = call.flow().await;
        assert_eq!((flow.paused, flow.credit.unwrap().events), (Some(false), 1024));
        call.reply(request, 0).await;
    });
    resumed.unwrap();
}

#[tokio::test]
async fn a_pause_that_meets_the_end_of_its_session_is_in_force_all_the_same() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (session, frame) = open(&client, &mut call, prices(), 0).await;
    let (paused, ()) = tokio::join!(session.pause(), async {
        let (request_id, _) = call.flow().await;
        call.closed(frame.session, failure(Reason::SlowSession)).await;
        let failure = failure(Reason::UnknownSession);
        call.send(Frame::Reply(v1::Reply { request_id, failure, ..v1::Reply::default() })).await;
    });
    paused.unwrap();
    let again = call.opens().await;
    assert_eq!(again.credit, Some(v1::Credit::default()));
    assert_eq!(call.flow().await.1.paused, Some(true));
}

#[tokio::test]
async fn a_silent_server_is_probed_and_then_taken_as_lost() {
    let mut script = Script::new().await;
    let (_client, mut call) = script.connected().await;
    let impatient = v1::Welcome { heartbeat_interval_ms: 60_000, receive_timeout_ms: 100, ..welcome() };
    call.send(Frame::Welcome(impatient)).await;
    assert!(call.beat().await.reply_requested);
    script.welcomed().await;
}

#[tokio::test]
async fn a_client_that_has_nothing_to_say_says_so() {
    let mut script = Script::new().await;
    let (_client, mut call) = script.connected().await;
    call.send(Frame::Welcome(v1::Welcome { heartbeat_interval_ms: 50, ..welcome() })).await;
    assert!(!call.beat().await.reply_requested);
    assert!(!call.beat().await.reply_requested);
}

#[tokio::test]
async fn closing_waits_for_the_answers_to_what_was_published() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (session, frame) = open(&client, &mut call, prices(), 0).await;
    let receipt = session.publish(text("a")).await.unwrap();
    let (closed, ()) = tokio::join!(session.close(), async {
        let (request, _) = call.publishes().await;
        call.reply(request, 1).await;
        assert_eq!(call.closes().await.session, frame.session);
        call.closed(frame.session, None).await;
    });
    closed.unwrap();
    assert_eq!(receipt.await.unwrap().cursor.offset, 1);
}

#[tokio::test]
async fn what_was_published_before_everything_is_dropped_still_arrives() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (session, frame) = open(&client, &mut call, prices(), 0).await;
    let receipt = session.publish(text("a")).await.unwrap();
    drop((receipt, session, client));
    let (request, _) = call.publishes().await;
    call.reply(request, 1).await;
    assert_eq!(call.closes().await.session, frame.session);
    call.closed(frame.session, None).await;
    assert!(call.next().await.is_none());
}

#[tokio::test]
async fn a_closed_client_ends_its_sessions_and_takes_nothing_more() {
    let mut script = Script::new().await;
    let (client, mut call) = script.connected().await;
    let (mut session, frame) = open(&client, &mut call, prices(), 0).await;
    let ((), ()) = tokio::join!(client.close(), async {
        assert_eq!(call.closes().await.session, frame.session);
        call.closed(frame.session, None).await;
        assert!(call.next().await.is_none());
        drop(call);
    });
    assert!(end(&mut session).await.is_none());
    assert_eq!(session.publish(text("a")).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(client.open(prices()).await.unwrap_err().kind(), ErrorKind::Closed);
}
