//! How a NATS server is talked to: core NATS, which stores nothing.

use std::{io, net::SocketAddr, str};

use bytes::{Buf, BufMut, BytesMut};

use crate::{
    socket::Socket,
    talker::{Dialect, Numbers, PAYLOAD, Role, Shape, content},
};

/// One connection, with subscriptions.
pub struct Nats {
    socket: Socket,
    /// The beginning of each publish.
    publish: String,
    /// Publishes whose acknowledgement has come.
    acknowledged: u64,
}

impl Nats {
    /// See `Stage::open`. An echo is a subscription to what the client itself publishes.
    pub async fn open(address: SocketAddr, role: Role, topic: String, shape: Shape) -> io::Result<Self> {
        let mut socket = Socket::connect(address, shape).await?;
        // `verbose` asks for an answer to each publish, and to each of these.
        let verbose = role == Role::Publisher;
        let connect = format!("CONNECT {{\"verbose\":{verbose},\"pedantic\":false,\"tls_required\":false}}\r\n");
        socket.outbound.put_slice(connect.as_bytes());
        if role != Role::Publisher {
            for number in 1..=shape.receivers() {
                socket.outbound.put_slice(format!("SUB {topic} {number}\r\n").as_bytes());
            }
        }
        socket.outbound.put_slice(b"PING\r\n");
        let mut nats = Self { socket, publish: format!("PUB {topic} {PAYLOAD}\r\n"), acknowledged: 0 };
        loop {
            match nats.line() {
                Some(line) if line.starts_with(b"-ERR") => return Err(refused(&line)),
                // All before it has been done.
                Some(line) if line.starts_with(b"PONG") => return Ok(nats),
                Some(_) => {}
                None => nats.socket.read().await?,
            }
        }
    }

    /// The next line without its end, if it is there whole.
    fn line(&mut self) -> Option<BytesMut> {
        let end = self.socket.inbound.windows(2).position(|two| two == b"\r\n")?;
        let line = self.socket.inbound.split_to(end);
        self.socket.inbound.advance(2);
        Some(line)
    }

    /// `MSG subject number length`, with the content after it, if it is there whole.
    fn message(&mut self, numbers: &mut Numbers) -> io::Result<bool> {
        let inbound = &mut self.socket.inbound;
        let Some(end) = inbound.windows(2).position(|two| two == b"\r\n") else { return Ok(false) };
        let whole = end + 2 + PAYLOAD + 2;
        if inbound.len() < whole {
            return Ok(false);
        }
        let head = str::from_utf8(&inbound[..end]).map_err(io::Error::other)?;
        let mut words = head.split(' ').skip(2).map(str::parse::<usize>);
        let (Some(Ok(subscription)), Some(Ok(PAYLOAD))) = (words.next(), words.next()) else {
            return Err(io::Error::other(format!("a strange message: {head}")));
        };
        numbers.take(subscription - 1, &inbound[end + 2..whole - 2])?;
        inbound.advance(whole);
        Ok(true)
    }
}

impl Dialect for Nats {
    fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    fn queue(&mut self, number: u64) {
        let outbound = &mut self.socket.outbound;
        outbound.put_slice(self.publish.as_bytes());
        outbound.put_slice(&content(number));
        outbound.put_slice(b"\r\n");
    }

    fn take(&mut self, numbers: &mut Numbers) -> io::Result<bool> {
        if self.socket.inbound.starts_with(b"MSG ") {
            return self.message(numbers);
        }
        // Too little to tell.
        if self.socket.inbound.len() < 4 {
            return Ok(false);
        }
        let Some(line) = self.line() else { return Ok(false) };
        match &line[..] {
            b"+OK" => {
                self.acknowledged += 1;
                numbers.take(0, &self.acknowledged.to_le_bytes())?;
            }
            b"PING" => self.socket.outbound.put_slice(b"PONG\r\n"),
            b"PONG" => {}
            line if line.starts_with(b"INFO ") => {}
            line => return Err(refused(line)),
        }
        Ok(true)
    }
}

fn refused(line: &[u8]) -> io::Error {
    io::Error::other(format!("the server said: {}", String::from_utf8_lossy(line)))
}
