//! Traces, as a collector gets them.

mod calls;
mod environment;
mod faults;
mod messages;

use std::fmt::Write as _;

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::{
    collector::{Collector, Manner},
    support::TestServer,
};

/// A server that exports to a collector, and the collector.
async fn traced(settings: &[(&str, &str)]) -> (TestServer, Collector) {
    let collector = Collector::start(Manner::Takes).await;
    let server = exporting(&collector.url(), settings).await;
    (server, collector)
}

/// A server that exports to whatever is there. No trace begins by chance: one in a hundred publishes would.
async fn exporting(url: &str, settings: &[(&str, &str)]) -> TestServer {
    let own =
        [("telemetry.otlp.enabled", "true"), ("telemetry.otlp.endpoint", url), ("telemetry.traces.sample_ratio", "0")];
    TestServer::with(&own.iter().chain(settings).copied().collect::<Vec<_>>()).await
}

/// Ids as people and headers write them.
fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The `traceparent` of a span that is sampled.
fn traceparent(span: &Span) -> String {
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

/// The spans that a span links to, as their `traceparent`s.
fn links(span: &Span) -> Vec<String> {
    span.links.iter().map(|link| format!("00-{}-{}-01", hex(&link.trace_id), hex(&link.span_id))).collect()
}
