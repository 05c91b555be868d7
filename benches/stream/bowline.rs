//! How Bowline is talked to.

use std::{io, net::SocketAddr};

use bowline::proto::v1::{self, stream_data_request::Frame as Sent, stream_data_response::Frame};
use bytes::Bytes;
use prost::Message;

use crate::{
    socket::Socket,
    stage::{Dialling, any},
    talker::{Dialect, Numbers, Role, Shape, content},
    wire::Wire,
};

/// One connection of Bowline's for each call, with sessions on it.
pub struct Bowline {
    wire: Wire,
    acknowledged: bool,
    /// Sessions in each call.
    each: usize,
    sessions: Vec<Session>,
    /// How many have been opened.
    opened: usize,
    /// Heartbeats that came.
    pub heartbeats: u64,
}

/// One session, as its client keeps it.
#[derive(Clone, Copy, Default)]
pub struct Session {
    /// Offset of the newest event it has.
    cursor: u64,
    /// Of its topic.
    epoch: u64,
    /// Time of that event.
    time_us: u64,
    /// Number of its newest publish.
    seq: u64,
}

impl Bowline {
    /// See `Stage::open`.
    pub fn dial(address: SocketAddr, role: Role, topic: String, shape: Shape) -> Dialling {
        any(Self::open(address, role, topic, shape))
    }

    /// See `Stage::open`.
    pub async fn open(address: SocketAddr, role: Role, topic: String, shape: Shape) -> io::Result<Self> {
        let wire = Wire::connect(address, shape).await?;
        let sessions = vec![Session::default(); shape.receivers()];
        let acknowledged = role == Role::Publisher;
        let mut bowline = Self { wire, acknowledged, each: shape.sessions, sessions, opened: 0, heartbeats: 0 };
        let mode = match role {
            Role::Echo => v1::SessionMode::Unspecified,
            Role::Publisher => v1::SessionMode::PublishOnly,
            Role::Subscriber => v1::SessionMode::ReadOnly,
        };
        for _ in 0..shape.streams {
            let call = bowline.call("");
            for alias in 1..=shape.sessions {
                let several = role != Role::Subscriber && shape.sessions > 1;
                let topic = if several { format!("{topic}.{alias}") } else { topic.clone() };
                let session_id = format!("bench-{alias}");
                let open = v1::OpenSession { session_id, topic, mode: mode.into(), ..Default::default() };
                bowline.open_session(call, alias, open);
            }
        }
        bowline.all_open(&mut Numbers::new(shape.receivers())).await?;
        Ok(bowline)
    }

    /// Comes back, as a client that has lost its connection, to the topic it read in one session, and waits until the
    /// session is open.
    pub async fn resume(
        address: SocketAddr,
        client_id: &str,
        topic: &str,
        session: Option<Session>,
        numbers: &mut Numbers,
    ) -> io::Result<Self> {
        let wire = Wire::connect(address, Shape::ONE).await?;
        let sessions = vec![session.unwrap_or_default()];
        let mut bowline = Self { wire, acknowledged: false, each: 1, sessions, opened: 0, heartbeats: 0 };
        let call = bowline.call(client_id);
        let start = session.map(|Session { epoch, cursor, time_us, .. }| {
            let cursor = v1::Cursor { epoch, offset: cursor, time_us };
            v1::StartPosition { position: Some(v1::start_position::Position::Cursor(cursor)) }
        });
        let mode = v1::SessionMode::ReadOnly.into();
        let open =
            v1::OpenSession { session_id: "bench".into(), topic: topic.into(), mode, start, ..Default::default() };
        bowline.open_session(call, 1, open);
        bowline.all_open(numbers).await?;
        Ok(bowline)
    }

    /// The first session, to come back with.
    pub fn session(&self) -> Session {
        self.sessions[0]
    }

    fn call(&mut self, client_id: &str) -> usize {
        let call = self.wire.call("/bowline.v1.StreamService/StreamData");
        let hello = v1::Hello { client_id: client_id.into(), ..Default::default() };
        self.request(call, 0, Sent::Hello(hello));
        call
    }

