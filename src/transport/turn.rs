//! One turn of a transport: HTTP/2 does what it can, and what it has to say goes out in one write.

use std::{
    error::Error as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{body::Incoming, server::conn::http2::Connection, service::HttpService};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{call::Calls, coalesce::Wire, company::Company, executor::StreamExecutor, meter::End};

/// What is kept from one turn to the next.
pub(super) struct Turns {
    company: Company,
    stall: Stall,
}

impl Turns {
    /// Of a transport with these calls, whose socket may take nothing for so long.
    pub(super) fn new(calls: &Calls, write_timeout: Duration) -> Self {
        Self { company: Company::new(calls), stall: Stall::new(write_timeout) }
    }
}

/// A turn of HTTP/2, then one write of what it had to say, unless there is more to come.
pub(super) fn poll_http<S, B>(
    mut http: Pin<&mut Connection<TokioIo<Wire>, S, StreamExecutor>>,
    wire: &Wire,
    turns: &mut Turns,
    cx: &mut Context<'_>,
) -> Poll<End>
where
    Connection<TokioIo<Wire>, S, StreamExecutor>: Future<Output = hyper::Result<()>>,
    S: HttpService<Incoming, ResBody = B>,
{
    loop {
        let ended = http.as_mut().poll(cx);
        if let Some(verdict) = wire.verdict() {
            return Poll::Ready(verdict);
        }
        if let Poll::Ready(ended) = ended {
            return Poll::Ready(ended.map_or_else(|error| end(&error), |()| End::Closed));
        }
        if turns.company.is_expected(|| wire.collected()) {
            // At the end of the queue of tasks, behind the streams that are ready.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match wire.poll_drain(cx) {
            Ok(true) => {}
            Ok(false) => return turns.stall.poll(wire.stuck_since(), cx),
            Err(_) => return Poll::Ready(End::Lost),
        }
    }
}

/// The clock of a socket that takes nothing of what there is for it.
struct Stall {
    limit: Duration,
    /// Runs only while that is so, which is rare.
    clock: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn new(limit: Duration) -> Self {
        Self { limit, clock: None }
    }

    fn poll(&mut self, since: Option<Instant>, cx: &mut Context<'_>) -> Poll<End> {
        let Some(end) = since.map(|since| since + self.limit) else {
            self.clock = None;
            return Poll::Pending;
        };
        let clock = self.clock.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if clock.deadline() != end {
            clock.as_mut().reset(end);
        }
        clock.as_mut().poll(cx).map(|()| End::WriteStalled)
    }
}

/// Whose doing an error of the transport was.
fn end(error: &hyper::Error) -> End {
    if error.is_timeout() {
        return End::KeepaliveTimeout;
    }
    let cause = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    if cause.is_some_and(|cause| !cause.is_io()) { End::Protocol } else { End::Lost }
}
