//! What a check found.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::history::{Op, Record};

/// Faults this long before a violation are told with it, microseconds.
const AROUND: u64 = 5_000_000;
/// How many violations of one promise are told; of more only their number is kept.
const TOLD: u64 = 20;

/// A promise, as the README numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[allow(missing_docs, reason = "each is a row of the README's table")]
pub enum Guarantee {
    G1Ordered,
    G2Unique,
    G3Reliable,
    G4Resumable,
    G5Marks,
    G6Published,
    G7Idempotent,
    G8Fifo,
    G9NoPhantom,
    G10OneHolder,
    G11PauseAndCredit,
    G12Isolation,
    G13Live,
    G14Bounded,
    G15Drain,
}

impl Guarantee {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::G1Ordered,
        Self::G2Unique,
        Self::G3Reliable,
        Self::G4Resumable,
        Self::G5Marks,
        Self::G6Published,
        Self::G7Idempotent,
        Self::G8Fifo,
        Self::G9NoPhantom,
        Self::G10OneHolder,
        Self::G11PauseAndCredit,
        Self::G12Isolation,
        Self::G13Live,
        Self::G14Bounded,
        Self::G15Drain,
    ];
}

impl Guarantee {
    /// False for what only some histories can show: an idle session that is told so, samples of memory, a server that leaves.
    fn is_always_shown(self) -> bool {
        !matches!(self, Self::G5Marks | Self::G14Bounded | Self::G15Drain)
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, Serialize)]
pub struct Violation {
    /// Which.
    pub guarantee: Guarantee,
    /// How.
    pub sentence: String,
    /// The smallest example: the records that cannot all be right.
    pub example: Vec<Record>,
    /// What was made to go wrong shortly before.
    pub faults: Vec<Record>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.guarantee, self.sentence)?;
        let mut print = |title: &str, records: &[Record]| {
            records.iter().try_for_each(|record| {
                let line = serde_json::to_string(record).map_err(|_| fmt::Error)?;
                write!(f, "\n  {title}: {line}")
            })
        };
        print("record", &self.example)?;
        print("fault", &self.faults)
    }
}

/// What a check found, and how much there was to find it in.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// In the order in which they came to light, the first few of each promise.
    pub violations: Vec<Violation>,
    /// How often each promise was broken in all.
    pub broken: BTreeMap<Guarantee, u64>,
    /// How often each promise was put to the test.
    pub exercised: BTreeMap<Guarantee, u64>,
    /// Frames that were recorded.
    pub operations: u64,
    /// Faults that took hold.
    pub faults: u64,
    /// Sessions that went on at their cursor.
    pub resumes: u64,
    #[serde(skip)]
    recent_faults: Vec<Record>,
}

/// What a history must hold at least for its check to mean anything.
#[derive(Debug, Clone, Copy)]
pub struct Floor {
    /// Recorded frames.
    pub operations: u64,
    /// Faults that took hold.
    pub faults: u64,
    /// Sessions that went on at their cursor.
    pub resumes: u64,
    /// Times that each promise was put to the test, but for those that not every history can show: `G5Marks`, which needs
    /// idle sessions, `G14Bounded` without samples of memory, `G15Drain` without a server that leaves.
    pub exercised: u64,
}

impl Report {
    /// A promise was put to the test once more.
    pub(super) fn exercise(&mut self, guarantee: Guarantee) {
        *self.exercised.entry(guarantee).or_default() += 1;
    }

    /// Takes note of what is no session's own.
    pub(super) fn note(&mut self, record: &Record) {
        match &record.op {
            Op::Fault { took_hold: true, .. } => {
                self.faults += 1;
                self.recent_faults.retain(|fault| fault.at + AROUND >= record.at);
                self.recent_faults.push(record.clone());
            }
            Op::Opened { recovery, .. } => {
                self.operations += 1;
                self.resumes += u64::from(&**recovery != "RECOVERY_FRESH");
            }
            Op::Fault { .. }
            | Op::Memory { .. }
            | Op::Leaving { .. }
            | Op::Left { .. }
            | Op::Head { .. }
            | Op::Stored { .. }
            | Op::Stands { .. } => {}
            _ => self.operations += 1,
        }
    }

    /// Something was made to go wrong shortly before.
    pub(super) fn is_troubled(&self, at: u64) -> bool {
        self.recent_faults.iter().any(|fault| is_around(fault, at))
    }

    /// A promise was broken.
    pub(super) fn violate(&mut self, guarantee: Guarantee, sentence: impl Into<String>, example: &[&Record]) {
        let broken = self.broken.entry(guarantee).or_default();
        *broken += 1;
        if *broken > TOLD {
            return;
        }
        let near = |fault: &&Record| example.iter().any(|record| is_around(fault, record.at));
        let faults = self.recent_faults.iter().filter(near).cloned().collect();
        let example = example.iter().map(|record| (*record).clone()).collect();
        self.violations.push(Violation { guarantee, sentence: sentence.into(), example, faults });
    }

    /// Tells the faults of violations that came to light only in the end.
    pub(super) fn blame(&mut self, records: &[Record]) {
        let faults = records.iter().filter(|record| matches!(record.op, Op::Fault { took_hold: true, .. }));
        for violation in &mut self.violations {
            let near = |fault: &&Record| violation.example.iter().any(|record| is_around(fault, record.at));
            violation.faults = faults.clone().filter(near).cloned().collect();
        }
    }

    /// Adds another history's report to this one.
    pub fn add(&mut self, other: Self) {
        self.violations.extend(other.violations);
        for (sum, counts) in [(&mut self.exercised, other.exercised), (&mut self.broken, other.broken)] {
            for (guarantee, count) in counts {
                *sum.entry(guarantee).or_default() += count;
            }
        }
        self.operations += other.operations;
        self.faults += other.faults;
        self.resumes += other.resumes;
    }

    /// What is missing for the check to mean anything.
    pub fn vacuity(&self, floor: Floor) -> Vec<String> {
        let mut missing = Vec::new();
        let mut demand = |name: &str, is: u64, least: u64| {
            if is < least {
                missing.push(format!("{name}: {is}, at least {least} are needed"));
            }
        };
        demand("operations", self.operations, floor.operations);
        demand("faults that took hold", self.faults, floor.faults);
        demand("resumed sessions", self.resumes, floor.resumes);
        for guarantee in Guarantee::ALL.into_iter().filter(|guarantee| guarantee.is_always_shown()) {
            let exercised = self.exercised.get(&guarantee).copied().unwrap_or(0);
            demand(&format!("times {guarantee} was put to the test"), exercised, floor.exercised);
        }
        missing
    }
}

fn is_around(fault: &Record, at: u64) -> bool {
    fault.at <= at && fault.at.saturating_add(AROUND) >= at
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, faults, resumes, .. } = self;
        writeln!(f, "{operations} operations, {faults} faults that took hold, {resumes} resumed sessions")?;
        for guarantee in Guarantee::ALL {
            let count = |counts: &BTreeMap<_, u64>| counts.get(&guarantee).copied().unwrap_or(0);
            let (exercised, broken) = (count(&self.exercised), count(&self.broken));
            writeln!(f, "{:<18} {exercised:>9} times put to the test, {broken} broken", guarantee.to_string())?;
        }
        self.violations.iter().try_for_each(|violation| writeln!(f, "\n{violation}"))
    }
}
