//! A thousand keys that change all the time, for a client that wants to look twenty times a second.

use std::{collections::HashMap, time::Duration};

use bowline::proto::v1::{
    DeliveryPolicy, NewEvent, OpenSession, Snapshot, StartPosition, start_position::Position,
    stream_data_response::Frame,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    duration, serve,
    talker::{BackEnd, Talker},
};

const KEYS: u64 = 1000;
const BATCH: u64 = 500;
const HERTZ: u32 = 20;
/// 50,000 updates a second.
const BATCH_EVERY: Duration = Duration::from_millis(10);

fn key(number: u64) -> String {
    format!("SYM{:03}", number % KEYS)
}

/// Publishes for a while; how many updates, and how long it took.
async fn publish(mut back_end: BackEnd, whole: Duration) -> (u64, Duration) {
    let begun = Instant::now();
    let mut ticks = interval(BATCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut published = 0;
    while begun.elapsed() < whole {
        ticks.tick().await;
        // Strides, so that neighbours do not change together.
        let numbers = (published..published + BATCH).map(|number| (number, key(number.wrapping_mul(7919))));
        let event = |(number, key): (u64, String)| NewEvent {
            key: key.into(),
            payload: format!("{number}").into(),
            ..NewEvent::default()
        };
        back_end.publish("state.ticker", numbers.map(event).collect()).await;
        published += BATCH;
    }
    (published, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflating_client_converges_and_everything_is_accounted_for() {
    let server = serve(&[]);
    let mut client = Talker::connect(&server, "alice").await;
    let start = Some(StartPosition { position: Some(Position::Snapshot(Snapshot {})) });
    client
        .open(OpenSession {
            session: 1,
            topic: "state.ticker".to_owned(),
            delivery_policy: DeliveryPolicy::Conflate as i32,
            max_rate_hz: HERTZ,
            start,
            ..OpenSession::default()
        })
        .await;
    let back_end = BackEnd::connect(&server).await;
    let begun = Instant::now();
    // One round of everything first, so that the memory is that of a topic in use.
    let (warm, _) = publish(back_end.clone(), Duration::from_secs(1)).await;
    let before = server.resident_kib();
    let publisher = tokio::spawn(publish(back_end, duration()));

    let (mut cursor, mut delivered, mut skipped, mut gone) = (0, 0_u64, 0, 0);
    let (mut picture, mut end, mut peak) = (HashMap::new(), None, before);
    let mut times = HashMap::<_, f64>::new();
    let mut publisher = Some(publisher);
    while end != Some(cursor) {
        if publisher.as_ref().is_some_and(|publisher| publisher.is_finished()) {
            let (published, took) = publisher.take().unwrap().await.unwrap();
            println!("published {published} in {took:?}: {:.0}/s", published as f64 / took.as_secs_f64());
            end = Some(warm + published);
            continue;
        }
        match client.frame().await {
            Frame::Delivery(delivery) => {
                assert_eq!(delivery.prev, cursor, "the chain");
                peak = peak.max(server.resident_kib());
                delivered += if delivery.snapshot { 0 } else { delivery.events.len() as u64 };
                skipped += delivery.skipped;
                for event in delivery.events {
                    *times.entry(event.key.clone()).or_default() += 1.0;
                    cursor = if delivery.snapshot { cursor } else { event.offset };
                    picture.insert(event.key, event.payload);
                }
            }
            Frame::Gap(gap) => {
                gone += gap.count;
                cursor = gap.to.unwrap().offset;
            }
            _ => {}
        }
    }
    let published = end.unwrap();
    assert_eq!(delivered + skipped + gone, published, "{delivered} delivered, {skipped} skipped, {gone} in gaps");
    assert_eq!(picture.len() as u64, KEYS);
    // The last value of each key is its highest number, and every key was set in the last 1,000 updates of a phase.
    let last: Vec<u64> = picture.values().map(|value| String::from_utf8_lossy(value).parse().unwrap()).collect();
    let newest = published - warm;
    assert!(last.iter().all(|number| *number < newest && *number + KEYS >= newest), "some key is stale");
    // Over the whole time: what waits in buffers on the way comes in bunches.
    let most = times.values().copied().fold(0.0, f64::max) / begun.elapsed().as_secs_f64();
    assert!(most <= f64::from(HERTZ) * 1.1, "a key came {most:.1} times a second");
    println!(
        "{published} updates of {KEYS} keys at {HERTZ} Hz: {delivered} delivered, {skipped} skipped, {gone} in gaps; a key \
         came at most {most:.1} times a second; server {before} KiB before, {peak} KiB at most"
    );
}
