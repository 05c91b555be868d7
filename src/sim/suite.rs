//! Many seeds: which ones, and what is done about those that fail.

use std::{fs, io::Write as _, path::PathBuf};

use crate::checker::{Floor, history::Record};

/// Seeds of a suite unless `BOWLINE_SEEDS` says otherwise.
const SEEDS: u64 = 200;

/// What they must have shown together.
pub(super) const FLOOR: Floor = Floor { operations: 100_000, faults: 500, resumes: 1000, exercised: 100 };

/// The seeds to run: the one that `BOWLINE_SEED` names; otherwise all that have failed before, then `BOWLINE_SEEDS`.
pub(super) fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number of seeds, or a seed"));
    match number("BOWLINE_SEED") {
        Some(seed) => vec![seed],
        None => regressions().into_iter().chain(1..=number("BOWLINE_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

/// True if floors make sense: for a suite, not for a seed that is looked into.
pub(super) fn is_whole(seeds: &[u64]) -> bool {
    seeds.len() as u64 >= SEEDS
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sim-regressions.txt")
}

fn regressions() -> Vec<u64> {
    let text = fs::read_to_string(file()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split('#').next());
    lines.filter_map(|line| line.trim().parse().ok()).collect()
}

/// Remembers a seed that failed, for every later run to begin with.
pub(super) fn remember(seed: u64, why: &str) {
    if !regressions().contains(&seed)
        && let Ok(mut file) = fs::OpenOptions::new().append(true).create(true).open(file())
    {
        let why = why.lines().next().unwrap_or_default();
        writeln!(file, "{seed} # {why}").expect("the file of seeds can be written");
    }
}

/// Prints a history, as `bowline check` reads it.
pub(super) fn print(records: &[Record]) {
    for record in records {
        println!("{}", serde_json::to_string(record).expect("a record is JSON"));
    }
}
