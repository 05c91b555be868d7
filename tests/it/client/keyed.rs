//! Keyed topics, presence, keys of a session and required readers, through the client library.

use std::collections::HashMap;

use bowline::client::{Change, DeliveryPolicy, Mirror, Operation};

use super::*;

/// A short history, so that readers who are away fall behind it.
const SHORT: &[(&str, &str)] = &[(
    "topics.rules",
    r#"[
        { pattern = "state", class = "state", history = { max_events = 40 }, delivery = { queue_size = 20, max_rate_hz = 200 } },
        { pattern = "held", max_lag = 10 },
        { pattern = ">" },
    ]"#,
)];

fn put(key: &str, payload: &str) -> NewEvent {
    NewEvent { key: key.to_owned().into(), ..event(payload) }
}

/// Key and payload of all that is there.
fn content(mirror: &Mirror) -> HashMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    mirror.into_iter().map(|(key, event)| (text(key), text(&event.payload))).collect()
}

/// What there was to get right.
#[derive(Debug, Default)]
struct Trouble {
    snapshots: u64,
    skipped: u64,
}

impl Trouble {
    fn count(&mut self, item: &Item) {
        match item {
            Item::SnapshotEnd(_) => self.snapshots += 1,
            Item::Event(received) => self.skipped += received.skipped,
            Item::Broken(_) | Item::Closed(_) => panic!("{item:?}"),
            _ => {}
        }
    }
}

/// Takes items until the mirror is complete and has this.
async fn becomes(mirror: &mut Mirror, session: &mut Session, expected: &HashMap<String, String>) -> Trouble {
    let mut trouble = Trouble::default();
    let reached = async {
        while !mirror.is_complete() || content(mirror) != *expected {
            let item = next(session).await;
            trouble.count(&item);
            mirror.take(&item);
        }
    };
    within("the mirror", reached).await;
    trouble
}

async fn a_mirror_converges(policy: DeliveryPolicy) -> Trouble {
    let mut trouble = Trouble::default();
    let server = TestServer::with(SHORT).await;
    let (writer, reader) = (connect(server.address, "writer").await, connect(server.address, "reader").await);
    let desk = writer.open(Open::topic("state").publish_only()).await.unwrap();
    let open = Open::topic("state").start(Start::Snapshot).read_only().delivery_policy(policy).credit(16, 1 << 20);
    let mut session = reader.open(open).await.unwrap();
    let (mut mirror, mut expected) = (Mirror::new(), HashMap::new());
    for round in 0..20 {
        let mut receipts = Vec::new();
        for n in 0..fastrand::u32(1..200) {
            let key = format!("{}", fastrand::u32(..30));
            let mut event = put(&key, &format!("{round}.{n}"));
            if fastrand::u32(..4) == 0 {
                event.set_operation(Operation::Delete);
                expected.remove(&key);
            } else {
                expected.insert(key, format!("{round}.{n}"));
            }
            receipts.push(within("room", desk.publish(event)).await.unwrap());
            // Now and then it takes a little, and now and then its connection is lost in the middle of something.
            if fastrand::u32(..4) == 0
                && let Ok(Some(item)) = tokio::time::timeout(Duration::from_millis(1), session.next()).await
            {
                trouble.count(&item);
                mirror.take(&item);
            }
            if fastrand::u32(..50) == 0 {
                let target = Some(Target::ClientId("reader".to_owned()));
                server.operator().await.disconnect(DisconnectRequest { target }).await.unwrap();
            }
        }
        for receipt in receipts {
            within("a receipt", receipt).await.unwrap();
        }
        let Trouble { snapshots, skipped } = becomes(&mut mirror, &mut session, &expected).await;
        trouble = Trouble { snapshots: trouble.snapshots + snapshots, skipped: trouble.skipped + skipped };
    }
    assert!(server.metrics().connections_opened.get() > 4, "the connection was not disturbed");
    writer.close().await;
    reader.close().await;
    server.leave().await;
    trouble
}

#[tokio::test]
async fn a_mirror_is_right_in_the_end_whatever_happens_to_a_reader_that_lags() {
    assert!(a_mirror_converges(DeliveryPolicy::Lag).await.snapshots > 3);
}

#[tokio::test]
async fn a_mirror_is_right_in_the_end_whatever_happens_to_a_reader_that_conflates() {
    assert!(a_mirror_converges(DeliveryPolicy::Conflate).await.skipped > 100);
}

#[tokio::test]
async fn a_mirror_is_right_in_the_end_whatever_happens_to_a_reader_that_drops() {
    assert!(a_mirror_converges(DeliveryPolicy::DropOldest).await.snapshots > 3);
}

