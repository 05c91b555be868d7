//! What the process tells about itself: logs, traces, metrics and the report line.

pub mod metrics;
