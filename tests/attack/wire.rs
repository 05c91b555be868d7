//! A transport over which anything can be said, from whatever address of loopback; and what was heard on it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::{
    frames::{self, Frame, INITIAL_WINDOW_SIZE, code_name, flag, kind},
    hpack::{Decoder, Field},
};

/// Longest wait for what a server owes at once.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// What a transport may have sent before, and besides, a large message.
const LITTLE: usize = 8 << 10;
/// Frames that are kept; more are only counted.
const KEPT: usize = 20_000;

/// What a server said last.
#[derive(Debug, Clone)]
pub struct GoAway {
    pub last: u32,
    pub code: u32,
    pub debug: String,
}

/// What was heard.
#[derive(Debug, Default)]
pub struct Seen {
    /// In order.
    pub frames: Vec<Frame>,
    /// By type, also of those not kept.
    pub counts: [usize; 16],
    /// Header blocks, with the stream of each.
    pub heads: Vec<(u32, Vec<Field>)>,
    pub goaway: Option<GoAway>,
    /// The socket has ended.
    pub closed: bool,
}

impl Seen {
    /// The server has had enough.
    pub fn ended(&self) -> bool {
        self.closed || self.goaway.is_some()
    }

    pub fn count(&self, kind: u8) -> usize {
        self.counts[usize::from(kind)]
    }

    /// A field of a stream's answer, the last of that name: trailers count.
    pub fn field(&self, stream: u32, name: &str) -> Option<&str> {
        let of_stream = self.heads.iter().filter(|(of, _)| *of == stream).flat_map(|(_, fields)| fields);
        of_stream.filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).next_back()
    }

    /// Whether the server has ended a stream, in whatever way.
    pub fn stream_over(&self, stream: u32) -> bool {
        self.frames.iter().filter(|frame| frame.stream == stream).any(|frame| match frame.kind {
            kind::RST_STREAM => true,
            kind::DATA | kind::HEADERS => frame.is(frame.kind, flag::END_STREAM),
            _ => false,
        })
    }

    /// Bytes that the server takes on a stream in all, were it the only one: what it granted at first, and since.
    fn room(&self, stream: u32) -> i64 {
        let of = |kind, stream| self.frames.iter().filter(move |frame| frame.kind == kind && frame.stream == stream);
        let mut pairs = of(kind::SETTINGS, 0).flat_map(|frame| frame.payload.chunks_exact(6));
        let initial = pairs.rfind(|pair| pair[..2] == INITIAL_WINDOW_SIZE.to_be_bytes());
        let initial =
            initial.map_or(65_535, |pair| i64::from(u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]])));
        let granted = |stream| of(kind::WINDOW_UPDATE, stream).map(|frame| i64::from(frame.number(0))).sum::<i64>();
        (initial + granted(stream)).min(65_535 + granted(0))
    }

    /// How it ended, in words.
    pub fn end(&self) -> String {
        match &self.goaway {
            Some(goaway) => format!("GOAWAY {} {:?}", code_name(goaway.code), goaway.debug),
            None if self.closed => "closed".to_owned(),
            None => "still open".to_owned(),
        }
    }

    fn hear(&mut self, frame: Frame, decoder: &mut Decoder) {
        if let Some(count) = self.counts.get_mut(usize::from(frame.kind)) {
            *count += 1;
        }
        match frame.kind {
            kind::HEADERS => {
                let fields = decoder.decode(&frame.payload).unwrap_or_default();
                self.heads.push((frame.stream, fields));
            }
            kind::GOAWAY => {
                let debug = String::from_utf8_lossy(frame.payload.get(8..).unwrap_or_default()).into_owned();
                self.goaway = Some(GoAway { last: frame.number(0), code: frame.number(4), debug });
            }
            _ => {}
        }
        if self.frames.len() < KEPT {
            self.frames.push(frame);
        }
    }
}

/// See the module. What it hears is read at once, unless it was told not to.
pub struct Wire {
    write: OwnedWriteHalf,
    seen: watch::Receiver<Seen>,
    /// The next stream that has not been used.
    next: u32,
    _reader: JoinSet<()>,
    _unread: Option<OwnedReadHalf>,
}

