//! Requests: how they are made up here, and those that are too large, too many, or not gRPC.

use std::time::Duration;

use super::Verdict;
use crate::{
    arena::{Arena, Kind},
    frames::{self, INITIAL_WINDOW_SIZE, PREFACE, code_name, flag, kind},
    hpack,
    wire::{PATIENCE, Seen, Wire},
};

type Fields<'a> = Vec<(&'a str, &'a str)>;

/// How a refusal of a header list is said.
const TOO_LARGE: &str = "431";
/// `transport.max_header_list`.
const LIST: usize = 8 << 10;
/// `transport.max_header_fields`, which counts no pseudo-headers.
const FIELDS: usize = 64;
/// The first entry of the table that both sides keep, in one byte.
const REMEMBERED: u8 = 0x80 | 62;
/// What a bomb may cost.
const MOST_KIB: u64 = 8 << 10;

/// A call of this method, without its body.
pub fn call(path: &str) -> Fields<'_> {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
}

/// A conversation.
pub fn stream_call() -> Fields<'static> {
    call("/bowline.v1.StreamService/StreamData")
}

/// A question that is answered at once.
pub fn check_call() -> Fields<'static> {
    call("/grpc.health.v1.Health/Check")
}

/// A list of fields, and more.
pub fn with<'a>(fields: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Fields<'a> {
    [fields, more].concat()
}

/// Asks, and waits for the head of the answer, or for the end of the stream.
async fn ask(wire: &mut Wire, block: &[u8]) -> u32 {
    let stream = wire.stream();
    wire.send(&frames::headers(stream, flag::END_STREAM, block)).await;
    wire.wait(PATIENCE, |seen| seen.ended() || seen.stream_over(stream)).await;
    stream
}

/// Fields that are one byte each on the wire and much more in memory, on as many streams as there can be, none of which
/// can be answered for want of a window.
pub async fn bomb(arena: &Arena) -> Verdict {
    let limit = if arena.kind == Kind::Stock { Duration::from_secs(5) } else { Duration::from_secs(30) };
    let (mut huge, mut fitting) = (closed_window(arena, 1).await, closed_window(arena, 2).await);
    let before = arena.weigh();
    light(&mut huge, 2000, 400).await;
    // What such a peer does next: keep below every limit.
    light(&mut fitting, 128, 56).await;
    let ended = huge.ended(limit).await;
    let held = |seen: &Seen| seen.ended() || (0..128).all(|n| seen.stream_over(2 * n + 1));
    let let_go = fitting.wait(limit, held).await;
    let growth = arena.peak_kib().saturating_sub(before);
    let measured = format!(
        "RSS +{growth} KiB; {}; streams within the limits {}",
        huge.seen(Seen::end),
        if let_go { "ended" } else { "held" }
    );
    Verdict::new(ended && let_go && growth <= MOST_KIB, measured)
}

async fn closed_window(arena: &Arena, attacker: u16) -> Wire {
    arena.greeted(attacker, &[(INITIAL_WINDOW_SIZE, 0)]).await
}

/// Opens streams whose heads refer so many times to the one field that both sides remember.
async fn light(wire: &mut Wire, streams: usize, references: usize) {
    let call = hpack::block(&stream_call());
    let mut first = call.clone();
    hpack::encode_remembered("a", "b", &mut first);
    let mut bytes = Vec::new();
    for number in 0..streams {
        let head = if number == 0 { &first } else { &call };
        let block = [&head[..], &vec![REMEMBERED; references]].concat();
        bytes.extend(frames::headers(wire.stream(), flag::NONE, &block));
    }
    wire.send(&bytes).await;
}

/// Lists just below and just above what is allowed; after each, one that is fine.
pub async fn limits(arena: &Arena) -> Verdict {
    let mut wire = arena.greeted(1, &[]).await;
    let fill = LIST - hpack::weight(&with(&check_call(), &[("x-fill", "")]));
    let (below, above) = ("x".repeat(fill - 1), "x".repeat(fill + 1));
    let many = |count: usize| with(&check_call(), &vec![("x", ""); count - 2]);
    let lists = [
        ("8 KiB - 1", with(&check_call(), &[("x-fill", &below)]), false),
        ("8 KiB + 1", with(&check_call(), &[("x-fill", &above)]), true),
        ("64 fields", many(FIELDS), false),
        ("65 fields", many(FIELDS + 1), true),
    ];
    let mut wrong = Vec::new();
    for (name, list, refused) in lists {
        let stream = ask(&mut wire, &hpack::block(&list)).await;
        if wire.seen(|seen| seen.field(stream, ":status") == Some(TOO_LARGE)) != refused {
            wrong.push(format!("{name} {}", if refused { "accepted" } else { "refused" }));
        }
        let next = ask(&mut wire, &hpack::block(&check_call())).await;
        if wire.seen(|seen| seen.field(next, ":status") != Some("200")) {
            wrong.push(format!("after {name} the next is not answered"));
        }
    }
    // What a refused list says has to be remembered all the same.
    let mut block = hpack::block(&lists_with(&above));
    hpack::encode_remembered("x-kept", "yes", &mut block);
    ask(&mut wire, &block).await;
    let refers = ask(&mut wire, &[&hpack::block(&check_call())[..], &[REMEMBERED]].concat()).await;
    if wire.seen(|seen| seen.field(refers, ":status") != Some("200")) {
        wrong.push(format!("a refused list was forgotten: {}", wire.seen(Seen::end)));
    }
    Verdict::new(wrong.is_empty(), if wrong.is_empty() { "all as said".to_owned() } else { wrong.join("; ") })
}

