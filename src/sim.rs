//! The simulation: the real server and the real client library in one process, on time that a seed decides about and
//! over a network that a seed breaks. The same seed gives the same history, and every history is held to the promises.
//!
//! `make sim` runs thousands of seeds. One that fails is added to `tests/sim-regressions.txt`, with which every run
//! begins; `BOWLINE_SEED=n cargo test --lib sim::` replays one and prints its history.

mod bugs;
mod coverage;
mod frames;
mod history;
mod late;
mod library;
mod network;
mod operator;
mod pipe;
mod replica;
mod suite;
mod world;

use coverage::Coverage;

use crate::checker::{Options, Report, check};

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 1..=4 {
        let (first, second) = (world::run(seed), world::run(seed));
        let differ = first.iter().zip(&second).find(|(a, b)| format!("{a:?}") != format!("{b:?}"));
        assert!(differ.is_none(), "seed {seed}: {differ:#?}");
        assert_eq!(history::hash(&first), history::hash(&second), "seed {seed}");
    }
}

#[test]
fn every_promise_is_kept_whatever_goes_wrong() {
    let seeds = suite::seeds();
    let (mut coverage, mut whole, mut failed) = (Coverage::default(), Report::default(), Vec::new());
    for &seed in &seeds {
        let records = world::run(seed);
        let mut report = check(&records, Options::default());
        if seeds.len() == 1 {
            suite::print(&records);
        }
        if let Some(first) = report.violations.first().map(ToString::to_string) {
            suite::remember(seed, &first);
            failed.push(format!("seed {seed}: {} violations\n{first}", report.violations.len()));
        }
        report.violations.clear();
        coverage.add(&records);
        whole.add(report);
    }
    eprintln!("{whole}{coverage}");
    assert!(failed.is_empty(), "{} of {} seeds failed\n{}", failed.len(), seeds.len(), failed.join("\n"));
    if suite::is_whole(&seeds) {
        let missing = [whole.vacuity(suite::FLOOR), coverage.missing(3)].concat();
        assert_eq!(missing, Vec::<String>::new(), "what was not put to the test was not kept");
    }
}
