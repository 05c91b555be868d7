//! W3C trace context, between headers, events and spans.
//!
//! A call's metadata can carry it once; a stream lives on for hours, so an event carries its own `traceparent`.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceId},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";

/// The context that the headers of a request carry; an empty one if they carry none, or none that is valid.
pub fn extract(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

/// Writes a context into the headers of a request; nothing if it is empty.
pub fn inject(context: &Context, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(context, &mut HeadersMut(headers));
}

/// The context of a `traceparent`; an empty one if it is not valid.
pub fn from_traceparent(text: &str) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Traceparent(text))
}

/// The `traceparent` of a span, for an event that it publishes; `None` if the span is not part of a trace.
pub fn traceparent(span: &Span) -> Option<String> {
    let context = span.context();
    let context = context.span().span_context().clone();
    context
        .is_valid()
        .then(|| format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8() & 1))
}

/// Makes the span of an incoming request a child of its sender's. Without tracing it does nothing.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    // Fails only without an exporter (nothing to do) or for a span that has begun (a mistake that costs a link).
    span.set_parent(extract(headers)).ok();
}

/// Links a span to the one an event was published in. Without tracing it does nothing.
pub fn link(span: &Span, traceparent: &str) {
    let context = from_traceparent(traceparent).span().span_context().clone();
    if context.is_valid() {
        span.add_link(context);
    }
}

/// A span that is exported, here or by whoever made it: what an exemplar leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampledSpan {
    /// Its trace.
    pub trace_id: TraceId,
    /// Itself.
    pub span_id: SpanId,
}

impl SampledSpan {
    /// The span of a context, if there is one and it is sampled.
    pub fn of(context: &SpanContext) -> Option<Self> {
        let exported = context.is_valid() && context.is_sampled();
        exported.then(|| Self { trace_id: context.trace_id(), span_id: context.span_id() })
    }

    /// The span of a `traceparent`, if it is valid and sampled.
    pub fn parse(traceparent: &str) -> Option<Self> {
        Self::of(from_traceparent(traceparent).span().span_context())
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        // The propagator writes an empty `tracestate` where there is none.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value))
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

struct Traceparent<'a>(&'a str);

impl Extractor for Traceparent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_goes_through_headers_unchanged() {
        let mut headers = HeaderMap::new();
        inject(&from_traceparent(PARENT), &mut headers);
        assert_eq!(headers.get(TRACEPARENT).unwrap(), PARENT);
        assert_eq!(headers.len(), 1);
        assert_eq!(extract(&headers).span().span_context().trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn what_is_no_context_is_taken_for_none() {
        for bad in ["", "00-0-0-0", "hello", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert!(!from_traceparent(bad).span().span_context().is_valid(), "{bad:?}");
        }
        let mut headers = HeaderMap::new();
        inject(&Context::new(), &mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn only_a_sampled_span_is_one_to_lead_to() {
        let span = SampledSpan::parse(PARENT).unwrap();
        assert_eq!(span.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.span_id.to_string(), "b7ad6b7169203331");
        for none in ["", &PARENT.replace("-01", "-00"), "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert_eq!(SampledSpan::parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_span_continues_the_trace_of_its_caller() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_static(PARENT));
            let span = tracing::info_span!("call");
            adopt(&span, &headers);
            let own = traceparent(&span).unwrap();
            assert!(own.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && own.ends_with("-01"), "{own}");
            assert!(!own.contains("b7ad6b7169203331"));
        });
    }

    #[test]
    fn a_span_that_nobody_follows_has_no_traceparent() {
        assert_eq!(traceparent(&Span::none()), None);
    }
}
