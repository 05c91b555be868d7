//! Messages that are more than they seem, and many small ones that are no attack.

use std::time::Duration;

use bowline::proto::v1::{Flow, Heartbeat, Hello, OpenSession, StreamDataRequest, stream_data_request::Frame};
use prost::Message as _;
use tokio::time::sleep;

use super::Verdict;
use crate::{
    arena::Arena,
    cases::requests::{call, reset_of, stream_call, with},
    frames::{self, flag, kind},
    hpack, signals,
    wire::{PATIENCE, Seen, Wire},
};

/// Most that a message may cost beyond what it is.
const MOST_KIB: u64 = 2 << 10;
/// How long the server is held.
const HELD: Duration = Duration::from_secs(5);
/// Acknowledgements in that time.
const ACKS: u64 = 2000;

/// A frame of a conversation.
pub fn said(stream: u32, frame: Frame) -> Vec<u8> {
    let request = StreamDataRequest { request_id: 0, frame: Some(frame) };
    frames::data(stream, flag::NONE, &frames::message(&request.encode_to_vec()))
}

/// The first frame of a conversation.
pub fn hello(stream: u32, name: &str) -> Vec<u8> {
    said(stream, Frame::Hello(Hello { client_id: name.to_owned(), ..Hello::default() }))
}

/// One that is answered at once.
pub fn beat(stream: u32, nonce: u64) -> Vec<u8> {
    said(stream, Frame::Heartbeat(Heartbeat { nonce, reply_requested: true, ..Heartbeat::default() }))
}

/// A session on a topic, from its beginning.
pub fn open(stream: u32, topic: &str) -> Vec<u8> {
    use bowline::proto::v1::{Earliest, StartPosition, start_position::Position};
    let start = Some(StartPosition { position: Some(Position::Earliest(Earliest {})) });
    let open = OpenSession { session: 1, topic: topic.to_owned(), start, ..OpenSession::default() };
    said(stream, Frame::OpenSession(Box::new(open)))
}

/// The head of a conversation.
pub fn conversation(stream: u32) -> Vec<u8> {
    frames::headers(stream, flag::NONE, &hpack::block(&stream_call()))
}

/// Opens a conversation and waits for its Welcome.
pub async fn converse(wire: &mut Wire, name: &str) -> u32 {
    let stream = wire.stream();
    wire.send(&[conversation(stream), hello(stream, name)].concat()).await;
    let welcomed = |seen: &Seen| seen.ended() || seen.frames.iter().any(|f| f.kind == kind::DATA && f.stream == stream);
    wire.wait(PATIENCE, welcomed).await;
    stream
}

/// A way to make a server hold more than it is sent.
struct Bomb {
    name: &'static str,
    /// Conversations that it is thrown on.
    streams: u32,
    /// Its own bytes, KiB.
    kib: usize,
}

const BOMBS: [Bomb; 5] = [
    Bomb { name: "length lies", streams: 100, kib: 0 },
    Bomb { name: "nesting", streams: 1, kib: 20 },
    Bomb { name: "gzip", streams: 1, kib: 0 },
    Bomb { name: "empty strings", streams: 1, kib: 1024 },
    Bomb { name: "empty events", streams: 1, kib: 1024 },
];

/// Each from an address of its own. The bytes of a message may be there twice, as they came and put together.
pub async fn bombs(arena: &Arena) -> Verdict {
    let (mut measured, mut pass) = (Vec::new(), true);
    for (attacker, bomb) in (1..).zip(BOMBS) {
        let mut wire = arena.greeted(attacker, &[]).await;
        let mut stream = 0;
        for number in 0..bomb.streams {
            stream = converse(&mut wire, &format!("bomber-{attacker}-{number}")).await;
        }
        let before = arena.weigh();
        let answered = match bomb.name {
            "length lies" => lie(&mut wire, stream).await,
            "nesting" => throw(&mut wire, stream, &[0xa3, 0x06].repeat(bomb.kib << 9)).await,
            "gzip" => gzip(&mut wire).await,
            "empty strings" => throw(&mut wire, stream, &crowd(bomb.kib << 10)).await,
            _ => batch(&mut wire, bomb.kib << 10).await,
        };
        let growth = arena.peak_kib().saturating_sub(before);
        pass &= answered && growth <= MOST_KIB + 2 * bomb.kib as u64;
        measured.push(format!("{} +{growth} KiB{}", bomb.name, if answered { "" } else { ", no answer" }));
    }
    Verdict::new(pass, measured.join(", "))
}

