//! What the outbound half tells the actor, which looks for it whenever it is woken: with a lock, as a token that many may
//! wait for has, it would pay for it at each frame.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicU8, Ordering},
    task::Poll,
};

use futures_util::task::AtomicWaker;

/// The connection is being closed.
pub(super) const CLOSING: u8 = 1;
/// The body has ended or is gone.
pub(super) const ENDED: u8 = 2;

/// Raised once, for good, each; seen by one task.
#[derive(Debug, Default)]
pub(super) struct Signal {
    raised: AtomicU8,
    listener: AtomicWaker,
}

impl Signal {
    pub(super) fn raise(&self, what: u8) {
        self.raised.fetch_or(what, Ordering::Release);
        self.listener.wake();
    }

    /// Completes once any of `what` has been raised. Cancel-safe; only the task that asked last is woken.
    pub(super) async fn of(&self, what: u8) {
        let is_raised = || self.raised.load(Ordering::Acquire) & what != 0;
        poll_fn(|cx| {
            if !is_raised() {
                self.listener.register(cx.waker());
                // What was raised before that has woken nobody.
                if !is_raised() {
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}
