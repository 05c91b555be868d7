//! Every request gets exactly one answer, or its connection ends.

use std::{collections::HashMap, sync::Arc};

use super::{
    history::{Op, Record},
    report::{Guarantee as G, Report},
};

/// A request: program, connection, number.
type Request = (Arc<str>, u64, u64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<Request, Record>);

impl Answers {
    pub(super) fn take(&mut self, record: &Record, report: &mut Report) {
        // A library, and a call of one method, answers by itself.
        if record.connection == 0 {
            return;
        }
        let key = |request| (record.program.clone(), record.connection, request);
        match &record.op {
            Op::Open { request, .. }
            | Op::Publish { request, .. }
            | Op::Flow { request, .. }
            | Op::Close { request, .. }
                if *request != 0 =>
            {
                self.0.insert(key(*request), record.clone());
            }
            Op::Reply { request, .. } => {
                report.exercise(G::G13Live);
                if self.0.remove(&key(*request)).is_none() {
                    report.violate(G::G13Live, "a request was answered twice, or never made", &[record]);
                }
            }
            Op::Disconnected { why } => self.disconnected(record, why, report),
            _ => {}
        }
    }

    /// A client that has half-closed was promised everything that is due.
    fn disconnected(&mut self, record: &Record, why: &str, report: &mut Report) {
        let mine = |key: &Request| key.0 == record.program && key.1 == record.connection;
        let unanswered = self.0.iter().find(|(key, _)| mine(key)).map(|(_, asked)| asked.clone());
        if let Some(asked) = unanswered.filter(|_| why == "left") {
            report.violate(G::G13Live, "a request was never answered", &[&asked, record]);
        }
        self.0.retain(|key, _| !mine(key));
    }
}
