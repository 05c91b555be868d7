//! One transport, from its accepted socket to its end.

use std::{
    convert::Infallible,
    error::Error as _,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    server::conn::http2::{Builder, Connection},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{
    Config,
    call::answer,
    coalesce::{Socket, Wire},
    executor::StreamExecutor,
    meter::{End, Metered},
    tls::Tls,
};
use crate::{
    lifecycle::Tasks,
    telemetry::metrics::Metrics,
    types::{PeerIdentity, TransportHandle},
};

/// What all transports of a listener have in common.
pub(super) struct Host<S> {
    pub(super) service: S,
    pub(super) http: Builder<StreamExecutor>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) greeting_timeout: Duration,
    pub(super) goaway_timeout: Duration,
    pub(super) metrics: Arc<Metrics>,
    /// Cancelled when whatever is left has to end where it stands.
    pub(super) cut: CancellationToken,
}

impl<S, B> Host<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    /// Serves one peer until it, we or the network ends it. Cancelling `goaway` makes it leave in order.
    pub(super) async fn run(&self, socket: Box<dyn Socket>, peer: SocketAddr, goaway: CancellationToken) {
        let mut metered = Metered::open(self.metrics.clone());
        // Not `run_until_cancelled`, which would hold the transport twice.
        let end = tokio::select! {
            biased;
            () = self.cut.cancelled() => End::Cut,
            end = self.carry(socket, peer, goaway, &mut metered) => end,
        };
        metered.end = end;
        tracing::debug!(%peer, end = metered.end.as_str(), "transport ended");
    }

    async fn carry(
        &self,
        socket: Box<dyn Socket>,
        peer: SocketAddr,
        goaway: CancellationToken,
        metered: &mut Metered,
    ) -> End {
        // Nothing is lost with a peer that has not greeted, so it is not waited for when we leave.
        let (socket, identity) = match goaway.run_until_cancelled(self.secure(socket)).await {
            Some(Ok(secured)) => secured,
            Some(Err(end)) => return end,
            None => return End::GoAway,
        };
        let wire = Wire::new(socket);
        let service = self.service.clone();
        let handle = TransportHandle::new(peer, goaway.clone()).identified(identity);
        let calls = service_fn(move |request| answer(service.clone(), handle.clone(), request));
        let mut http = pin!(self.http.serve_connection(TokioIo::new(wire.clone()), calls));

        let greeted = poll_fn(|cx| match poll_http(http.as_mut(), &wire, cx) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending if wire.greeted() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        match goaway.run_until_cancelled(timeout(self.greeting_timeout, greeted)).await {
            Some(Ok(None)) => metered.established(),
            Some(Ok(Some(end))) => return end,
            Some(Err(_)) => return End::GreetingTimeout,
            None => return End::GoAway,
        }

        if let Some(end) = goaway.run_until_cancelled(poll_fn(|cx| poll_http(http.as_mut(), &wire, cx))).await {
            return end;
        }
        // Two GOAWAYs: one that stops new calls, and, a round trip later, one that names the last we took.
        http.as_mut().graceful_shutdown();
        match timeout(self.goaway_timeout, poll_fn(|cx| poll_http(http.as_mut(), &wire, cx))).await {
            Ok(_) => End::GoAway,
            Err(_) => End::Cut,
        }
    }

    async fn secure(&self, socket: Box<dyn Socket>) -> Result<(Box<dyn Socket>, Option<Arc<PeerIdentity>>), End> {
        let Some(tls) = &self.tls else { return Ok((socket, None)) };
        // Boxed, or every transport would keep room for a handshake as long as it lives.
        let (stream, identity) = Box::pin(tls.accept(socket)).await?;
        Ok((Box::new(stream), identity))
    }
}

/// A turn of HTTP/2, then one write of what it had to say.
fn poll_http<S, B>(
    mut http: Pin<&mut Connection<TokioIo<Wire>, S, StreamExecutor>>,
    wire: &Wire,
    cx: &mut Context<'_>,
) -> Poll<End>
where
    Connection<TokioIo<Wire>, S, StreamExecutor>: Future<Output = hyper::Result<()>>,
    S: HttpService<Incoming, ResBody = B>,
{
    loop {
        if let Poll::Ready(ended) = http.as_mut().poll(cx) {
            return Poll::Ready(ended.map_or_else(|error| end(&error), |()| End::Closed));
        }
        match wire.poll_drain(cx) {
            Ok(true) => {}
            Ok(false) => return Poll::Pending,
            Err(_) => return Poll::Ready(End::Lost),
        }
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

/// HTTP/2 with the limits of `config`.
pub(super) fn http2(config: &Config, tasks: &Tasks) -> Builder<StreamExecutor> {
    let bytes = |size: bytesize::ByteSize| u32::try_from(size.as_u64()).unwrap_or(u32::MAX);
    let mut http = Builder::new(StreamExecutor::new(tasks.clone()));
    http.timer(TokioTimer::new())
        .auto_date_header(false)
        .keep_alive_interval((!config.keepalive_interval.is_zero()).then_some(config.keepalive_interval))
        .keep_alive_timeout(config.keepalive_timeout)
        .max_concurrent_streams(config.max_concurrent_streams)
        .initial_stream_window_size(bytes(config.stream_window))
        .initial_connection_window_size(bytes(config.connection_window))
        .max_send_buf_size(bytes(config.max_send_buffer) as usize)
        .max_frame_size(bytes(config.max_frame_size))
        .max_header_list_size(bytes(config.max_header_list))
        .max_pending_accept_reset_streams(config.max_pending_reset_streams)
        .max_local_error_reset_streams(config.max_local_reset_streams);
    http
}
