//! Streams that are opened to be reset, by the peer or by us.

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, interval};

use super::Verdict;
use crate::{
    arena::{Arena, Kind},
    cases::{
        messages::converse,
        requests::{stream_call, with},
    },
    frames::{self, CANCEL, ENHANCE_YOUR_CALM, flag, kind},
    hpack,
    wire::{Seen, Wire},
};

/// Streams of a burst.
const BURST: u32 = 10_000;
/// Most streams, or most resets of ours, before a transport ends.
const MOST: usize = 200;
/// Transports of one who comes back.
const TRANSPORTS: usize = 5;
/// Streams that he opens at once.
const FEW: usize = 5;
/// Most resets on each but his first: a tenth of the allowance, what came back meanwhile, and what was under way.
const LATER: usize = 30;
/// Between two resets of the paced kind.
const PACE: Duration = Duration::from_millis(50);
/// How long the paced kind may go on.
const PACED: Duration = Duration::from_secs(10);
/// Streams opened at once to be reset by the server.
const BATCH: u32 = 50;

/// A transport of an attacker. One who has said that he is leaving keeps a conversation, so as not to be let go at once.
async fn transport(arena: &Arena, attacker: u16, leaving: bool) -> Wire {
    let mut wire = arena.greeted(attacker, &[]).await;
    if leaving {
        converse(&mut wire, &format!("leaving-{attacker}")).await;
        wire.send(&frames::goaway(0, 0)).await;
    }
    wire
}

/// HEADERS and RST_STREAM, over and over, in one write.
pub async fn burst(arena: &Arena, leaving: bool) -> Verdict {
    let mut wire = transport(arena, 1, leaving).await;
    let block = hpack::block(&stream_call());
    let pair = |stream: u32| [frames::headers(stream, flag::NONE, &block), frames::reset(stream, CANCEL)].concat();
    let burst: Vec<u8> = (0..BURST).flat_map(|_| pair(wire.stream())).collect();
    wire.send(&burst).await;
    wire.ended(Duration::from_secs(5)).await;
    let goaway = wire.seen(|seen| seen.goaway.clone());
    let streams = goaway.as_ref().map(|goaway| goaway.last.div_ceil(2) as usize);
    let named = goaway.is_some_and(|goaway| goaway.code == ENHANCE_YOUR_CALM);
    let pass = named && streams.is_some_and(|n| n <= MOST);
    let after = streams.map_or_else(String::new, |n| format!(", after {n} streams"));
    Verdict::new(pass, format!("{}{after}", wire.seen(Seen::end)))
}

/// Streams opened at a steady pace, each reset once the server has begun to answer: its work is done, and no count of
/// pending ones grows.
pub async fn paced(arena: &Arena) -> Verdict {
    let mut wire = transport(arena, 1, false).await;
    let (begun, block) = (Instant::now(), hpack::block(&stream_call()));
    let (mut ticks, mut open, mut resets) = (interval(PACE), HashSet::new(), 0);
    while begun.elapsed() < PACED && !wire.seen(Seen::ended) {
        ticks.tick().await;
        let stream = wire.stream();
        wire.send(&frames::headers(stream, flag::NONE, &block)).await;
        let answered: Vec<u32> =
            wire.seen(|seen| seen.heads.iter().map(|(of, _)| *of).filter(|of| open.remove(of)).collect());
        open.insert(stream);
        resets += answered.len();
        wire.send(&answered.iter().flat_map(|stream| frames::reset(*stream, CANCEL)).collect::<Vec<_>>()).await;
    }
    let ended = wire.ended(PACED.saturating_sub(begun.elapsed())).await;
    let (end, took) = (wire.seen(Seen::end), begun.elapsed().as_secs_f64());
    Verdict::new(ended, format!("{end} after {took:.1} s, {resets} resets"))
}

