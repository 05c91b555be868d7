//! One transport, from its accepted socket to its end.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::{Arc, LazyLock},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{
    Config,
    arrivals::Arrivals,
    call::{Calls, answer},
    coalesce::{Socket, Wire},
    executor::StreamExecutor,
    guard::{Guard, GuardConfig},
    ledger::Place,
    meter::{End, Metered},
    tls::Tls,
    turn::{Turns, poll_http},
};
use crate::{
    lifecycle::Tasks,
    telemetry::{Line, Sparing, metrics::Metrics},
    types::{PeerIdentity, TransportHandle},
};

/// How long a peer whose transport the guard ends has to read why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// About peers that went too far.
static LINES: LazyLock<Sparing> = LazyLock::new(|| Sparing::new(2));

/// What all transports of a listener have in common.
pub(super) struct Host<S> {
    service: S,
    http: Builder<StreamExecutor>,
    pub(super) tls: Option<Arc<Tls>>,
    arrivals: Arrivals,
    clocks: Clocks,
    max_header_fields: usize,
    guard: Arc<GuardConfig>,
    metrics: Arc<Metrics>,
    /// Cancelled when whatever is left has to end where it stands.
    pub(super) cut: CancellationToken,
}

/// The settings of the same names.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    greeting_timeout: Duration,
    write_timeout: Duration,
    goaway_timeout: Duration,
    max_age: Duration,
}

impl Clocks {
    /// How old a transport may become, give or take a tenth, so that those who came together do not leave together.
    async fn age(&self) {
        if self.max_age.is_zero() {
            std::future::pending().await
        } else {
            Box::pin(sleep(self.max_age.mul_f64(0.9 + fastrand::f64() / 5.0))).await;
        }
    }
}

impl<S> Host<S> {
    /// For transports of a listener with this configuration.
    pub(super) fn new(
        service: S,
        tls: Option<Arc<Tls>>,
        config: &Config,
        tasks: &Tasks,
        metrics: Arc<Metrics>,
    ) -> Self {
        let clocks = Clocks {
            greeting_timeout: config.greeting_timeout,
            write_timeout: config.write_timeout,
            goaway_timeout: config.goaway_timeout,
            max_age: config.max_age,
        };
        let guard = Arc::new(config.guard.clone());
        let (http, cut) = (http2(config, tasks), CancellationToken::new());
        let max_header_fields = config.max_header_fields;
        Self { service, http, tls, arrivals: Arrivals::new(), clocks, max_header_fields, guard, metrics, cut }
    }
}

impl<S, B> Host<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    /// Serves one peer until it, we or the network ends it. Cancelling `goaway` makes it leave in order. The permit is given
    /// back when nothing of it is left.
    ///
    /// No `async fn`, which would keep all that it is given twice, as long as the transport lives; nor is [`carry`](Self::carry).
    #[expect(clippy::manual_async_fn, reason = "see above")]
    pub(super) fn run(
        self: Arc<Self>,
        permit: OwnedSemaphorePermit,
        socket: Box<dyn Socket>,
        peer: SocketAddr,
        place: Place,
        goaway: CancellationToken,
    ) -> impl Future<Output = ()> {
        async move {
            let mut metered = Metered::open(self.metrics.clone());
            // Not `run_until_cancelled`, which would hold the transport twice.
            let end = tokio::select! {
                biased;
                () = self.cut.cancelled() => End::Cut,
                end = self.carry(socket, peer, &place, goaway, &mut metered) => end,
            };
            metered.end = end;
            let end = end.as_str();
            match if metered.end.is_hostile() { LINES.next() } else { Line::LeftOut } {
                Line::Written { left_out } => {
                    tracing::warn!(%peer, end, left_out, "transport ended: its peer went too far")
                }
                Line::LeftOut => tracing::debug!(%peer, end, "transport ended"),
            }
            drop((metered, place, permit));
        }
    }

    #[expect(clippy::manual_async_fn, reason = "see above")]
    fn carry(
        &self,
        socket: Box<dyn Socket>,
        peer: SocketAddr,
        place: &Place,
        goaway: CancellationToken,
        metered: &mut Metered,
    ) -> impl Future<Output = End> {
        async move {
            // Nothing is lost with a peer that has not greeted, so it is not waited for when we leave.
            let (socket, identity) = match goaway.run_until_cancelled(self.secure(socket)).await {
                Some(Ok(secured)) => secured,
                Some(Err(end)) => return end,
                None => return End::GoAway,
            };
            let wire = Wire::new(socket, Guard::new(self.guard.clone(), place.owed(), Instant::now()));
            let handle = TransportHandle::new(peer, goaway.clone(), self.clocks.goaway_timeout).identified(identity);
            let end = self.converse(&wire, &handle, &goaway, metered).await;
            place.settle(wire.debts());
            if wire.verdict().is_some() {
                // Whoever does not want to hear it does not have to.
                timeout(LAST_WORDS, wire.take_leave()).await.ok();
            }
            end
        }
    }

    async fn converse(
        &self,
        wire: &Wire,
        handle: &TransportHandle,
        goaway: &CancellationToken,
        metered: &mut Metered,
    ) -> End {
        let (service, calls) = (self.service.clone(), Calls::default());
        let mut turns = Turns::new(&calls, self.clocks.write_timeout);
        let service = {
            let (handle, fields) = (handle.clone(), self.max_header_fields);
            // Boxed: a stream would keep the room that its answer takes on the way, for as long as it lives.
            service_fn(move |request| Box::pin(answer(service.clone(), handle.clone(), calls.one(), fields, request)))
        };
        let mut http = pin!(self.http.serve_connection(TokioIo::new(wire.clone()), service));

        let greeted = poll_fn(|cx| match poll_http(http.as_mut(), wire, &mut turns, cx) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending if wire.greeted() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let greeted = self.arrivals.stand_in_line(greeted);
        // Boxed, as all that a transport seldom waits for: idle, it has no use for the room.
        match Box::pin(goaway.run_until_cancelled(timeout(self.clocks.greeting_timeout, greeted))).await {
            Some(Ok(None)) => metered.established(),
            Some(Ok(Some(end))) => return end,
            Some(Err(_)) => return End::GreetingTimeout,
            None => return End::GoAway,
        }

        tokio::select! {
            biased;
            () = goaway.cancelled() => {}
            end = poll_fn(|cx| poll_http(http.as_mut(), wire, &mut turns, cx)) => return end,
            // Its calls hear of it by a frame of their own: gRPC does not show a GOAWAY to a call that is running.
            () = self.clocks.age() => handle.retire(),
        }
        // Two GOAWAYs: one that stops new calls, and, a round trip later, one that names the last we took.
        http.as_mut().graceful_shutdown();
        let leaving = poll_fn(|cx| poll_http(http.as_mut(), wire, &mut turns, cx));
        match Box::pin(timeout(self.clocks.goaway_timeout, leaving)).await {
            Ok(end) if end.is_hostile() => end,
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

/// HTTP/2 with the limits of `config`.
fn http2(config: &Config, tasks: &Tasks) -> Builder<StreamExecutor> {
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
