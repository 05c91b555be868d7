//! How many calls there may be at once that are no conversations: each may bring a large message, and its client need not
//! take the answer, so that without a limit they would be the one thing here that has none.
//!
//! Whoever asks how the server is has places of its own, a few on each transport: that question has to be answered while
//! everything is full, most of all then, and nobody can take another's places. It is a short one, and so is its answer.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{self, Either, Ready};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body};
use tower::Service;

use super::observe::{Kind, Methods};
use crate::{
    error::{Failure, Reason},
    types::TransportHandle,
};

/// How long whoever is refused is to wait.
const PAUSE: Duration = Duration::from_secs(1);

/// A service that takes so many calls at once. Conversations are not counted: they have a limit of their own.
#[derive(Debug, Clone)]
pub struct Crowd<S> {
    service: S,
    methods: Arc<Methods>,
    places: Arc<Semaphore>,
    most: usize,
}

impl<S> Crowd<S> {
    /// At most `most` calls at once of methods that are no conversations and do not ask for health; one more is refused
    /// with CALL_LIMIT.
    pub fn new(service: S, methods: Arc<Methods>, most: usize) -> Self {
        Self { service, methods, places: Arc::new(Semaphore::new(most)), most }
    }

    /// A place for a call, if it needs one; or why there is none.
    fn place<R>(&self, request: &Request<R>) -> Result<Option<OwnedSemaphorePermit>, String> {
        match self.methods.kind(request.uri().path()) {
            Kind::Conversation => Ok(None),
            Kind::Watch | Kind::Check => {
                let Some(transport) = request.extensions().get::<TransportHandle>() else { return Ok(None) };
                let most = TransportHandle::HEALTH_CALLS;
                transport.health_place().map(Some).ok_or_else(|| format!("at most {most} calls at once ask for health"))
            }
            Kind::Unary => {
                let place = self.places.clone().try_acquire_owned();
                place.map(Some).map_err(|_| format!("the server answers at most {} calls at once", self.most))
            }
        }
    }
}

impl<S, R> Service<Request<R>> for Crowd<S>
where
    S: Service<Request<R>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response<Body>, Infallible>>, Held<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        match self.place(&request) {
            Ok(place) => Either::Right(Held { future: self.service.call(request), place }),
            Err(message) => {
                let refused = Failure::new(Reason::CallLimit, message).retry_after(PAUSE);
                Either::Left(future::ready(Ok(Status::from(refused).into_http())))
            }
        }
    }
}

/// A call whose response has not begun, and its place.
#[derive(Debug)]
pub struct Held<F> {
    future: F,
    place: Option<OwnedSemaphorePermit>,
}

impl<F> Future for Held<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(Pin::new(&mut self.future).poll(cx));
        let place = self.place.take();
        Poll::Ready(Ok(match place {
            Some(place) => response.map(|body| Body::new(HeldBody { body, _place: place })),
            None => response,
        }))
    }
}

/// The answer, which keeps the call's place until it is gone.
#[derive(Debug)]
struct HeldBody {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
