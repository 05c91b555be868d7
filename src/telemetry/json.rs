//! Log lines as JSON, with the ids of the span they were written in.

use std::fmt;

use opentelemetry::{Context, trace::TraceContextExt as _};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// A formatter of JSON objects, with `trace_id`, `span_id` and `trace_flags` first where a span is current: the names
/// that OpenTelemetry gives them in logs that are not its own.
#[derive(Debug)]
pub(super) struct WithTrace<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let current = Context::map_current(|context| context.span().span_context().clone());
        if !current.is_valid() {
            return self.0.format_event(ctx, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        let (trace, span, flags) = (current.trace_id(), current.span_id(), current.trace_flags().to_u8());
        // It is an object with members, so it goes on after its brace.
        let members = line.strip_prefix('{').ok_or(fmt::Error)?;
        write!(writer, r#"{{"trace_id":"{trace}","span_id":"{span}","trace_flags":"{flags:02x}",{members}"#)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::telemetry::written::Written;

    #[test]
    fn a_line_carries_the_ids_of_its_span_and_none_outside_of_one() {
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer.map_event_format(WithTrace));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(number = 1, "outside");
            let ids = (TraceId::from(0xabc), SpanId::from(0xdef));
            let context = SpanContext::new(ids.0, ids.1, TraceFlags::SAMPLED, false, TraceState::NONE);
            let _entered = Context::new().with_remote_span_context(context).attach();
            tracing::info!(number = 2, "inside");
        });
        let lines = written.lines();
        assert_eq!((&lines[0]["message"], lines[0].get("trace_id")), (&"outside".into(), None));
        assert_eq!((&lines[1]["message"], &lines[1]["number"]), (&"inside".into(), &2.into()));
        assert_eq!(lines[1]["trace_id"], "00000000000000000000000000000abc");
        assert_eq!((&lines[1]["span_id"], &lines[1]["trace_flags"]), (&"0000000000000def".into(), &"01".into()));
    }
}
