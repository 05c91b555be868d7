//! What the process tells about itself: logs, traces, metrics and the report line.

mod config;
pub mod metrics;

pub use config::{Config, Format, Otlp};
