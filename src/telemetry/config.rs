//! `[telemetry]`: logs, the report line, traces.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::level;
use crate::types::Secret;

/// `[telemetry]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is logged: a level, or directives such as `info,bowline::transport=debug`.
    pub log: String,
    /// How it is written.
    pub format: Format,
    /// How often the report line is logged; `0s` never.
    #[serde(with = "humantime_serde")]
    pub report_interval: Duration,
    /// `[telemetry.otlp]`.
    pub otlp: Otlp,
    /// `[telemetry.traces]`.
    pub traces: Traces,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            format: Format::Auto,
            report_interval: Duration::from_secs(60),
            otlp: Otlp::default(),
            traces: Traces::default(),
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people on a terminal, as JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[telemetry.otlp]`: traces to an OpenTelemetry collector. The `OTEL_*` variables of the specification win over what
/// stands here, and switch the export on by themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// Whether to export.
    pub enabled: bool,
    /// URL of the collector's gRPC port; empty for `http://localhost:4317`.
    pub endpoint: String,
    /// `name=value` pairs, separated by commas, sent with each export.
    pub headers: Secret,
    /// Longest time one export may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

/// `[telemetry.traces]`: how much of what happens becomes spans, where traces are exported.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// Share of streams whose opening and close are traced, 0 to 1, where the caller does not say.
    pub stream_ratio: f64,
    /// Share of publishes and of unary calls that are traced, 0 to 1, where the caller does not say.
    pub sample_ratio: f64,
    /// Most publishes and calls a second that are traced because their caller asked for it.
    pub max_forced_per_second: u32,
}

impl Default for Traces {
    fn default() -> Self {
        Self { stream_ratio: 1.0, sample_ratio: 0.01, max_forced_per_second: 100 }
    }
}

impl Default for Otlp {
    fn default() -> Self {
        Self { enabled: false, endpoint: String::new(), headers: Secret::default(), timeout: Duration::from_secs(10) }
    }
}

impl Config {
    /// Everything wrong with the section, as `(key, sentence)`.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut must = |holds: bool, key: &str, sentence: String| {
            if !holds {
                problems.push((key.to_owned(), sentence));
            }
        };
        if let Err(problem) = level::parse(&self.log) {
            must(false, "log", problem);
        }
        must(
            self.report_interval.is_zero() || self.report_interval >= Duration::from_secs(1),
            "report_interval",
            "must be 0s (never) or at least 1s".into(),
        );
        let endpoint = &self.otlp.endpoint;
        must(
            endpoint.is_empty() || endpoint.starts_with("http://") || endpoint.starts_with("https://"),
            "otlp.endpoint",
            "must be empty or a URL that begins with http:// or https://".into(),
        );
        must(!self.otlp.timeout.is_zero(), "otlp.timeout", "must be longer than zero".into());
        for (key, ratio) in
            [("traces.stream_ratio", self.traces.stream_ratio), ("traces.sample_ratio", self.traces.sample_ratio)]
        {
            must((0.0..=1.0).contains(&ratio), key, "must be from 0 to 1".into());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().problems(), []);
    }

    #[test]
    fn a_log_directive_that_is_none_is_named() {
        for log in ["info,bowline=loud", "bowline[x]=info", "debgu", ""] {
            let config = Config { log: log.into(), ..Config::default() };
            assert_eq!(config.problems().first().map(|(key, _)| key.as_str()), Some("log"), "{log:?}");
        }
    }
}
