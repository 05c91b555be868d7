//! What the process tells about itself: logs, traces, metrics and the report line.
//!
//! Logs go to stderr: for people on a terminal, as JSON otherwise. Traces go to an OpenTelemetry collector when they are
//! switched on. Nothing here may ever hold up the work: an exporter that fails drops.

mod config;
mod json;
mod level;
pub mod metrics;
mod otlp;
mod propagate;
pub mod report;
mod sampling;
mod sparing;
mod traces;
#[cfg(test)]
pub(crate) mod written;

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{Layer, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _};

pub use config::{Config, Format, Otlp};
pub use level::{LogLevel, Setting};
pub use opentelemetry::trace::SpanContext;
pub use sparing::{Line, Sparing};
pub use traces::{Call, Closing, Delivering, Publishing, Span, Traces};

/// Why logs could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `telemetry.log` is no list of directives.
    #[error("telemetry.log {0}")]
    Directive(String),
    /// The process has a subscriber already.
    #[error("logging was started twice")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logs for the whole process. Traces are each server's own: [`Traces::start`].
pub fn start_logs(config: &Config) -> Result<(), StartError> {
    let (logs, level) = logs(config)?;
    tracing_subscriber::registry().with(logs).try_init()?;
    level.adopt();
    Ok(())
}

/// The layer that writes logs, and what changes which.
fn logs(config: &Config) -> Result<(Box<dyn Layer<Registry> + Send + Sync>, LogLevel), StartError> {
    let (filter, level) = LogLevel::new(&config.log).map_err(StartError::Directive)?;
    let terminal = io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(terminal);
    let for_machines = config.format == Format::Json || config.format == Format::Auto && !terminal;
    let layer = if for_machines {
        layer.json().flatten_event(true).map_event_format(json::WithTrace).with_filter(filter).boxed()
    } else {
        layer.with_filter(filter).boxed()
    };
    Ok((layer, level))
}
