//! One holder at a time, across the programs that call themselves by one name.
//!
//! Clocks are not asked: whatever the network does, what was stored after a newer attach had been made can only have been
//! sent to that one. That an older holder is still sent what had been stored before, this does not see.

use std::{collections::HashMap, sync::Arc};

use super::{
    history::{Place, Record},
    report::{Guarantee as G, Report},
};

/// How many of a session's latest attaches are remembered.
const KEPT: usize = 32;

/// One attach: where the topic ended when it was made, and the last thing that came under it.
#[derive(Debug)]
struct Attach {
    number: u64,
    /// A restart of a server, which changes the epoch, begins its numbers anew.
    head: Place,
    opened: Record,
    last: Option<(Place, Record)>,
    /// That it outlived its time was told.
    told: bool,
}

/// Attaches by client and session. See the module.
#[derive(Debug, Default)]
pub(super) struct Fence(HashMap<(Arc<str>, Arc<str>), Vec<Attach>>);

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
        let attaches = self.0.entry((record.client.clone(), session.clone())).or_default();
        let mut same_server = attaches.iter().filter(|attach| attach.head.0 == head.0).peekable();
        if same_server.peek().is_some() {
            report.exercise(G::G10OneHolder);
        }
        if let Some(other) = same_server.find(|attach| attach.number == number) {
            report.violate(G::G10OneHolder, "two were given the same fencing number", &[&other.opened, record]);
        }
        if attaches.len() == KEPT {
            attaches.remove(0);
        }
        attaches.push(Attach { number, head, opened: record.clone(), last: None, told: false });
        judge(attaches, report);
    }

    /// Changes up to `place` came under an attach.
    pub(super) fn delivered(
        &mut self,
        record: &Record,
        session: &Arc<str>,
        number: u64,
        place: Place,
        report: &mut Report,
    ) {
        let Some(attaches) = self.0.get_mut(&(record.client.clone(), session.clone())) else { return };
        // The latest, where a restart has given a number twice.
        let Some(attach) = attaches.iter_mut().rfind(|attach| attach.number == number) else { return };
        attach.last = Some((place, record.clone()));
        judge(attaches, report);
    }

    /// A session was closed as asked: its name may be given anew, with numbers from the first.
    pub(super) fn closed(&mut self, client: &Arc<str>, session: &Arc<str>) {
        self.0.remove(&(client.clone(), session.clone()));
    }
}

/// The records of two programs need not come in the order in which things happened: each is held against all others.
fn judge(attaches: &mut [Attach], report: &mut Report) {
    for index in 0..attaches.len() {
        let older = &attaches[index];
        let Some((place, delivered)) = older.last.as_ref().filter(|_| !older.told) else { continue };
        let is_newer = |newer: &&Attach| newer.number > older.number && newer.head.0 == older.head.0;
        let had_lost = |newer: &&Attach| newer.head.0 == place.0 && newer.head.1 < place.1;
        let Some(newer) = attaches.iter().find(|newer| is_newer(newer) && had_lost(newer)) else { continue };
        let sentence = format!(
            "attach {} was sent {place:?}, which was stored after attach {} had been made",
            older.number, newer.number
        );
        report.violate(G::G10OneHolder, sentence, &[&older.opened, &newer.opened, delivered]);
        attaches[index].told = true;
    }
}
