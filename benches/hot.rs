//! What a message costs on its way through the core, counted and not timed: instructions, and what is allocated. The same
//! on every run, so that CI can hold a change to what is recorded: see `benches/README.md` for the method.
//!
//! `make hot`, or `cargo bench --profile hot --bench hot -- [--bless] [NAME…]`; it runs itself under valgrind. What was built
//! without optimisation is compared with what is recorded of such: CI has it built for its tests already.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "its modules are its own; what fails ends the measurement")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

#[path = "hot/count.rs"]
mod count;
#[path = "hot/paths.rs"]
mod paths;
#[path = "hot/stand.rs"]
mod stand;

use std::{collections::BTreeMap, env, fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use count::{Cost, cost};
use paths::{PATHS, find};

/// What is recorded: of each build, by the name of its profile, each path.
type Recorded = BTreeMap<String, BTreeMap<String, Cost>>;

/// Instructions may be more than recorded by this part. Allocations may not be more at all.
const TOLERANCE: f64 = 0.05;
/// Of allocations: what tables take now and then, which hash differently each time.
const ROUNDING: f64 = 0.1;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [run, name, count] = &arguments[..]
        && run == "--run"
    {
        let count = count.parse().context("a count")?;
        return find(name).with_context(|| format!("{name}: no such path"))?.walk(count);
    }
    let names: Vec<&String> = arguments.iter().filter(|argument| *argument != "--bless").collect();
    for name in &names {
        ensure!(find(name).is_some(), "{name}: no such path; there are: {}", PATHS.map(|path| path.name).join(", "));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks/hot.json");
    let bless = names.len() < arguments.len();
    let mut all: Recorded = match fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text).context("docs/benchmarks/hot.json")?,
        Err(_) if bless => BTreeMap::new(),
        Err(error) => return Err(error).context("docs/benchmarks/hot.json; --bless makes it"),
    };
    let recorded = all.entry(if cfg!(debug_assertions) { "dev" } else { "hot" }.to_owned()).or_default();
    let mut over = Vec::new();
    println!(
        "| path | instructions | recorded | allocations | recorded | bytes allocated |\n|---|---|---|---|---|---|"
    );
    for path in PATHS.iter().filter(|path| names.is_empty() || names.iter().any(|name| *name == path.name)) {
        let cost = cost(path)?;
        if bless {
            recorded.insert(path.name.to_owned(), cost);
        }
        let was =
            *recorded.get(path.name).with_context(|| format!("{} is not recorded; --bless does that", path.name))?;
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.2} | {:.0} |",
            path.name, cost.instructions, was.instructions, cost.allocations, was.allocations, cost.bytes,
        );
        let dearer = cost.instructions > was.instructions * (1.0 + TOLERANCE);
        if dearer || cost.allocations > was.allocations + ROUNDING {
            over.push(path.name);
        }
    }
    if bless {
        fs::write(&file, serde_json::to_string_pretty(&all)? + "\n")?;
    }
    if !over.is_empty() {
        bail!(
            "dearer than recorded in docs/benchmarks/hot.json: {}. If that is worth it, `make hot BLESS=1` records it.",
            over.join(", ")
        );
    }
    Ok(())
}