fn lists_with(fill: &str) -> Fields<'_> {
    with(&check_call(), &[("x-fill", fill)])
}

/// What has to come of a request.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// An HTTP status.
    Http(&'static str),
    /// UNIMPLEMENTED, an HTTP refusal or a reset: but not the method.
    NoMethod,
    /// The method.
    Method,
}

const CHECK: &str = "/grpc.health.v1.Health/Check";
const GRPC: &str = "application/grpc";

/// Method, path, content type, answer.
const TRICKS: [(&str, &str, &str, Answer); 24] = [
    ("POST", CHECK, GRPC, Answer::Method),
    ("POST", CHECK, "application/grpc+proto", Answer::Method),
    ("POST", CHECK, "application/grpc;charset=utf-8", Answer::Method),
    ("POST", CHECK, "text/plain", Answer::Http("415")),
    ("POST", CHECK, "application/json", Answer::Http("415")),
    ("POST", CHECK, "application/x-www-form-urlencoded", Answer::Http("415")),
    ("POST", CHECK, "application/grpc-web", Answer::Http("415")),
    ("POST", CHECK, "application/grpcfoo", Answer::Http("415")),
    ("POST", CHECK, "application/", Answer::Http("415")),
    ("POST", CHECK, "", Answer::Http("415")),
    ("POST", "/bowline.v1.StreamService/StreamData", "text/plain", Answer::Http("415")),
    ("GET", CHECK, GRPC, Answer::Http("405")),
    ("PUT", CHECK, GRPC, Answer::Http("405")),
    ("DELETE", CHECK, GRPC, Answer::Http("405")),
    ("OPTIONS", CHECK, GRPC, Answer::Http("405")),
    ("TRACE", CHECK, GRPC, Answer::Http("405")),
    ("POST", "/grpc.health.v1.Health/Check?x=1", GRPC, Answer::NoMethod),
    ("POST", "/grpc.health.v1.Health/Check/", GRPC, Answer::NoMethod),
    ("POST", "//grpc.health.v1.Health/Check", GRPC, Answer::NoMethod),
    ("POST", "/./grpc.health.v1.Health/Check", GRPC, Answer::NoMethod),
    ("POST", "/grpc.health.v1.Health/check", GRPC, Answer::NoMethod),
    ("POST", "/grpc.health.v1.Health/Check%20", GRPC, Answer::NoMethod),
    ("POST", "/grpc.health.v1.Health%2FCheck", GRPC, Answer::NoMethod),
    ("POST", "grpc.health.v1.Health/Check", GRPC, Answer::NoMethod),
];

/// Each on one transport, which has to outlive them.
pub async fn tricks(arena: &Arena) -> Verdict {
    let mut wire = arena.greeted(1, &[]).await;
    let mut wrong = Vec::new();
    for (method, path, content, answer) in TRICKS {
        let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")];
        let content = [("content-type", content), ("te", "trailers")];
        let block = hpack::block(&with(&fields, &content[usize::from(content[0].1.is_empty())..]));
        let stream = ask(&mut wire, &block).await;
        let (http, grpc) = wire.seen(|seen| {
            let field = |name| seen.field(stream, name).map(str::to_owned);
            (field(":status"), field("grpc-status"))
        });
        let unimplemented = grpc.as_deref() == Some("12");
        let right = match answer {
            Answer::Http(status) => http.as_deref() == Some(status),
            Answer::NoMethod => unimplemented || http.as_deref() != Some("200"),
            Answer::Method => http.as_deref() == Some("200") && grpc.is_some() && !unimplemented,
        };
        if !right {
            let http = http.unwrap_or_else(|| "reset".to_owned());
            wrong.push(format!("{method} {path} as {:?}: {http}", content[0].1));
        }
    }
    let alive = !wire.seen(Seen::ended);
    let all = format!("{} of {} as said", TRICKS.len() - wrong.len(), TRICKS.len());
    let first = wrong.first().map_or_else(String::new, |first| format!("; {first}"));
    Verdict::new(wrong.is_empty() && alive, format!("{all}{first}"))
}

/// Those who have not understood that this port speaks TLS.
pub async fn without_tls(arena: &Arena) -> Verdict {
    let plain = [PREFACE, &frames::settings(&[])].concat();
    let sayings: [(&str, &[u8]); 3] = [
        ("HTTP/2", &plain),
        ("HTTP/1", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        ("PRI twice", &[PREFACE, PREFACE].concat()),
    ];
    let mut wrong = Vec::new();
    for (attacker, (name, saying)) in (1..).zip(sayings) {
        let mut wire = arena.dial(attacker).await;
        wire.send(saying).await;
        let closed = wire.closed(Duration::from_secs(7)).await;
        let heard = wire.seen(|seen| seen.frames.len());
        if !closed || heard > 0 {
            wrong.push(format!("{name}: {}, {heard} frames", wire.seen(Seen::end)));
        }
    }
    Verdict::new(wrong.is_empty(), if wrong.is_empty() { "closed".to_owned() } else { wrong.join("; ") })
}

/// A reset's code, in words; for what a stream was told.
pub fn reset_of(seen: &Seen, stream: u32) -> Option<String> {
    let reset = seen.frames.iter().find(|frame| frame.kind == kind::RST_STREAM && frame.stream == stream)?;
    Some(code_name(reset.number(0)))
}
