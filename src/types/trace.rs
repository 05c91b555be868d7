//! What a stored event carries of the trace that its publish is part of.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Most deliveries of one event that are traced. The first few show the way; more would be a trace for each reader.
const MAX_DELIVERIES: u8 = 8;

/// The span in which an event was published, if that is traced: what its deliveries link to.
#[derive(Debug)]
pub struct PublishTrace {
    /// The trace.
    pub trace_id: u128,
    /// The span in it.
    pub span_id: u64,
    deliveries_left: AtomicU8,
}

impl PublishTrace {
    /// The trace of an event that nobody has received yet.
    pub fn new(trace_id: u128, span_id: u64) -> Self {
        Self { trace_id, span_id, deliveries_left: AtomicU8::new(MAX_DELIVERIES) }
    }

    /// Takes one of the deliveries that may be traced. False once they are all taken.
    pub fn take_delivery(&self) -> bool {
        self.deliveries_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_deliveries_are_traced() {
        let trace = PublishTrace::new(1, 2);
        assert_eq!((0..20).filter(|_| trace.take_delivery()).count(), usize::from(MAX_DELIVERIES));
    }
}