/// A socket from an address of loopback.
pub async fn connect(to: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // The port is chosen when it connects, so that many sockets from one address do not exhaust them.
    socket.bind((from, 0).into())?;
    let stream =
        timeout(PATIENCE, socket.connect(to)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Wire {
    /// A socket on which nothing has been said.
    pub async fn dial(to: SocketAddr, from: Ipv4Addr) -> Self {
        Self::try_dial(to, from).await.expect("the server accepts")
    }

    /// As `dial`, where the server may not accept.
    pub async fn try_dial(to: SocketAddr, from: Ipv4Addr) -> io::Result<Self> {
        Ok(Self::over(connect(to, from).await?, true))
    }

    /// As `dial`, of a peer that never reads from its socket.
    pub async fn deaf(to: SocketAddr, from: Ipv4Addr) -> Self {
        Self::over(connect(to, from).await.expect("the server accepts"), false)
    }

    fn over(socket: TcpStream, reads: bool) -> Self {
        let (read, write) = socket.into_split();
        let (seen, heard) = watch::channel(Seen::default());
        let (mut reader, mut unread) = (JoinSet::new(), None);
        if reads {
            reader.spawn(hear(read, seen));
        } else {
            unread = Some(read);
        }
        Self { write, seen: heard, next: 1, _reader: reader, _unread: unread }
    }

    /// A transport that has said its preface and settings, and has acknowledged the server's.
    pub async fn greeted(to: SocketAddr, from: Ipv4Addr, settings: &[(u16, u32)]) -> Self {
        let mut wire = Self::dial(to, from).await;
        wire.greet(settings).await;
        wire
    }

    pub async fn greet(&mut self, settings: &[(u16, u32)]) {
        self.send(&[frames::PREFACE, &frames::settings(settings)].concat()).await;
        // The server's own, and its acknowledgement of ours.
        let settled = self.wait(PATIENCE, |seen| seen.count(kind::SETTINGS) > 1 || seen.ended()).await;
        assert!(settled, "settings are exchanged");
        self.send(&frames::frame(kind::SETTINGS, flag::ACK, 0, &[])).await;
    }

    /// Sends bytes as they are; `false` if the server takes no more.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(timeout(PATIENCE, self.write.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Sends a message of any size, no faster than the server's windows allow, on a transport that has sent little else;
    /// `false` if it stops taking it.
    pub async fn send_message(&mut self, stream: u32, bytes: &[u8]) -> bool {
        let mut sent = 0;
        while sent < bytes.len() {
            let room = |seen: &Seen| usize::try_from(seen.room(stream)).unwrap_or(0).saturating_sub(sent + LITTLE);
            if !self.wait(PATIENCE, |seen| seen.ended() || seen.stream_over(stream) || room(seen) > 0).await {
                return false;
            }
            let piece = self.seen(room).min(16_384).min(bytes.len() - sent);
            if piece == 0 || !self.send(&frames::data(stream, flag::NONE, &bytes[sent..sent + piece])).await {
                return false;
            }
            sent += piece;
        }
        true
    }

    /// Waits until something has been heard; `false` if it is not in time.
    pub async fn wait(&mut self, limit: Duration, mut heard: impl FnMut(&Seen) -> bool) -> bool {
        let waited = timeout(limit, self.seen.wait_for(|seen| heard(seen))).await.map(|found| found.is_ok());
        // The reader ends with the socket, and what it saw last stays.
        waited.is_ok_and(|found| found || heard(&self.seen.borrow()))
    }

    /// Waits for the server to have had enough.
    pub async fn ended(&mut self, limit: Duration) -> bool {
        self.wait(limit, Seen::ended).await
    }

    /// Waits for the socket to end.
    pub async fn closed(&mut self, limit: Duration) -> bool {
        self.wait(limit, |seen| seen.closed).await
    }

    /// Reads something off what was heard.
    pub fn seen<T>(&self, read: impl FnOnce(&Seen) -> T) -> T {
        read(&self.seen.borrow())
    }

    /// A stream that has not been used.
    pub fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }
}

async fn hear(mut read: OwnedReadHalf, seen: watch::Sender<Seen>) {
    let (mut buffer, mut decoder) = (BytesMut::with_capacity(16 << 10), Decoder::default());
    while read.read_buf(&mut buffer).await.is_ok_and(|length| length > 0) {
        seen.send_modify(|seen| {
            while let Some(frame) = Frame::take(&mut buffer) {
                seen.hear(frame, &mut decoder);
            }
        });
    }
    seen.send_modify(|seen| seen.closed = true);
}
