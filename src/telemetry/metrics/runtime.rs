//! The tokio runtime that serves clients, looked at from outside at each scrape.

use std::fmt;

use prometheus_client::{collector, encoding::DescriptorEncoder};
use tokio::runtime::Handle;

use super::process::{counter, gauge};

#[derive(Debug)]
pub(super) struct Collector(Handle);

impl Collector {
    pub(super) fn new(handle: Handle) -> Self {
        Self(handle)
    }
}

impl collector::Collector for Collector {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metrics = self.0.metrics();
        let workers = metrics.num_workers();
        gauge(&mut encoder, "tokio_workers", "Worker threads of the runtime.", workers as f64)?;
        gauge(&mut encoder, "tokio_alive_tasks", "Tasks that have not ended.", metrics.num_alive_tasks() as f64)?;
        gauge(
            &mut encoder,
            "tokio_global_queue_depth",
            "Tasks waiting in the runtime's shared queue.",
            metrics.global_queue_depth() as f64,
        )?;
        let busy: f64 = (0..workers).map(|worker| metrics.worker_total_busy_duration(worker).as_secs_f64()).sum();
        counter(&mut encoder, "tokio_busy_seconds", "Time that workers were busy, seconds, all together.", busy)
    }
}
