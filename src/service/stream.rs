//! `StreamService/StreamData`, by hand: both bodies go past the codec.
//!
//! A generated service would encode every message for every receiver; here the events in a response are shared bytes, see
//! `connection::OutboxBody`. And it would keep a buffer of the size of the largest request: see `connection::Frames`.

mod heard;

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{Ready, ready};
use http::{HeaderValue, Request, Response, header};
use prost::bytes::Bytes;
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

use self::heard::Heard;
use crate::{
    auth::Caller,
    connection::{self, BodyError, Call, Frames, OutboxBody, Shared},
    error::{Failure, Reason},
    telemetry::Span,
    types::{Deadline, KillSwitch, TransportHandle},
};

/// The only method of the service.
const PATH: &str = "/bowline.v1.StreamService/StreamData";

/// The service.
#[derive(Debug, Clone)]
pub(super) struct StreamService(Arc<Shared>);

impl StreamService {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    fn open<B>(&self, request: Request<B>) -> Result<OutboxBody, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (parts, body) = request.into_parts();
        check_encoding(&parts.headers)?;
        let caller = parts.extensions.get::<Caller>().cloned();
        let missing = || Failure::new(Reason::Internal, "the call came without its transport");
        let transport = parts.extensions.get::<TransportHandle>().ok_or_else(missing)?.clone();
        let kill = parts.extensions.get::<KillSwitch>().ok_or_else(missing)?.clone();
        let deadline = parts.extensions.get::<Deadline>().map(|deadline| deadline.0);
        let opening = parts.extensions.get::<Span>().cloned().unwrap_or_default();
        let limit = self.0.config.decode_limit();
        let admission = self.0.registry.admit(transport.peer).inspect_err(|failure| {
            // Who was told to move, and comes again on the transport it has, gets elsewhere only by another.
            if failure.reason == Reason::Broker {
                transport.go_away();
            }
        })?;
        let body = Heard::new(body, &self.0, admission.entry().clone());
        let requests = Frames::new(body, limit);
        Ok(connection::spawn(&self.0, Call { requests, caller, transport, kill, deadline, opening }, admission))
    }
}

impl NamedService for StreamService {
    const NAME: &'static str = "bowline.v1.StreamService";
}

impl<B> Service<Request<B>> for StreamService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        if path != PATH {
            let failure = Failure::new(Reason::Unsupported, format!("there is no method {path}"));
            return ready(Ok(Status::from(failure).into_http()));
        }
        ready(Ok(match self.open(request) {
            Ok(body) => {
                let mut response = Response::new(Body::new(body));
                let grpc = HeaderValue::from_static("application/grpc");
                response.headers_mut().insert(header::CONTENT_TYPE, grpc);
                response
            }
            Err(failure) => {
                tracing::debug!(reason = failure.reason.as_str(), message = %failure.message, "call refused");
                Status::from(failure).into_http()
            }
        }))
    }
}

/// Compression is off: a heartbeat and a secret must not share a dictionary.
fn check_encoding(headers: &http::HeaderMap) -> Result<(), Failure> {
    match headers.get("grpc-encoding") {
        Some(encoding) if encoding != "identity" => {
            Err(Failure::new(Reason::Unsupported, "compressed messages are not accepted"))
        }
        _ => Ok(()),
    }
}
