//! Frames that cost a peer nothing to send, and frames that only look like it.

use std::time::Duration;

use tokio::time::sleep;

use super::Verdict;
use crate::{
    arena::Arena,
    cases::{
        messages::{beat, hello},
        requests::stream_call,
    },
    frames::{self, ENHANCE_YOUR_CALM, flag, kind},
    hpack,
    wire::{PATIENCE, Seen},
};

/// Most frames before a flood ends.
const MOST: usize = 2000;
/// What is sent at most.
const FLOOD: usize = 10_000;
/// Sent in one write.
const CHUNK: usize = 100;

/// One PING after another, each when the last was answered.
pub async fn pings(arena: &Arena) -> Verdict {
    let mut wire = arena.greeted(1, &[]).await;
    let mut sent = 0;
    while sent < 200 && !wire.seen(Seen::ended) {
        sent += 1;
        wire.send(&frames::ping(flag::NONE, sent as u64)).await;
        wire.wait(Duration::from_secs(1), |seen| seen.ended() || seen.count(kind::PING) >= sent).await;
        sleep(Duration::from_millis(10)).await;
    }
    let named = wire.seen(|seen| {
        seen.goaway.as_ref().is_some_and(|end| end.code == ENHANCE_YOUR_CALM && end.debug == "too_many_pings")
    });
    // The first is never judged, the fourth is the third strike.
    let closed = wire.closed(PATIENCE).await;
    Verdict::new(named && sent == 4 && closed, format!("{} at PING {sent}", wire.seen(Seen::end)))
}

/// A client that keeps to the rules, and one that probes its bandwidth after each message it gets.
pub async fn honest_pings(arena: &Arena) -> Verdict {
    let mut quiet = arena.greeted(1, &[]).await;
    let mut busy = arena.greeted(2, &[]).await;
    let stream = busy.stream();
    busy.send(&[frames::headers(stream, flag::NONE, &hpack::block(&stream_call())), hello(stream, "busy")].concat())
        .await;
    let (mut quiet_pings, mut busy_pings) = (0, 0);
    for _ in 0..4 {
        quiet_pings += 1;
        quiet.send(&frames::ping(flag::NONE, quiet_pings as u64)).await;
        for _ in 0..40 {
            let before = busy.seen(|seen| seen.count(kind::DATA));
            busy.send(&beat(stream, busy_pings as u64)).await;
            busy.wait(PATIENCE, |seen| seen.ended() || seen.count(kind::DATA) > before).await;
            busy_pings += 1;
            busy.send(&frames::ping(flag::NONE, busy_pings as u64)).await;
            sleep(Duration::from_millis(50)).await;
        }
    }
    quiet.wait(PATIENCE, |seen| seen.ended() || seen.count(kind::PING) >= quiet_pings).await;
    busy.wait(PATIENCE, |seen| seen.ended() || seen.count(kind::PING) >= busy_pings).await;
    let answered = [&quiet, &busy].map(|wire| wire.seen(|seen| (seen.count(kind::PING), seen.ended())));
    let pass = answered == [(quiet_pings, false), (busy_pings, false)];
    Verdict::new(pass, format!("{quiet_pings} quiet and {busy_pings} busy pings answered"))
}

type Flood = fn(usize) -> Vec<u8>;

const FLOODS: [(&str, Flood); 5] = [
    ("SETTINGS", |_| frames::settings(&[])),
    ("PRIORITY", |_| frames::priority(1, 0)),
    ("WINDOW_UPDATE", |_| frames::window_update(0, 1)),
    ("unknown", |_| frames::frame(kind::UNKNOWN, flag::NONE, 0, &[0; 8])),
    ("PING ack", |number| frames::ping(flag::ACK, number as u64)),
];

/// Each from an address of its own.
pub async fn glitches(arena: &Arena) -> Verdict {
    let (mut measured, mut pass) = (Vec::new(), true);
    for (attacker, (name, flood)) in (1..).zip(FLOODS) {
        let mut wire = arena.greeted(attacker, &[]).await;
        let mut sent = 0;
        while sent < FLOOD && !wire.seen(Seen::ended) {
            wire.send(&(0..CHUNK).flat_map(|i| flood(sent + i)).collect::<Vec<_>>()).await;
            sent += CHUNK;
            wire.ended(Duration::from_millis(10)).await;
        }
        let ended = wire.ended(Duration::from_secs(1)).await;
        pass &= ended && sent <= MOST;
        measured.push(if ended { format!("{name} {sent}") } else { format!("{name} never") });
    }
    Verdict::new(pass, measured.join(", "))
}

/// A header block that does not end, in pieces of nothing and in pieces as large as may be.
pub async fn continuations(arena: &Arena) -> Verdict {
    let mut counts = Vec::new();
    for (attacker, piece) in [(1, vec![]), (2, vec![0; 16_384])] {
        let mut wire = arena.greeted(attacker, &[]).await;
        let stream = wire.stream();
        wire.send(&frames::frame(kind::HEADERS, flag::NONE, stream, &hpack::block(&stream_call()))).await;
        let mut sent = 0;
        while sent < 20 && !wire.seen(Seen::ended) {
            sent += 1;
            wire.send(&frames::frame(kind::CONTINUATION, flag::NONE, stream, &piece)).await;
            wire.ended(Duration::from_millis(50)).await;
        }
        counts.push(sent);
    }
    Verdict::new(counts.iter().all(|count| *count <= 8), format!("closed after {} and {} frames", counts[0], counts[1]))
}
