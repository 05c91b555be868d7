//! Every request gets exactly one answer, or its connection ends.

use std::{collections::HashMap, sync::Arc};

use super::{
    history::{Op, Record},
    report::{Guarantee as G, Report},
};

/// How long the end of a history may leave a request unanswered, microseconds: as long as anybody may take to catch up.
const LATE: u64 = 30_000_000;

/// A connection of a program.
type Line = (Arc<str>, u64);

/// What is not answered on it, and when it was last heard of.
#[derive(Debug, Default)]
struct Waiting {
    asked: HashMap<u64, Record>,
    last: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<Line, Waiting>);

impl Answers {
    pub(super) fn take(&mut self, record: &Record, report: &mut Report) {
        // A library, and a call of one method, answers by itself.
        if record.connection == 0 {
            return;
        }
        let line = (record.program.clone(), record.connection);
        if let Op::Disconnected { why } = &record.op {
            let asked = self.0.remove(&line).and_then(|waiting| waiting.first());
            // A client that has half-closed was promised everything that is due.
            if let Some(asked) = asked.filter(|_| why == "left") {
                report.violate(G::G13Live, "a request was never answered", &[&asked, record]);
            }
            return;
        }
        let waiting = self.0.entry(line).or_default();
        waiting.last = waiting.last.max(record.at);
        match &record.op {
            Op::Open { request, .. }
            | Op::Publish { request, .. }
            | Op::Flow { request, .. }
            | Op::Close { request, .. }
                if *request != 0 =>
            {
                waiting.asked.insert(*request, record.clone());
            }
            Op::Reply { request, .. } => {
                report.exercise(G::G13Live);
                if waiting.asked.remove(request).is_none() {
                    report.violate(G::G13Live, "a request was answered twice, or never made", &[record]);
                }
            }
            _ => {}
        }
    }

    /// The end of the history: where things went on, answers had to come.
    pub(super) fn close(&self, report: &mut Report) {
        let late = |waiting: &Waiting| waiting.first().filter(|asked| asked.at.saturating_add(LATE) < waiting.last);
        let mut late: Vec<_> = self.0.values().filter_map(late).collect();
        late.sort_by_key(|asked| asked.at);
        for asked in late {
            report.violate(G::G13Live, "a request was not answered while its connection went on", &[&asked]);
        }
    }
}

impl Waiting {
    fn first(&self) -> Option<Record> {
        self.asked.values().min_by_key(|asked| asked.at).cloned()
    }
}
