//! gRPC calls on a connection of their own, with HTTP/2 frames made by hand: cheaper than any server it measures, and
//! the same for all of them.
//!
//! It keeps no account of the windows its peer grants: what it has in flight is bounded far below them.

use std::{io, net::SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::{socket::Socket, talker::Shape};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// A gRPC message begins with a compression flag and its length.
const MESSAGE_HEADER: usize = 5;
/// What the peer may send before we grant more; the protocol's largest.
const WINDOW: u32 = (1 << 31) - 1;
/// Received bytes after which the windows are filled up again.
const GRANT: u32 = 1 << 28;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection and the calls on it, which are counted from 0.
pub struct Wire {
    /// What carries it.
    pub socket: Socket,
    calls: Vec<Call>,
    /// The call that had data last: no other can have a whole message.
    current: usize,
    /// Received in all calls since the connection's window was filled up.
    received: u32,
}

/// What has come of one call.
#[derive(Default)]
struct Call {
    /// Contents of DATA frames, not yet a whole message.
    messages: BytesMut,
    received: u32,
}

impl Wire {
    /// Connects; see `Socket::connect`.
    pub async fn connect(address: SocketAddr, shape: Shape) -> io::Result<Self> {
        let mut socket = Socket::connect(address, shape).await?;
        let outbound = &mut socket.outbound;
        outbound.put_slice(PREFACE);
        // SETTINGS_INITIAL_WINDOW_SIZE
        put_frame(outbound, SETTINGS, 0, 0, &[&[0, 4][..], &WINDOW.to_be_bytes()].concat());
        put_frame(outbound, WINDOW_UPDATE, 0, 0, &(WINDOW - 65_535).to_be_bytes());
        Ok(Self { socket, calls: Vec::new(), current: 0, received: 0 })
    }

    /// Begins one more call, of the method `path`, once flushed.
    pub fn call(&mut self, path: &str) -> usize {
        let call = self.calls.len();
        self.calls.push(Call::default());
        put_frame(&mut self.socket.outbound, HEADERS, END_HEADERS, stream_of(call), &header_block(path));
        call
    }

    /// Queues one message of a call, as a DATA frame of its own.
    pub fn queue(&mut self, call: usize, message: &impl Message) {
        let length = message.encoded_len();
        let outbound = &mut self.socket.outbound;
        put_frame_header(outbound, DATA, 0, stream_of(call), MESSAGE_HEADER + length);
        outbound.put_u8(0);
        outbound.put_u32(u32::try_from(length).expect("a small message"));
        message.encode(outbound).expect("a growing buffer");
    }

    /// Says that a call's messages are all sent.
    pub fn half_close(&mut self, call: usize) {
        put_frame(&mut self.socket.outbound, DATA, END_STREAM, stream_of(call), &[]);
    }

    /// The next message, with its call, if one has arrived and been read.
    pub fn ready(&mut self) -> io::Result<Option<(usize, Bytes)>> {
        loop {
            if let Some(message) = self.calls.get_mut(self.current).and_then(Call::message) {
                return Ok(Some((self.current, message)));
            }
            let Some(length) = self.socket.inbound.get(..3) else { return Ok(None) };
            let length = usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
            if self.socket.inbound.len() < FRAME_HEADER + length {
                return Ok(None);
            }
            let header = self.socket.inbound.split_to(FRAME_HEADER);
            let body = self.socket.inbound.split_to(length);
            let stream = u32::from_be_bytes(header[5..].try_into().expect("four bytes"));
            self.frame(header[3], header[4], stream, &body)?;
        }
    }

    /// The next message, waited for.
    pub async fn next(&mut self) -> io::Result<(usize, Bytes)> {
        loop {
            match self.ready()? {
                Some(message) => return Ok(message),
                None => self.socket.read().await?,
            }
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, body: &[u8]) -> io::Result<()> {
        match kind {
            DATA => return self.data(stream, body),
            SETTINGS if flags & ACK == 0 => put_frame(&mut self.socket.outbound, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => put_frame(&mut self.socket.outbound, PING, ACK, 0, body),
            HEADERS if flags & END_STREAM != 0 => return Err(ended("the server ended the call", body)),
            RST_STREAM => return Err(ended("the server reset the call", body)),
            GOAWAY => return Err(ended("the server sent GOAWAY", body)),
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, stream: u32, body: &[u8]) -> io::Result<()> {
        let outbound = &mut self.socket.outbound;
        let place = usize::try_from(stream / 2).ok().filter(|place| *place < self.calls.len());
        self.current = place.ok_or_else(|| io::Error::other(format!("data of stream {stream}, which is none")))?;
        let call = &mut self.calls[self.current];
        call.messages.extend_from_slice(body);
        for (stream, received) in [(0, &mut self.received), (stream, &mut call.received)] {
            *received += u32::try_from(body.len()).expect("a frame");
            if *received >= GRANT {
                put_frame(outbound, WINDOW_UPDATE, 0, stream, &received.to_be_bytes());
                *received = 0;
            }
        }
        Ok(())
    }
}

impl Call {
    fn message(&mut self) -> Option<Bytes> {
        let length = self.messages.get(1..MESSAGE_HEADER)?;
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        if self.messages.len() < MESSAGE_HEADER + length {
            return None;
        }
        self.messages.advance(MESSAGE_HEADER);
        Some(self.messages.split_to(length).freeze())
    }
}

fn stream_of(call: usize) -> u32 {
    u32::try_from(2 * call + 1).expect("few calls")
}

fn ended(what: &str, body: &[u8]) -> io::Error {
    io::Error::other(format!("{what}: {}", String::from_utf8_lossy(body)))
}

fn put_frame_header(buffer: &mut BytesMut, kind: u8, flags: u8, stream: u32, length: usize) {
    buffer.put_uint(length as u64, 3);
    buffer.put_u8(kind);
    buffer.put_u8(flags);
    buffer.put_u32(stream);
}

fn put_frame(buffer: &mut BytesMut, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    put_frame_header(buffer, kind, flags, stream, body.len());
    buffer.put_slice(body);
}

/// Literals without compression: no table to keep.
fn header_block(path: &str) -> Vec<u8> {
    // `:method: POST` and `:scheme: http` stand in the static table.
    let mut block = vec![0x83, 0x86];
    for (name, value) in
        [(":path", path), (":authority", "localhost"), ("content-type", "application/grpc"), ("te", "trailers")]
    {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}
