//! `[health]`: how the server finds out whether it is ready.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[health]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often an event is sent through the broker, to see whether it comes back.
    #[serde(with = "humantime_serde")]
    pub canary_interval: Duration,
    /// How long that may take before the server is not ready.
    #[serde(with = "humantime_serde")]
    pub canary_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { canary_interval: Duration::from_secs(5), canary_timeout: Duration::from_secs(5) }
    }
}

impl Config {
    /// Everything wrong with the section, as `(key, sentence)`.
    pub fn problems(&self) -> Vec<(String, String)> {
        let times = [("canary_interval", self.canary_interval), ("canary_timeout", self.canary_timeout)];
        let zero = times.into_iter().filter(|(_, time)| time.is_zero());
        zero.map(|(key, _)| (key.to_owned(), "must be longer than zero".to_owned())).collect()
    }
}
