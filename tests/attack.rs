//! The server under attack: raw frames over loopback against the real program, each attack with what has to come of it.
//! And what HTTP/2 asks of a server, case by case, as h2spec numbers them.
//!
//! The same attacks are then made on a tonic server with its defaults, which has to fall where it is said to: otherwise
//! the suite would prove nothing. `cargo test --test attack -- 1a 6 http2/5.1` runs those whose number or id is so
//! or begins so; `bowline`, `h2spec` or `stock` one of the three parts.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "its modules are its own; what must not fail fails the test")]
#![allow(clippy::print_stdout, reason = "the scorecard is what this is for")]

#[path = "support/admin.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod admin;
#[path = "attack/arena.rs"]
mod arena;
#[path = "attack/cases.rs"]
mod cases;
#[path = "attack/frames.rs"]
mod frames;
#[path = "attack/h2spec.rs"]
mod h2spec;
#[path = "attack/honest.rs"]
mod honest;
#[path = "attack/hpack.rs"]
mod hpack;
#[path = "attack/scorecard.rs"]
mod scorecard;
#[path = "support/served.rs"]
mod served;
#[path = "support/signals.rs"]
mod signals;
#[path = "attack/stock.rs"]
mod stock;
#[path = "support/tokens.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod tokens;
#[path = "attack/wire.rs"]
mod wire;

use std::{env, process::ExitCode};

use arena::Kind;
use tokio::runtime::Runtime;

/// The parts, in their order.
const PARTS: [&str; 3] = ["h2spec", "bowline", "stock"];

/// What the arguments ask for.
struct Plan {
    parts: Vec<String>,
    /// Beginnings of numbers and ids; empty: all.
    names: Vec<String>,
}

impl Plan {
    fn from_arguments() -> Self {
        // What is for a harness, such as `--nocapture`, says nothing here.
        let words = env::args().skip(1).filter(|word| !word.starts_with('-'));
        let (parts, names) = words.partition(|word| PARTS.contains(&word.as_str()));
        Self { parts, names }
    }

    fn asks_for(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|named| named == part)
    }

    /// Whether this server is to be attacked.
    fn has(&self, kind: Kind) -> bool {
        self.asks_for(match kind {
            Kind::Bowline => "bowline",
            Kind::Stock => "stock",
        })
    }

    /// Whether a case is asked for.
    fn wants(&self, id: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| id == name || id.starts_with(&format!("{name}/")))
    }
}

fn main() -> ExitCode {
    let runtime = Runtime::new().unwrap();
    if env::args().any(|argument| argument == "--serve-stock") {
        runtime.block_on(stock::serve());
        return ExitCode::SUCCESS;
    }
    // Thousands of sockets, of which this process has one end of each.
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let plan = Plan::from_arguments();
    let failed = runtime.block_on(async {
        let failed = if plan.asks_for("h2spec") { h2spec::run(&plan).await } else { 0 };
        failed + scorecard::run(&plan).await
    });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
