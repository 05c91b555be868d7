//! The client library against the real server.

mod keyed;

use std::{net::SocketAddr, time::Duration};

use bowline::{
    client::{Backoff, Client, ErrorKind, GapReason, Item, NewEvent, Open, Recovery, Session, Start, Status},
    proto::v1::{DisconnectRequest, disconnect_request::Target},
};
use futures_util::StreamExt as _;

use crate::support::{TestServer, eventually, within};

async fn connect(address: SocketAddr, client_id: &str) -> Client {
    let (first, max) = (Duration::from_millis(5), Duration::from_millis(50));
    let builder = Client::builder(format!("http://{address}")).client_id(client_id);
    within("a connection", builder.backoff(Backoff { first, max, ..Backoff::default() }).connect()).await.unwrap()
}

fn event(payload: impl Into<String>) -> NewEvent {
    NewEvent { payload: payload.into().into(), ..NewEvent::default() }
}

async fn next(session: &mut Session) -> Item {
    within("an item", session.next()).await.expect("the session goes on")
}

/// The next event's payload; whatever else comes before it is collected.
async fn payload(session: &mut Session, others: &mut Vec<Item>) -> String {
    loop {
        match next(session).await {
            Item::Event(received) => return String::from_utf8(received.event.payload.to_vec()).unwrap(),
            other => others.push(other),
        }
    }
}

#[tokio::test]
async fn a_session_publishes_reads_and_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let client = connect(server.address, "alice").await;
    let mut session = client.open(Open::topic("t").start(Start::Earliest)).await.unwrap();
    assert!(matches!(next(&mut session).await, Item::Opened(opened) if opened.recovery == Recovery::Fresh));
    let receipt = session.publish(event("x")).await.unwrap();
    let stored = within("a receipt", receipt).await.unwrap();
    let Item::Event(received) = next(&mut session).await else { panic!("no event") };
    assert_eq!((received.cursor, received.prev), (stored.cursor, 0));
    within("the close", session.close()).await.unwrap();
    assert_eq!(server.sessions(), 0);
    within("the close", client.close()).await;
    server.emptied().await;
    assert_eq!(server.sample("bowline_connections_closed_total{cause=\"OK\"}"), 1.0);
    server.leave().await;
}

#[tokio::test]
async fn a_restart_of_the_server_is_survived_and_announced() {
    let server = TestServer::start().await;
    let address = server.address;
    let client = connect(address, "alice").await;
    let mut session = client.open(Open::topic("t").session_id("desk").start(Start::Earliest)).await.unwrap();
    let mut others = Vec::new();
    for n in 1..=3 {
        within("a receipt", session.publish(event(n.to_string())).await.unwrap()).await.unwrap();
        assert_eq!(payload(&mut session, &mut others).await, n.to_string());
    }
    let before = session.cursor().unwrap();
    server.leave().await;

    let server = TestServer::with(&[("transport.listen", &address.to_string())]).await;
    others.clear();
    for n in 4..=6 {
        within("a receipt", session.publish(event(n.to_string())).await.unwrap()).await.unwrap();
        assert_eq!(payload(&mut session, &mut others).await, n.to_string());
    }
    let after = session.cursor().unwrap();
    assert_ne!(before.epoch, after.epoch);
    let [Item::Opened(opened), Item::Gap(gap)] = &others[..] else { panic!("{others:?}") };
    assert_eq!((opened.recovery, opened.attach), (Recovery::Partial, 2));
    assert_eq!((gap.reason, gap.from, gap.to.epoch), (GapReason::Epoch, before, after.epoch));
    client.close().await;
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_doubled_while_an_operator_disconnects_again_and_again() {
    let server = TestServer::start().await;
    let (writer, reader) = (connect(server.address, "writer").await, connect(server.address, "reader").await);
    let desk = writer.open(Open::topic("t").session_id("desk").publish_only()).await.unwrap();
    let mut session = reader.open(Open::topic("t").session_id("chair").start(Start::Earliest)).await.unwrap();
    let count = 1500;
    let publish = async {
        let mut receipts = Vec::new();
        for n in 0..count {
            receipts.push(within("room", desk.publish(event(n.to_string()))).await.unwrap());
            if n % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        for (offset, receipt) in (1..).zip(receipts) {
            assert_eq!(within("a receipt", receipt).await.unwrap().cursor.offset, offset);
        }
    };
    let read = async {
        let mut others = Vec::new();
        for n in 0..count {
            assert_eq!(payload(&mut session, &mut others).await, n.to_string());
        }
        others.retain(|item| !matches!(item, Item::Opened(_)));
        assert!(others.is_empty(), "{others:?}");
    };
    let disturb = async {
        let mut operator = server.operator().await;
        loop {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(5..40))).await;
            let target = Some(Target::ClientId(["writer", "reader"][fastrand::usize(..2)].to_owned()));
            operator.disconnect(DisconnectRequest { target }).await.unwrap();
        }
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(publish, read) } => {}
        () = disturb => {}
    }
    assert!(server.metrics().connections_opened.get() > 4, "the connections were not disturbed");
    writer.close().await;
    reader.close().await;
    server.leave().await;
}

#[tokio::test]
async fn a_session_that_was_taken_over_ends_and_does_not_fight_for_itself() {
    let server = TestServer::start().await;
    let (first, second) = (connect(server.address, "alice").await, connect(server.address, "alice").await);
    let open = || Open::topic("t").session_id("desk");
    let mut loser = first.open(open()).await.unwrap();
    let mut winner = second.open(open()).await.unwrap();
    let end = loop {
        if let Item::Closed(end) = next(&mut loser).await {
            break end.expect("not a good end");
        }
    };
    assert_eq!((end.kind(), end.refusal().unwrap().reason.as_str()), (ErrorKind::SessionClosed, "TAKEN_OVER"));
    within("a receipt", winner.publish(event("x")).await.unwrap()).await.unwrap();
    let mut others = Vec::new();
    assert_eq!(payload(&mut winner, &mut others).await, "x");
    assert_eq!(server.sessions(), 1);
    first.close().await;
    second.close().await;
    server.leave().await;
}

#[tokio::test]
async fn a_client_answers_probes_and_is_not_taken_for_dead() {
    let server = TestServer::with(&[
        ("registry.receive_timeout", "100ms"),
        ("registry.probe_timeout", "400ms"),
        ("registry.heartbeat_interval", "10s"),
    ])
    .await;
    let client = connect(server.address, "alice").await;
    let _session = client.open(Open::topic("t")).await.unwrap();
    eventually("it was probed again and again", || server.metrics().probes_sent.get() >= 5).await;
    assert_eq!(server.metrics().connections_opened.get(), 1);
    assert!(matches!(&*client.status().borrow(), Status::Connected(_)));
    client.close().await;
    server.leave().await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_sent_no_more_than_its_credit() {
    let server = TestServer::start().await;
    server.store("t", &vec!["x"; 1000]).await;
    let client = connect(server.address, "alice").await;
    let open = Open::topic("t").start(Start::Earliest).credit(100, 1 << 20);
    let mut session = client.open(open).await.unwrap();
    eventually("its credit is used", || server.metrics().events_delivered.get() == 100).await;
    let mut others = Vec::new();
    for _ in 0..1000 {
        assert_eq!(payload(&mut session, &mut others).await, "x");
    }
    client.close().await;
    server.leave().await;
}
