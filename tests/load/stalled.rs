//! One subscriber that stops reading, and the others that must not notice.

use std::time::Duration;

use bowline::proto::v1::{NewEvent, OpenSession, stream_data_response::Frame};
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};

use crate::{
    duration, now_us, quantile, serve,
    served::Served,
    talker::{BackEnd, Talker},
};

const READERS: usize = 5;
const TOPIC: &str = "prices";
/// So little that the server has to hold back within a second from one that does not read.
const WINDOW: u32 = 65_535;
/// 1,000 events of 128 bytes a second.
const EVERY: Duration = Duration::from_millis(1);
/// What the whole server may grow by: a tenth of the topic's history. A queue for the one that stopped would be more.
const MAX_GROWTH_KIB: u64 = 1600;

/// Reads for a while: how long each event was on its way.
async fn read(mut client: Talker, whole: Duration) -> (Talker, Vec<u64>) {
    let (begun, mut waits) = (Instant::now(), Vec::new());
    while begun.elapsed() < whole {
        let Frame::Delivery(delivery) = client.frame().await else { continue };
        waits.extend(delivery.events.iter().map(|event| now_us().saturating_sub(event.time_us)));
    }
    (client, waits)
}

/// All readers for a while; what they waited, sorted, and what the server weighed at most.
async fn read_all(server: &Served, clients: Vec<Talker>, whole: Duration) -> (Vec<Talker>, Vec<u64>, u64) {
    let mut readers = JoinSet::new();
    clients.into_iter().for_each(|client| drop(readers.spawn(read(client, whole))));
    let (mut clients, mut waits, mut peak) = (Vec::new(), Vec::new(), 0);
    let mut ticks = interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = ticks.tick() => peak = peak.max(server.resident_kib()),
            done = readers.join_next() => match done {
                Some(done) => {
                    let (client, more) = done.unwrap();
                    clients.push(client);
                    waits.extend(more);
                }
                None => break,
            },
        }
    }
    waits.sort_unstable();
    (clients, waits, peak)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_stops_reading_costs_the_others_and_the_server_nothing() {
    let server = serve(&[]);
    let open = || OpenSession { session: 1, topic: TOPIC.to_owned(), ..OpenSession::default() };
    let mut clients = Vec::new();
    for number in 0..=READERS {
        let mut client = Talker::with_window(&server, &format!("reader-{number}"), WINDOW).await;
        client.open(open()).await;
        clients.push(client);
    }
    let mut back_end = BackEnd::connect(&server).await;
    let event = || NewEvent { payload: vec![7; 128].into(), ..NewEvent::default() };
    // A full history first, so that it does not pass for growth.
    for _ in 0..110 {
        back_end.publish(TOPIC, vec![event(); 100]).await;
    }
    let publisher = tokio::spawn(async move {
        let mut ticks = interval(EVERY);
        loop {
            ticks.tick().await;
            back_end.publish(TOPIC, vec![event()]).await;
        }
    });

    // Until what is old has been read, waits are not those of a reader that keeps up.
    let (clients, ..) = read_all(&server, clients, Duration::from_secs(1)).await;
    let (mut clients, all, before) = read_all(&server, clients, duration()).await;
    let stopped = clients.pop();
    let (clients, others, after) = read_all(&server, clients, duration()).await;
    publisher.abort();

    assert_eq!((clients.len(), stopped.is_some()), (READERS, true));
    // How many there are in a second is for the machine to say: it may be busy with other tests.
    assert!(others.len() > 100 * READERS, "only {} events reached the others", others.len());
    assert!(after <= before + MAX_GROWTH_KIB, "{before} KiB, and {after} KiB with one that does not read");
    let line = |waits: &[u64]| format!("p50 {} µs, p99 {} µs", quantile(waits, 0.5), quantile(waits, 0.99));
    println!("all reading: {}, {before} KiB; one stopped: {}, {after} KiB", line(&all), line(&others));
}
