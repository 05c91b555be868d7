//! Much at once, on the real program: floods, pauses, fast tickers, many sessions on one connection. What is promised is
//! asserted; what it costs is printed. `BOWLINE_LOAD_SECONDS` lets the timed ones run longer than a build should wait.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "its modules are its own; a test says no more than where")]
#![allow(clippy::disallowed_methods, reason = "a test has no lifecycle to spawn its publishers through")]

#[path = "support/admin.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod admin;
#[path = "load/fairness.rs"]
mod fairness;
#[path = "load/pause.rs"]
mod pause;
#[path = "load/probes.rs"]
mod probes;
#[path = "support/served.rs"]
mod served;
#[path = "load/stalled.rs"]
mod stalled;
#[path = "load/talker.rs"]
mod talker;
#[path = "load/ticker.rs"]
mod ticker;

use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use served::Served;

fn serve(settings: &[(&str, &str)]) -> Served {
    Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), settings)
}

/// How long the timed tests go on.
fn duration() -> Duration {
    let seconds = std::env::var("BOWLINE_LOAD_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

/// The time as events have it.
fn now_us() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// The value below which a share of the sorted values lies.
fn quantile(sorted: &[u64], share: f64) -> u64 {
    let index = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[index]
}