/// Promises 4 MiB on every stream up to this one, and sends nothing of it.
async fn lie(wire: &mut Wire, last: u32) -> bool {
    let promise = |stream| frames::data(stream, flag::NONE, &[0, 0, 0x40, 0, 0]);
    wire.send(&(1..=last).step_by(2).flat_map(promise).collect::<Vec<_>>()).await;
    sleep(Duration::from_secs(1)).await;
    // Nobody is to be answered before the rest has come; and the transport lives.
    !wire.seen(Seen::ended)
}

/// Sends a message that no client of ours would, and waits for the end of its stream: a status, not a torn transport.
async fn throw(wire: &mut Wire, stream: u32, message: &[u8]) -> bool {
    wire.send_message(stream, &frames::message(message)).await;
    wire.wait(PATIENCE, |seen| seen.ended() || seen.stream_over(stream)).await;
    wire.seen(|seen| !seen.ended() && seen.field(stream, "grpc-status").is_some())
}

/// Compressed, as it says: refused for that, whatever it would be when it is inflated.
async fn gzip(wire: &mut Wire) -> bool {
    let stream = wire.stream();
    let head = hpack::block(&with(&stream_call(), &[("grpc-encoding", "gzip")]));
    let body = [&[1, 0, 0, 0, 10][..], &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]].concat();
    let bytes = [frames::headers(stream, flag::NONE, &head), frames::data(stream, flag::NONE, &body)].concat();
    wire.send(&bytes).await;
    wire.wait(PATIENCE, |seen| seen.ended() || seen.stream_over(stream)).await;
    wire.seen(|seen| seen.field(stream, "grpc-status") == Some("12") || reset_of(seen, stream).is_some())
}

/// A Hello with so many bytes of features without a name: two bytes each on the wire, many in memory.
fn crowd(bytes: usize) -> Vec<u8> {
    let features = [0x1a, 0].repeat(bytes / 2);
    let mut message = vec![0x12];
    prost::encoding::encode_varint(features.len() as u64, &mut message);
    [message, features].concat()
}

/// A batch of events without anything, in a call that has no conversation.
async fn batch(wire: &mut Wire, bytes: usize) -> bool {
    let stream = wire.stream();
    let head = hpack::block(&call("/bowline.v1.TopicService/PublishBatch"));
    wire.send(&frames::headers(stream, flag::NONE, &head)).await;
    let message = [&b"\x0a\x06prices"[..], &[0x12, 0].repeat(bytes / 2)].concat();
    wire.send_message(stream, &frames::message(&message)).await;
    wire.send(&frames::data(stream, flag::END_STREAM, &[])).await;
    wire.wait(PATIENCE, |seen| seen.ended() || seen.stream_over(stream)).await;
    wire.seen(|seen| seen.field(stream, "grpc-status").is_some_and(|status| status != "0"))
}

/// A client that has done nothing wrong, and a server that could not listen for a while.
pub async fn honest_acks(arena: &Arena) -> Verdict {
    let mut wire = arena.greeted(1, &[]).await;
    let stream = converse(&mut wire, "honest").await;
    wire.send(&open(stream, "room")).await;
    signal(arena, "-STOP");
    let ack = |acked| said(stream, Frame::Flow(Flow { session: 1, acked: Some(acked), ..Flow::default() }));
    wire.send(&(0..ACKS).flat_map(ack).collect::<Vec<_>>()).await;
    sleep(HELD).await;
    signal(arena, "-CONT");
    let before = wire.seen(|seen| seen.count(kind::DATA));
    wire.send(&beat(stream, 1)).await;
    wire.wait(PATIENCE, |seen| seen.ended() || seen.count(kind::DATA) > before).await;
    let pass = wire.seen(|seen| !seen.ended() && !seen.stream_over(stream) && seen.count(kind::DATA) > before);
    Verdict::new(pass, format!("{}, {}", wire.seen(Seen::end), if pass { "and answered" } else { "not answered" }))
}

fn signal(arena: &Arena, name: &str) {
    signals::send(arena.server.child.id(), name);
}
