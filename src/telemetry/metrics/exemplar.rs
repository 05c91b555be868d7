//! Exemplars: for each bucket of a histogram, the span of one observation that fell into it, so that a slow delivery on
//! a dashboard leads to its trace.
//!
//! They exist in OpenMetrics only. The library has no way to encode those of a histogram that is not its own, so they
//! are written into the lines it has made.

use std::fmt::Write as _;

use parking_lot::Mutex;

use crate::types::{PublishTrace, Timestamp};

/// One slot for each bucket.
#[derive(Debug)]
pub(super) struct Exemplars(Box<[Mutex<Option<Exemplar>>]>);

#[derive(Debug, Clone, Copy)]
struct Exemplar {
    trace_id: u128,
    span_id: u64,
    value: f64,
    at: Timestamp,
}

impl Exemplars {
    pub(super) fn new(buckets: usize) -> Self {
        Self((0..buckets).map(|_| Mutex::new(None)).collect())
    }

    /// Replaces the exemplar of a bucket. If somebody else is at it, theirs is as good.
    pub(super) fn keep(&self, bucket: usize, value: f64, span: &PublishTrace) {
        if let Some(mut slot) = self.0.get(bucket).and_then(Mutex::try_lock) {
            *slot = Some(Exemplar { trace_id: span.trace_id, span_id: span.span_id, value, at: Timestamp::now() });
        }
    }

    /// The exposition, with the exemplars at the buckets of `family`, which stand there in the order of their bounds.
    pub(super) fn annotate(&self, exposition: &str, family: &str) -> String {
        let bucket = format!("{family}_bucket{{");
        let mut slots = self.0.iter();
        let mut out = String::with_capacity(exposition.len() + self.0.len() * 128);
        for line in exposition.lines() {
            out.push_str(line);
            let exemplar = line.starts_with(&bucket).then(|| slots.next()).flatten().and_then(|slot| *slot.lock());
            if let Some(Exemplar { trace_id, span_id, value, at }) = exemplar {
                let (seconds, micros) = (at.0 / 1_000_000, at.0 % 1_000_000);
                let labels = format_args!("trace_id=\"{trace_id:032x}\",span_id=\"{span_id:016x}\"");
                // Writing to a String does not fail.
                write!(out, " # {{{labels}}} {value} {seconds}.{micros:06}").ok();
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn the_newest_span_of_each_bucket_stands_in_open_metrics_and_nowhere_else() {
        let metrics = Metrics::new();
        let span =
            |last: u64| PublishTrace::new(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3300 + last);
        let before = metrics.encode_openmetrics();
        metrics.delivery_latency.observe_traced(Duration::from_micros(300), Some(&span(1)));
        metrics.delivery_latency.observe_traced(Duration::from_micros(400), Some(&span(2)));
        metrics.delivery_latency.observe_traced(Duration::from_micros(450), None);
        metrics.delivery_latency.observe_traced(Duration::from_secs(60), Some(&span(3)));

        let text = metrics.encode_openmetrics();
        assert_eq!(text.lines().count(), before.lines().count());
        assert!(text.ends_with("\n# EOF\n"));
        let noted: Vec<_> = text.lines().filter_map(|line| line.split_once(" # ")).collect();
        let [(half, exemplar), (above, last)] = noted[..] else { panic!("two buckets: {noted:?}") };
        assert_eq!(half, "bowline_delivery_latency_seconds_bucket{le=\"0.0005\"} 3");
        let labels = "{trace_id=\"0af7651916cd43dd8448eb211c80319c\",span_id=\"b7ad6b7169203302\"}";
        let time = exemplar.strip_prefix(labels).and_then(|rest| rest.strip_prefix(" 0.0004 ")).expect(exemplar);
        let age = Timestamp::now().0 as f64 / 1e6 - time.parse::<f64>().unwrap();
        assert!((0.0..60.0).contains(&age), "{time}");
        assert_eq!(above, "bowline_delivery_latency_seconds_bucket{le=\"+Inf\"} 4");
        assert!(last.contains("b7ad6b7169203303") && last.contains("} 60 "), "{last}");
        assert!(!metrics.encode_text().contains(" # {"), "the text format has none");
    }
}
