//! Histories made up.

mod changes;
mod model;
mod promises;
mod sessions;

use super::{
    history::{Asked, Event, Outcome, Place},
    *,
};

const EPOCH: u64 = 7;

/// A history being made up. Everything is said by one program on one connection, unless told otherwise.
#[derive(Default)]
struct Tale {
    records: Vec<Record>,
    program: &'static str,
}

fn event(offset: u64) -> Event {
    let id = format!("e{offset}").into();
    Event { offset, time: offset, id, key: "".into(), removes: false, length: 10 }
}

fn at(offset: u64) -> Place {
    (EPOCH, offset)
}

impl Tale {
    /// With `count` events published and stored by a back end.
    fn with(count: u64) -> Self {
        let mut tale = Self { program: "back-end", ..Self::default() };
        for offset in 1..=count {
            tale.publish("", &format!("e{offset}")).answer("", &format!("e{offset}"), at(offset));
        }
        tale.by("reader")
    }

    fn by(mut self, program: &'static str) -> Self {
        self.program = program;
        self
    }

    fn say(&mut self, op: Op) -> &mut Self {
        let at = self.records.len() as u64;
        let connection = u64::from(self.program != "back-end");
        self.records.push(Record { at, client: "c".into(), program: self.program.into(), connection, op });
        self
    }

    fn publish(&mut self, session: &str, id: &str) -> &mut Self {
        self.say(Op::Publish { session: session.into(), topic: "t".into(), id: id.into(), request: 0 })
    }

    fn answer(&mut self, session: &str, id: &str, place: Place) -> &mut Self {
        let outcome = Outcome::Stored { place, duplicate: false };
        self.say(Op::Answered { session: session.into(), topic: "t".into(), id: id.into(), outcome })
    }

    fn ask(&mut self, start: Asked, credit: Option<(u64, u64)>) -> &mut Self {
        self.say(Op::Open { session: "s".into(), topic: "t".into(), start, credit, request: 0 })
    }

    fn opened(&mut self, attach: u64, start: u64, head: u64, recovery: &str) -> &mut Self {
        let (start, head, recovery) = (at(start), at(head), recovery.into());
        let (session, topic) = ("s".into(), "t".into());
        self.say(Op::Opened { session, topic, attach, start, head, recovery, published_seq: 0 })
    }

    /// Opened at the beginning, for everything.
    fn fresh(&mut self) -> &mut Self {
        self.ask(Asked::Fresh, None).opened(1, 0, 0, "RECOVERY_FRESH")
    }

    fn deliver(&mut self, prev: u64, offsets: impl IntoIterator<Item = u64>) -> &mut Self {
        let events = offsets.into_iter().map(event).collect();
        self.say(Op::Deliver { session: "s".into(), topic: "t".into(), prev, skipped: 0, snapshot: false, events })
    }

    fn gap(&mut self, from: Place, to: Place) -> &mut Self {
        let reason = "GAP_REASON_RETENTION".into();
        self.say(Op::Gap { session: "s".into(), topic: "t".into(), from, to, reason })
    }

    fn flow(&mut self, credit: Option<(u64, u64)>, paused: Option<bool>, request: u64) -> &mut Self {
        self.say(Op::Flow { session: "s".into(), credit, paused, acked: None, request })
    }

    fn reply(&mut self, request: u64) -> &mut Self {
        self.say(Op::Reply { request, failure: None })
    }

    /// The end: the log holds `kept`, and the reader stands there.
    fn end(&mut self, kept: impl IntoIterator<Item = u64>, head: u64, stands: u64) -> &mut Self {
        self.say(Op::Head { topic: "t".into(), head: at(head) });
        self.say(Op::Stored { topic: "t".into(), epoch: EPOCH, events: kept.into_iter().map(event).collect() });
        self.say(Op::Stands { session: "s".into(), topic: "t".into(), place: Some(at(stands)) })
    }

    fn broken(&self) -> Vec<Guarantee> {
        let report = check(&self.records, Options::default());
        report.violations.iter().map(|violation| violation.guarantee).collect()
    }
}

#[test]
fn a_violation_tells_what_went_wrong_shortly_before_and_nothing_else() {
    let mut tale = Tale::with(5);
    tale.say(Op::Fault { what: "cut".into(), took_hold: true });
    tale.say(Op::Fault { what: "missed".into(), took_hold: false });
    tale.fresh().deliver(1, [2]);
    let report = check(&tale.records, Options::default());
    let violation = &report.violations[0];
    assert_eq!((violation.example.len(), violation.faults.len(), report.faults), (1, 1, 1));
    let text = violation.to_string();
    assert!(text.starts_with("G3Reliable: ") && text.contains("\"cut\""), "{text}");
}

#[test]
fn a_history_in_which_nothing_happened_proves_nothing() {
    let floor = Floor { operations: 10, faults: 1, resumes: 1, exercised: 1 };
    let report = check(&Tale::with(5).records, Options::default());
    let missing = report.vacuity(floor).join("\n");
    for name in ["faults", "resumed", "G1Ordered", "G11"] {
        assert!(missing.contains(name), "{missing}");
    }
    assert!(!missing.contains("operations"), "{missing}");
}

#[test]
fn a_history_reads_back_what_was_written_and_names_a_bad_line() {
    let mut tale = Tale::with(2);
    tale.ask(Asked::Cursor(at(1)), Some((1, 2))).fresh().deliver(0, [1]).gap(at(1), at(2)).end([2], 2, 2);
    let mut text = Vec::new();
    for record in &tale.records {
        serde_json::to_writer(&mut text, record).unwrap();
        text.push(b'\n');
    }
    assert_eq!(history::read(&text[..]).unwrap(), tale.records);
    let cut = &text[..text.len() - 5];
    assert_eq!(history::read(cut).unwrap().len(), tale.records.len() - 1, "a program was killed over its last line");
    let bad = [b"{}\n", &text[..]].concat();
    assert!(history::read(&bad[..]).unwrap_err().to_string().starts_with("line 1: "));
}

#[test]
fn where_offsets_are_sparse_a_hole_is_told_by_whoever_has_seen_what_lies_in_it() {
    let broken = |tell: &dyn for<'t> Fn(&'t mut Tale) -> &'t mut Tale| {
        let mut tale = Tale { program: "back-end", ..Tale::default() };
        for offset in [2, 5, 9] {
            tale.publish("", &format!("e{offset}")).answer("", &format!("e{offset}"), at(offset));
        }
        let mut tale = tale.by("reader");
        tell(tale.fresh());
        let report = check(&tale.records, Options { sparse: true, ..Options::default() });
        report.violations.iter().map(|violation| violation.guarantee).collect::<Vec<_>>()
    };
    assert_eq!(broken(&|tale| tale.deliver(0, [2]).deliver(2, [5, 9]).end([2, 5, 9], 9, 9)), []);
    assert_eq!(broken(&|tale| tale.deliver(0, [2, 5, 9]).end([5, 9], 12, 9)), [], "nothing lies behind");
    assert_eq!(broken(&|tale| tale.deliver(0, [2]).deliver(2, [9]).end([2, 5, 9], 9, 9)), [Guarantee::G3Reliable]);
    assert_eq!(broken(&|tale| tale.deliver(0, [2, 5]).end([2, 5, 9], 12, 5)), [Guarantee::G13Live]);
    assert_eq!(broken(&|tale| tale.deliver(0, [2, 5, 9]).end([2, 5], 9, 9)), [Guarantee::G6Published]);
}
