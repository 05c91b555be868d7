//! The door of the services: lets in what is a gRPC call, gives every call that is no conversation an end in time, and sees
//! to it that what is refused by the machinery below the services is refused in the house's words.
//!
//! The machinery goes by other rules than gRPC in three places: it takes any content type, it says CANCELLED where a
//! deadline is over, and it gives a deadline up once a response has begun.

mod clock;
mod lent;
mod refusal;
mod taken;

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
    lent::{Lent, Loan},
    refusal::{corrected, not_grpc},
    taken::Taken,
};
use super::observe::{Kind, Methods};
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
    write_timeout: Duration,
}

impl GateLayer {
    /// Calls of methods that are not streams, or not in `methods`, may take `unary_timeout`, and as long may it take until a
    /// stream has been asked for; zero for no limit. Whoever takes nothing of an answer for `write_timeout` loses it, but
    /// for conversations, which see to that themselves.
    pub fn new(methods: Arc<Methods>, unary_timeout: Duration, write_timeout: Duration) -> Self {
        Self { methods, unary_timeout, write_timeout }
    }

    fn unary_timeout(&self) -> Option<Duration> {
        Some(self.unary_timeout).filter(|limit| !limit.is_zero())
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
    fn deadline<R>(&self, request: &Request<R>, kind: Kind) -> Result<Option<Instant>, Failure> {
        let wished = clock::wished(request.headers())?;
        let ours = self.layer.unary_timeout().filter(|_| kind.is_unary());
        Ok(wished.into_iter().chain(ours).min().and_then(from_now))
    }
}

impl<S, R> Service<Request<R>> for Gate<S>
where
    S: Service<Request<Lent<R>>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
    R: Send + 'static,
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
        let (layer, kind) = (&self.layer, self.layer.methods.kind(request.uri().path()));
        let deadline = match self.deadline(&request, kind) {
            Ok(deadline) => deadline,
            Err(failure) => return Gated::Refused(Some(Status::from(failure).into_http())),
        };
        let switch = request.extensions().get::<KillSwitch>().cloned();
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(Deadline(deadline));
            if let Some(switch) = &switch {
                switch.pull_at(deadline + LAST_WORDS);
            }
        }
        let (request, loan) = lend(request, kind);
        let terms = Terms {
            loan,
            // A stream that ends itself in order is given the time to.
            end: deadline
                .map(|deadline| Clock::new(if kind.is_unary() { deadline } else { deadline + LAST_WORDS / 2 })),
            begin: layer.unary_timeout().filter(|_| kind == Kind::Watch).and_then(from_now).map(Clock::new),
            taken: switch.filter(|_| kind != Kind::Conversation).map(|switch| (switch, layer.write_timeout)),
        };
        Gated::Serving { future: self.service.call(request), terms }
    }
}

/// A request whose body ends with its call. That of a conversation ends with its connection.
fn lend<R: Send + 'static>(request: Request<R>, kind: Kind) -> (Request<Lent<R>>, Option<Loan>) {
    if kind == Kind::Conversation {
        return (request.map(Lent::Given), None);
    }
    let (parts, body) = request.into_parts();
    let (lent, loan) = Lent::new(body);
    (Request::from_parts(parts, lent), Some(loan))
}

/// That time from now; none if no clock can show it.
fn from_now(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

/// What a call is held to.
#[derive(Debug)]
pub struct Terms {
    /// Of its request's body.
    loan: Option<Loan>,
    /// When its response has to be over.
    end: Option<Clock>,
    /// When its response has to have begun: a stream that nobody has finished asking for is none yet.
    begin: Option<Clock>,
    /// What ends it when nothing of its response has been taken for so long.
    taken: Option<(KillSwitch, Duration)>,
}

impl Terms {
    /// Ready when the response is late.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let late = [&mut self.begin, &mut self.end].into_iter().flatten().any(|clock| clock.poll(cx).is_ready());
        if late { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The response, which is held to them to its end.
    fn hold(&mut self, response: Response<Body>) -> Response<Body> {
        let response = match self.end.take() {
            Some(clock) => response.map(|body| Body::new(InTime::new(body, clock))),
            None => response,
        };
        match (self.taken.take(), self.loan.take()) {
            (None, None) => response,
            (taken, loan) => response.map(|body| Body::new(Taken::new(body, taken, loan))),
        }
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
        /// On these.
        terms: Terms,
    },
}

impl<F> Future for Gated<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (future, terms) = match &mut *self {
            Self::Refused(response) => return Poll::Ready(Ok(response.take().unwrap_or_default())),
            Self::Serving { future, terms } => (future, terms),
        };
        if let Poll::Ready(answered) = Pin::new(future).poll(cx) {
            return Poll::Ready(answered.map(|response| terms.hold(corrected(response))));
        }
        ready!(terms.poll(cx));
        Poll::Ready(Ok(Status::from(late()).into_http()))
    }
}

fn late() -> Failure {
    Failure::new(Reason::Deadline, "the call was not over in its time")
}
