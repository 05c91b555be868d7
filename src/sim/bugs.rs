//! Whether the simulation would see a bug if there was one: each that can be planted is, and has to be caught by the
//! promise it breaks.

use super::{judge, world};
use crate::planted::{Bug, plant};

/// Each bug, and the promise it breaks.
const BUGS: &[(Bug, &str)] = &[
    (Bug::LosesAnEvent, "G3"),
    (Bug::ReplaysFromAck, "G4"),
    (Bug::ReusesAnEpoch, "G9"),
    (Bug::AnswersUnstored, "G6"),
    (Bug::SkipsTheFence, "G10"),
    (Bug::FencesLate, "G10"),
    (Bug::ForgetsTheLastRepeat, "G7"),
    (Bug::TrimsSilently, "G3"),
    (Bug::MarksEarly, "G5"),
    (Bug::DeliversPaused, "G11"),
    (Bug::OverrunsCredit, "G11"),
    (Bug::ForgetsAWake, "G13"),
    (Bug::ConfusesTopics, "G12"),
    (Bug::ForgetsAnAnswer, "G13"),
    (Bug::SkipsSilently, "G3"),
];

/// Most seeds that a bug may survive.
const PATIENCE: u64 = 40;

#[test]
fn every_planted_bug_is_caught_by_its_promise() {
    let mut survived = Vec::new();
    for &(bug, promise) in BUGS {
        let mut others: Vec<&'static str> = Vec::new();
        let caught = (1..=PATIENCE).find(|seed| {
            plant(Some(bug));
            let records = world::run(*seed);
            plant(None);
            let promises: Vec<_> = judge::judge(&records).into_iter().map(|violation| violation.promise).collect();
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
