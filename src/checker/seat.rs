//! One program's view of one session, record by record: the chain, credit, pauses, marks, resumes. Bounded memory.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{
    Options,
    history::{Asked, Event, Op, Place, Record},
    report::{Guarantee as G, Report},
};

/// How many of the latest events are remembered, to tell a repeat from a step back.
const RECENT: usize = 4096;

/// What a keyed topic looks like: key → offset and id.
pub(super) type Picture = BTreeMap<Arc<str>, (u64, Arc<str>)>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seat {
    cursor: Option<Place>,
    /// The record it was opened with; none while it is not open.
    opened: Option<Record>,
    attach: u64,
    asked: Option<Asked>,
    must_gap: bool,
    recent: VecDeque<Place>,
    seen: HashSet<Place>,
    credit: Option<Credit>,
    /// The last wish to pause or go on: what, and under which request.
    wish: Option<(bool, u64)>,
    paused: Option<Record>,
    keyed: bool,
    signal: bool,
    /// A snapshot is going on.
    fresh: Option<Picture>,
    /// What the topic looks like, once a snapshot has ended.
    pub(super) picture: Option<Picture>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Credit {
    events: u64,
    bytes: u64,
    /// A total of bytes was granted that means as many as the events allow.
    any_bytes: bool,
    sent: (u64, u64),
}

impl Credit {
    fn grant(&mut self, (events, bytes): (u64, u64)) {
        self.events = self.events.max(events);
        self.bytes = self.bytes.max(bytes);
        self.any_bytes |= bytes == 0 && events > 0;
    }

    fn is_used(&self) -> bool {
        self.sent.0 >= self.events || (!self.any_bytes && self.sent.1 >= self.bytes)
    }
}

impl Seat {
    pub(super) fn new(topic: &str, options: &Options) -> Self {
        Self { keyed: options.is_keyed(topic), signal: options.is_signal(topic), ..Self::default() }
    }

    /// The fencing number it is open under.
    pub(super) fn attach(&self) -> u64 {
        self.attach
    }

    /// The epoch it stands in.
    pub(super) fn epoch(&self) -> u64 {
        self.cursor.map_or(0, |(epoch, _)| epoch)
    }

    pub(super) fn take(&mut self, record: &Record, report: &mut Report) {
        match &record.op {
            Op::Open { start, credit, .. } => {
                self.asked = Some(start.clone());
                self.credit = credit.map(|credit| {
                    let mut granted = Credit::default();
                    granted.grant(credit);
                    granted
                });
                (self.wish, self.paused, self.opened) = (None, None, None);
            }
            Op::Opened { attach, start, recovery, .. } => self.opened(record, *attach, *start, recovery, report),
            Op::Flow { credit, paused, request, .. } => self.flow(*credit, *paused, *request),
            Op::Reply { request, failure: None } if self.wish == Some((true, *request)) => {
                self.paused = Some(record.clone());
            }
            Op::Deliver { prev, skipped, snapshot, events, .. } => {
                self.allowed(record, events, report);
                if *snapshot {
                    self.snapshot(record, *prev, events, report);
                } else {
                    self.deliver(record, *prev, *skipped, events, report);
                }
            }
            Op::Gap { from, to, reason, .. } => self.gap(record, *from, *to, reason, report),
            Op::Mark { offset, .. } => {
                report.exercise(G::G5Marks);
                if self.opened.is_some() && self.cursor.is_some_and(|(_, at)| *offset > at) {
                    report.violate(G::G5Marks, "a mark lies after what was delivered or announced", &[record]);
                }
            }
            Op::Broken { text, .. } => report.violate(G::G3Reliable, text.clone(), &[record]),
            Op::Closed { .. } => (self.opened, self.fresh) = (None, None),
            _ => {}
        }
    }

    fn opened(&mut self, record: &Record, attach: u64, start: Place, recovery: &str, report: &mut Report) {
        if attach > 0 {
            report.exercise(G::G10OneHolder);
            if attach <= self.attach {
                report.violate(G::G10OneHolder, "the fencing number did not grow", &[record]);
            }
        }
        let resumes = recovery != "RECOVERY_FRESH";
        self.resumed(record, start, resumes, report);
        if !resumes {
            self.recent.clear();
            self.seen.clear();
            self.picture = None;
        }
        self.must_gap = recovery == "RECOVERY_PARTIAL";
        self.fresh = (self.asked == Some(Asked::Snapshot)).then(Picture::new);
        (self.attach, self.cursor, self.opened) = (attach, Some(start), Some(record.clone()));
    }

    /// Whether it went on where it was to go on.
    fn resumed(&self, record: &Record, start: Place, resumes: bool, report: &mut Report) {
        if resumes {
            report.exercise(G::G4Resumable);
        }
        let asked = match &self.asked {
            Some(Asked::Cursor(place)) => Some(*place),
            Some(_) => None,
            // A library keeps that to itself: it resumes where it is.
            None => self.cursor.filter(|_| resumes),
        };
        let skipped = |known: Place| resumes && known.0 == start.0 && known.1 < start.1;
        match asked {
            Some(asked) if resumes && asked != start => {
                let sentence = format!("asked to go on after {asked:?}, the session went on after {start:?}");
                report.violate(G::G4Resumable, sentence, &[record]);
            }
            Some(asked) if !resumes && !self.signal => {
                let sentence = format!("asked to go on after {asked:?}, the session began anew, without a word");
                report.violate(G::G4Resumable, sentence, &[record]);
            }
            _ if self.cursor.is_some_and(skipped) => {
                let sentence = format!("the session had come to {:?} and went on after {start:?}", self.cursor);
                report.violate(G::G3Reliable, sentence, &[record]);
            }
            _ => {}
        }
    }

    fn flow(&mut self, credit: Option<(u64, u64)>, paused: Option<bool>, request: u64) {
        if let Some(more) = credit {
            self.credit.get_or_insert_default().grant(more);
        }
        if let Some(paused) = paused {
            self.wish = Some((paused, request));
            if !paused {
                self.paused = None;
            }
        }
    }

    /// Nothing in a pause, nothing without credit, nothing of a session that is not open.
    fn allowed(&mut self, record: &Record, events: &[Event], report: &mut Report) {
        if self.opened.is_none() {
            report.violate(G::G10OneHolder, "a session that is not open was delivered to", &[record]);
        }
        if let Some(reply) = &self.paused {
            report.violate(G::G11PauseAndCredit, "a delivery came after the reply to a pause", &[reply, record]);
        }
        if self.paused.is_some() || self.credit.is_some() || self.wish.is_some() {
            report.exercise(G::G11PauseAndCredit);
        }
        let Some(credit) = &mut self.credit else { return };
        for event in events {
            if credit.is_used() {
                let sentence = format!("event {} came without credit: {credit:?}", event.offset);
                report.violate(G::G11PauseAndCredit, sentence, &[record]);
                break;
            }
            credit.sent = (credit.sent.0 + 1, credit.sent.1 + event.length as u64);
        }
    }

    fn snapshot(&mut self, record: &Record, prev: u64, events: &[Event], report: &mut Report) {
        if self.cursor.is_none_or(|(_, at)| at != prev) || events.iter().any(|event| event.offset > prev) {
            report.violate(G::G3Reliable, "a snapshot is not of the place where the session is", &[record]);
        }
        let fresh = self.fresh.get_or_insert_default();
        learn(fresh, events);
        if events.is_empty() {
            self.picture = self.fresh.take();
        }
    }

    fn deliver(&mut self, record: &Record, prev: u64, skipped: u64, events: &[Event], report: &mut Report) {
        let (Some((epoch, at)), Some(last)) = (self.cursor, events.last()) else {
            return report.violate(G::G3Reliable, "a delivery before the session was open, or an empty one", &[record]);
        };
        for guarantee in [G::G1Ordered, G::G2Unique, G::G3Reliable] {
            report.exercise(guarantee);
        }
        if std::mem::take(&mut self.must_gap) {
            report.violate(G::G4Resumable, "a partial resume delivered without announcing its gap", &[record]);
        }
        let mut before = prev;
        for event in events {
            let place = (epoch, event.offset);
            if self.seen.contains(&place) {
                report.violate(G::G2Unique, format!("{place:?} was delivered before"), &[record]);
                return self.recover(last.offset);
            }
            if event.offset <= before {
                report.violate(G::G1Ordered, format!("{place:?} came after {before}"), &[record]);
                return self.recover(last.offset);
            }
            before = event.offset;
            self.remember(place);
        }
        if self.fresh.is_some() && self.keyed {
            report.violate(G::G3Reliable, "a change came before the snapshot had ended", &[record]);
        }
        if prev != at {
            let sentence = format!("the session was at {at}, the delivery goes on after {prev}");
            report.violate(G::G3Reliable, sentence, &[record]);
        } else if last.offset - prev != events.len() as u64 + skipped {
            let sentence = format!("from {prev} to {}: {} events and {skipped} skipped", last.offset, events.len());
            report.violate(G::G3Reliable, sentence, &[record]);
        }
        if let Some(picture) = &mut self.picture {
            learn(picture, events);
        }
        self.cursor = Some((epoch, last.offset));
    }

    fn gap(&mut self, record: &Record, from: Place, to: Place, reason: &str, report: &mut Report) {
        self.must_gap = false;
        if self.cursor != Some(from) {
            let sentence = format!("the session was at {:?}, the gap begins at {from:?}", self.cursor);
            report.violate(G::G3Reliable, sentence, &[record]);
        }
        if to.0 == from.0 && to.1 <= from.1 && reason != "GAP_REASON_DIVERGED" {
            report.violate(G::G1Ordered, "a gap leads back", &[record]);
        }
        if self.paused.is_some() {
            report.violate(G::G11PauseAndCredit, "a gap came after the reply to a pause", &[record]);
        }
        self.cursor = Some(to);
        self.fresh = self.keyed.then(Picture::new);
    }

    /// After a violation: where the server takes the session to be, so that one mistake is told once.
    fn recover(&mut self, offset: u64) {
        self.cursor = self.cursor.map(|(epoch, _)| (epoch, offset));
    }

    fn remember(&mut self, place: Place) {
        if self.recent.len() == RECENT
            && let Some(oldest) = self.recent.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.recent.push_back(place);
        self.seen.insert(place);
    }
}

fn learn(picture: &mut Picture, events: &[Event]) {
    for event in events {
        if event.removes {
            picture.remove(&event.key);
        } else {
            picture.insert(event.key.clone(), (event.offset, event.id.clone()));
        }
    }
}
