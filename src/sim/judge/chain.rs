//! What a reader was told: G1 to G5.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Violation;
use crate::sim::history::{Event, Op, Place, Record};

/// One reader's view of one session, over all its connections.
#[derive(Default)]
struct Chain {
    cursor: Option<Place>,
    seen: BTreeSet<Place>,
    /// It asked for another start than its cursor.
    anew: bool,
    /// The server said that a gap follows.
    gap_due: bool,
    /// The last offset of the snapshot that is coming.
    snapshot: u64,
}

pub(super) fn judge(records: &[Record]) -> Vec<Violation> {
    let mut chains: BTreeMap<(Arc<str>, u32, Arc<str>), Chain> = BTreeMap::new();
    let mut found = Vec::new();
    for record in records {
        let Some(session) = session(&record.op) else { continue };
        let chain = chains.entry((record.client.clone(), record.instance, session.clone())).or_default();
        if let Err((promise, text)) = chain.step(&record.op) {
            found.push(Violation::new(promise, record, format!("{session}: {text}")));
        }
    }
    found
}

fn session(op: &Op) -> Option<&Arc<str>> {
    match op {
        Op::Open { session, .. }
        | Op::Opened { session, .. }
        | Op::Deliver { session, .. }
        | Op::Gap { session, .. }
        | Op::Mark { session, .. }
        | Op::Broken { session, .. } => Some(session),
        _ => None,
    }
}

type Step = Result<(), (&'static str, String)>;

impl Chain {
    fn step(&mut self, op: &Op) -> Step {
        match op {
            Op::Open { resumes, .. } => {
                self.anew = !resumes;
                Ok(())
            }
            Op::Opened { start, recovery, .. } => self.opened(*start, recovery),
            Op::Deliver { prev, skipped, snapshot, events, .. } => self.deliver(*prev, *skipped, *snapshot, events),
            Op::Gap { from, to, reason, .. } => self.gap(*from, *to, reason),
            Op::Mark { offset, .. } => self.mark(*offset),
            Op::Broken { text, .. } => Err(("G3", text.clone())),
            _ => Ok(()),
        }
    }

    fn opened(&mut self, start: Place, recovery: &str) -> Step {
        let expected = self.cursor.replace(start);
        if std::mem::take(&mut self.anew) {
            self.seen.clear();
            self.gap_due = false;
            self.snapshot = 0;
            return Ok(());
        }
        self.gap_due = recovery == "RECOVERY_PARTIAL";
        match expected {
            Some(expected) if expected != start && recovery != "RECOVERY_FRESH" => {
                Err(("G4", format!("resumed at {start:?} instead of {expected:?}")))
            }
            _ => Ok(()),
        }
    }

    fn deliver(&mut self, prev: u64, skipped: u64, snapshot: bool, events: &[Event]) -> Step {
        let Some((epoch, offset)) = self.cursor else { return Err(("G4", "a delivery before it was open".into())) };
        if self.gap_due {
            return Err(("G4", format!("a delivery after {prev} instead of the gap that was said to follow")));
        }
        if snapshot {
            return self.deliver_snapshot(prev, events, offset);
        }
        if prev != offset {
            self.cursor = Some((epoch, events.last().map_or(prev, |event| event.offset)));
            let promise = if prev < offset { "G2" } else { "G3" };
            return Err((promise, format!("a delivery after {prev} instead of {offset}")));
        }
        let mut last = offset;
        for event in events {
            if event.offset <= last {
                return Err(("G1", format!("{} after {last}", event.offset)));
            }
            last = event.offset;
            if !self.seen.insert((epoch, last)) {
                return Err(("G2", format!("{last} again")));
            }
        }
        self.cursor = Some((epoch, last));
        // This server's offsets are dense.
        let missing = last - prev - events.len() as u64;
        if missing == skipped {
            Ok(())
        } else {
            Err(("G3", format!("{missing} missing after {prev}, {skipped} skipped")))
        }
    }

    fn deliver_snapshot(&mut self, of: u64, events: &[Event], offset: u64) -> Step {
        if of != offset {
            return Err(("G3", format!("a snapshot of {of} instead of {offset}")));
        }
        for event in events {
            if event.offset <= self.snapshot || event.offset > of {
                return Err(("G1", format!("{} in a snapshot of {of}, after {}", event.offset, self.snapshot)));
            }
            self.snapshot = event.offset;
        }
        if events.is_empty() {
            self.snapshot = 0;
        }
        Ok(())
    }

    fn gap(&mut self, from: Place, to: Place, reason: &str) -> Step {
        self.gap_due = false;
        self.snapshot = 0;
        let expected = self.cursor.replace(to);
        if expected != Some(from) {
            return Err(("G3", format!("a gap from {from:?} instead of {expected:?}")));
        }
        if from.0 == to.0 && to.1 < from.1 && reason != "GAP_REASON_DIVERGED" {
            return Err(("G1", format!("a gap back from {from:?} to {to:?}")));
        }
        if (from.0 != to.0) != (reason == "GAP_REASON_EPOCH") {
            return Err(("G1", format!("a gap from {from:?} to {to:?}: {reason}")));
        }
        Ok(())
    }

    fn mark(&mut self, offset: u64) -> Step {
        let Some((epoch, at)) = self.cursor else { return Err(("G5", "a mark before it was open".into())) };
        if offset <= at {
            return Ok(());
        }
        self.cursor = Some((epoch, offset));
        Err(("G5", format!("a mark at {offset}, delivered is {at}")))
    }
}
