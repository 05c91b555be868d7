//! `[drain]`: how the server leaves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[drain]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long to go on serving, not ready, so that load balancers forget us. 0 where the platform waits for us.
    #[serde(with = "humantime_serde")]
    pub lame_duck: Duration,
    /// Most clients told to move in a second; 0 for all at once.
    pub max_reconnects_per_second: u32,
    /// Longest time the telling may take. Where the rate would need longer, it is exceeded.
    #[serde(with = "humantime_serde")]
    pub spread: Duration,
    /// How long those told last have to move before whoever is left is closed.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lame_duck: Duration::ZERO,
            max_reconnects_per_second: 100,
            spread: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// The longest a client may be here after its Drain frame.
    pub fn longest(&self) -> Duration {
        self.spread.saturating_add(self.grace)
    }
}
