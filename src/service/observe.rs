//! What is seen of every call from outside: one record when it opens, one when it closes, and its metrics.
//!
//! The close is recorded when the response's body is dropped, for it is dropped on every path: at the end, when the
//! client cancels or vanishes, when the stream is killed, when the service panics.

mod method;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status};
use tower::{Layer, Service};

use self::method::Method;
use crate::{
    telemetry::{self, Line, Span, Sparing, Traces, metrics::Metrics},
    types::TransportHandle,
};

pub use self::method::{Kind, Methods};

/// About streams that open and close.
static LINES: LazyLock<Sparing> = LazyLock::new(|| Sparing::new(3));

/// Puts [`Observe`] around a service.
#[derive(Debug, Clone)]
pub struct ObserveLayer {
    methods: Arc<Methods>,
    metrics: Arc<Metrics>,
    traces: Traces,
}

impl ObserveLayer {
    /// Calls of methods that are not in `methods` are recorded as `unknown`.
    pub fn new(methods: Arc<Methods>, metrics: Arc<Metrics>, traces: Traces) -> Self {
        Self { methods, metrics, traces }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, service: S) -> Observe<S> {
        Observe { service, layer: self.clone() }
    }
}

/// A service whose calls are recorded.
#[derive(Debug, Clone)]
pub struct Observe<S> {
    service: S,
    layer: ObserveLayer,
}

impl<S, R> Service<Request<R>> for Observe<S>
where
    S: Service<Request<R>, Response = Response<tonic::body::Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<ObservedBody>;
    type Error = Infallible;
    type Future = Observed<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let method = self.layer.methods.find(request.uri().path());
        let peer = request.extensions().get().map(|transport: &TransportHandle| transport.peer);
        let span = self.layer.traces.call(telemetry::Call {
            method: method.full_name,
            unary: method.is_unary(),
            headers: request.headers(),
            authority: request.uri().authority().map(http::uri::Authority::as_str),
            peer,
        });
        let mut record = span.in_scope(|| Record::open(method, peer, self.layer.metrics.clone()));
        if span.is_traced() {
            // A publish is a part of its call; and of a stream, the connection says when its opening is over.
            request.extensions_mut().insert(span.clone());
        }
        if method.is_unary() {
            record.span = span.clone();
        }
        let future = span.in_scope(|| self.service.call(request));
        Observed { future, span, record: Some(record) }
    }
}

/// A call whose response has not begun.
#[derive(Debug)]
pub struct Observed<F> {
    future: F,
    span: Span,
    record: Option<Record>,
}

impl<F> Future for Observed<F>
where
    F: Future<Output = Result<Response<tonic::body::Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<ObservedBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let future = Pin::new(&mut this.future);
        let answered = this.span.in_scope(|| match &mut this.record {
            Some(record) => record.through(|| future.poll(cx)),
            None => future.poll(cx),
        });
        let Ok(response) = ready!(answered);
        let mut record = this.record.take();
        if let Some(record) = &mut record {
            record.answered(&response);
            if let Some(refused) = record.code {
                this.span.answered(refused);
            }
        }
        // The body may live for hours, and a span is not seen before it ends.
        this.span = Span::default();
        Poll::Ready(Ok(response.map(|body| ObservedBody { body, record })))
    }
}

/// A response's body; dropping it closes the record.
#[derive(Debug)]
pub struct ObservedBody {
    body: tonic::body::Body,
    record: Option<Record>,
}

impl Body for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let body = Pin::new(&mut this.body);
        let Some(record) = &mut this.record else { return body.poll_frame(cx) };
        let frame = ready!(record.through(|| body.poll_frame(cx)));
        match &frame {
            Some(Ok(frame)) => record.code = frame.trailers_ref().and_then(code).or(record.code),
            Some(Err(status)) => record.code = Some(status.code()),
            // An end without trailers has no status, which a client takes for UNKNOWN.
            None => record.code = record.code.or(Some(Code::Unknown)),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// One call, from its opening record to its closing one.
#[derive(Debug)]
struct Record {
    method: Method,
    peer: Option<SocketAddr>,
    metrics: Arc<Metrics>,
    opened: Instant,
    /// The status, once it has been seen.
    code: Option<Code>,
    /// The service is being polled. When this is dropped so, the poll did not return: it panicked.
    inside: bool,
    /// All of a unary call; nothing of a stream.
    span: Span,
}

/// Unary calls are too many to be information; streams are few and long, or somebody means harm.
macro_rules! record {
    ($method:expr, $($fields:tt)*) => {
        match if $method.is_unary() { Line::LeftOut } else { LINES.next() } {
            Line::Written { left_out } => tracing::info!(left_out, $($fields)*),
            Line::LeftOut => tracing::debug!($($fields)*),
        }
    };
}

impl Record {
    fn open(method: Method, peer: Option<SocketAddr>, metrics: Arc<Metrics>) -> Self {
        metrics.rpc_started(method.grpc_type, method.service, method.name);
        let peer_field = peer.map(tracing::field::display);
        record!(method, service = method.service, method = method.name, peer = peer_field, "call opened");
        Self { method, peer, metrics, opened: Instant::now(), code: None, inside: false, span: Span::default() }
    }

    fn through<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        self.inside = true;
        let polled = poll();
        self.inside = false;
        polled
    }

    /// A response that is all headers has its status there; what is no gRPC at all has only that of HTTP.
    fn answered<B: Body>(&mut self, response: &Response<B>) {
        self.code = code(response.headers()).or_else(|| (!response.status().is_success()).then_some(Code::Unknown));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Method { grpc_type, service, name, .. } = self.method;
        let code = self.code.unwrap_or(if self.inside { Code::Internal } else { Code::Cancelled });
        let took = self.opened.elapsed();
        self.metrics.rpc_handled(grpc_type, service, name, code);
        if self.method.is_unary() {
            // One message in; one out, if all went well. A stream's are counted where its frames are.
            self.metrics.rpc_msg_received(grpc_type, service, name).inc();
            self.metrics.rpc_msg_sent(grpc_type, service, name).inc_by(u64::from(code == Code::Ok));
            self.metrics.rpc_duration(grpc_type, service, name, took);
        }
        let peer = self.peer.map(tracing::field::display);
        self.span.answered(code);
        self.span
            .in_scope(|| record!(self.method, service, method = name, peer, code = ?code, took = ?took, "call closed"));
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

#[cfg(test)]
mod tests;
