//! Histograms for hot paths: fixed buckets of atomics, no lock.
//!
//! The library's own takes a mutex for every observation. A scrape that runs beside an observation may see it in the sum
//! and not yet in a bucket; the next one sees both.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

use super::exemplar::Exemplars;
use crate::types::PublishTrace;

/// Upper bounds, seconds. From what one process can do in its best case to what nobody should wait.
const SECONDS: [f64; 16] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Upper bounds of things that are counted: from none to more than a history keeps.
const COUNTS: [f64; 11] = [0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0];

/// How often something took how long. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Durations>);

/// How often there were how many of something. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct CountHistogram(Arc<Buckets>);

#[derive(Debug)]
struct Durations {
    /// The sum is in whole nanoseconds: 584 years fit.
    buckets: Buckets,
    /// Made with the first, which most histograms never have.
    exemplars: OnceLock<Exemplars>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self(Arc::new(Durations { buckets: Buckets::new(&SECONDS), exemplars: OnceLock::new() }))
    }
}

impl Default for CountHistogram {
    fn default() -> Self {
        Self(Arc::new(Buckets::new(&COUNTS)))
    }
}

impl Histogram {
    /// Counts one observation.
    pub fn observe(&self, duration: Duration) {
        self.observe_traced(duration, None);
    }

    /// Counts one observation, and keeps the span of its publish, if that is traced, as the exemplar of its bucket: the
    /// newest of each, to be looked up where traces are kept. Does not wait for anybody.
    pub fn observe_traced(&self, duration: Duration, publish: Option<&PublishTrace>) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let seconds = duration.as_secs_f64();
        let bucket = self.0.buckets.add(seconds, nanos);
        if let Some(span) = publish {
            self.0.exemplars.get_or_init(|| Exemplars::new(SECONDS.len() + 1)).keep(bucket, seconds, span);
        }
    }

    /// The upper bounds of its buckets, seconds, and how many observations are in each; the last bucket has none.
    pub fn buckets(&self) -> (&'static [f64], Vec<u64>) {
        (&SECONDS, self.0.buckets.read())
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.0.buckets.count()
    }

    /// Writes the exemplars into an exposition, to the buckets of `family`, which is this histogram without labels.
    pub(super) fn annotate(&self, exposition: String, family: &str) -> String {
        match self.0.exemplars.get() {
            Some(exemplars) => exemplars.annotate(&exposition, family),
            None => exposition,
        }
    }
}

impl CountHistogram {
    /// Counts one observation.
    pub fn observe(&self, count: u64) {
        #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 all is above the last bound")]
        self.0.add(count as f64, count);
    }
}

#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above them all.
    counts: Box<[AtomicU64]>,
    /// Of whole numbers, in whatever the owner counts.
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts `value`, which is `number` in the unit of the sum. The bucket it is in.
    fn add(&self, value: f64, number: u64) -> usize {
        let index = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        if let Some(bucket) = self.counts.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(number, Ordering::Relaxed);
        index
    }

    fn read(&self) -> Vec<u64> {
        self.counts.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect()
    }

    fn count(&self) -> u64 {
        self.read().iter().sum()
    }

    /// `scale`: what of the sum makes one. A divisor, because a billion is exact and a billionth is not.
    fn encode(&self, scale: f64, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        #[expect(clippy::cast_precision_loss, reason = "a sum need not be exact beyond 53 bits")]
        let sum = self.sum.load(Ordering::Relaxed) as f64 / scale;
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.read()).collect();
        // The count is that of the buckets just read, so that the two agree in every scrape.
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.buckets.encode(1e9, encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for CountHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for CountHistogram {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode(1.0, encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[track_caller]
    fn has_lines(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|l| l == *line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn an_observation_is_in_its_bucket_and_in_all_above() {
        let metrics = Metrics::new();
        metrics.delivery_latency.observe(Duration::from_millis(1));
        metrics.delivery_latency.observe(Duration::from_secs(20));
        metrics.delivery_latency.observe(Duration::from_secs(20));
        has_lines(
            &metrics.encode_text(),
            &[
                "bowline_delivery_latency_seconds_bucket{le=\"0.0005\"} 0",
                "bowline_delivery_latency_seconds_bucket{le=\"0.001\"} 1",
                "bowline_delivery_latency_seconds_bucket{le=\"10.0\"} 1",
                "bowline_delivery_latency_seconds_bucket{le=\"+Inf\"} 3",
                "bowline_delivery_latency_seconds_count 3",
                "bowline_delivery_latency_seconds_sum 40.001",
            ],
        );
    }

    #[test]
    fn counts_have_bounds_of_their_own() {
        let metrics = Metrics::new();
        for lag in [0, 3, 300_000] {
            metrics.session_lag.observe(lag);
        }
        has_lines(
            &metrics.encode_text(),
            &[
                "bowline_session_lag_events_bucket{le=\"0.0\"} 1",
                "bowline_session_lag_events_bucket{le=\"1.0\"} 1",
                "bowline_session_lag_events_bucket{le=\"4.0\"} 2",
                "bowline_session_lag_events_bucket{le=\"262144.0\"} 2",
                "bowline_session_lag_events_bucket{le=\"+Inf\"} 3",
                "bowline_session_lag_events_sum 300003.0",
            ],
        );
    }
}
