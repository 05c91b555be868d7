//! 256 sessions on one connection: one flooded, one paused, one without credit, and all the others as quick as alone.

use std::time::Duration;

use bowline::proto::v1::{
    Credit, Flow, NewEvent, OpenSession, stream_data_request::Frame as Sent, stream_data_response::Frame,
};
use tokio::time::{Instant, interval};

use crate::{
    duration, now_us, quantile, serve,
    talker::{BackEnd, Talker},
};

const SESSIONS: u32 = 256;
const FLOODED: u32 = 1;
const PAUSED: u32 = 2;
const WITHOUT_CREDIT: u32 = 3;
/// A flood for one session, and little enough for the machine that what is measured is the turn of the others and not
/// who gets a core: 10,000 events of 1,000 bytes a second, ten at a time.
const FLOOD_EVERY: Duration = Duration::from_millis(1);
const FLOOD_BATCH: usize = 10;
/// How long anybody may wait, whatever the others do: G12.
const LONGEST: Duration = Duration::from_secs(1);

fn topic(session: u32) -> String {
    format!("t.{session}")
}

/// Reads for a while; how long events of the quiet sessions were on their way, sorted, and how many came to the others.
async fn listen(client: &mut Talker, whole: Duration) -> (Vec<u64>, [u64; 3]) {
    let begun = Instant::now();
    let (mut waits, mut others) = (Vec::new(), [0; 3]);
    while begun.elapsed() < whole {
        let Frame::Delivery(delivery) = client.frame().await else { continue };
        match delivery.session {
            FLOODED | PAUSED | WITHOUT_CREDIT => {
                others[delivery.session as usize - 1] += delivery.events.len() as u64;
            }
            _ => waits.extend(delivery.events.iter().map(|event| now_us().saturating_sub(event.time_us))),
        }
    }
    waits.sort_unstable();
    (waits, others)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_credit_waits_for_no_other_on_its_connection() {
    let server = serve(&[]);
    let mut client = Talker::connect(&server, "alice").await;
    for session in 1..=SESSIONS {
        let credit = (session == WITHOUT_CREDIT).then(Credit::default);
        client.open(OpenSession { session, topic: topic(session), credit, ..OpenSession::default() }).await;
    }
    client.ask(Sent::Flow(Flow { session: PAUSED, paused: Some(true), ..Flow::default() })).await;
    let back_end = BackEnd::connect(&server).await;
    let event = || NewEvent { payload: vec![7; 100].into(), ..NewEvent::default() };

    let mut quiet = back_end.clone();
    let drip = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_millis(2));
        for session in (PAUSED..=SESSIONS).cycle() {
            ticks.tick().await;
            quiet.publish(&topic(session), vec![event()]).await;
        }
    });
    let (alone, _) = listen(&mut client, duration()).await;

    let mut loud = back_end.clone();
    let flood = tokio::spawn(async move {
        let mut ticks = interval(FLOOD_EVERY);
        loop {
            ticks.tick().await;
            let events = vec![NewEvent { payload: vec![7; 1000].into(), ..NewEvent::default() }; FLOOD_BATCH];
            loud.publish(&topic(FLOODED), events).await;
        }
    });
    let (flooded, others) = listen(&mut client, duration()).await;
    drip.abort();
    flood.abort();

    let [loud, paused, without_credit] = others;
    assert!(loud > 1000, "there was no flood: {loud}");
    assert_eq!((paused, without_credit), (0, 0));
    let longest = Duration::from_micros(*flooded.last().unwrap());
    assert!(longest <= LONGEST, "an event waited {longest:?}");
    let line = |waits: &[u64]| {
        format!("{} events, p50 {} µs, p99 {} µs", waits.len(), quantile(waits, 0.5), quantile(waits, 0.99))
    };
    println!("quiet sessions alone: {}; beside a flood of {loud}: {}", line(&alone), line(&flooded));
}
