//! Whether the simulation would see a bug if there was one: each that can be planted is, and has to be caught by the
//! promise it breaks.

use super::world;
use crate::{
    checker::{Guarantee as G, Options, check},
    planted::{Bug, plant},
};

/// Each bug, and the promise it breaks.
const BUGS: &[(Bug, G)] = &[
    (Bug::LosesAnEvent, G::G3Reliable),
    (Bug::ReplaysFromAck, G::G4Resumable),
    (Bug::ReusesAnEpoch, G::G9NoPhantom),
    (Bug::AnswersUnstored, G::G6Published),
    (Bug::SkipsTheFence, G::G10OneHolder),
    (Bug::FencesLate, G::G10OneHolder),
    (Bug::ForgetsTheLastRepeat, G::G7Idempotent),
    (Bug::TrimsSilently, G::G3Reliable),
    (Bug::MarksEarly, G::G5Marks),
    (Bug::DeliversPaused, G::G11PauseAndCredit),
    (Bug::OverrunsCredit, G::G11PauseAndCredit),
    (Bug::ForgetsAWake, G::G13Live),
    (Bug::ConfusesTopics, G::G12Isolation),
    (Bug::ForgetsAnAnswer, G::G13Live),
    (Bug::SkipsSilently, G::G3Reliable),
    (Bug::LosesAKey, G::G3Reliable),
];

/// Most seeds that a bug may survive.
const PATIENCE: u64 = 40;

#[test]
fn every_planted_bug_is_caught_by_its_promise() {
    let mut survived = Vec::new();
    for &(bug, promise) in BUGS {
        let mut others: Vec<G> = Vec::new();
        let caught = (1..=PATIENCE).find(|seed| {
            plant(Some(bug));
            let records = world::run(*seed);
            plant(None);
            let report = check(&records, Options::default());
            let promises: Vec<_> = report.violations.iter().map(|violation| violation.guarantee).collect();
            others.extend(promises.iter().filter(|other| **other != promise));
            promises.contains(&promise)
        });
        others.sort_unstable();
        others.dedup();
        match caught {
            Some(seed) => eprintln!("{bug:?}: {promise}, seed {seed}, and before that {others:?}"),
            None => survived.push(format!("{bug:?} breaks {promise}; seen were {others:?}")),
        }
    }
    assert!(survived.is_empty(), "not caught:\n{}", survived.join("\n"));
}
