//! A call's time: what its client wishes, and a response that ends when it is over.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};

use super::late;
use crate::error::{Failure, Reason};

/// The header by which a client says how long it will wait.
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// How long the client will wait, if it says so: at most eight digits and a unit.
pub(super) fn wished(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let mut values = headers.get_all(GRPC_TIMEOUT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let time = value.to_str().ok().filter(|_| values.next().is_none()).and_then(duration);
    time.map(Some).ok_or_else(|| {
        let message = "grpc-timeout is not one number of at most eight digits and one of the units H, M, S, m, u, n";
        Failure::new(Reason::Protocol, message)
    })
}

fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    let count: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Runs only from the first time that somebody has to wait: most calls are over before.
#[derive(Debug)]
pub(super) struct Clock {
    end: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    pub(super) fn new(end: Instant) -> Self {
        Self { end, sleep: None }
    }

    /// Ready when the time is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = self.end;
        self.sleep.get_or_insert_with(|| Box::pin(sleep_until(end))).as_mut().poll(cx)
    }
}

/// A response's body until its time is over; then the trailers that say so.
#[derive(Debug)]
pub(super) struct InTime {
    body: Option<Body>,
    clock: Clock,
}

impl InTime {
    pub(super) fn new(body: Body, clock: Clock) -> Self {
        Self { body: Some(body), clock }
    }
}

impl http_body::Body for InTime {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if this.clock.poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.body = None;
        let mut trailers = HeaderMap::new();
        // Only a message that is no header value can fail to be added, and ours is one.
        drop(Status::from(late()).add_header(&mut trailers));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // It may end earlier than its body would.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_a_number_with_a_unit_or_refused() {
        let wish = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(GRPC_TIMEOUT, value.parse().unwrap());
            }
            wished(&headers)
        };
        assert_eq!(wish(&[]), Ok(None));
        for (text, time) in [
            ("1n", Duration::from_nanos(1)),
            ("20u", Duration::from_micros(20)),
            ("500m", Duration::from_millis(500)),
            ("0S", Duration::ZERO),
            ("3M", Duration::from_secs(180)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(wish(&[text]), Ok(Some(time)), "{text}");
        }
        for bad in [&["1"][..], &["S"], &[""], &["-1S"], &["+1S"], &["1s"], &["100000000S"], &["1 S"], &["1S", "1S"]] {
            assert_eq!(wish(bad).unwrap_err().reason, Reason::Protocol, "{bad:?}");
        }
    }
}
