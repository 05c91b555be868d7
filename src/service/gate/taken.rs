//! Whether the answer to a call is taken by whoever asked for it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use super::{from_now, lent::Loan};
use crate::types::KillSwitch;

/// A response's body, whose stream is reset when nothing of it has been taken for too long.
///
/// HTTP/2 asks a body for more when there is room for more, and never while a peer keeps its window shut: a body, or a
/// deadline inside of one, would not hear of that. So the time runs from each piece until more is asked for, and it is the
/// stream's own, which looks at it whether anything is asked or not. What is waited for on our side costs nobody anything.
#[derive(Debug)]
pub(super) struct Taken {
    body: Body,
    /// None where nobody could reset the stream.
    watch: Option<(KillSwitch, Duration)>,
    /// The request's body is called in with this.
    _loan: Option<Loan>,
}

impl Taken {
    /// The head of the response is the first piece.
    pub(super) fn new(body: Body, watch: Option<(KillSwitch, Duration)>, loan: Option<Loan>) -> Self {
        let taken = Self { body, watch, _loan: loan };
        taken.given();
        taken
    }

    /// From now on it counts how long that is not taken.
    fn given(&self) {
        if let Some((switch, limit)) = &self.watch {
            switch.stalls_at(from_now(*limit));
        }
    }

    fn asked_for_more(&self) {
        if let Some((switch, _)) = &self.watch {
            switch.stalls_at(None);
        }
    }
}

impl http_body::Body for Taken {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.asked_for_more();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.given();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
