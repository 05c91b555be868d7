//! Everything at once: nothing is lost, nothing comes twice, however connections end.

use std::time::Duration;

use bowline::proto::v1::{Cursor, OpenSession, Recovery, stream_data_response::Frame};
use tokio::time::sleep;

use crate::support::{Heard, TestClient, TestServer, after, credit, earliest, open, publish};

const PUBLISHERS: u64 = 4;
const EVENTS: u64 = 400;

/// Ends a connection in one of the ways there are.
fn end(client: TestClient) {
    match fastrand::u8(0..3) {
        0 => client.sever(),
        // Half-closed and dropped at once: a cancel behind an end of stream.
        1 => {
            let mut client = client;
            client.half_close();
        }
        _ => drop(client),
    }
}

/// Publishes its events, losing its connection now and then, and repeating what it has no answer to.
async fn publisher(server: &TestServer, number: u64) {
    let mut stored = 0;
    while stored < EVENTS {
        let mut client = server.connect(&format!("publisher-{number}")).await;
        let desk = OpenSession { session_id: "desk".to_owned(), mode: 2, ..open(1, "t") };
        stored = client.open(desk).await.published_seq.max(stored);
        let until = (stored + fastrand::u64(1..120)).min(EVENTS);
        for seq in stored + 1..=until {
            client.send(publish(1, seq, format!("{number}:{seq}"))).await;
            if seq % 8 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        if fastrand::bool() {
            let answer = client.publish(publish(1, until, format!("{number}:{until}"))).await;
            assert_eq!(answer.through_seq, until);
            stored = until;
        }
        // What was on its way is stored, or not: the next open says which.
        end(client);
    }
}

/// Reads all events, losing its connection again and again.
async fn reader(server: &TestServer, number: usize) -> Vec<String> {
    let (mut seen, mut cursor) = (Vec::new(), None::<Cursor>);
    let all = usize::try_from(PUBLISHERS * EVENTS).unwrap();
    while seen.len() < all {
        let mut client = server.connect(&format!("reader-{number}")).await;
        let start = cursor.map_or_else(earliest, after);
        let granted = [None, credit(fastrand::u64(1..300), 0)][usize::from(fastrand::bool())];
        let opened =
            client.open(OpenSession { session_id: "desk".to_owned(), start, credit: granted, ..open(1, "t") }).await;
        assert_eq!(opened.recovery(), if cursor.is_some() { Recovery::Full } else { Recovery::Fresh });
        let enough = granted.map_or_else(|| fastrand::u64(1..400), |granted| granted.events);
        let mut taken = 0;
        while taken < enough && seen.len() < all {
            match client.heard().await {
                Heard::Frame(Frame::Delivery(delivery)) => {
                    taken += delivery.events.len() as u64;
                    seen.extend(crate::support::payloads(&delivery.events));
                    cursor = Some(client.cursor(1));
                }
                Heard::Frame(_) => {}
                Heard::End(status) => panic!("{status:?}"),
            }
        }
        assert!(granted.is_none() || taken <= enough, "more came than was granted");
        end(client);
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reader_gets_every_event_once_and_in_one_order_through_any_number_of_lost_connections() {
    let server = TestServer::start().await;
    let publishing = futures_util::future::join_all((0..PUBLISHERS).map(|n| publisher(&server, n)));
    let reading = futures_util::future::join_all((0..5).map(|n| reader(&server, n)));
    let ((), orders) = tokio::join!(async { drop(publishing.await) }, reading);
    assert!(orders.iter().all(|order| order == &orders[0]), "readers saw different orders");
    for number in 0..PUBLISHERS {
        let own: Vec<_> = orders[0].iter().filter(|payload| payload.starts_with(&format!("{number}:"))).collect();
        let expected: Vec<_> = (1..=EVENTS).map(|seq| format!("{number}:{seq}")).collect();
        assert!(own.into_iter().eq(&expected), "publisher {number} is not there in its order, once");
    }
    server.emptied().await;
    server.leave().await;
}
