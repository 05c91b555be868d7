//! What a session may be sent: its credit, and whether it is paused.

use super::super::{
    history::{Event, Record},
    report::{Guarantee as G, Report},
};

/// See the module. Begins anew with every open.
#[derive(Debug, Default)]
pub(super) struct Grant {
    /// Totals of events and bytes; none is no limit.
    credit: Option<Credit>,
    /// The server is known to have heard of the limit. One that came after the open does not hold what was on its way.
    binding: bool,
    sent: (u64, u64),
    /// The last request to pause.
    pausing: Option<u64>,
    /// The reply to it.
    paused: Option<Record>,
    /// The request after whose reply the limit is binding.
    limiting: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Credit {
    events: u64,
    bytes: u64,
    /// A total was granted that means as many bytes as the events allow.
    any_bytes: bool,
}

impl Credit {
    fn add(&mut self, (events, bytes): (u64, u64)) {
        self.events = self.events.max(events);
        self.bytes = self.bytes.max(bytes);
        self.any_bytes |= bytes == 0 && events > 0;
    }

    fn allows(&self, (events, bytes): (u64, u64)) -> bool {
        events < self.events && (self.any_bytes || bytes < self.bytes)
    }
}

impl Grant {
    /// What an open grants.
    pub(super) fn open(credit: Option<(u64, u64)>) -> Self {
        let mut grant = Self { binding: credit.is_some(), ..Self::default() };
        if let Some(total) = credit {
            grant.credit.get_or_insert_default().add(total);
        }
        grant
    }

    /// Flow was sent.
    pub(super) fn flow(&mut self, credit: Option<(u64, u64)>, paused: Option<bool>, request: u64) {
        if let Some(total) = credit {
            self.credit.get_or_insert_default().add(total);
        }
        if self.credit.is_some() && !self.binding && request != 0 && self.limiting.is_none() {
            self.limiting = Some(request);
        }
        match paused {
            Some(true) => self.pausing = Some(request).filter(|request| *request != 0),
            Some(false) => (self.pausing, self.paused) = (None, None),
            None => {}
        }
    }

    /// The server has done what a Flow asked for.
    pub(super) fn replied(&mut self, record: &Record, request: u64) {
        self.binding |= self.limiting == Some(request);
        if self.pausing == Some(request) {
            self.paused = Some(record.clone());
        }
    }

    /// Whether the session is paused, as far as its client knows.
    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Nothing in a pause, nothing without credit.
    pub(super) fn spend(&mut self, record: &Record, events: &[Event], report: &mut Report) {
        if let Some(reply) = &self.paused {
            report.violate(G::G11PauseAndCredit, "a delivery came after the reply to a pause", &[reply, record]);
        }
        if self.paused.is_some() || self.pausing.is_some() || self.binding {
            report.exercise(G::G11PauseAndCredit);
        }
        let mut told = false;
        for event in events {
            if let Some(credit) = self.credit.filter(|credit| self.binding && !told && !credit.allows(self.sent)) {
                let sentence = format!("event {} came without credit: {credit:?}, {:?} sent", event.offset, self.sent);
                report.violate(G::G11PauseAndCredit, sentence, &[record]);
                told = true;
            }
            self.sent = (self.sent.0 + 1, self.sent.1 + event.length as u64);
        }
    }
}
