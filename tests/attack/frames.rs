//! HTTP/2 frames as bytes, right or wrong: whatever a peer could put on the wire can be said here.

use bytes::{Buf as _, BufMut as _, BytesMut};

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before a frame's payload.
const HEADER: usize = 9;

/// Types of frames, RFC 9113 §6.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
    /// Of no standard: to be ignored.
    pub const UNKNOWN: u8 = 0x16;
}

/// Flags. ACK and END_STREAM are the same bit of different frames.
pub mod flag {
    pub const NONE: u8 = 0;
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Error codes, RFC 9113 §7, in their order.
pub const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// Identifiers of settings, RFC 9113 §6.5.2.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// An error code in words.
pub fn code_name(code: u32) -> String {
    CODES.get(code as usize).map_or_else(|| format!("code {code:#x}"), |name| (*name).to_owned())
}

/// One frame.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn is(&self, kind: u8, flag: u8) -> bool {
        self.kind == kind && self.flags & flag == flag
    }

    /// The big-endian number that begins at a byte of the payload; what is missing counts as 0.
    pub fn number(&self, at: usize) -> u32 {
        (at..at + 4).fold(0, |sum, i| sum << 8 | u32::from(self.payload.get(i).copied().unwrap_or(0)))
    }

    /// Takes the first frame out of a buffer, if all of it is there.
    pub fn take(buffer: &mut BytesMut) -> Option<Self> {
        let head = buffer.first_chunk::<HEADER>()?;
        let length = (usize::from(head[0]) << 16) | (usize::from(head[1]) << 8) | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        if buffer.len() < HEADER + length {
            return None;
        }
        buffer.advance(HEADER);
        Some(Self { kind, flags, stream, payload: buffer.split_to(length).to_vec() })
    }
}

/// Any frame at all.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + payload.len());
    let length = u32::try_from(payload.len()).unwrap();
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.put_u32(stream);
    out.extend_from_slice(payload);
    out
}

pub fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, payload)
}

/// A whole header block, which does not end its stream unless the flags say so.
pub fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flags | flag::END_HEADERS, stream, block)
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, flag::NONE, stream, &code.to_be_bytes())
}

pub fn priority(stream: u32, depends_on: u32) -> Vec<u8> {
    frame(kind::PRIORITY, flag::NONE, stream, &[&depends_on.to_be_bytes()[..], &[15]].concat())
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in values {
        payload.put_u16(*id);
        payload.put_u32(*value);
    }
    frame(kind::SETTINGS, flag::NONE, 0, &payload)
}

pub fn ping(flags: u8, number: u64) -> Vec<u8> {
    frame(kind::PING, flags, 0, &number.to_be_bytes())
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, flag::NONE, stream, &increment.to_be_bytes())
}

pub fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(kind::GOAWAY, flag::NONE, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// A message as gRPC puts it into DATA.
pub fn message(body: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.put_u32(u32::try_from(body.len()).unwrap());
    out.extend_from_slice(body);
    out
}
