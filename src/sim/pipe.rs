//! One direction of a simulated connection: bytes that take their time, stand still, or never arrive.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// What a direction is like while nothing is wrong with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// From one end to the other.
    pub(super) latency: Duration,
    /// Bytes a second.
    pub(super) rate: u64,
    /// Bytes on their way, beyond which the writer waits: the buffers of two kernels.
    pub(super) capacity: usize,
}

/// See the module. Written by one end, read by the other.
#[derive(Debug)]
pub(super) struct Pipe(Mutex<State>);

#[derive(Debug)]
struct State {
    shape: Shape,
    /// Bytes under way, with when they arrive.
    under_way: VecDeque<(Instant, Vec<u8>)>,
    length: usize,
    /// When the last of them has left the writer.
    sent: Instant,
    /// Nothing arrives before.
    held_until: Instant,
    /// Nothing arrives any more, and nobody is told.
    black_hole: bool,
    /// The writer has ended.
    closed: bool,
    /// The reader is gone.
    gone: bool,
    /// What the two ends are told when they next try.
    broken: Broken,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug, Default)]
struct Broken {
    reader: bool,
    writer: bool,
}

impl Pipe {
    pub(super) fn new(shape: Shape) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self(Mutex::new(State {
            shape,
            under_way: VecDeque::new(),
            length: 0,
            sent: now,
            held_until: now,
            black_hole: false,
            closed: false,
            gone: false,
            broken: Broken::default(),
            reader: None,
            writer: None,
        })))
    }

    /// Lets nothing arrive for `time`.
    pub(super) fn hold(&self, time: Duration) {
        let mut state = self.0.lock();
        state.held_until = state.held_until.max(Instant::now() + time);
    }

    /// From now on it has another rate.
    pub(super) fn set_rate(&self, rate: u64) {
        self.0.lock().shape.rate = rate;
    }

    /// Lets nothing arrive any more, without a word.
    pub(super) fn swallow(&self) {
        self.0.lock().black_hole = true;
    }

    /// Tells the reader, the writer, or both, that the connection is lost. What was under way is.
    pub(super) fn break_off(&self, reader: bool, writer: bool) {
        let mut state = self.0.lock();
        state.broken.reader |= reader;
        state.broken.writer |= writer;
        state.wake();
    }

    /// True once neither end uses it.
    pub(super) fn is_over(&self) -> bool {
        let state = self.0.lock();
        state.closed && state.gone
    }
}

impl State {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Copies what has arrived; otherwise when to look again, if that is known.
    fn read(&mut self, now: Instant, into: &mut ReadBuf<'_>) -> Read {
        if self.broken.reader {
            return Read::Broken;
        }
        if self.black_hole {
            return Read::Later(None);
        }
        if now < self.held_until {
            return Read::Later(Some(self.held_until));
        }
        let before = into.remaining();
        while let Some((arrival, bytes)) = self.under_way.front_mut()
            && *arrival <= now
            && into.remaining() > 0
        {
            let taken = bytes.len().min(into.remaining());
            into.put_slice(&bytes[..taken]);
            self.length -= taken;
            bytes.drain(..taken);
            if bytes.is_empty() {
                self.under_way.pop_front();
            }
        }
        match self.under_way.front() {
            _ if into.remaining() < before => Read::Some,
            Some((arrival, _)) => Read::Later(Some(*arrival)),
            None if self.closed => Read::Some,
            None => Read::Later(None),
        }
    }

    fn write(&mut self, now: Instant, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.broken.writer || self.closed || (self.gone && !self.black_hole) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = bytes.len().min(self.shape.capacity.saturating_sub(self.length));
        if taken == 0 {
            return Poll::Pending;
        }
        self.sent = self.sent.max(now) + Duration::from_secs_f64(taken as f64 / self.shape.rate as f64);
        self.under_way.push_back((self.sent + self.shape.latency, bytes[..taken].to_vec()));
        self.length += taken;
        Poll::Ready(Ok(taken))
    }
}

enum Read {
    /// Bytes, or the end.
    Some,
    Broken,
    Later(Option<Instant>),
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    read: Arc<Pipe>,
    write: Arc<Pipe>,
    alarm: Pin<Box<Sleep>>,
}

impl End {
    pub(super) fn new(read: Arc<Pipe>, write: Arc<Pipe>) -> Self {
        Self { read, write, alarm: Box::pin(sleep_until(Instant::now())) }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut write = self.write.0.lock();
        write.closed = true;
        write.wake();
        drop(write);
        let mut read = self.read.0.lock();
        read.gone = true;
        read.wake();
    }
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let pipe = Arc::clone(&self.read);
            let mut state = pipe.0.lock();
            let again = match state.read(Instant::now(), into) {
                Read::Some => {
                    if let Some(writer) = state.writer.take() {
                        writer.wake();
                    }
                    return Poll::Ready(Ok(()));
                }
                Read::Broken => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Read::Later(again) => again,
            };
            state.reader = Some(cx.waker().clone());
            drop(state);
            let Some(again) = again else { return Poll::Pending };
            self.alarm.as_mut().reset(again);
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut state = self.write.0.lock();
        let written = state.write(Instant::now(), bytes);
        match &written {
            Poll::Pending => state.writer = Some(cx.waker().clone()),
            Poll::Ready(Ok(_)) => {
                if let Some(reader) = state.reader.take() {
                    reader.wake();
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.write.0.lock();
        state.closed = true;
        state.wake();
        Poll::Ready(Ok(()))
    }
}
