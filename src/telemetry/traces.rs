//! Spans: of calls, of publishes, of deliveries.
//!
//! A stream lives for hours, and a span is not seen before it ends. So a stream has two short ones, its opening and its
//! close, which links to it; and what happens in between has spans of its own, a sample of the publishes with their first
//! deliveries. `docs/tracing.md` says what is in them.
//!
//! Where traces are off there is nothing here but an empty handle.

mod call;
mod message;
mod span;

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    Context,
    trace::{SpanBuilder, SpanContext, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::{runtime::Runtime, sync::oneshot};

use super::{
    Otlp, config,
    metrics::Metrics,
    otlp::{self, Settings},
    sampling::{Kind, Sampler, Sampling},
};

pub use call::{Call, Closing};
pub use message::{Delivering, Publishing};
pub use span::Span;

/// Longest time the last spans may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest time `shutdown` takes, come what may.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why traces could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What the environment says about them cannot be done: a sentence for each mistake.
    #[error("{}", .0.join("\n"))]
    Environment(Vec<String>),
    /// The exporter cannot be built.
    #[error("telemetry.otlp: {0}")]
    Exporter(#[from] otlp::BuildError),
    /// The threads that export cannot be started.
    #[error("the exporter of traces cannot be started: {0}")]
    Threads(#[from] std::io::Error),
}

/// The spans of a server. Cheap to clone; the default makes none.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Live>>);

#[derive(Debug)]
struct Live {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    sampling: Sampling,
    propagate: bool,
    /// Carries the export, and nothing else: neither can hold up the other. Gone once it has been shut down.
    runtime: parking_lot::Mutex<Option<Runtime>>,
}

impl Drop for Live {
    fn drop(&mut self) {
        // A runtime that is merely dropped waits for its tasks, and may not be dropped inside of another.
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

impl Traces {
    /// Starts the export, if configuration and environment (`OTEL_*`) want it. `node` is the name of this replica.
    pub fn start(otlp: &Otlp, config: &config::Traces, node: &str, metrics: &Arc<Metrics>) -> Result<Self, StartError> {
        let settings = otlp::settings(otlp, config, &otlp::variable).map_err(StartError::Environment)?;
        let Some(settings) = settings else { return Ok(Self::default()) };
        let traces = Self::with(&settings, config, node, metrics)?;
        tracing::info!(endpoint = settings.endpoint(), "traces are exported");
        Ok(traces)
    }

    fn with(
        settings: &Settings,
        config: &config::Traces,
        node: &str,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("telemetry")
            .enable_all()
            .build()?;
        let provider = {
            let _inside = runtime.enter();
            otlp::provider(settings, node, metrics.clone())?
        };
        let configured = Sampler { parent_based: true, streams: config.stream_ratio, messages: config.sample_ratio };
        let sampler = settings.sampler.unwrap_or(configured);
        let live = Live {
            tracer: provider.tracer("bowline"),
            provider,
            sampling: Sampling::new(sampler, config.max_forced_per_second, metrics.traces_unfollowed.clone()),
            propagate: settings.propagate,
            runtime: parking_lot::Mutex::new(Some(runtime)),
        };
        Ok(Self(Some(Arc::new(live))))
    }

    /// Sends what is left, for at most five seconds; spans that end later are lost. Not cancel-safe: dropped, the rest
    /// may be lost.
    pub async fn shutdown(&self) {
        let Some(live) = self.0.clone() else { return };
        // The SDK blocks its caller, and a collector that accepts and says nothing keeps it waiting; on a thread of its
        // own that costs the runtime nothing, and nobody has to wait for it.
        let (done, ended) = oneshot::channel();
        let flush = move || {
            let result = live.provider.shutdown_with_timeout(FLUSH_TIMEOUT);
            if let Some(runtime) = live.runtime.lock().take() {
                runtime.shutdown_background();
            }
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

impl Live {
    /// A span under `parent` or, without one, the first of a trace; nothing if it is not to be kept.
    fn span(&self, kind: Kind, parent: Option<SpanContext>, builder: impl FnOnce() -> SpanBuilder) -> Span {
        if self.sampling.keeps(kind, parent.as_ref()) { self.start(parent, builder()) } else { Span::default() }
    }

    fn start(&self, parent: Option<SpanContext>, builder: SpanBuilder) -> Span {
        let parent = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        Span::new(self.tracer.build_with_context(builder, &parent))
    }
}
