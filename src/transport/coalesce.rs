//! The decrypted bytes between HTTP/2 and the socket. What HTTP/2 writes is collected and goes out once per turn.
//!
//! HTTP/2 writes each larger frame with a system call of its own, and a system call costs more than making the frame
//! does. So [`Wire`] takes the writes into memory, and whoever drives the transport calls [`Wire::poll_drain`] when
//! HTTP/2 has nothing more to do. Nothing waits for company: a turn ends when HTTP/2 returns `Pending`.

use std::{
    cell::Cell,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    guard::{Debts, Guard},
    meter::End,
};

/// Most bytes collected before they go out in the middle of a turn. When the socket does not take them, HTTP/2 waits;
/// so this is also what a peer that stops reading can hold here.
pub(super) const BOUND: usize = 64 * 1024;

/// Bytes of what a peer still sends that are read, and thrown away, at once.
const UNREAD: usize = 8 * 1024;

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
/// Both live in one task, so the lock is never contended. The frame guard looks at the bytes here, both ways; once it has
/// come to a verdict, HTTP/2 can neither read nor say anything more.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<State>>);

struct State {
    socket: Box<dyn Socket>,
    /// Written by HTTP/2, not yet taken by the socket; at most [`BOUND`] bytes.
    collected: Vec<u8>,
    /// HTTP/2 was told to wait for room since the last drain.
    refused: bool,
    /// Since when the socket has taken nothing of what is collected.
    stuck_since: Option<Instant>,
    guard: Guard,
}

impl Wire {
    pub(super) fn new(socket: Box<dyn Socket>, guard: Guard) -> Self {
        let state = State { socket, collected: Vec::new(), refused: false, stuck_since: None, guard };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Whether the peer has sent its preface and SETTINGS.
    pub(super) fn greeted(&self) -> bool {
        self.0.lock().guard.greeted()
    }

    /// Bytes that HTTP/2 has written and the socket has not taken.
    pub(super) fn collected(&self) -> usize {
        self.0.lock().collected.len()
    }

    /// Why the guard ends the transport, if it does and what HTTP/2 has said ends with a whole frame.
    pub(super) fn verdict(&self) -> Option<End> {
        self.0.lock().guard.verdict()
    }

    /// What the peer has used up of its allowances.
    pub(super) fn debts(&self) -> Debts {
        self.0.lock().guard.debts(Instant::now())
    }

    /// Since when the socket has taken nothing of what there is for it; `None` while it takes something, or nothing waits.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.0.lock().stuck_since
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

    /// Says the guard's last words, if it has any, ends our half, and reads on to the end of the peer's: a socket that is
    /// closed with something unread is reset, and a reset takes with it what the peer has not read yet. Does not end while
    /// the peer goes on; cancel it.
    pub(super) async fn take_leave(&self) -> io::Result<()> {
        let words = self.0.lock().guard.last_words();
        self.0.lock().collected.extend(words.unwrap_or_default());
        poll_fn(|cx| self.0.lock().poll_end(cx)).await?;
        let mut unread = vec![0; UNREAD];
        loop {
            let mut buffer = ReadBuf::new(&mut unread);
            poll_fn(|cx| Pin::new(&mut self.0.lock().socket).poll_read(cx, &mut buffer)).await?;
            if buffer.filled().is_empty() {
                return Ok(());
            }
        }
    }
}

impl State {
    fn room(&self) -> usize {
        BOUND.saturating_sub(self.collected.len())
    }

    fn collect(&mut self, bytes: &[u8]) -> usize {
        if self.collected.capacity() == 0 {
            self.collected = BUFFER.take();
        }
        let taken = bytes.len().min(self.room());
        let said = self.guard.sent(&bytes[..taken], Instant::now);
        self.collected.extend_from_slice(&bytes[..said]);
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
        let waits = outcome.is_pending();
        self.stuck_since = waits.then(|| self.stuck_since.filter(|_| sent == 0).unwrap_or_else(Instant::now));
        ready!(outcome)?;
        // TLS keeps records that the socket did not take.
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
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
        // Whoever drives the transport looks for a verdict after each turn, so nobody has to be woken for one.
        if state.guard.has_judged() {
            return Poll::Pending;
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut state.socket).poll_read(cx, into))?;
        let passed = state.guard.received(&into.filled()[before..], Instant::now);
        into.set_filled(before + passed);
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
        // The last word is not HTTP/2's then.
        if state.guard.has_judged() { Poll::Ready(Ok(())) } else { state.poll_end(cx) }
    }
}

#[cfg(test)]
mod tests;
