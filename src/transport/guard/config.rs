//! `[transport.guard]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[transport.guard]`: what a peer may do with frames before its transport is ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Between two PINGs of a peer, where we have sent nothing meanwhile. 0 s: PINGs are not judged.
    #[serde(with = "humantime_serde")]
    pub min_ping_interval: Duration,
    /// Streams that may be reset, by the peer or because of its errors, before the rate counts.
    pub reset_burst: u32,
    /// The rate.
    pub resets_per_second: u32,
    /// Frames that no peer needs often, before the rate counts.
    pub glitch_burst: u32,
    /// The rate.
    pub glitches_per_second: u32,
    /// CONTINUATION frames of one header block.
    pub max_continuations: u32,
    /// Whether what a transport has used up of both is remembered for its address.
    pub scores_per_address: bool,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            min_ping_interval: Duration::from_secs(15),
            reset_burst: 100,
            resets_per_second: 1,
            glitch_burst: 1000,
            glitches_per_second: 33,
            max_continuations: 8,
            scores_per_address: true,
        }
    }
}

impl GuardConfig {
    /// What is wrong with the values, one sentence each; its first word is the key inside `[transport]`.
    pub(in super::super) fn validate(&self) -> impl Iterator<Item = String> {
        let counts = [
            ("reset_burst", self.reset_burst),
            ("resets_per_second", self.resets_per_second),
            ("glitch_burst", self.glitch_burst),
            ("glitches_per_second", self.glitches_per_second),
            ("max_continuations", self.max_continuations),
        ];
        let bad = counts.into_iter().filter(|(_, count)| !(1..=1_000_000).contains(count));
        bad.map(|(key, count)| format!("guard.{key} is {count}; it must be from 1 to 1000000"))
    }
}