#[tokio::test]
async fn a_mirror_is_right_in_the_end_whatever_happens_to_a_reader_that_is_disconnected() {
    a_mirror_converges(DeliveryPolicy::Disconnect).await;
}

#[tokio::test]
async fn a_reader_learns_that_a_restart_took_a_key_and_a_member_comes_back_by_itself() {
    let server = TestServer::with(SHORT).await;
    let address = server.address;
    let (alice, bob) = (connect(address, "alice").await, connect(address, "bob").await);
    let session = alice.open(Open::topic("state").presence("here")).await.unwrap();
    let scoped = NewEvent { session_scoped: true, ..put("desk", "alice") };
    within("a receipt", session.publish(scoped).await.unwrap()).await.unwrap();
    let mut keys = bob.open(Open::topic("state").start(Start::Snapshot)).await.unwrap();
    let mut people = bob.open(Open::presence_of("state")).await.unwrap();
    let (mut desks, mut here) = (Mirror::new(), Mirror::new());
    becomes(&mut desks, &mut keys, &[("desk".to_owned(), "alice".to_owned())].into()).await;
    while here.is_empty() {
        here.take(&next(&mut people).await);
    }
    server.leave().await;

    let mut settings = SHORT.to_vec();
    let listen = address.to_string();
    settings.push(("transport.listen", &listen));
    let server = TestServer::with(&settings).await;
    let removed = loop {
        if let Some(Change::Removed { before }) = desks.take(&next(&mut keys).await).pop() {
            break before;
        }
    };
    assert_eq!((&removed.key[..], &removed.publisher[..]), (&b"desk"[..], "alice"));
    let came_back = async {
        while !here.is_complete() || here.is_empty() {
            here.take(&next(&mut people).await);
        }
    };
    within("the member", came_back).await;
    within("the close", session.close()).await.unwrap();
    while !here.is_empty() {
        here.take(&next(&mut people).await);
    }
    alice.close().await;
    bob.close().await;
    server.leave().await;
}

#[tokio::test]
async fn a_connection_lost_for_a_moment_is_no_absence() {
    let server = TestServer::with(SHORT).await;
    let (alice, bob) = (connect(server.address, "alice").await, connect(server.address, "bob").await);
    let mut session = alice.open(Open::topic("state").presence("here")).await.unwrap();
    let scoped = NewEvent { session_scoped: true, ..put("desk", "alice") };
    within("a receipt", session.publish(scoped).await.unwrap()).await.unwrap();
    let mut keys = bob.open(Open::topic("state").start(Start::Snapshot)).await.unwrap();
    let mut people = bob.open(Open::presence_of("state")).await.unwrap();
    for _ in 0..5 {
        let target = Some(Target::ClientId("alice".to_owned()));
        server.operator().await.disconnect(DisconnectRequest { target }).await.unwrap();
        while !matches!(next(&mut session).await, Item::Opened(opened) if opened.attach > 1) {}
    }
    within("the close", session.close()).await.unwrap();
    // All that was heard of it: that it was there, and that it left.
    for session in [&mut keys, &mut people] {
        let mut heard = Vec::new();
        while heard.len() < 2 {
            if let Item::Event(received) = next(session).await {
                heard.push(received.event.operation());
            }
        }
        assert_eq!(heard[1], Operation::Delete);
    }
    alice.close().await;
    bob.close().await;
    server.leave().await;
}

#[tokio::test]
async fn a_publisher_waits_for_a_required_reader_and_loses_nothing() {
    let server = TestServer::with(SHORT).await;
    let (writer, reader) = (connect(server.address, "writer").await, connect(server.address, "reader").await);
    let mut session = reader.open(Open::topic("held").session_id("desk").required()).await.unwrap();
    let desk = writer.open(Open::topic("held").publish_only()).await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..100 {
        receipts.push(desk.publish(event(n.to_string())).await.unwrap());
    }
    eventually("it is held back", || server.metrics().events_published.get() == 10).await;
    let mut others = Vec::new();
    for n in 0..100 {
        loop {
            match next(&mut session).await {
                Item::Event(received) => {
                    assert_eq!(received.event.payload, n.to_string());
                    session.ack(received.cursor);
                    break;
                }
                other => others.push(other),
            }
        }
    }
    for (offset, receipt) in (1..).zip(receipts) {
        assert_eq!(within("a receipt", receipt).await.unwrap().cursor.offset, offset);
    }
    assert_eq!(others.len(), 1, "{others:?}");
    writer.close().await;
    reader.close().await;
    server.leave().await;
}
