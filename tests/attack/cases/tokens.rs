//! Streams whose token runs out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bowline::proto::v1::{Authenticate, stream_data_request::Frame};
use serde_json::json;
use tokio::time::sleep;

use super::Verdict;
use crate::{
    arena::{Arena, SECRET},
    cases::{
        messages::{beat, hello, said},
        requests::{stream_call, with},
    },
    frames::{self, flag, kind},
    hpack,
    tokens::{Signer, claims, later},
    wire::{PATIENCE, Seen},
};

/// Seconds that the token is good for.
const GOOD: i64 = 5;
/// `auth.expiry_grace`, seconds.
const GRACE: f64 = 25.0;
/// How far the end may be from that.
const MARGIN: f64 = 2.0;
/// Between two looks at the streams; and of how many one is for those who talk.
const TURN: Duration = Duration::from_millis(100);
const TALKS: u64 = 10;
/// The code of UNAUTHENTICATED.
const UNAUTHENTICATED: &str = "16";

/// A stream that says nothing, one that never stops talking, and one that shows another token in time.
pub async fn outlive(arena: &Arena) -> Verdict {
    let exp = later(GOOD);
    let token = |name: &str, more| Signer::secret(SECRET).sign(&claims(name, more));
    let mut wire = arena.greeted(1, &[]).await;
    let mut streams = Vec::new();
    for name in ["silent", "busy", "renewed"] {
        let bearer = format!("Bearer {}", token(name, json!({"exp": exp})));
        let head = hpack::block(&with(&stream_call(), &[("authorization", &bearer)]));
        let stream = wire.stream();
        wire.send(&[frames::headers(stream, flag::NONE, &head), hello(stream, "")].concat()).await;
        streams.push(stream);
    }
    let [silent, busy, renewed] = streams[..] else { unreachable!("three were opened") };
    let next = Authenticate { token: token("renewed", json!({})) };
    wire.send(&said(renewed, Frame::Authenticate(next))).await;

    let (mut ends, mut turns) = ([None; 2], 0);
    while since(exp) < GRACE + 2.0 * MARGIN {
        for (end, stream) in ends.iter_mut().zip([silent, busy]) {
            if end.is_none() && wire.seen(|seen| seen.ended() || seen.stream_over(stream)) {
                *end = Some(since(exp));
            }
        }
        turns += 1;
        if turns % TALKS == 0 {
            if ends[1].is_none() {
                wire.send(&beat(busy, turns)).await;
            }
            wire.send(&beat(renewed, turns)).await;
        }
        sleep(TURN).await;
    }
    let before = wire.seen(|seen| seen.count(kind::DATA));
    wire.send(&beat(renewed, 0)).await;
    let lives = wire.wait(PATIENCE, |seen| seen.count(kind::DATA) > before).await && !wire.seen(Seen::ended);
    let told = [silent, busy].iter().all(|s| wire.seen(|seen| seen.field(*s, "grpc-status") == Some(UNAUTHENTICATED)));
    let in_time = ends.iter().all(|end| end.is_some_and(|end: f64| (end - GRACE).abs() <= MARGIN));
    let words = ends.map(|end| end.map_or_else(|| "never".to_owned(), |end| format!("{end:.1} s after")));
    let measured = format!(
        "silent {}, busy {}, {}; with another {}",
        words[0],
        words[1],
        if told { "told why" } else { "not told why" },
        if lives { "alive" } else { "dead" }
    );
    Verdict::new(in_time && told && lives, measured)
}

/// Seconds since a moment that tokens name.
fn since(moment: i64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_secs_f64() - moment as f64
}
