//! Peers that hold on to as much memory as the settings let them.

use std::net::SocketAddr;

use bowline::proto::v1::{
    Earliest, NewEvent, OpenSession, PublishRequest, StartPosition, start_position::Position,
    stream_data_request::Frame, topic_service_client::TopicServiceClient,
};
use tokio::{
    task::JoinSet,
    time::{Duration, sleep},
};
use tonic::transport::Endpoint;

use super::Verdict;
use crate::{
    admin::Admin,
    arena::Arena,
    cases::{
        messages::{beat, conversation, hello, said},
        requests::call,
    },
    frames::{self, INITIAL_WINDOW_SIZE, flag, kind},
    hpack,
    wire::Wire,
};

/// Of the 500 that there may be; an honest client has one more.
const CONNECTIONS: u16 = 480;
/// Of the transports that there may be; the rest is for those who look on.
const TRANSPORTS: u16 = 780;
/// `connection.max_sessions`.
const SESSIONS: u32 = 16;
/// Answers that wait for a window that never opens: more than `connection.queue_size`.
const ANSWERS: u64 = 80;
/// Calls that are no conversations, `transport.max_unary_calls`.
const CALLS: u16 = 16;
/// Of a message, before the rest of it never comes: most of `transport.stream_window`.
const HALF: usize = 56 << 10;
/// Topics, those who fill them, and events and their bytes in each: together most of `topics.max_total_history`.
const TOPICS: u16 = 16;
const PUBLISHERS: u16 = 8;
const EVENTS: usize = 320;
const PAYLOAD: usize = 45_000;
/// Most of them has to be there in the end, bytes.
const HISTORY: f64 = 200.0 * (1 << 20) as f64;

/// Full histories; conversations with all their sessions, answers that nobody takes and half of a message; calls with half of
/// one; and transports with half of a frame.
pub async fn everything(arena: &Arena) -> Verdict {
    arena.weigh();
    fill(arena.server.address).await;
    let admin = Admin::of(&arena.server);
    let mut kept = Vec::new();
    for attacker in 1..=TRANSPORTS {
        let mut wire = arena.greeted(attacker, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        let bytes = match attacker {
            ..=CONNECTIONS => converse(&mut wire, attacker),
            _ if attacker <= CONNECTIONS + CALLS => half_a_call(&mut wire),
            _ => frames::headers(1, flag::NONE, &[0; 16_384])[..16_000].to_vec(),
        };
        wire.send(&bytes).await;
        kept.push(wire);
    }
    // What was sent last is still being read.
    sleep(Duration::from_secs(1)).await;
    let (connections, history) = (admin.metric("bowline_connections_active"), admin.metric("bowline_history_bytes"));
    let (peak, worst) = (arena.peak_kib() >> 10, arena.worst_kib.unwrap_or(0) >> 10);
    let measured = format!(
        "{connections} connections and {} MiB of histories take {peak} MiB of {worst} MiB at worst",
        history as u64 >> 20
    );
    Verdict::new(connections >= f64::from(CONNECTIONS) && history >= HISTORY && peak < worst, measured)
}

async fn fill(server: SocketAddr) {
    let channel = Endpoint::from_shared(format!("http://{server}")).unwrap().connect().await.unwrap();
    let mut filling = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let mut topics = TopicServiceClient::new(channel.clone());
        filling.spawn(async move {
            for number in 0..EVENTS * usize::from(TOPICS / PUBLISHERS) {
                let topic = format!("hoard.{}", usize::from(publisher) + number % 2 * usize::from(PUBLISHERS));
                let event = Some(NewEvent { payload: vec![7; PAYLOAD].into(), ..NewEvent::default() });
                topics.publish(PublishRequest { topic, event }).await.expect("there is room");
            }
        });
    }
    filling.join_all().await;
}

fn converse(wire: &mut Wire, attacker: u16) -> Vec<u8> {
    let stream = wire.stream();
    let mut bytes = [conversation(stream), hello(stream, &format!("hoarder-{attacker}"))].concat();
    for session in 1..=SESSIONS {
        let start = Some(StartPosition { position: Some(Position::Earliest(Earliest {})) });
        let (session_id, topic) = (format!("{session}"), format!("hoard.{}", session % u32::from(TOPICS)));
        let open = OpenSession { session, session_id, topic, start, ..OpenSession::default() };
        bytes.extend(said(stream, Frame::OpenSession(Box::new(open))));
    }
    bytes.extend((0..ANSWERS).flat_map(|nonce| beat(stream, nonce)));
    bytes.extend(half_a_message(stream));
    bytes
}

fn half_a_call(wire: &mut Wire) -> Vec<u8> {
    let stream = wire.stream();
    let head = hpack::block(&call("/bowline.v1.TopicService/Publish"));
    [frames::headers(stream, flag::NONE, &head), half_a_message(stream)].concat()
}

/// As large as it may be, and never all of it.
fn half_a_message(stream: u32) -> Vec<u8> {
    let message = frames::message(&[0x0a; 60 << 10]);
    message[..HALF].chunks(16_384).flat_map(|piece| frames::frame(kind::DATA, flag::NONE, stream, piece)).collect()
}
