//! Where a session begins.

use bowline::proto::v1::{
    Cursor, Flow, GapReason, Live, OpenSession, Recovery, StartPosition, start_position::Position,
    stream_data_response::Frame,
};
use tonic::Code;

use super::{SMALL, elsewhere};
use crate::support::{
    TestClient, TestServer, acked, after, assert_failure, close, credit, earliest, flow, last, open, payloads, since,
};

/// Opens at a position, reads what is there, closes: the payloads.
async fn read(client: &mut TestClient, topic: &str, start: Option<StartPosition>) -> Vec<String> {
    client.open(OpenSession { start, no_follow: true, ..open(1, topic) }).await;
    let mut events = Vec::new();
    loop {
        match client.frame().await {
            Frame::Delivery(delivery) => events.extend(delivery.events),
            Frame::SessionClosed(closed) => {
                assert_eq!(closed.failure, None);
                return payloads(&events);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_session_begins_where_it_was_told() {
    let server = TestServer::start().await;
    let stored = server.store("t", &["1", "2", "3", "4", "5"]).await;
    let cursor = |index: usize| stored[index].cursor.unwrap();
    let mut client = server.connect("alice").await;
    let nothing: [&str; 0] = [];
    let all = ["1", "2", "3", "4", "5"];
    assert_eq!(read(&mut client, "t", earliest()).await, all);
    assert_eq!(read(&mut client, "t", None).await, nothing);
    assert_eq!(read(&mut client, "t", Some(StartPosition { position: None })).await, nothing);
    assert_eq!(read(&mut client, "t", Some(StartPosition { position: Some(Position::Live(Live {})) })).await, nothing);
    assert_eq!(read(&mut client, "t", acked()).await, nothing, "nobody has acknowledged anything");
    assert_eq!(read(&mut client, "t", last(2)).await, ["4", "5"]);
    assert_eq!(read(&mut client, "t", last(0)).await, nothing);
    assert_eq!(read(&mut client, "t", last(u64::MAX)).await, all);
    assert_eq!(read(&mut client, "t", since(cursor(3).time_us)).await, ["4", "5"]);
    assert_eq!(read(&mut client, "t", since(cursor(3).time_us + 1)).await, ["5"]);
    assert_eq!(read(&mut client, "t", since(0)).await, all);
    assert_eq!(read(&mut client, "t", since(u64::MAX)).await, nothing);
    assert_eq!(read(&mut client, "t", after(cursor(1))).await, ["3", "4", "5"]);
    assert_eq!(read(&mut client, "t", after(cursor(4))).await, nothing);
    let start = Cursor { offset: 0, time_us: 0, ..cursor(0) };
    assert_eq!(read(&mut client, "t", after(start)).await, all);
    assert_eq!(read(&mut client, "nobody.published.here", earliest()).await, nothing);
    server.leave().await;
}

#[tokio::test]
async fn a_session_says_where_it_begins_and_what_is_newest() {
    let server = TestServer::start().await;
    let stored = server.store("t", &["1", "2", "3"]).await;
    let mut client = server.connect("alice").await;
    let opened = client.open(open(1, "t")).await;
    assert_eq!((opened.start, opened.head, opened.recovery()), (stored[2].cursor, stored[2].cursor, Recovery::Fresh));
    let opened = client.open(OpenSession { start: after(stored[0].cursor.unwrap()), ..open(2, "t") }).await;
    assert_eq!((opened.start, opened.head, opened.recovery()), (stored[0].cursor, stored[2].cursor, Recovery::Full));
    client.events(2, 2).await;
    let opened = client.open(OpenSession { start: earliest(), ..open(3, "empty") }).await;
    let start = opened.start.unwrap();
    assert!(start.epoch != 0 && start.offset == 0 && opened.head == opened.start, "{opened:?}");
    server.leave().await;
}

#[tokio::test]
async fn a_session_that_does_not_follow_ends_at_what_was_newest_when_it_opened() {
    let server = TestServer::start().await;
    server.store("t", &["1", "2"]).await;
    let mut client = server.connect("alice").await;
    // Without credit it cannot reach the end before more is stored.
    let held = OpenSession { start: earliest(), no_follow: true, credit: credit(0, 0), ..open(1, "t") };
    client.open(held).await;
    server.store("t", &["3"]).await;
    client.send(Flow { credit: credit(10, 0), ..flow(1) }).await;
    assert_eq!(payloads(&client.events(1, 2).await), ["1", "2"]);
    assert_eq!(client.closed().await.failure, None);
    server.leave().await;
}

#[tokio::test]
async fn what_is_no_longer_kept_is_announced_by_a_gap_before_anything_else() {
    let server = TestServer::with(SMALL).await;
    let mut client = server.connect("alice").await;
    let opened = client.open(open(1, "small.t")).await;
    client.send(close(1)).await;
    client.closed().await;
    server.store("small.t", &["1", "2", "3", "4", "5", "6", "7"]).await;

    let opened = client.open(OpenSession { start: after(opened.start.unwrap()), ..open(1, "small.t") }).await;
    assert_eq!(opened.recovery(), Recovery::Partial);
    let gap = client.gap().await;
    assert_eq!((gap.reason(), gap.count, gap.possible), (GapReason::Retention, 3, false));
    assert_eq!(gap.to.unwrap().offset, 3);
    assert_eq!(payloads(&client.events(1, 4).await), ["4", "5", "6", "7"]);
    assert_eq!(server.sample("bowline_gaps_total{reason=\"RETENTION\"}"), 1.0);
    server.leave().await;
}

#[tokio::test]
async fn a_cursor_from_another_life_of_the_topic_gets_a_gap_and_everything_there_is() {
    let server = TestServer::start().await;
    let stored = server.store("t", &["1", "2"]).await;
    let foreign = elsewhere(Cursor { offset: 700, ..stored[1].cursor.unwrap() });
    let mut client = server.connect("alice").await;
    let opened = client.open(OpenSession { start: after(foreign), ..open(1, "t") }).await;
    assert_eq!((opened.recovery(), opened.start), (Recovery::Partial, Some(foreign)));
    let gap = client.gap().await;
    assert_eq!((gap.reason(), gap.from, gap.to.unwrap().offset), (GapReason::Epoch, Some(foreign), 0));
    assert_eq!(gap.to.unwrap().epoch, stored[0].cursor.unwrap().epoch);
    assert_eq!(payloads(&client.events(1, 2).await), ["1", "2"]);
    server.leave().await;
}

#[tokio::test]
async fn a_cursor_the_log_does_not_agree_with_gets_a_gap_that_may_hide_something() {
    let server = TestServer::start().await;
    let stored = server.store("t", &["1", "2", "3"]).await;
    let second = stored[1].cursor.unwrap();
    let mut client = server.connect("alice").await;
    let strange = [Cursor { offset: 99, ..second }, Cursor { time_us: second.time_us - 1, ..second }];
    for (alias, cursor) in (1..).zip(strange) {
        client.open(OpenSession { start: after(cursor), ..open(alias, "t") }).await;
        let gap = client.gap().await;
        assert_eq!((gap.reason(), gap.possible, gap.to), (GapReason::Diverged, true, stored[2].cursor));
    }
    assert!(client.is_quiet().await);
    server.leave().await;
}

#[tokio::test]
async fn a_strict_session_ends_instead_of_announcing_a_gap() {
    let server = TestServer::with(SMALL).await;
    let stored = server.store("small.t", &["1", "2", "3", "4", "5", "6"]).await;
    let mut client = server.connect("alice").await;
    let strict = |cursor: Cursor| OpenSession { start: after(cursor), strict: true, ..open(1, "small.t") };
    client.send(strict(stored[0].cursor.unwrap())).await;
    assert_failure(client.closed().await.failure.as_ref(), Code::OutOfRange, "CURSOR_TRIMMED");
    client.send(strict(elsewhere(stored[5].cursor.unwrap()))).await;
    assert_failure(client.closed().await.failure.as_ref(), Code::DataLoss, "EPOCH_CHANGED");

    client.open(strict(stored[2].cursor.unwrap())).await;
    assert_eq!(payloads(&client.events(1, 3).await), ["4", "5", "6"]);
    server.leave().await;
}

#[tokio::test]
async fn a_session_that_falls_behind_the_history_is_told_while_it_is_open() {
    let server = TestServer::with(SMALL).await;
    let mut client = server.connect("alice").await;
    let held =
        |alias, strict| OpenSession { strict, start: earliest(), credit: credit(0, 0), ..open(alias, "small.t") };
    client.open(held(1, false)).await;
    client.open(held(2, true)).await;
    server.store("small.t", &["1", "2", "3", "4", "5", "6"]).await;
    for alias in [1, 2] {
        client.send(Flow { credit: credit(100, 0), ..flow(alias) }).await;
    }
    let (mut missed, mut read, mut strict) = (0, 0, None);
    while missed + read < 6 || strict.is_none() {
        match client.frame().await {
            Frame::Gap(gap) => {
                assert_eq!((gap.session, gap.reason()), (1, GapReason::Retention));
                missed += gap.count;
            }
            Frame::Delivery(delivery) => {
                assert_eq!(delivery.session, 1, "a strict session gets nothing from behind a hole");
                read += delivery.events.len() as u64;
            }
            Frame::SessionClosed(closed) => strict = Some(closed),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((missed, read), (2, 4));
    assert_failure(strict.unwrap().failure.as_ref(), Code::OutOfRange, "CURSOR_TRIMMED");
    server.leave().await;
}
