//! The request side of a call: frames waiting for HTTP/2 to take them.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::Stream;
use parking_lot::Mutex;

use crate::proto::v1::StreamDataRequest;

/// The worker's end. The worker never waits for it, because it must go on reading whatever the server does.
///
/// Its bound is what is put in: per session at most `max_inflight_publishes` publishes, as many acknowledgements as
/// its credit has events and a few opens and pauses; and one heartbeat.
#[derive(Debug)]
pub(super) struct Outbox(Arc<Mutex<Queue>>);

/// HTTP/2's end: ends, and so half-closes the call, once the outbox is closed and empty.
#[derive(Debug)]
pub(super) struct Frames(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<StreamDataRequest>,
    heartbeat: Option<StreamDataRequest>,
    closed: bool,
    waker: Option<Waker>,
}

impl Outbox {
    pub(super) fn new() -> (Self, Frames) {
        let queue = Arc::default();
        (Self(Arc::clone(&queue)), Frames(queue))
    }

    /// After everything that waits.
    pub(super) fn push(&self, frame: StreamDataRequest) {
        self.change(|queue| queue.frames.push_back(frame));
    }

    /// Before everything that waits, because a probe must be answered in time even behind a megabyte of publishes;
    /// and instead of a heartbeat that still waits.
    pub(super) fn heartbeat(&self, frame: StreamDataRequest) {
        self.change(|queue| queue.heartbeat = Some(frame));
    }

    /// What waits is still sent. Idempotent.
    pub(super) fn close(&self) {
        self.change(|queue| queue.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.0.lock();
        change(&mut queue);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.close();
    }
}

impl Stream for Frames {
    type Item = StreamDataRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StreamDataRequest>> {
        let mut queue = self.0.lock();
        let next = queue.heartbeat.take().or_else(|| queue.frames.pop_front());
        match next {
            Some(frame) => Poll::Ready(Some(frame)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
