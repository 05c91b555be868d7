//! The door of the services: lets in what is a gRPC call, gives every call that is no stream an end in time, and sees to
//! it that what is refused by the machinery below the services is refused in the house's words.
//!
//! The machinery goes by other rules than gRPC in three places: it takes any content type, it says CANCELLED where a
//! deadline is over, and it gives a deadline up once a response has begun.

mod clock;
mod refusal;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use self::{
    clock::{Clock, InTime},
    refusal::{corrected, not_grpc},
};
use super::observe::Methods;
use crate::{
    error::{Failure, Reason},
    types::{Deadline, KillSwitch},
};

/// How long the word that a call's time is over may take to go out before its stream is reset.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Puts [`Gate`] before a service.
#[derive(Debug, Clone)]
pub struct GateLayer {
    methods: Arc<Methods>,
    unary_timeout: Duration,
}

impl GateLayer {
    /// Calls of methods that are not streams, or not in `methods`, may take `unary_timeout`; zero for no limit.
    pub fn new(methods: Arc<Methods>, unary_timeout: Duration) -> Self {
        Self { methods, unary_timeout }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, service: S) -> Gate<S> {
        Gate { service, layer: self.clone() }
    }
}

/// A service that only sees calls.
#[derive(Debug, Clone)]
pub struct Gate<S> {
    service: S,
    layer: GateLayer,
}

impl<S> Gate<S> {
    /// When the call has to be over, if it has to.
    fn deadline<R>(&self, request: &Request<R>, is_unary: bool) -> Result<Option<Instant>, Failure> {
        let wished = clock::wished(request.headers())?;
        let ours = Some(self.layer.unary_timeout).filter(|limit| is_unary && !limit.is_zero());
        let shorter = wished.into_iter().chain(ours).min();
        // A time that no clock can show is none.
        Ok(shorter.and_then(|time| Instant::now().checked_add(time)))
    }
}

impl<S, R> Service<Request<R>> for Gate<S>
where
    S: Service<Request<R>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Gated<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        if let Some(response) = not_grpc(&request) {
            return Gated::Refused(Some(response));
        }
        let is_unary = self.layer.methods.is_unary(request.uri().path());
        let deadline = match self.deadline(&request, is_unary) {
            Ok(deadline) => deadline,
            Err(failure) => return Gated::Refused(Some(Status::from(failure).into_http())),
        };
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(Deadline(deadline));
            if let Some(switch) = request.extensions().get::<KillSwitch>() {
                switch.pull_at(deadline + LAST_WORDS);
            }
        }
        // A stream that ends itself in order is given the time to.
        let clock = deadline.map(|deadline| Clock::new(if is_unary { deadline } else { deadline + LAST_WORDS / 2 }));
        Gated::Serving { future: self.service.call(request), clock }
    }
}

/// A call whose response has not begun.
#[derive(Debug)]
pub enum Gated<F> {
    /// It does not get any further.
    Refused(Option<Response<Body>>),
    /// It is being served.
    Serving {
        /// By this.
        future: F,
        /// In this time.
        clock: Option<Clock>,
    },
}

impl<F> Future for Gated<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (future, clock) = match &mut *self {
            Self::Refused(response) => return Poll::Ready(Ok(response.take().unwrap_or_default())),
            Self::Serving { future, clock } => (future, clock),
        };
        if let Poll::Ready(answered) = Pin::new(future).poll(cx) {
            let clock = clock.take();
            return Poll::Ready(answered.map(|response| match clock {
                Some(clock) => corrected(response).map(|body| Body::new(InTime::new(body, clock))),
                None => corrected(response),
            }));
        }
        let Some(clock) = clock else { return Poll::Pending };
        ready!(clock.poll(cx));
        Poll::Ready(Ok(Status::from(late()).into_http()))
    }
}

fn late() -> Failure {
    Failure::new(Reason::Deadline, "the call was not over in its time")
}