    fn open_session(&mut self, call: usize, alias: usize, open: v1::OpenSession) {
        let session = u32::try_from(alias).expect("few sessions");
        self.request(call, 0, Sent::OpenSession(Box::new(v1::OpenSession { session, ..open })));
    }

    async fn all_open(&mut self, numbers: &mut Numbers) -> io::Result<()> {
        while self.opened < self.sessions.len() {
            while self.take(numbers)? {}
            if self.opened < self.sessions.len() {
                self.wire.socket.read().await?;
            }
        }
        Ok(())
    }

    fn request(&mut self, call: usize, request_id: u64, frame: Sent) {
        self.wire.queue(call, &v1::StreamDataRequest { request_id, frame: Some(frame) });
    }

    /// Where a session is kept.
    fn place(&self, call: usize, alias: u32) -> io::Result<usize> {
        let alias = alias as usize;
        let known = (1..=self.each).contains(&alias);
        known.then(|| call * self.each + alias - 1).ok_or_else(|| io::Error::other(format!("no session {alias}")))
    }

    fn delivery(&mut self, call: usize, delivery: v1::Delivery, numbers: &mut Numbers) -> io::Result<()> {
        let place = self.place(call, delivery.session)?;
        let session = &mut self.sessions[place];
        if delivery.prev != session.cursor {
            return Err(io::Error::other(format!("chain: {} after {}", delivery.prev, session.cursor)));
        }
        for event in delivery.events {
            (session.cursor, session.time_us) = (event.offset, event.time_us);
            numbers.take(place, &event.payload)?;
        }
        Ok(())
    }
}

impl Dialect for Bowline {
    fn socket(&mut self) -> &mut Socket {
        &mut self.wire.socket
    }

    /// Sessions take turns.
    fn queue(&mut self, number: u64) {
        let place = usize::try_from(number - 1).expect("a count") % self.sessions.len();
        self.sessions[place].seq += 1;
        let event = v1::NewEvent { payload: Bytes::copy_from_slice(&content(number)), ..Default::default() };
        let alias = u32::try_from(place % self.each + 1).expect("few sessions");
        let publish = v1::Publish { session: alias, seq: self.sessions[place].seq, event: Some(event) };
        let request_id = if self.acknowledged { number } else { 0 };
        self.request(place / self.each, request_id, Sent::Publish(publish.into()));
    }

    fn take(&mut self, numbers: &mut Numbers) -> io::Result<bool> {
        let Some((call, message)) = self.wire.ready()? else { return Ok(false) };
        let response = v1::StreamDataResponse::decode(message).map_err(io::Error::other)?;
        match response.frame.ok_or_else(|| io::Error::other("an empty frame"))? {
            Frame::Delivery(delivery) => self.delivery(call, delivery, numbers)?,
            Frame::Reply(reply) if reply.failure.is_none() => {
                // All sessions of a connection are answered in one order.
                numbers.take(0, &reply.request_id.to_le_bytes())?;
            }
            Frame::SessionOpened(opened) => {
                let place = self.place(call, opened.session)?;
                let start = opened.start.unwrap_or_default();
                let session = &mut self.sessions[place];
                if session.cursor > 0 && (start.offset, start.epoch) != (session.cursor, session.epoch) {
                    return Err(io::Error::other(format!("resumed at {start:?}, not at {}", session.cursor)));
                }
                (session.cursor, session.epoch, session.time_us) = (start.offset, start.epoch, start.time_us);
                self.opened += 1;
            }
            Frame::Heartbeat(heartbeat) => {
                // As clients do that have nothing else to say: as often as they hear one.
                self.heartbeats += 1;
                self.request(call, 0, Sent::Heartbeat(v1::Heartbeat { nonce: heartbeat.nonce, ..Default::default() }));
            }
            Frame::Welcome(_) => {}
            other => return Err(io::Error::other(format!("unexpected: {other:?}"))),
        }
        Ok(true)
    }
}
