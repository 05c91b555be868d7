//! Export of spans to an OpenTelemetry collector.
//!
//! The SDK collects spans in a bounded queue and a thread of its own sends them; a collector that is slow, silent or
//! gone costs spans and nothing else. What the SDK does not say, how many spans that were, is counted here.

mod environment;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter as Export,
        SpanProcessor,
    },
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::{
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    transport::Endpoint,
};

use super::{Otlp, metrics::Metrics};

pub(super) use environment::{Settings, settings, variable};

/// Least time between two log lines about a collector that does not take our spans.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// How long a collector may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the exporter cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The endpoint, or what is to secure it, cannot be used.
    #[error(transparent)]
    Endpoint(#[from] tonic::transport::Error),
    /// The exporter itself.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
}

/// Builds the pipeline. Must be called inside the runtime that will carry the export.
pub(super) fn provider(
    settings: &Settings,
    node: &str,
    metrics: Arc<Metrics>,
) -> Result<SdkTracerProvider, BuildError> {
    let mut endpoint = Endpoint::from(settings.endpoint.clone());
    if settings.endpoint.scheme_str() == Some("https") {
        endpoint = endpoint.tls_config(settings.tls.clone())?;
    }
    let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(settings.timeout).connect_lazy();
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_metadata(settings.headers.clone())
        .with_channel(channel)
        .with_timeout(settings.timeout)
        .build()?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let exporter =
        Watched { inner: exporter, waiting: waiting.clone(), metrics: metrics.clone(), complained: Mutex::default() };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(settings.queue_size)
        .with_max_export_batch_size(settings.batch_size)
        .with_scheduled_delay(settings.schedule_delay)
        .build();
    let batching = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let gate = Gate { inner: batching, waiting, room: settings.queue_size, metrics };
    // What is kept is decided before a span is made: see `sampling`.
    let builder = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn);
    Ok(builder.with_resource(resource(node, settings.named)).with_span_processor(gate).build())
}

fn resource(node: &str, named: bool) -> Resource {
    let attributes = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", node.to_owned()),
    ];
    let resource = Resource::builder().with_attributes(attributes);
    if named { resource.build() } else { resource.with_service_name("bowline").build() }
}

/// `name=value,name=value` as metadata, values percent-encoded or not, and how many are no such pair.
fn headers(list: &str) -> (MetadataMap, usize) {
    let (mut metadata, mut bad) = (MetadataMap::new(), 0);
    for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
        let parsed = pair.split_once('=').and_then(|(name, value)| {
            let name = MetadataKey::from_bytes(name.trim().to_ascii_lowercase().as_bytes()).ok()?;
            Some((name, MetadataValue::try_from(decoded(value.trim())).ok()?))
        });
        match parsed {
            Some((name, value)) => drop(metadata.insert(name, value)),
            None => bad += 1,
        }
    }
    (metadata, bad)
}

/// Undoes percent-encoding. What is not encoded rightly is taken as it stands.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let pair = tail.get(..2).filter(|_| *first == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Lets spans into the queue while it has room, and counts those it turns away. The SDK's own queue, as long, is then
/// never full: it would say so once, and how often never.
#[derive(Debug)]
struct Gate {
    inner: BatchSpanProcessor,
    /// Let in and not yet given to the exporter.
    waiting: Arc<AtomicUsize>,
    room: usize,
    metrics: Arc<Metrics>,
}

impl SpanProcessor for Gate {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Relaxed) < self.room {
            self.inner.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Relaxed);
            self.metrics.telemetry_dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let result = self.inner.shutdown_with_timeout(timeout);
        // What is not out by now does not come out.
        self.metrics.telemetry_dropped.inc_by(self.waiting.swap(0, Relaxed) as u64);
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// The exporter, with its failures counted and told now and then.
#[derive(Debug)]
struct Watched<E> {
    inner: E,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    complained: Mutex<Option<Instant>>,
}

impl<E> Watched<E> {
    /// Whether it is time to say something again.
    fn may_complain(&self) -> bool {
        let mut complained = self.complained.lock();
        let may = complained.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL);
        if may {
            *complained = Some(Instant::now());
        }
        may
    }
}

impl<E: Export> Export for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        // After a shutdown that was given up there may be fewer.
        self.waiting.fetch_update(Relaxed, Relaxed, |waiting| Some(waiting.saturating_sub(spans))).ok();
        let result = self.inner.export(batch).await;
        if let Err(error) = &result {
            let dropped = self.metrics.telemetry_dropped.inc_by(spans as u64) + spans as u64;
            if self.may_complain() {
                tracing::warn!(%error, dropped, "the collector takes no traces; they are dropped");
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    #[test]
    fn headers_are_pairs() {
        let (headers, bad) = headers("Authorization=Basic%20abc==, x-scope = a%,nonsense");
        assert_eq!(headers.get("authorization").unwrap(), "Basic abc==");
        assert_eq!(headers.get("x-scope").unwrap(), "a%");
        assert_eq!((headers.len(), bad), (2, 1));
    }

    #[derive(Debug)]
    struct Broken;

    impl Export for Broken {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            Err(OTelSdkError::InternalFailure("refused".into()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_collector_is_told_of_once_a_minute() {
        let exporter =
            Watched { inner: Broken, waiting: Arc::default(), metrics: Arc::default(), complained: Mutex::default() };
        assert!(exporter.export(Vec::new()).await.is_err());
        assert!(!exporter.may_complain());
        tokio::time::advance(COMPLAINT_INTERVAL).await;
        assert!(exporter.may_complain());
    }
}
