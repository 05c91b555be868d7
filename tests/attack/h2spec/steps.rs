//! What a case does, step by step.

use std::time::Duration;

use crate::{
    cases::requests::check_call,
    frames::{self, CODES, flag, kind},
    hpack,
    wire::Wire,
};

/// How long the server may take over what a step waits for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Takes one step. `heard` is how many frames have been dealt with; steps that wait move it on.
pub async fn take(wire: &mut Wire, step: &str, heard: &mut usize) -> Result<(), String> {
    let words: Vec<&str> = step.split_whitespace().collect();
    let (verb, rest) = words.split_first().expect("a verb");
    match *verb {
        "await-ack" => await_frame(wire, heard, |frame| frame.is(kind::SETTINGS, flag::ACK)).await,
        "await-data" => await_frame(wire, heard, |frame| frame.kind == kind::DATA).await,
        "await-end" => {
            await_frame(wire, heard, |frame| {
                matches!(frame.kind, kind::DATA | kind::HEADERS) && frame.is(frame.kind, flag::END_STREAM)
            })
            .await
        }
        _ => {
            // Whether it arrives is for the judge: a server that has had enough may have gone.
            wire.send(&bytes(verb, rest)).await;
            Ok(())
        }
    }
}

async fn await_frame(wire: &mut Wire, heard: &mut usize, is: impl Fn(&frames::Frame) -> bool) -> Result<(), String> {
    let from = *heard;
    let found = |seen: &crate::wire::Seen| seen.frames.iter().skip(from).position(&is);
    if !wire.wait(PATIENCE, |seen| found(seen).is_some() || seen.closed).await {
        return Err("nothing came".to_owned());
    }
    match wire.seen(found) {
        Some(at) => *heard += at + 1,
        None => return Err("the socket ended".to_owned()),
    }
    Ok(())
}

/// What a step puts on the wire.
fn bytes(verb: &str, words: &[&str]) -> Vec<u8> {
    let number = |at: usize| words[at].parse::<u32>().expect("a number");
    let has = |word: &str| words.contains(&word);
    match verb {
        "preface" => frames::PREFACE.to_vec(),
        "words" => format!("{}\r\n\r\n", words.join(" ")).into_bytes(),
        "raw" => unhex(words[0]),
        "settings" => frames::settings(&words.iter().map(|word| setting(word)).collect::<Vec<_>>()),
        "ping" => frames::frame(kind::PING, u8::from(has("ack")), 0, &opaque(words[0])),
        "goaway" => frames::goaway(0, code(words[0])),
        "window" => frames::window_update(number(0), number(1)),
        "rst" => frames::reset(number(0), code(words[1])),
        "priority" => {
            let weight = option(words, "weight:").map_or(255, |weight| weight.parse().expect("a weight"));
            let payload = [&number(1).to_be_bytes()[..], &[weight]].concat();
            frames::frame(kind::PRIORITY, flag::NONE, number(0), &payload)
        }
        "data" => data(number(0), &words[1..]),
        "headers" => headers(number(0), &words[1..]),
        "more" => {
            let flags = if has("last") { flag::END_HEADERS } else { flag::NONE };
            frames::frame(kind::CONTINUATION, flags, number(0), &block(&words[1..], has("base")))
        }
        "call" => [headers(number(0), &[]), frames::data(number(0), flag::END_STREAM, &frames::message(&[]))].concat(),
        "many" => (0..number(0)).flat_map(|n| headers(2 * n + 1, &[])).collect(),
        "promise" => {
            let payload = [&3_u32.to_be_bytes()[..], &block(&[], true)].concat();
            frames::frame(kind::PUSH_PROMISE, flag::END_HEADERS, number(0), &payload)
        }
        other => panic!("no such step: {other}"),
    }
}

fn data(stream: u32, words: &[&str]) -> Vec<u8> {
    let mut flags = u8::from(words.contains(&"end"));
    let size = option(words, "size:").map(|size| vec![b'x'; size.parse().expect("a size")]);
    let mut payload = size.unwrap_or_else(|| option(words, "text:").unwrap_or("").as_bytes().to_vec());
    if let Some(pad) = option(words, "pad:") {
        flags |= flag::PADDED;
        payload = padded(payload, pad);
    }
    frames::data(stream, flags, &payload)
}

fn headers(stream: u32, words: &[&str]) -> Vec<u8> {
    let has = |word: &str| words.contains(&word);
    let mut flags = u8::from(has("end"));
    if !has("part") {
        flags |= flag::END_HEADERS;
    }
    let mut payload = block(words, !has("bare"));
    if let Some(on) = option(words, "depends:") {
        flags |= flag::PRIORITY;
        let on: u32 = on.parse().expect("a stream");
        payload = [&on.to_be_bytes()[..], &[255], &payload].concat();
    }
    if let Some(pad) = option(words, "pad:") {
        flags |= flag::PADDED;
        payload = padded(payload, pad);
    }
    if has("pad-lies") {
        flags |= flag::PADDED;
        payload.insert(0, u8::try_from(payload.len() + 2).expect("a small block"));
    }
    frames::frame(kind::HEADERS, flags, stream, &payload)
}

/// A header block: the usual request, or nothing, changed as the words say, in their order.
fn block(words: &[&str], base: bool) -> Vec<u8> {
    let mut fields: Vec<(String, String)> = Vec::new();
    if base {
        fields.extend(check_call().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for word in words {
        let Some((verb, what)) = word.split_once(':') else { continue };
        let (name, value) = what.rsplit_once('=').unwrap_or((what, ""));
        let field = (name.to_owned(), value.to_owned());
        match verb {
            "add" => fields.push(field),
            "first" => fields.insert(0, field),
            "set" => {
                fields.iter_mut().filter(|(known, _)| *known == name).for_each(|known| known.1.clone_from(&field.1))
            }
            "drop" => fields.retain(|(known, _)| *known != what),
            "fill" => fields.push((field.0, "x".repeat(value.parse().expect("a size")))),
            "hex" => after = unhex(what),
            "before" => before = unhex(what),
            _ => {}
        }
    }
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let block = [before, hpack::block(&fields), after].concat();
    match option(words, "cut:").and_then(|cut| cut.split_once("..")) {
        Some((from, to)) => block[from.parse().expect("a place")..to.parse().unwrap_or(block.len())].to_vec(),
        None => block,
    }
}

fn padded(payload: Vec<u8>, pad: &str) -> Vec<u8> {
    let pad: u8 = pad.parse().expect("a length");
    [vec![pad], payload, vec![0; usize::from(pad)]].concat()
}

/// What follows a prefix, in the word that has it.
pub fn option<'a>(words: &[&'a str], prefix: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(prefix))
}

fn setting(word: &str) -> (u16, u32) {
    let (id, value) = word.split_once('=').expect("a setting");
    (id.parse().expect("an identifier"), value.parse().expect("a value"))
}

/// An error code by its name, or as a number.
pub fn code(name: &str) -> u32 {
    let known = CODES.iter().position(|code| *code == name).map(|at| u32::try_from(at).unwrap());
    known.unwrap_or_else(|| name.parse().expect("an error code"))
}

/// What a PING carries.
pub fn opaque(word: &str) -> [u8; 8] {
    let mut bytes = [0; 8];
    if word != "zero" {
        bytes[..word.len()].copy_from_slice(word.as_bytes());
    }
    bytes
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect()
}