/// Answered streams are reset until the transport ends, and then on another, and another, from one address.
pub async fn reconnecting(arena: &Arena) -> Verdict {
    let block = hpack::block(&stream_call());
    let mut endured = Vec::new();
    for _ in 0..TRANSPORTS {
        let (mut wire, mut resets) = (transport(arena, 1, false).await, 0);
        while resets < MOST && !wire.seen(Seen::ended) {
            let streams: Vec<u32> = (0..FEW).map(|_| wire.stream()).collect();
            wire.send(&streams.iter().flat_map(|s| frames::headers(*s, flag::NONE, &block)).collect::<Vec<_>>()).await;
            let answered = |seen: &Seen| streams.iter().all(|s| seen.heads.iter().any(|(of, _)| of == s));
            wire.wait(Duration::from_secs(2), |seen| seen.ended() || answered(seen)).await;
            wire.send(&streams.iter().flat_map(|s| frames::reset(*s, CANCEL)).collect::<Vec<_>>()).await;
            resets += streams.len();
            wire.ended(Duration::from_millis(20)).await;
        }
        endured.push(if wire.ended(Duration::from_secs(1)).await { resets } else { usize::MAX });
    }
    let later = endured[1..].iter().copied().max().unwrap_or(0);
    let words = |resets: usize| if resets > MOST { "without end".to_owned() } else { resets.to_string() };
    let measured = format!("{} resets on the first, {} on a later one", words(endured[0]), words(later));
    Verdict::new(endured[0] <= MOST && later <= LATER, measured)
}

/// What makes a server reset a stream that it was asked to open.
type Trigger = fn(u32) -> Vec<u8>;

const TRIGGERS: [(&str, Trigger); 8] = [
    ("window overflow", |stream| [open(stream), frames::window_update(stream, 0x7fff_ffff)].concat()),
    ("increment 0", |stream| [open(stream), frames::window_update(stream, 0)].concat()),
    ("DATA after the end", |stream| [ended(stream), frames::data(stream, flag::NONE, b"late")].concat()),
    ("HEADERS after the end", |stream| [ended(stream), ended(stream)].concat()),
    ("PRIORITY of 6 bytes", |stream| {
        [open(stream), frames::frame(kind::PRIORITY, flag::NONE, stream, &[0; 6])].concat()
    }),
    ("dependency on itself", |stream| [open(stream), frames::priority(stream, stream)].concat()),
    ("content-length that lies", |stream| {
        let head = hpack::block(&with(&stream_call(), &[("content-length", "1")]));
        [frames::headers(stream, flag::NONE, &head), frames::data(stream, flag::END_STREAM, b"four")].concat()
    }),
    ("HEADERS twice", |stream| [open(stream), open(stream)].concat()),
];

fn open(stream: u32) -> Vec<u8> {
    frames::headers(stream, flag::NONE, &hpack::block(&stream_call()))
}

fn ended(stream: u32) -> Vec<u8> {
    frames::headers(stream, flag::END_STREAM, &hpack::block(&stream_call()))
}

/// Every trigger from an address of its own, in batches, for as long as the server goes along.
pub async fn made_you_reset(arena: &Arena, leaving: bool) -> Verdict {
    let streams = if arena.kind == Kind::Stock { 1000 } else { 5000 };
    let (mut most, mut alive) = (0, Vec::new());
    for (attacker, (name, trigger)) in (1..).zip(TRIGGERS) {
        let mut wire = transport(arena, attacker, leaving).await;
        for batch in 1..=streams / BATCH {
            let bytes: Vec<u8> = (0..BATCH).flat_map(|_| trigger(wire.stream())).collect();
            wire.send(&bytes).await;
            let reset = |seen: &Seen| seen.ended() || seen.count(kind::RST_STREAM) >= (batch * BATCH) as usize;
            // Not every trigger makes exactly one reset of each stream; what matters is that there is an end.
            wire.wait(Duration::from_secs(1), reset).await;
            if wire.seen(|seen| seen.ended()) {
                break;
            }
        }
        most = most.max(wire.seen(|seen| seen.count(kind::RST_STREAM)));
        if !wire.seen(|seen| seen.ended()) {
            alive.push(name);
        }
    }
    let all = if alive.is_empty() { "all closed".to_owned() } else { format!("not closed: {}", alive.join(", ")) };
    Verdict::new(alive.is_empty() && most <= MOST, format!("{all}; at most {most} own resets"))
}
