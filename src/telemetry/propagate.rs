//! W3C trace context, as text.
//!
//! A call's metadata can carry it once; a stream lives on for hours, so an event carries its own.

use http::HeaderMap;
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The context that the headers of a request carry; none if they carry none, or none that is valid.
pub(super) fn from_headers(headers: &HeaderMap) -> Option<SpanContext> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    parse(text(TRACEPARENT)?, text(TRACESTATE).unwrap_or_default())
}

/// The context that these two values make; none if it is not valid.
pub(super) fn parse(traceparent: &str, tracestate: &str) -> Option<SpanContext> {
    if traceparent.is_empty() {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(
        // Not of the thread's current span: that is somebody else.
        &opentelemetry::Context::new(),
        &Values { traceparent, tracestate },
    );
    let context = context.span().span_context().clone();
    context.is_valid().then_some(context)
}

/// The `traceparent` of a span.
pub(super) fn traceparent(context: &SpanContext) -> String {
    let flags = u8::from(context.is_sampled());
    format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
}

struct Values<'a> {
    traceparent: &'a str,
    tracestate: &'a str,
}

impl Extractor for Values<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(self.traceparent),
            TRACESTATE => Some(self.tracestate).filter(|value| !value.is_empty()),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_read_from_headers_with_its_state_and_written_as_it_was() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(PARENT));
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=opaque"));
        let context = from_headers(&headers).unwrap();
        assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.trace_state().get("vendor"), Some("opaque"));
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(traceparent(&context), PARENT);
    }

    #[test]
    fn what_is_no_context_is_taken_for_none() {
        for bad in ["", "00-0-0-0", "hello", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert!(parse(bad, "").is_none(), "{bad:?}");
        }
        assert!(from_headers(&HeaderMap::new()).is_none());
        assert!(parse(PARENT, "no state at all").is_some(), "a broken state costs only itself");
    }
}
