//! The decrypted bytes between HTTP/2 and the socket. What HTTP/2 writes is collected and goes out once per turn.
//!
//! HTTP/2 writes each larger frame with a system call of its own, and a system call costs more than making the frame
//! does. So [`Wire`] takes the writes into memory, and whoever drives the transport calls [`Wire::poll_drain`] when
//! HTTP/2 has nothing more to do. Nothing waits for company: a turn ends when HTTP/2 returns `Pending`.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::greeting::Greeting;

/// Most bytes collected before they go out in the middle of a turn. When the socket does not take them, HTTP/2 waits;
/// so this is also what a peer that stops reading can hold here.
const BOUND: usize = 64 * 1024;

thread_local! {
    /// The buffer of the transport that has its turn on this thread: most turns begin and end with nothing collected,
    /// so idle transports need no buffer of their own.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Any socket, with or without TLS.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A socket with collected writes. All clones are one: HTTP/2 has one, whoever drains it the other.
///
/// Both live in one task, so the lock is never contended. The place where the frame guard will look at the bytes, both
/// ways, is here.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<State>>);

struct State {
    socket: Box<dyn Socket>,
    /// Written by HTTP/2, not yet taken by the socket; at most [`BOUND`] bytes.
    collected: Vec<u8>,
    /// HTTP/2 was told to wait for room since the last drain.
    refused: bool,
    greeting: Greeting,
}

impl Wire {
    pub(super) fn new(socket: Box<dyn Socket>) -> Self {
        let state = State { socket, collected: Vec::new(), refused: false, greeting: Greeting::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Whether the peer has sent its preface and SETTINGS.
    pub(super) fn greeted(&self) -> bool {
        self.0.lock().greeting.is_complete()
    }

    /// Gives the socket what was collected. To be called after each turn of HTTP/2; the task is woken when a socket
    /// that was full takes more. `true`: HTTP/2 was waiting for room, which there is now, so it must have another turn.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut state = self.0.lock();
        if let Poll::Ready(drained) = state.poll_drain(cx) {
            drained?;
        }
        let refused = std::mem::take(&mut state.refused);
        Ok(refused && state.room() > 0)
    }
}

impl State {
    fn room(&self) -> usize {
        BOUND - self.collected.len()
    }

    fn collect(&mut self, bytes: &[u8]) -> usize {
        if self.collected.capacity() == 0 {
            self.collected = BUFFER.take();
        }
        let taken = bytes.len().min(self.room());
        self.collected.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn poll_collect(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.room() == 0 {
            if let Poll::Ready(drained) = self.poll_drain(cx) {
                drained?;
            }
            if self.room() == 0 {
                self.refused = true;
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(slices.iter().map(|slice| self.collect(slice)).sum()))
    }

    /// Ready when the socket has taken, and sent on, everything.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let outcome = loop {
            if sent == self.collected.len() {
                break Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.socket).poll_write(cx, &self.collected[sent..]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(taken)) => sent += taken,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.keep_from(sent);
        ready!(outcome)?;
        // TLS keeps records that the socket did not take.
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Forgets the first `sent` bytes. What is left, if any, gets memory of its own size, so that a socket that stays
    /// full holds no more than it must.
    fn keep_from(&mut self, sent: usize) {
        if sent == 0 && self.collected.capacity() <= self.collected.len() {
            return;
        }
        let rest = self.collected[sent..].to_vec();
        let mut buffer = std::mem::replace(&mut self.collected, rest);
        buffer.clear();
        let other = BUFFER.take();
        BUFFER.set(if buffer.capacity() > other.capacity() { buffer } else { other });
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        let before = into.filled().len();
        ready!(Pin::new(&mut state.socket).poll_read(cx, into))?;
        state.greeting.observe(&into.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().poll_collect(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_collect(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// At once: the end of the turn flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        ready!(state.poll_drain(cx))?;
        Pin::new(&mut state.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
