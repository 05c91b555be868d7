//! How Centrifugo is talked to: its clients over gRPC, which only receive (`uni_grpc`), its publishers over HTTP.
//! Messages and paths are those of its documentation of both.

use std::{io, net::SocketAddr, str};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf, BufMut, Bytes};
use prost::Message;

use crate::{
    socket::Socket,
    talker::{Dialect, Numbers, Shape, content},
    wire::Wire,
};

/// The first and only message of a client.
#[derive(Clone, PartialEq, Message)]
struct ConnectRequest {
    /// What it subscribes to.
    #[prost(map = "string, message", tag = "3")]
    subs: std::collections::HashMap<String, SubscribeRequest>,
}

/// Nothing to recover.
#[derive(Clone, PartialEq, Message)]
struct SubscribeRequest {}

/// What the server sends: of one kind each; empty it is a ping.
#[derive(Clone, PartialEq, Message)]
struct Push {
    #[prost(message, optional, tag = "4")]
    publication: Option<Publication>,
    #[prost(message, optional, tag = "10")]
    connect: Option<Connected>,
    #[prost(message, optional, tag = "11")]
    disconnect: Option<Disconnected>,
}

#[derive(Clone, PartialEq, Message)]
struct Publication {
    #[prost(bytes = "bytes", tag = "4")]
    content: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Connected {
    #[prost(map = "string, message", tag = "4")]
    subs: std::collections::HashMap<String, SubscribeRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct Disconnected {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, tag = "2")]
    reason: String,
}

/// Calls on one connection, each a client with a subscription.
pub struct Consume {
    wire: Wire,
}

impl Consume {
    /// See `Stage::open`.
    pub async fn open(address: SocketAddr, topic: String, shape: Shape) -> io::Result<Self> {
        let mut wire = Wire::connect(address, shape).await?;
        for _ in 0..shape.receivers() {
            let call = wire.call("/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume");
            wire.queue(call, &ConnectRequest { subs: [(topic.clone(), SubscribeRequest {})].into() });
            wire.half_close(call);
        }
        for _ in 0..shape.receivers() {
            let (_, message) = wire.next().await?;
            let push = Push::decode(message).map_err(io::Error::other)?;
            if push.connect.as_ref().is_none_or(|connect| !connect.subs.contains_key(&topic)) {
                return Err(io::Error::other(format!("not subscribed: {push:?}")));
            }
        }
        Ok(Self { wire })
    }
}

impl Dialect for Consume {
    fn socket(&mut self) -> &mut Socket {
        &mut self.wire.socket
    }

    fn queue(&mut self, _: u64) {
        unreachable!("its clients send nothing");
    }

    fn take(&mut self, numbers: &mut Numbers) -> io::Result<bool> {
        let Some((call, message)) = self.wire.ready()? else { return Ok(false) };
        let push = Push::decode(message).map_err(io::Error::other)?;
        match push {
            Push { publication: Some(publication), .. } => numbers.take(call, &publication.content)?,
            Push { disconnect: Some(disconnect), .. } => return Err(io::Error::other(format!("{disconnect:?}"))),
            _ => {}
        }
        Ok(true)
    }
}

/// A back end: what it publishes at once goes in one request, which keeps it in order.
pub struct Api {
    socket: Socket,
    topic: String,
    /// Numbers of what waits to be sent, and what answers are still to come for: the last number of each.
    queued: Vec<u64>,
    asked: std::collections::VecDeque<u64>,
    answered: u64,
}

impl Api {
    /// See `Stage::open`.
    pub async fn open(address: SocketAddr, topic: String) -> io::Result<Self> {
        let socket = Socket::connect(address, Shape::ONE).await?;
        Ok(Self { socket, topic: topic.to_owned(), queued: Vec::new(), asked: [].into(), answered: 0 })
    }

    /// Puts what is queued into one request.
    fn ask(&mut self) {
        let Some(last) = self.queued.last() else { return };
        self.asked.push_back(*last);
        let commands: Vec<_> = self
            .queued
            .drain(..)
            .map(|number| {
                let content = STANDARD.encode(content(number));
                serde_json::json!({ "publish": { "channel": self.topic, "b64data": content } })
            })
            .collect();
        let body = serde_json::json!({ "commands": commands }).to_string();
        let head = format!("POST /api/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        self.socket.outbound.put_slice(head.as_bytes());
        self.socket.outbound.put_slice(body.as_bytes());
    }
}

impl Dialect for Api {
    /// Whoever asks for it is about to write.
    fn socket(&mut self) -> &mut Socket {
        self.ask();
        &mut self.socket
    }

    fn queue(&mut self, number: u64) {
        self.queued.push(number);
    }

    fn take(&mut self, numbers: &mut Numbers) -> io::Result<bool> {
        let inbound = &mut self.socket.inbound;
        let Some(end) = inbound.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
        let head = str::from_utf8(&inbound[..end]).map_err(io::Error::other)?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let length = length.ok_or_else(|| io::Error::other(format!("a strange answer: {head}")))?;
        if inbound.len() < end + 4 + length {
            return Ok(false);
        }
        inbound.advance(end + 4);
        let body = inbound.split_to(length);
        if !head.starts_with("http/1.1 200") || body.windows(7).any(|part| part == b"\"error\"") {
            return Err(io::Error::other(format!("refused: {head} {}", String::from_utf8_lossy(&body))));
        }
        let last = self.asked.pop_front().ok_or_else(|| io::Error::other("an answer to nothing"))?;
        while self.answered < last {
            self.answered += 1;
            numbers.take(0, &self.answered.to_le_bytes())?;
        }
        Ok(true)
    }
}
