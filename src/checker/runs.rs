//! Where offsets are sparse, what a delivery passes over is known only from whoever has seen it.

use std::sync::Arc;

use super::{
    history::{Op, Record},
    report::{Guarantee as G, Report},
    stored::Stored,
};

/// What was delivered as following one another: the topic, the epoch it was in, and the record.
#[derive(Debug, Default)]
pub(super) struct Runs<'r>(Vec<(Arc<str>, u64, &'r Record)>);

impl<'r> Runs<'r> {
    /// Takes in a record; `epoch` is that of whoever recorded it.
    pub(super) fn take(&mut self, record: &'r Record, epoch: u64) {
        if let Op::Deliver { topic, snapshot: false, .. } = &record.op {
            self.0.push((topic.clone(), epoch, record));
        }
    }

    /// Holds each against all that was seen of its log.
    pub(super) fn close(&self, stored: &Stored<'_>, report: &mut Report) {
        for (topic, epoch, record) in &self.0 {
            let Op::Deliver { prev, skipped, events, .. } = &record.op else { continue };
            let Some(last) = events.last() else { continue };
            let passed = |offset: &u64| !events.iter().any(|event| event.offset == *offset);
            let missing: Vec<u64> = stored.between(topic, *epoch, *prev, last.offset).filter(passed).collect();
            if missing.len() as u64 > *skipped {
                let sentence =
                    format!("from {prev} to {}: {missing:?} lie between, {skipped} were skipped", last.offset);
                report.violate(G::G3Reliable, sentence, &[record]);
            }
        }
    }
}
