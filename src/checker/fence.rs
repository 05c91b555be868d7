//! One holder at a time, across the programs that call themselves by one name.

use std::{collections::HashMap, sync::Arc};

use super::{
    history::{Place, Record},
    report::{Guarantee as G, Report},
};

/// A client's session in one epoch of its topic: a restart of a server begins its numbers anew.
type Name = (Arc<str>, Arc<str>, u64);

/// One attach: where the topic ended when it was made, and the last thing that came under it.
#[derive(Debug)]
struct Attach {
    number: u64,
    head: u64,
    opened: Record,
    last: Option<(u64, Record)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fence(HashMap<Name, Vec<Attach>>);

impl Fence {
    pub(super) fn opened(
        &mut self,
        record: &Record,
        session: &Arc<str>,
        number: u64,
        head: Place,
        report: &mut Report,
    ) {
        if number == 0 {
            return;
        }
        let attaches = self.0.entry((record.client.clone(), session.clone(), head.0)).or_default();
        if let Some(other) = attaches.iter().find(|attach| attach.number == number) {
            report.violate(G::G10OneHolder, "two were given the same fencing number", &[&other.opened, record]);
        }
        attaches.push(Attach { number, head: head.1, opened: record.clone(), last: None });
    }

    /// Changes up to `offset` came under an attach.
    pub(super) fn delivered(&mut self, record: &Record, session: &Arc<str>, number: u64, epoch: u64, offset: u64) {
        let name = (record.client.clone(), session.clone(), epoch);
        let attach = self.0.get_mut(&name).and_then(|all| all.iter_mut().find(|attach| attach.number == number));
        if let Some(attach) = attach.filter(|attach| attach.last.as_ref().is_none_or(|(last, _)| *last < offset)) {
            attach.last = Some((offset, record.clone()));
        }
    }

    /// Whatever the network does: what was stored after a newer attach was made can only have been sent to that one.
    pub(super) fn close(&self, report: &mut Report) {
        for attaches in self.0.values() {
            for (older, (offset, delivered)) in
                attaches.iter().filter_map(|attach| Some((attach, attach.last.as_ref()?)))
            {
                let newer = attaches.iter().find(|newer| newer.number > older.number && newer.head < *offset);
                if let Some(newer) = newer {
                    let sentence = format!(
                        "attach {} was sent {offset}, which was stored after attach {} had been made",
                        older.number, newer.number
                    );
                    report.violate(G::G10OneHolder, sentence, &[&older.opened, &newer.opened, delivered]);
                }
            }
        }
    }
}
