//! One gRPC call on a connection of its own, with HTTP/2 frames made by hand: cheaper than any server it measures, and
//! the same for all of them.
//!
//! It keeps no account of the windows its peer grants: what it has in flight is bounded far below them.

use std::{io, net::SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// A gRPC message begins with a compression flag and its length.
const MESSAGE_HEADER: usize = 5;
/// The one stream of the connection.
const STREAM: u32 = 1;
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

/// An open call.
pub struct Wire {
    socket: TcpStream,
    inbound: BytesMut,
    /// Contents of DATA frames, not yet a whole message.
    messages: BytesMut,
    outbound: BytesMut,
    received: u32,
}

impl Wire {
    /// Connects and begins the call `path`, with these metadata (names and values under 127 bytes).
    pub async fn call(address: SocketAddr, path: &str, metadata: &[(&str, &str)]) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut outbound = BytesMut::from(PREFACE);
        // SETTINGS_INITIAL_WINDOW_SIZE
        put_frame(&mut outbound, SETTINGS, 0, 0, &[&[0, 4][..], &WINDOW.to_be_bytes()].concat());
        put_frame(&mut outbound, WINDOW_UPDATE, 0, 0, &(WINDOW - 65_535).to_be_bytes());
        put_frame(&mut outbound, HEADERS, END_HEADERS, STREAM, &header_block(path, metadata));
        let mut wire = Self { socket, inbound: BytesMut::new(), messages: BytesMut::new(), outbound, received: 0 };
        wire.flush().await?;
        Ok(wire)
    }

    /// Queues one message, as a DATA frame of its own.
    pub fn queue(&mut self, message: &impl Message) {
        let length = message.encoded_len();
        put_frame_header(&mut self.outbound, DATA, 0, STREAM, MESSAGE_HEADER + length);
        self.outbound.put_u8(0);
        self.outbound.put_u32(u32::try_from(length).expect("a small message"));
        message.encode(&mut self.outbound).expect("a growing buffer");
    }

    /// Writes what is queued.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all_buf(&mut self.outbound).await
    }

    /// The next message, if it has arrived and been read.
    pub fn ready(&mut self) -> Option<Bytes> {
        let length = self.messages.get(1..MESSAGE_HEADER)?;
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        if self.messages.len() < MESSAGE_HEADER + length {
            return None;
        }
        self.messages.advance(MESSAGE_HEADER);
        Some(self.messages.split_to(length).freeze())
    }

    /// Flushes, then reads at least once.
    pub async fn read(&mut self) -> io::Result<()> {
        self.flush().await?;
        if self.socket.read_buf(&mut self.inbound).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some(length) = self.inbound.get(..3) {
            let length = usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
            if self.inbound.len() < FRAME_HEADER + length {
                break;
            }
            let header = self.inbound.split_to(FRAME_HEADER);
            let body = self.inbound.split_to(length);
            self.frame(header[3], header[4], &body)?;
        }
        Ok(())
    }

    /// The next message, waited for.
    pub async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            match self.ready() {
                Some(message) => return Ok(message),
                None => self.read().await?,
            }
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, body: &[u8]) -> io::Result<()> {
        match kind {
            DATA => {
                self.messages.extend_from_slice(body);
                self.received += u32::try_from(body.len()).expect("a frame");
                if self.received >= GRANT {
                    for stream in [0, STREAM] {
                        put_frame(&mut self.outbound, WINDOW_UPDATE, 0, stream, &self.received.to_be_bytes());
                    }
                    self.received = 0;
                }
            }
            SETTINGS if flags & ACK == 0 => put_frame(&mut self.outbound, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => put_frame(&mut self.outbound, PING, ACK, 0, body),
            HEADERS if flags & END_STREAM != 0 => return Err(ended("the server ended the call", body)),
            RST_STREAM => return Err(ended("the server reset the call", body)),
            GOAWAY => return Err(ended("the server sent GOAWAY", body)),
            _ => {}
        }
        Ok(())
    }
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
fn header_block(path: &str, metadata: &[(&str, &str)]) -> Vec<u8> {
    // `:method: POST` and `:scheme: http` stand in the static table.
    let mut block = vec![0x83, 0x86];
    let pseudo =
        [(":path", path), (":authority", "localhost"), ("content-type", "application/grpc"), ("te", "trailers")];
    for (name, value) in pseudo.iter().chain(metadata) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("a short text"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}
