//! What arrives, in which order, and how much of it.

mod allowance;
mod chaos;

use std::time::Duration;

use bowline::proto::v1::{OpenSession, stream_data_response::Frame};
use tokio::time::Instant;

use crate::support::{TestServer, earliest, last, open, payloads, publish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_events_and_small_ones_arrive_whole_and_in_order() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let sizes = [1 << 20, 3, 0, 4095, 4096, 4097, 1 << 20, 65_536, 1, 3 << 20, 16_384, 5 << 20];
    let limit = (5 << 20) - (16 << 10);
    let content = |n: usize, size: usize| vec![u8::try_from(n).unwrap(); size.min(limit)];
    for (n, size) in sizes.into_iter().enumerate() {
        client.send(publish(1, n as u64 + 1, content(n, size))).await;
    }
    let events = client.events(1, sizes.len()).await;
    for ((n, size), event) in sizes.into_iter().enumerate().zip(events) {
        assert!(event.payload == content(n, size), "event {n} of {size} bytes");
    }
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_sessions_on_one_connection_are_in_order_each() {
    let server = TestServer::start().await;
    let mut client = server.connect("alice").await;
    for alias in 1..=100 {
        client.open(open(alias, &format!("t{}", alias % 20))).await;
    }
    let store = async {
        for n in 0..10 {
            for topic in 0..20 {
                let batch: Vec<_> = (0..5).map(|m| (n * 5 + m).to_string()).collect();
                server.store(&format!("t{topic}"), &batch).await;
            }
        }
    };
    let read = async {
        let mut seen = vec![Vec::new(); 101];
        while seen.iter().map(Vec::len).sum::<usize>() < 100 * 50 {
            let delivery = client.delivery().await;
            seen[delivery.session as usize].extend(payloads(&delivery.events));
        }
        let expected: Vec<_> = (0..50).map(|n| n.to_string()).collect();
        assert!(seen[1..].iter().all(|payloads| *payloads == expected));
    };
    tokio::join!(store, read);
    server.leave().await;
}

#[tokio::test]
async fn a_session_with_much_to_read_does_not_hold_up_its_neighbours() {
    let server = TestServer::start().await;
    let mebibytes = 12;
    server.store("flood", &vec![vec![0; 4096]; mebibytes * 256]).await;
    for topic in 0..10 {
        server.store(&format!("t{topic}"), &["small"]).await;
    }
    let mut client = server.connect("alice").await;
    client.send(OpenSession { start: earliest(), ..open(100, "flood") }).await;
    for topic in 0..10 {
        client.send(OpenSession { start: last(1), ..open(topic + 1, &format!("t{topic}")) }).await;
    }
    let (mut flooded, mut served) = (0, 0);
    while served < 10 {
        if let Frame::Delivery(delivery) = client.frame().await {
            match delivery.session {
                100 => flooded += delivery.events.iter().map(|event| event.payload.len()).sum::<usize>(),
                _ => served += 1,
            }
        }
    }
    assert!(flooded < 1 << 20, "{flooded} bytes of the flood came before the last of ten small events");
    server.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_come_in_time_through_a_flood() {
    let server = TestServer::with(&[("registry.heartbeat_interval", "60ms")]).await;
    let mut client = server.connect("alice").await;
    client.open(open(1, "t")).await;
    let begun = Instant::now();
    let flood = async {
        loop {
            server.store("t", &vec![vec![0; 1024]; 200]).await;
        }
    };
    let listen = async {
        let (mut beats, mut events) = (0, 0);
        while beats < 5 {
            match client.any_frame().await {
                Frame::Heartbeat(_) => beats += 1,
                Frame::Delivery(delivery) => events += delivery.events.len(),
                Frame::Gap(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(events > 1000, "that was no flood: {events} events");
    };
    tokio::select! {
        () = flood => {}
        () = listen => {}
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.leave().await;
}

#[tokio::test]
async fn a_client_that_half_closes_gets_everything_that_was_there_then_a_good_end() {
    let server = TestServer::start().await;
    server.store("t", &vec![vec![0; 100]; 5000]).await;
    let mut client = server.connect("alice").await;
    client.send(OpenSession { start: earliest(), ..open(1, "t") }).await;
    for seq in 1..=100 {
        client.send(publish(1, seq, "own")).await;
    }
    client.half_close();
    client.opened().await;
    assert_eq!(client.events(1, 5100).await.len(), 5100);
    assert_eq!(client.closed().await.failure, None);
    client.ended_well().await;
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn a_half_closed_client_whose_sessions_may_send_nothing_is_not_waited_for() {
    let server = TestServer::start().await;
    server.store("t", &["1", "2"]).await;
    let mut client = server.connect("alice").await;
    let held = OpenSession { start: earliest(), credit: crate::support::credit(1, 0), ..open(1, "t") };
    client.open(held).await;
    client.events(1, 1).await;
    client.half_close();
    client.ended_well().await;
    server.emptied().await;
    server.leave().await;
}

#[tokio::test]
async fn a_pace_is_kept_and_no_answer_waits_for_it() {
    let server = TestServer::with(&[("connection.max_send_rate", "100KB")]).await;
    server.store("t", &vec![vec![0; 1000]; 60]).await;
    let mut client = server.connect("alice").await;
    let begun = Instant::now();
    client.open(OpenSession { start: earliest(), ..open(1, "t") }).await;
    assert_eq!(client.publish(publish(1, 1, "x")).await.failure, None);
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    while client.cursor(1).offset < 61 {
        client.delivery().await;
    }
    // 60 kB at 100 kB/s, less the tenth of a second that may go at once.
    assert!(begun.elapsed() > Duration::from_millis(400), "{:?}", begun.elapsed());
    server.leave().await;
}
