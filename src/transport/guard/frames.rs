//! HTTP/2 frames, as far as a guard has to read them: their headers, and the code of a reset.

/// Bytes of the client preface, which stands before a peer's first frame.
pub(super) const PREFACE: u32 = 24;
/// Bytes of a frame header.
const HEADER: usize = 9;
/// ENHANCE_YOUR_CALM.
const CALM: u32 = 11;

/// Kinds of frames (RFC 9113, section 6).
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
    pub(in super::super) const CONTINUATION: u8 = 9;
}

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of payload.
    pub(super) length: u32,
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
}

impl Head {
    fn read(bytes: [u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            // The first bit is reserved.
            stream: u32::from_be_bytes(stream) & !(1 << 31),
        }
    }

    /// Of SETTINGS and PING: whether it answers one.
    pub(super) fn is_ack(self) -> bool {
        self.flags & 1 != 0
    }
}

/// What has been seen of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The header of a frame that is no RST_STREAM.
    Head(Head),
    /// All of an RST_STREAM, with its code.
    Reset(u32),
}

/// Finds the frames in one direction's bytes, however they are split. Keeps no more of them than a header.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Payload that is still to come.
    rest: u32,
    /// The last four bytes of the payload so far, of an RST_STREAM.
    code: Option<u32>,
    header: [u8; HEADER],
    /// Bytes of the header so far.
    have: usize,
}

impl Frames {
    /// Of bytes whose first frame comes after `skip` others.
    pub(super) fn after(skip: u32) -> Self {
        Self { rest: skip, ..Self::default() }
    }

    /// Whether the last byte seen was the last of a frame.
    pub(super) fn at_boundary(&self) -> bool {
        self.rest == 0 && self.have == 0
    }

    /// Whether all of the payload has come of the frame whose header came last.
    pub(super) fn payload_is_over(&self) -> bool {
        self.rest == 0
    }

    /// How many of the bytes that follow belong to a frame that has begun: all of them, while its header is incomplete.
    pub(super) fn under_way(&self) -> usize {
        match self.have {
            0 => self.rest as usize,
            have => HEADER - have,
        }
    }

    /// The next thing to be seen. Takes from `bytes` what leads up to it, all of them if there is nothing.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Seen> {
        loop {
            if self.rest > 0 {
                self.pass(bytes);
            }
            if self.rest > 0 {
                return None;
            }
            if let Some(code) = self.code.take() {
                return Some(Seen::Reset(code));
            }
            let taken = bytes.len().min(HEADER - self.have);
            let (head, after) = bytes.split_at(taken);
            self.header[self.have..][..taken].copy_from_slice(head);
            self.have += taken;
            *bytes = after;
            if self.have < HEADER {
                return None;
            }
            self.have = 0;
            let head = Head::read(self.header);
            self.rest = head.length;
            if head.kind != kind::RST_STREAM {
                return Some(Seen::Head(head));
            }
            self.code = Some(0);
        }
    }

    fn pass(&mut self, bytes: &mut &[u8]) {
        // A payload is shorter than 2^24.
        let passed = bytes.len().min(self.rest as usize);
        let (payload, after) = bytes.split_at(passed);
        if let Some(code) = &mut self.code {
            let last = &payload[passed.saturating_sub(4)..];
            *code = last.iter().fold(*code, |code, byte| code << 8 | u32::from(*byte));
        }
        self.rest -= u32::try_from(passed).unwrap_or(self.rest);
        *bytes = after;
    }
}

/// GOAWAY with ENHANCE_YOUR_CALM and a word for whoever reads it.
pub(super) fn calm_down(last_stream: u32, debug: &str) -> Vec<u8> {
    let length = u32::try_from(8 + debug.len()).unwrap_or(8);
    let mut frame = Vec::with_capacity(HEADER + 8 + debug.len());
    frame.extend_from_slice(&length.to_be_bytes()[1..]);
    frame.extend_from_slice(&[kind::GOAWAY, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(&last_stream.to_be_bytes());
    frame.extend_from_slice(&CALM.to_be_bytes());
    frame.extend_from_slice(debug.as_bytes());
    frame
}
