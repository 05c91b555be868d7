//! Peers that hold no conversation: only what anybody may ask, who the server is and how it is.

use std::time::Duration;

use tokio::time::Instant;

use super::Verdict;
use crate::{
    arena::Arena,
    cases::requests::call,
    frames::{self, INITIAL_WINDOW_SIZE, flag},
    hpack,
    wire::{Seen, Wire},
};

/// `transport.write_timeout`, and what a busy machine adds.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15 + 5);
/// What they may cost, KiB.
const MOST_KIB: u64 = 8 << 10;
/// Transports of each kind.
const PEERS: u16 = 20;

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// `list_services` of a reflection request.
const LIST_SERVICES: &[u8] = &[0x3a, 1, b'*'];
/// Streams of each transport: as many watches as one may have, and one more.
const STREAMS: [&str; 8] = [
    WATCH,
    WATCH,
    WATCH,
    WATCH,
    WATCH,
    REFLECTION,
    REFLECTION,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Half of the peers ask and have no window for the answer; the others never ask to the end.
pub async fn unheard(arena: &Arena) -> Verdict {
    let (mut deaf, mut slow) = (Vec::new(), Vec::new());
    for attacker in 0..PEERS {
        deaf.push(arena.greeted(1 + attacker, &[(INITIAL_WINDOW_SIZE, 0)]).await);
        slow.push(arena.greeted(101 + attacker, &[]).await);
    }
    let (before, begun) = (arena.weigh(), Instant::now());
    for wire in &mut deaf {
        ask(wire, |path| frames::message(if path == WATCH { &[] } else { LIST_SERVICES }), true).await;
    }
    for wire in &mut slow {
        ask(wire, |_| vec![0, 0, 0, 0, 100, 1, 2, 3], false).await;
    }
    let mut held = 0;
    for wire in deaf.iter_mut().chain(&mut slow) {
        let left = WRITE_TIMEOUT.saturating_sub(begun.elapsed());
        wire.wait(left, |seen| seen.ended() || open(seen) == 0).await;
        // The transport is the peer's as before: it has done nothing worse than to be slow.
        held += wire.seen(|seen| if seen.ended() { STREAMS.len() } else { open(seen) });
    }
    let (took, growth) = (begun.elapsed().as_secs_f64(), arena.peak_kib().saturating_sub(before));
    let all = usize::from(PEERS) * 2 * STREAMS.len();
    let measured = format!("{held} of {all} streams held after {took:.1} s; RSS +{growth} KiB");
    Verdict::new(held == 0 && growth <= MOST_KIB, measured)
}

/// Asks on every stream of a transport that has not asked yet.
async fn ask(wire: &mut Wire, question: fn(&str) -> Vec<u8>, to_the_end: bool) {
    let mut bytes = Vec::new();
    for path in STREAMS {
        let stream = wire.stream();
        bytes.extend(frames::headers(stream, flag::NONE, &hpack::block(&call(path))));
        // Reflection is a conversation of a kind: its client goes on asking.
        let flags = if to_the_end && path == WATCH { flag::END_STREAM } else { flag::NONE };
        bytes.extend(frames::data(stream, flags, &question(path)));
    }
    wire.send(&bytes).await;
}

/// Streams that the server has not ended.
fn open(seen: &Seen) -> usize {
    let streams = (0..STREAMS.len()).map(|number| 2 * u32::try_from(number).expect("few") + 1);
    streams.filter(|stream| !seen.stream_over(*stream)).count()
}
