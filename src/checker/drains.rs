//! A server that leaves is gone in time.

use std::collections::HashMap;

use super::{
    history::{Op, Record},
    report::{Guarantee as G, Report},
};

/// How long it may take after the deadline it gave its clients, microseconds.
const GRACE: u64 = 5_000_000;

/// Servers that are leaving, and the latest they may be there.
#[derive(Debug, Default)]
pub(super) struct Drains {
    leaving: HashMap<String, (Record, u64)>,
    now: u64,
}

impl Drains {
    pub(super) fn take(&mut self, record: &Record, report: &mut Report) {
        match &record.op {
            Op::Leaving { node, deadline } => {
                let latest = record.at.saturating_add(*deadline).saturating_add(GRACE);
                self.leaving.entry(node.clone()).or_insert_with(|| (record.clone(), latest));
            }
            Op::Left { node } => {
                if let Some((leaving, latest)) = self.leaving.remove(node) {
                    report.exercise(G::G15Drain);
                    if record.at > latest {
                        let sentence = format!("a server took {} µs to leave", record.at - leaving.at);
                        report.violate(G::G15Drain, sentence, &[&leaving, record]);
                    }
                }
            }
            // Of the last look nobody needs to say when it was.
            Op::Head { .. } | Op::Stored { .. } | Op::Stands { .. } => return,
            _ => {}
        }
        self.now = self.now.max(record.at);
    }

    /// The end of the history.
    pub(super) fn close(&self, report: &mut Report) {
        let mut late: Vec<_> = self.leaving.values().filter(|(_, latest)| *latest < self.now).collect();
        late.sort_by_key(|(_, latest)| *latest);
        for (leaving, _) in late {
            report.violate(G::G15Drain, "a server was to leave and did not", &[leaving]);
        }
    }
}
