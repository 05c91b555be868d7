//! The switch that ends a stream whose peer no longer lets us end it politely.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

/// When a call has to be over. In a request's extensions, if that is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// Ends the HTTP/2 stream it was made for, with RST_STREAM, whatever its flow control says.
///
/// The transport makes one for each stream and puts it into the request's extensions; the connection pulls it when a
/// polite end has not gone out in time. Dropping a response does not do that: HTTP/2 stops polling a stream that is
/// out of window, so it would stay for as long as the peer likes.
#[derive(Debug, Clone, Default)]
pub struct KillSwitch(Arc<Switch>);

#[derive(Debug, Default)]
struct Switch {
    pulled: AtomicBool,
    stream: AtomicWaker,
    at: OnceLock<Instant>,
    /// Whether `stalls` was ever said, which it is of few streams: the others' lock is not taken at every turn.
    is_watched: AtomicBool,
    stalls: Mutex<Option<Instant>>,
}

impl KillSwitch {
    /// Ends the stream now. Idempotent.
    pub fn pull(&self) {
        self.0.pulled.store(true, Ordering::Release);
        self.0.stream.wake();
    }

    /// Has the stream end at that time, if it has not ended by then. Only the first time counts. To be called from the
    /// stream's own task, which looks for it before it waits.
    pub fn pull_at(&self, at: Instant) {
        self.0.at.get_or_init(|| at);
    }

    /// Has the stream end at that time, unless this is said again before, with another time or none. For an answer that has
    /// to be taken: each piece of it sets the time anew. From the stream's own task, like [`pull_at`](Self::pull_at).
    pub fn stalls_at(&self, at: Option<Instant>) {
        self.0.is_watched.store(true, Ordering::Relaxed);
        *self.0.stalls.lock() = at;
    }

    /// When the stream is to end by itself.
    pub fn due(&self) -> Option<Instant> {
        let stalls = if self.0.is_watched.load(Ordering::Relaxed) { *self.0.stalls.lock() } else { None };
        self.0.at.get().copied().into_iter().chain(stalls).min()
    }

    /// Ready once pulled. Wakes only the task that asked last: the stream's own.
    pub fn poll_pulled(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Registered before looking, so that a pull in between is either seen or wakes.
        self.0.stream.register(cx.waker());
        if self.0.pulled.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn pulling_wakes_who_waits_and_is_remembered() {
        let switch = KillSwitch::default();
        tokio::join!(poll_fn(|cx| switch.poll_pulled(cx)), async { switch.clone().pull() });
        poll_fn(|cx| switch.poll_pulled(cx)).await;
    }

    #[test]
    fn the_first_deadline_stays_and_the_time_of_a_stall_moves() {
        let (switch, now) = (KillSwitch::default(), Instant::now());
        let after = |seconds| now + std::time::Duration::from_secs(seconds);
        assert_eq!(switch.due(), None);
        switch.stalls_at(Some(after(5)));
        switch.pull_at(after(3));
        switch.pull_at(after(1));
        assert_eq!(switch.due(), Some(after(3)));
        switch.stalls_at(Some(after(2)));
        assert_eq!(switch.due(), Some(after(2)));
        switch.stalls_at(None);
        assert_eq!(switch.due(), Some(after(3)));
    }
}
