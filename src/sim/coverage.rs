//! What has to have happened for a green suite to mean anything: a promise that was never put to the test was not kept.

use crate::checker::history::{Op, Outcome, Record};

/// How often each situation was met.
#[derive(Debug)]
pub(super) struct Coverage([u64; SITUATIONS.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; SITUATIONS.len()])
    }
}

type Met = fn(&Op) -> bool;

/// Situations, and whether a record shows that one was met.
const SITUATIONS: &[(&str, Met)] = &[
    ("a connection was lost for both", |op| fault(op, "lose Both")),
    ("a connection was lost and the server did not hear of it", |op| fault(op, "lose ClientOnly")),
    ("a connection was lost and the client did not hear of it", |op| fault(op, "lose ServerOnly")),
    ("a connection was lost and nobody heard of it", |op| fault(op, "lose Nobody")),
    ("the way to the server stood still", |op| fault(op, "stall Up")),
    ("the way to the client stood still", |op| fault(op, "stall Down")),
    ("a link was slow", |op| fault(op, "slow")),
    ("an operator disconnected a client", |op| fault(op, "disconnect")),
    ("a server lost its memory", |op| fault(op, "crash")),
    ("a server left in order", |op| matches!(op, Op::Left { .. })),
    ("a silent client was given up", |op| disconnected(op, "nothing was received")),
    ("a client that took nothing was given up", |op| fault(op, "clients that take nothing")),
    ("a client was told to move", |op| disconnected(op, "told to move")),
    ("a session went on without a hole", |op| opened(op, "RECOVERY_FULL")),
    ("a session went on with a gap", |op| opened(op, "RECOVERY_PARTIAL")),
    ("history was gone", |op| gap(op, "GAP_REASON_RETENTION")),
    ("a topic's log was another one", |op| gap(op, "GAP_REASON_EPOCH")),
    ("a slow session skipped events", |op| gap(op, "GAP_REASON_SLOW")),
    ("a session was taken over", |op| closed(op, "TAKEN_OVER")),
    ("a slow session was ended", |op| closed(op, "SLOW_SESSION")),
    ("a session was closed as asked", |op| matches!(op, Op::Closed { reason: None, .. })),
    ("a session was paused", |op| matches!(op, Op::Flow { paused: Some(true), .. })),
    ("a session was opened without credit", |op| matches!(op, Op::Open { credit: Some((0, 0)), .. })),
    ("an idle session was told where it stands", |op| matches!(op, Op::Mark { .. })),
    ("a snapshot ended", |op| matches!(op, Op::Deliver { snapshot: true, events, .. } if events.is_empty())),
    ("a delivery left out what was not the latest", |op| matches!(op, Op::Deliver { skipped: 1.., .. })),
    ("a publish was recognised as a repeat", |op| stored(op, true)),
    ("a publish was stored", |op| stored(op, false)),
    ("what became of a publish was never known", |op| answered(op, |o| matches!(o, Outcome::Unknown))),
    ("the broker was not reached", |op| replied(op, "BROKER")),
    ("the broker did not know what it had done", |op| replied(op, "UNKNOWN_OUTCOME")),
    ("a number left a hole", |op| refused(op, "WRONG_SEQ")),
    ("a publisher was to wait for a reader", |op| refused(op, "BACKPRESSURE")),
    ("a keyed topic was full", |op| refused(op, "KEY_LIMIT")),
];

fn fault(op: &Op, kind: &str) -> bool {
    matches!(op, Op::Fault { what, took_hold: true } if what.starts_with(kind))
}

fn disconnected(op: &Op, how: &str) -> bool {
    matches!(op, Op::Disconnected { why } if why.contains(how))
}

fn opened(op: &Op, how: &str) -> bool {
    matches!(op, Op::Opened { recovery, .. } if **recovery == *how)
}

fn gap(op: &Op, why: &str) -> bool {
    matches!(op, Op::Gap { reason, .. } if **reason == *why)
}

fn closed(op: &Op, why: &str) -> bool {
    matches!(op, Op::Closed { reason: Some(reason), .. } if reason.starts_with(why))
}

fn answered(op: &Op, what: impl Fn(&Outcome) -> bool) -> bool {
    matches!(op, Op::Answered { outcome, .. } if what(outcome))
}

fn replied(op: &Op, why: &str) -> bool {
    matches!(op, Op::Reply { failure: Some(reason), .. } if reason == why)
}

fn stored(op: &Op, again: bool) -> bool {
    answered(op, |outcome| matches!(outcome, Outcome::Stored { duplicate, .. } if *duplicate == again))
}

fn refused(op: &Op, why: &str) -> bool {
    answered(op, |outcome| matches!(outcome, Outcome::Refused(reason) if reason == why))
}

impl Coverage {
    /// Takes a run in.
    pub(super) fn add(&mut self, records: &[Record]) {
        for (count, (_, met)) in self.0.iter_mut().zip(SITUATIONS) {
            *count += records.iter().filter(|record| met(&record.op)).count() as u64;
        }
    }

    /// What was met too rarely.
    pub(super) fn missing(&self, floor: u64) -> Vec<String> {
        let rare = self.0.iter().zip(SITUATIONS).filter(|(count, _)| **count < floor);
        rare.map(|(count, (name, _))| format!("{name}: {count} times, not {floor}")).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().zip(SITUATIONS).try_for_each(|(count, (name, _))| writeln!(f, "{count:7} × {name}"))
    }
}
