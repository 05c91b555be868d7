//! A client of either server: sends numbered messages, and says which numbers came back, checking order on the way.

use std::{io, net::SocketAddr};

use bowline::proto::v1;
use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::{peer::Blob, wire::Wire};

/// Bytes of a message's content; its number stands in the first eight.
pub const PAYLOAD: usize = 64;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `bowline serve`.
    Bowline,
    /// The bare tonic service of `peer.rs`.
    Peer,
}

/// What a talker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Gets back what it sends.
    Echo,
    /// Gets an acknowledgement for what it sends.
    Publisher,
    /// Gets what a publisher of the topic sends.
    Subscriber,
}

/// One client on one connection, with one session.
pub struct Talker {
    wire: Wire,
    side: Side,
    role: Role,
    sent: u64,
    /// Bowline: the session's cursor.
    cursor: u64,
    /// The newest number that came.
    seen: u64,
}

impl Talker {
    /// Connects, and waits until the server is ready for it.
    pub async fn open(side: Side, address: SocketAddr, role: Role, topic: &str) -> io::Result<Self> {
        let path = match (side, role) {
            (Side::Bowline, _) => "/bowline.v1.StreamService/StreamData",
            (Side::Peer, Role::Echo) => "/peer.Peer/Echo",
            (Side::Peer, Role::Publisher) => "/peer.Peer/Publish",
            (Side::Peer, Role::Subscriber) => "/peer.Peer/Subscribe",
        };
        let wire = Wire::call(address, path, &[]).await?;
        let mut talker = Self { wire, side, role, sent: 0, cursor: 0, seen: 0 };
        match side {
            Side::Bowline => talker.open_session(topic).await?,
            // An empty message says that it has been subscribed.
            Side::Peer if role == Role::Subscriber => drop(talker.wire.next().await?),
            Side::Peer => {}
        }
        Ok(talker)
    }

    async fn open_session(&mut self, topic: &str) -> io::Result<()> {
        self.request(0, v1::stream_data_request::Frame::Hello(v1::Hello::default()));
        let mode = match self.role {
            Role::Echo => v1::SessionMode::Unspecified,
            Role::Publisher => v1::SessionMode::PublishOnly,
            Role::Subscriber => v1::SessionMode::ReadOnly,
        };
        let open = v1::OpenSession {
            session: 1,
            session_id: "bench".into(),
            topic: topic.into(),
            mode: mode.into(),
            ..Default::default()
        };
        self.request(0, v1::stream_data_request::Frame::OpenSession(Box::new(open)));
        loop {
            match self.response().await? {
                v1::stream_data_response::Frame::SessionOpened(opened) => {
                    self.cursor = opened.start.map_or(0, |start| start.offset);
                    return Ok(());
                }
                v1::stream_data_response::Frame::SessionClosed(closed) => {
                    return Err(io::Error::other(format!("{topic}: {closed:?}")));
                }
                _ => {}
            }
        }
    }

    /// Queues the next number.
    pub fn send(&mut self) {
        self.sent += 1;
        let mut payload = BytesMut::zeroed(PAYLOAD);
        payload[..8].copy_from_slice(&self.sent.to_le_bytes());
        let payload = payload.freeze();
        match self.side {
            Side::Peer => self.wire.queue(&Blob { data: payload }),
            Side::Bowline => {
                let event = v1::NewEvent { payload, ..Default::default() };
                let publish = v1::Publish { session: 1, seq: self.sent, event: Some(event) };
                let request_id = if self.role == Role::Publisher { self.sent } else { 0 };
                self.request(request_id, v1::stream_data_request::Frame::Publish(publish));
            }
        }
    }

    /// Writes what is queued, and waits until something has come: how many numbers.
    pub async fn receive(&mut self) -> io::Result<u64> {
        let before = self.seen;
        loop {
            while let Some(message) = self.wire.ready() {
                self.take(message)?;
            }
            if self.seen > before {
                return Ok(self.seen - before);
            }
            self.wire.read().await?;
        }
    }

    /// How many numbers have come in all: as order is checked, the newest of them.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    fn take(&mut self, message: Bytes) -> io::Result<()> {
        if self.side == Side::Peer {
            return self.number(&Blob::decode(message).map_err(io::Error::other)?.data);
        }
        match decode(message)? {
            v1::stream_data_response::Frame::Delivery(delivery) => {
                if delivery.prev != self.cursor {
                    return Err(io::Error::other(format!("chain: {} after {}", delivery.prev, self.cursor)));
                }
                for event in delivery.events {
                    self.cursor = event.offset;
                    self.number(&event.payload)?;
                }
            }
            v1::stream_data_response::Frame::Reply(reply) if reply.failure.is_none() => {
                self.number(&reply.request_id.to_le_bytes())?;
            }
            v1::stream_data_response::Frame::Heartbeat(heartbeat) => {
                if heartbeat.reply_requested {
                    let answer = v1::Heartbeat { nonce: heartbeat.nonce, ..Default::default() };
                    self.request(0, v1::stream_data_request::Frame::Heartbeat(answer));
                }
            }
            other => return Err(io::Error::other(format!("unexpected: {other:?}"))),
        }
        Ok(())
    }

    /// Numbers rise by one: nothing was lost, doubled or reordered.
    fn number(&mut self, payload: &[u8]) -> io::Result<()> {
        let number = payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if number != self.seen + 1 {
            return Err(io::Error::other(format!("{number} came after {}", self.seen)));
        }
        self.seen = number;
        Ok(())
    }

    fn request(&mut self, request_id: u64, frame: v1::stream_data_request::Frame) {
        self.wire.queue(&v1::StreamDataRequest { request_id, frame: Some(frame) });
    }

    async fn response(&mut self) -> io::Result<v1::stream_data_response::Frame> {
        decode(self.wire.next().await?)
    }
}

fn decode(message: Bytes) -> io::Result<v1::stream_data_response::Frame> {
    let response = v1::StreamDataResponse::decode(message).map_err(io::Error::other)?;
    response.frame.ok_or_else(|| io::Error::other("an empty frame"))
}
