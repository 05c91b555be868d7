//! A thousand keys that change all the time, for a client that wants to look twenty times a second.

use std::{collections::HashMap, time::Duration};

use bowline::proto::v1::{
    DeliveryPolicy, NewEvent, OpenSession, Snapshot, StartPosition, start_position::Position,
    stream_data_response::Frame,
};
use bytes::Bytes;
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

/// What a client has been told, and what the server weighed meanwhile.
#[derive(Default)]
struct Seen {
    cursor: u64,
    delivered: u64,
    skipped: u64,
    gone: u64,
    picture: HashMap<Bytes, Bytes>,
    times: HashMap<Bytes, f64>,
    peak: u64,
}

impl Seen {
    fn hear(&mut self, frame: Frame) {
        match frame {
            Frame::Delivery(delivery) => {
                assert_eq!(delivery.prev, self.cursor, "the chain");
                self.delivered += if delivery.snapshot { 0 } else { delivery.events.len() as u64 };
                self.skipped += delivery.skipped;
                for event in delivery.events {
                    *self.times.entry(event.key.clone()).or_default() += 1.0;
                    self.cursor = if delivery.snapshot { self.cursor } else { event.offset };
                    self.picture.insert(event.key, event.payload);
                }
            }
            Frame::Gap(gap) => {
                self.gone += gap.count;
                self.cursor = gap.to.unwrap().offset;
            }
            _ => {}
        }
    }

    /// Every key has the value it got last; `last` is how many updates the last publisher made.
    fn is_up_to_date(&self, last: u64) -> bool {
        let number = |value: &Bytes| String::from_utf8_lossy(value).parse::<u64>().unwrap();
        let recent = |number: u64| number < last && number + KEYS >= last;
        self.picture.len() as u64 == KEYS && self.picture.values().all(|value| recent(number(value)))
    }
}

fn ticker() -> OpenSession {
    let start = Some(StartPosition { position: Some(Position::Snapshot(Snapshot {})) });
    OpenSession {
        session: 1,
        topic: "state.ticker".to_owned(),
        delivery_policy: DeliveryPolicy::Conflate as i32,
        max_rate_hz: HERTZ,
        start,
        ..OpenSession::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflating_client_converges_and_everything_is_accounted_for() {
    let server = serve(&[]);
    let mut client = Talker::connect(&server, "alice").await;
    client.open(ticker()).await;
    let back_end = BackEnd::connect(&server).await;
    let begun = Instant::now();
    // A second of it first, so that the memory is that of a topic in use.
    let (warm, _) = publish(back_end.clone(), Duration::from_secs(1)).await;
    let before = server.resident_kib();
    let mut publisher = tokio::spawn(publish(back_end, duration()));

    let (mut seen, mut published) = (Seen { peak: before, ..Seen::default() }, None);
    while published.map(|published| warm + published) != Some(seen.cursor) {
        tokio::select! {
            frame = client.frame() => seen.hear(frame),
            ended = &mut publisher, if published.is_none() => {
                let (count, took) = ended.unwrap();
                println!("published {count} in {took:?}: {:.0}/s", count as f64 / took.as_secs_f64());
                published = Some(count);
            }
        }
        seen.peak = seen.peak.max(server.resident_kib());
    }
    let last = published.unwrap();
    let Seen { delivered, skipped, gone, peak, .. } = seen;
    assert_eq!(delivered + skipped + gone, warm + last, "{delivered} delivered, {skipped} skipped, {gone} in gaps");
    assert!(seen.is_up_to_date(last));
    // Over the whole time: what waits in buffers on the way comes in bunches.
    let most = seen.times.values().copied().fold(0.0, f64::max) / begun.elapsed().as_secs_f64();
    assert!(most <= f64::from(HERTZ) * 1.1, "a key came {most:.1} times a second");
    println!(
        "{KEYS} keys at {HERTZ} Hz: {delivered} delivered, {skipped} skipped, {gone} in gaps; a key came at most {most:.1} \
         times a second; server {before} KiB before, {peak} KiB at most"
    );
}
