//! What may come of a case.

use std::time::Duration;

use super::steps::{code, opaque, option};
use crate::{
    frames::{Frame, code_name, flag, kind},
    wire::{Seen, Wire},
};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What came of a case.
pub struct Outcome {
    /// In words.
    pub came: String,
    pub right: bool,
    /// Right, and where an error was expected, by its very code.
    pub exact: bool,
}

impl Outcome {
    /// It did not even come to be judged.
    pub fn failed(came: String) -> Self {
        Self { came, right: false, exact: false }
    }
}

/// Waits for what has to come after `heard` frames.
pub async fn judge(wire: &mut Wire, expected: &str, heard: usize) -> Outcome {
    let words: Vec<&str> = expected.split_whitespace().collect();
    wire.wait(PATIENCE, |seen| decide(&words, &seen.frames[heard.min(seen.frames.len())..], seen.closed).is_some())
        .await;
    wire.seen(|seen| {
        let frames = &seen.frames[heard.min(seen.frames.len())..];
        let right = decide(&words, frames, seen.closed) == Some(true);
        let by_code = !matches!(words[0], "connection" | "stream") || frames.iter().any(|frame| error(&words, frame));
        Outcome { came: describe(seen, frames), right, exact: right && by_code }
    })
}

/// Whether it is right; `None` while that cannot be said.
fn decide(words: &[&str], frames: &[Frame], closed: bool) -> Option<bool> {
    let first = |kind: u8| frames.iter().find(|frame| frame.kind == kind);
    // An ended socket says all that there will be to say.
    let or_closed = |decided: Option<bool>| decided.or(closed.then_some(true));
    let not_closed = |decided: Option<bool>| decided.or(closed.then_some(false));
    let named = |at: usize, frame: &Frame| words[1..].iter().any(|name| code(name) == frame.number(at));
    let ping = || {
        let pong = first(kind::PING)?;
        Some(pong.is(kind::PING, flag::ACK) && pong.payload == opaque(words[1]))
    };
    match words[0] {
        "settings" => {
            not_closed(frames.first().map(|frame| frame.kind == kind::SETTINGS && !frame.is(kind::SETTINGS, flag::ACK)))
        }
        "ack" => not_closed(first(kind::SETTINGS).map(|frame| frame.is(kind::SETTINGS, flag::ACK))),
        "ping" => not_closed(ping()),
        "ping-or-closed" => or_closed(ping()),
        "headers" => not_closed(first(kind::HEADERS).map(|frame| words[1].parse() == Ok(frame.stream))),
        "data" => {
            let length = option(words, "len:").map(|length| length.parse::<usize>().expect("a length"));
            not_closed(first(kind::DATA).map(|frame| length.is_none_or(|length| frame.payload.len() == length)))
        }
        "closed" => closed.then_some(true),
        "goaway" => not_closed(first(kind::GOAWAY).map(|frame| named(4, frame))),
        "rst" => not_closed(first(kind::RST_STREAM).map(|frame| {
            words[1].parse() == Ok(frame.stream) && words[2..].iter().any(|name| code(name) == frame.number(0))
        })),
        // As h2spec judges: a socket that ends is an answer, whatever was said before.
        "connection" | "stream" => or_closed(frames.iter().any(|frame| error(words, frame)).then_some(true)),
        other => panic!("no such expectation: {other}"),
    }
}

/// Whether a frame is the error that was expected, by its very code.
fn error(words: &[&str], frame: &Frame) -> bool {
    let code_at = match frame.kind {
        kind::GOAWAY => 4,
        kind::RST_STREAM if words[0] == "stream" => 0,
        _ => return false,
    };
    words[1..].iter().any(|name| code(name) == frame.number(code_at))
}

fn describe(seen: &Seen, frames: &[Frame]) -> String {
    let names =
        ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE"];
    let name = |frame: &Frame| {
        let name = names.get(usize::from(frame.kind)).copied().unwrap_or("another frame");
        match frame.kind {
            kind::RST_STREAM => format!("{name} {}", code_name(frame.number(0))),
            kind::GOAWAY => format!("{name} {}", code_name(frame.number(4))),
            kind::DATA => format!("{name} of {}", frame.payload.len()),
            _ => name.to_owned(),
        }
    };
    let mut words: Vec<String> = frames.iter().take(6).map(name).collect();
    if seen.closed {
        words.push("the end of the socket".to_owned());
    }
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}
