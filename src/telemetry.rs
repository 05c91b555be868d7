//! What the process tells about itself: logs, traces, metrics and the report line.
//!
//! Logs go to stderr: for people on a terminal, as JSON otherwise. Traces go to an OpenTelemetry collector when they are
//! switched on. Nothing here may ever hold up the work: an exporter that fails drops.

mod config;
mod level;
pub mod metrics;
mod otlp;
pub mod propagate;
pub mod report;

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
    time::Duration,
};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::oneshot;
use tracing::Level;
use tracing_subscriber::{Layer, Registry, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

pub use config::{Config, Format, Otlp};
pub use level::{LogLevel, Setting};
use metrics::Metrics;

/// Longest time the last spans may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest time `shutdown` takes, come what may.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `telemetry.log` is no list of directives.
    #[error("telemetry.log {0}")]
    Directive(String),
    /// The exporter cannot be built from its configuration.
    #[error("telemetry.otlp: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The process has a subscriber already.
    #[error("logging was started twice")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Telemetry that runs. Shut it down last.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts logs and, where they are switched on, traces, for the whole process. Must be called inside a runtime that
/// outlives the result. `node` is the name of this replica.
pub fn start(config: &Config, node: &str, metrics: &Arc<Metrics>) -> Result<Telemetry, StartError> {
    let provider = otlp::wanted(&config.otlp, otlp::variable)
        .then(|| otlp::provider(&config.otlp, node, metrics.clone()))
        .transpose()?;
    // Our own spans only: those of the HTTP/2 stack are many and would describe the export itself.
    let traces = provider.as_ref().map(|provider| {
        let ours = Targets::new().with_target("bowline", Level::INFO);
        tracing_opentelemetry::layer().with_tracer(provider.tracer("bowline")).with_filter(ours)
    });
    let (logs, level) = logs(config)?;
    tracing_subscriber::registry().with(logs).with(traces).try_init()?;
    level.adopt();
    if provider.is_some() {
        tracing::info!("traces are exported");
    }
    Ok(Telemetry { provider })
}

/// The layer that writes logs, and what changes which.
fn logs(config: &Config) -> Result<(Box<dyn Layer<Registry> + Send + Sync>, LogLevel), StartError> {
    let (filter, level) = LogLevel::new(&config.log).map_err(StartError::Directive)?;
    let terminal = io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(terminal);
    let layer = match config.format {
        Format::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
        Format::Auto if !terminal => layer.json().flatten_event(true).with_filter(filter).boxed(),
        Format::Auto | Format::Text => layer.with_filter(filter).boxed(),
    };
    Ok((layer, level))
}

impl Telemetry {
    /// Sends what is left, for at most five seconds. Not cancel-safe: dropped, the rest may be lost.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else { return };
        // The SDK blocks its caller, and a collector that accepts and says nothing keeps it waiting; on a thread of its
        // own that costs the runtime nothing, and nobody has to wait for it.
        let (done, ended) = oneshot::channel();
        let flush = move || {
            let result = provider.shutdown_with_timeout(FLUSH_TIMEOUT);
            // Nobody listens any more if the time was up.
            done.send(result).ok();
        };
        if std::thread::Builder::new().name("telemetry-flush".into()).spawn(flush).is_err() {
            return;
        }
        match tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last traces were not taken"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last traces were not taken in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Request, Response};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one export as a collector does, and returns what it was asked.
    async fn collect(listener: TcpListener) -> (Request<()>, Bytes) {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let (request, mut reply) = connection.accept().await.unwrap().unwrap();
        let (parts, mut body) = request.into_parts();
        let answer = async {
            let message = body.data().await.unwrap().unwrap();
            body.flow_control().release_capacity(message.len()).unwrap();
            let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            let mut stream = reply.send_response(head, false).unwrap();
            stream.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
            let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
            stream.send_trailers(status).unwrap();
            message
        };
        // Nothing moves on an HTTP/2 connection unless it is polled.
        let message = tokio::select! {
            message = answer => message,
            _ = connection.accept() => unreachable!("one export is all there is"),
        };
        connection.graceful_shutdown();
        tokio::time::timeout(Duration::from_secs(5), connection.accept()).await.ok();
        (Request::from_parts(parts, ()), message)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_span_reaches_the_collector_with_our_name_and_headers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let headers = "authorization=Basic abc".to_owned().into();
        let config = Otlp { enabled: true, endpoint, headers, ..Otlp::default() };
        let provider = otlp::provider(&config, "replica-7", Arc::default()).unwrap();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("bowline"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info_span!("open_connection").in_scope(|| {});
        });
        let telemetry = Telemetry { provider: Some(provider) };
        let all = async { tokio::join!(telemetry.shutdown(), collect(listener)) };
        let ((), (request, message)) = tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
        assert_eq!(request.uri().path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        assert_eq!(request.headers().get("authorization").unwrap(), "Basic abc");
        for part in ["open_connection", "service.name", "bowline", "replica-7"] {
            assert!(message.windows(part.len()).any(|window| window == part.as_bytes()), "{part} is missing");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_silent_collector_holds_up_neither_the_work_nor_the_end() {
        // It accepts and never answers.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let config = Otlp { enabled: true, endpoint, timeout: Duration::from_secs(60), ..Otlp::default() };
        let provider = otlp::provider(&config, "node", Arc::default()).unwrap();
        let tracer = provider.tracer("test");
        let begun = tokio::time::Instant::now();
        for _ in 0..10_000 {
            use opentelemetry::trace::Tracer as _;
            drop(tracer.start("span"));
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        let begun = tokio::time::Instant::now();
        Telemetry { provider: Some(provider) }.shutdown().await;
        assert!(begun.elapsed() <= SHUTDOWN_TIMEOUT + Duration::from_secs(1), "{:?}", begun.elapsed());
        drop(listener);
    }
}
