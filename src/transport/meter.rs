//! Counting transports, and how they end.

use std::sync::Arc;

use crate::telemetry::metrics::Metrics;

pub(super) use crate::telemetry::metrics::words::TransportEnd as End;

/// Counts one transport, to its end on whatever path.
pub(super) struct Metered {
    metrics: Arc<Metrics>,
    established: bool,
    /// How it ended; what stands here when it is dropped is counted.
    pub(super) end: End,
}

impl Metered {
    /// A peer was accepted.
    pub(super) fn open(metrics: Arc<Metrics>) -> Self {
        metrics.transports_opened.inc();
        Self { metrics, established: false, end: End::Cut }
    }

    /// Its handshakes are done.
    pub(super) fn established(&mut self) {
        self.established = true;
        self.metrics.transports_active.inc();
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.metrics.transport_closed(self.end);
        if self.established {
            self.metrics.transports_active.dec();
        } else if let Some(end) = self.end.of_handshake() {
            self.metrics.handshake_failed(end);
        }
    }
}
