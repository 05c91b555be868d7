//! A request's body, lent to its service for as long as the call lasts.
//!
//! A service may hand the body on to a task of its own, as that of reflection does, which would then hold it when the call
//! is over: and HTTP/2 ends no stream of which somebody holds a half. So the body is called in when the response is gone, for
//! whatever reason.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

/// See the module.
#[derive(Debug)]
pub enum Lent<R> {
    /// For good: a conversation's, whose connection ends with its response.
    Given(R),
    /// Until it is called in; then it has ended.
    Lent(Arc<Shared<R>>),
}

/// What whoever has the body and whoever lent it have in common.
#[derive(Debug)]
pub struct Shared<R>(Mutex<State<R>>);

#[derive(Debug)]
struct State<R> {
    body: Option<R>,
    /// Of whoever waits for more of it.
    waker: Option<Waker>,
}

impl<R: Send + 'static> Lent<R> {
    /// Lends a body until the loan is dropped.
    pub(super) fn new(body: R) -> (Self, Loan) {
        let shared = Arc::new(Shared(Mutex::new(State { body: Some(body), waker: None })));
        (Self::Lent(shared.clone()), Loan(shared))
    }
}

impl<R: Body + Unpin> Body for Lent<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let shared = match &mut *self {
            Self::Given(body) => return Pin::new(body).poll_frame(cx),
            Self::Lent(shared) => shared,
        };
        let mut state = shared.0.lock();
        let Some(body) = &mut state.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        state.waker = frame.is_pending().then(|| cx.waker().clone());
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Given(body) => body.is_end_stream(),
            Self::Lent(shared) => shared.0.lock().body.as_ref().is_none_or(R::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Given(body) => body.size_hint(),
            Self::Lent(shared) => shared.0.lock().body.as_ref().map_or_else(SizeHint::default, R::size_hint),
        }
    }
}

/// Calls the body in when dropped.
pub(super) struct Loan(Arc<dyn CallIn>);

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loan").finish_non_exhaustive()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.0.call_in();
    }
}

trait CallIn: Send + Sync {
    fn call_in(&self);
}

impl<R: Send> CallIn for Shared<R> {
    fn call_in(&self) {
        let (body, waker) = {
            let mut state = self.0.lock();
            (state.body.take(), state.waker.take())
        };
        drop(body);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use tonic::{Status, body::Body as Tonic};

    use super::*;

    /// A body that never has anything.
    #[derive(Debug)]
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_body_that_is_called_in_has_ended_for_whoever_waits_for_more_of_it() {
        let (lent, loan) = Lent::new(Silent);
        let mut body = Tonic::new(lent);
        let more = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let (frame, ()) = tokio::join!(more, async { drop(loan) });
        assert!(frame.is_none());
    }
}
