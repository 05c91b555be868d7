//! The outbound half: the response body that HTTP/2 polls.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::Status;

use super::outbox::{Next, Outbox};
use crate::error::{Failure, Reason};

/// The response body of one `StreamData` call. Dropping it tells the actor that the client is gone.
#[derive(Debug)]
pub struct OutboxBody {
    outbox: Arc<Outbox>,
    done: bool,
}

impl OutboxBody {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox, done: false }
    }
}

impl Body for OutboxBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let frame = match ready!(self.outbox.poll_next(cx)) {
            Next::Chunk(chunk) => Frame::data(chunk),
            Next::Trailers(failure) => {
                self.done = true;
                Frame::trailers(trailers(failure))
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}

impl Drop for OutboxBody {
    fn drop(&mut self) {
        self.outbox.body_gone();
    }
}

fn trailers(failure: Option<Failure>) -> HeaderMap {
    let status = failure.map_or_else(|| Status::ok(""), Status::from);
    let mut trailers = HeaderMap::with_capacity(3);
    if status.add_header(&mut trailers).is_err() {
        // A message no header can hold: its text is ours, so this is our bug, and the client gets told that much.
        trailers.clear();
        trailers.insert("grpc-status", http::HeaderValue::from(Reason::Internal.code() as i32));
    }
    trailers
}
