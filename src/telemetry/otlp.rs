//! Export of traces to an OpenTelemetry collector.
//!
//! The SDK collects spans in a bounded queue and a thread of its own sends them; a collector that is slow, silent or
//! gone costs spans and nothing else. The SDK honours most `OTEL_*` variables itself; those it ignores are read here.

use std::{sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter as Export},
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};

use super::{Otlp, metrics::Metrics};

/// Least time between two log lines about a collector that does not take our spans.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Reads a variable of the environment; one that is set to nothing counts as not set, as OpenTelemetry wants it.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Whether to export: a no of the environment, then a yes of the environment, then the configuration.
pub(super) fn wanted(config: &Otlp, variable: impl Fn(&str) -> Option<String>) -> bool {
    let is = |name: &str, word: &str| variable(name).is_some_and(|value| value.trim().eq_ignore_ascii_case(word));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return false;
    }
    let endpoints = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    config.enabled || is("OTEL_TRACES_EXPORTER", "otlp") || endpoints.iter().any(|name| variable(name).is_some())
}

/// Builds the pipeline. Must be called inside the runtime that will carry the export.
pub(super) fn provider(
    config: &Otlp,
    node: &str,
    metrics: Arc<Metrics>,
) -> Result<SdkTracerProvider, ExporterBuildError> {
    let mut exporter = SpanExporter::builder().with_tonic().with_metadata(headers(config.headers.expose()));
    if !config.endpoint.is_empty() {
        exporter = exporter.with_endpoint(config.endpoint.clone());
    }
    let exporter =
        Watched { inner: exporter.with_timeout(config.timeout).build()?, metrics, complained: Mutex::default() };

    let mut builder = SdkTracerProvider::builder().with_resource(resource(node)).with_batch_exporter(exporter);
    if variable("OTEL_TRACES_SAMPLER").is_none() {
        let root = Sampler::TraceIdRatioBased(config.sample_ratio);
        builder = builder.with_sampler(Sampler::ParentBased(Box::new(root)));
    }
    Ok(builder.build())
}

fn resource(node: &str) -> Resource {
    let attributes = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", node.to_owned()),
    ];
    let resource = Resource::builder().with_attributes(attributes);
    let named = variable("OTEL_SERVICE_NAME").is_some()
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|list| list.contains("service.name="));
    if named { resource.build() } else { resource.with_service_name("bowline").build() }
}

/// `name=value,name=value` as metadata. Pairs that cannot be headers are left out; their values are not logged.
fn headers(list: &str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
        let parsed = pair.split_once('=').and_then(|(name, value)| {
            let name = MetadataKey::from_bytes(name.trim().to_ascii_lowercase().as_bytes()).ok()?;
            Some((name, MetadataValue::try_from(value.trim()).ok()?))
        });
        match parsed {
            Some((name, value)) => drop(metadata.insert(name, value)),
            None => tracing::warn!("an item of telemetry.otlp.headers is no name=value pair and is left out"),
        }
    }
    metadata
}

/// The exporter, with its failures counted and told now and then.
#[derive(Debug)]
struct Watched<E> {
    inner: E,
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
        let spans = batch.len() as u64;
        let result = self.inner.export(batch).await;
        if let Err(error) = &result {
            let dropped = self.metrics.telemetry_dropped.inc_by(spans) + spans;
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
    fn the_environment_switches_the_export_on_and_off() {
        let off = Otlp::default();
        let on = Otlp { enabled: true, ..Otlp::default() };
        let with = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        assert!(!wanted(&off, with(&[])));
        assert!(wanted(&on, with(&[])));
        assert!(wanted(&off, with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")])));
        assert!(wanted(&off, with(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4317")])));
        assert!(wanted(&off, with(&[("OTEL_TRACES_EXPORTER", "otlp")])));
        assert!(!wanted(&on, with(&[("OTEL_TRACES_EXPORTER", "none")])));
        assert!(!wanted(&on, with(&[("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "otlp")])));
        assert!(wanted(&on, with(&[("OTEL_SDK_DISABLED", "false")])));
    }

    #[test]
    fn headers_are_pairs() {
        let headers = headers("Authorization=Basic abc==, x-scope = a ,nonsense");
        assert_eq!(headers.get("authorization").unwrap(), "Basic abc==");
        assert_eq!(headers.get("x-scope").unwrap(), "a");
        assert_eq!(headers.len(), 2);
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
        let exporter = Watched { inner: Broken, metrics: Arc::default(), complained: Mutex::default() };
        assert!(exporter.export(Vec::new()).await.is_err());
        assert!(!exporter.may_complain());
        tokio::time::advance(COMPLAINT_INTERVAL).await;
        assert!(exporter.may_complain());
    }
}
