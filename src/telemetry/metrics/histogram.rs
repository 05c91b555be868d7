//! A histogram for hot paths: fixed buckets of atomics, no lock.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Upper bounds, seconds. From what one process can do in its best case to what nobody should wait.
const BOUNDS: [f64; 16] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How often something took how long. Cheap to clone; all clones are one.
///
/// The library's own takes a mutex for every observation. A scrape that runs beside an observation may see it in the
/// sum and not yet in a bucket; the next one sees both.
#[derive(Clone, Default)]
pub struct Histogram(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// One for each bound, and one for what is above them all.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Whole nanoseconds: 584 years fit.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one observation.
    pub fn observe(&self, duration: Duration) {
        self.observe_many(duration, 1);
    }

    /// Counts `count` observations of the same duration, as for events that went out in one write.
    pub fn observe_many(&self, duration: Duration, count: u64) {
        let seconds = duration.as_secs_f64();
        let index = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).saturating_mul(count);
        if let Some(bucket) = self.0.buckets.get(index) {
            bucket.fetch_add(count, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The upper bounds of its buckets, seconds, and how many observations are in each; the last bucket has none.
    pub fn buckets(&self) -> (&'static [f64], Vec<u64>) {
        (&BOUNDS, self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect())
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        #[expect(clippy::cast_precision_loss, reason = "a sum of seconds need not be exact beyond 53 bits")]
        let sum = self.0.sum.load(Ordering::Relaxed) as f64 / 1e9;
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        let counts = self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        // The count is that of the buckets just read, so that the two agree in every scrape.
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn an_observation_is_in_its_bucket_and_in_all_above() {
        let metrics = Metrics::new();
        metrics.delivery_latency.observe(Duration::from_millis(1));
        metrics.delivery_latency.observe_many(Duration::from_secs(20), 2);
        let text = metrics.encode_text();
        for line in [
            "bowline_delivery_latency_seconds_bucket{le=\"0.0005\"} 0",
            "bowline_delivery_latency_seconds_bucket{le=\"0.001\"} 1",
            "bowline_delivery_latency_seconds_bucket{le=\"10.0\"} 1",
            "bowline_delivery_latency_seconds_bucket{le=\"+Inf\"} 3",
            "bowline_delivery_latency_seconds_count 3",
            "bowline_delivery_latency_seconds_sum 40.001",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
