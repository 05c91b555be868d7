//! One program's view of one session, record by record: the chain, credit, pauses, marks, resumes. Bounded memory.

mod grant;
mod mirror;
mod seen;

use super::{
    Options,
    history::{Asked, Event, Op, Place, Record},
    report::{Guarantee as G, Report},
};
use grant::Grant;
use mirror::Mirror;
pub(super) use mirror::Picture;
use seen::Seen;

/// How a session was in the end.
#[derive(Debug, Default)]
pub(super) struct Stand {
    /// What a keyed topic looked like to it.
    pub(super) picture: Option<Picture>,
    /// When it last moved.
    pub(super) moved: u64,
    /// When its client last asked for it, or granted or held back something.
    pub(super) granted: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seat {
    cursor: Option<Place>,
    /// The record it was opened with; none while it is not open.
    opened: Option<Record>,
    /// The fencing number it was opened under last, and the epoch that its topic was in.
    attach: (u64, u64),
    asked: Option<Asked>,
    /// A gap was said to follow, by this record.
    owed_gap: Option<Record>,
    seen: Seen,
    grant: Grant,
    keyed: bool,
    signal: bool,
    mirror: Mirror,
    /// When it last moved.
    moved: u64,
    /// When its client last asked for it, or granted or held back something.
    granted: u64,
    patience: Option<u64>,
    sparse: bool,
}

impl Seat {
    pub(super) fn new(topic: &str, options: &Options) -> Self {
        let (keyed, signal) = (options.is_keyed(topic), options.is_signal(topic));
        Self { keyed, signal, patience: options.patience, sparse: options.sparse, ..Self::default() }
    }

    /// The fencing number it is open under.
    pub(super) fn attach(&self) -> u64 {
        self.attach.0
    }

    /// The epoch it stands in.
    pub(super) fn epoch(&self) -> u64 {
        self.cursor.map_or(0, |(epoch, _)| epoch)
    }

    /// How it is now.
    pub(super) fn stand(&self) -> Stand {
        Stand { picture: self.mirror.picture.clone(), moved: self.moved, granted: self.granted }
    }

    pub(super) fn take(&mut self, record: &Record, report: &mut Report) {
        match &record.op {
            Op::Open { start, credit, .. } => {
                self.asked = Some(start.clone());
                self.grant = Grant::open(*credit);
                (self.opened, self.granted) = (None, record.at);
            }
            Op::Opened { attach, start, head, recovery, .. } => {
                self.fenced(record, (*attach, head.0), report);
                self.opened(record, *start, recovery, report);
            }
            Op::Flow { credit, paused, request, .. } => {
                self.grant.flow(*credit, *paused, *request);
                self.granted = record.at;
            }
            Op::Reply { request, failure: None } => self.grant.replied(record, *request),
            Op::Deliver { prev, skipped, snapshot, events, .. } => {
                self.expected(record, report);
                self.grant.spend(record, events, report);
                if *snapshot {
                    self.snapshot(record, *prev, events, report);
                } else {
                    self.waited(record, events, report);
                    self.deliver(record, *prev, *skipped, events, report);
                }
                self.moved = record.at;
            }
            Op::Gap { from, to, reason, .. } => self.gap(record, *from, *to, reason, report),
            Op::Mark { offset, .. } => self.mark(record, *offset, report),
            Op::Broken { text, .. } => report.violate(G::G3Reliable, text.clone(), &[record]),
            Op::Closed { reason, .. } => {
                (self.opened, self.owed_gap) = (None, None);
                self.mirror.expect(false);
                // Closed as asked, its name may be forgotten, and its numbers with it.
                if reason.is_none() {
                    self.attach = (0, 0);
                }
            }
            _ => {}
        }
    }

    // --- opens

    /// The number grows, unless the server has lost its memory, and with it every log.
    fn fenced(&mut self, record: &Record, attach: (u64, u64), report: &mut Report) {
        if attach.0 > 0 && attach.1 == self.attach.1 && attach.0 <= self.attach.0 {
            report.violate(G::G10OneHolder, "the fencing number did not grow", &[record]);
        }
        self.attach = attach;
    }

    fn opened(&mut self, record: &Record, start: Place, recovery: &str, report: &mut Report) {
        let resumes = recovery != "RECOVERY_FRESH";
        self.resumed(record, start, resumes, report);
        let goes_on = match &self.asked {
            Some(Asked::Cursor(place)) => self.cursor == Some(*place),
            Some(Asked::Fresh | Asked::Snapshot) => false,
            // A library keeps that to itself: it resumes where it is.
            None => resumes,
        };
        // Who asks for what it has had may get it again.
        if !(goes_on && resumes) {
            self.seen.clear();
        }
        if !resumes {
            self.mirror.picture = None;
        }
        self.owed_gap = (recovery == "RECOVERY_PARTIAL").then(|| record.clone());
        self.mirror.expect(self.asked == Some(Asked::Snapshot));
        (self.cursor, self.opened, self.moved) = (Some(start), Some(record.clone()), record.at);
    }

    /// Whether it went on where it was to go on.
    fn resumed(&self, record: &Record, start: Place, resumes: bool, report: &mut Report) {
        if resumes {
            report.exercise(G::G4Resumable);
        }
        // Whoever asks for more than it has been sent, or for another epoch, has lost something on the way.
        let foreign = matches!(self.asked, Some(Asked::Cursor(_)));
        let skipped = |known: Place| resumes && if known.0 == start.0 { known.1 < start.1 } else { foreign };
        match (&self.asked, self.cursor) {
            (Some(Asked::Cursor(asked)), _) if resumes && *asked != start => {
                let sentence = format!("asked to go on after {asked:?}, the session went on after {start:?}");
                report.violate(G::G4Resumable, sentence, &[record]);
            }
            (Some(Asked::Cursor(asked)), _) if !resumes && !self.signal => {
                let sentence = format!("asked to go on after {asked:?}, the session began anew, without a word");
                report.violate(G::G4Resumable, sentence, &[record]);
            }
            (None, Some(known)) if resumes && known != start => {
                let sentence = format!("the session had come to {known:?} and went on after {start:?}");
                report.violate(G::G4Resumable, sentence, &[record]);
            }
            (_, Some(known)) if skipped(known) => {
                let sentence = format!("the session had come to {known:?} and went on after {start:?}");
                report.violate(G::G3Reliable, sentence, &[record]);
            }
            _ => {}
        }
    }

    // --- what comes

    /// A session that is open, and not owed a gap.
    fn expected(&mut self, record: &Record, report: &mut Report) {
        if self.opened.is_none() {
            report.violate(G::G10OneHolder, "a session that is not open was delivered to", &[record]);
        }
        if let Some(opened) = self.owed_gap.take() {
            let sentence = "a partial resume delivered without announcing its gap";
            report.violate(G::G4Resumable, sentence, &[&opened, record]);
        }
    }

    /// A session that could be served was served soon.
    fn waited(&self, record: &Record, events: &[Event], report: &mut Report) {
        let (Some(patience), Some(first)) = (self.patience, events.first()) else { return };
        // A keyed topic may be asked to be slow.
        if self.keyed || report.is_troubled(record.at) {
            return;
        }
        report.exercise(G::G12Isolation);
        let since = first.time.max(self.granted).max(self.moved);
        if record.at > since.saturating_add(patience) {
            let sentence = format!("an event was sent {} µs after it could have been", record.at - since);
            report.violate(G::G12Isolation, sentence, &[record]);
        }
    }

    fn snapshot(&mut self, record: &Record, prev: u64, events: &[Event], report: &mut Report) {
        if self.cursor.is_none_or(|(_, at)| at != prev) || events.iter().any(|event| event.offset > prev) {
            report.violate(G::G3Reliable, "a snapshot is not of the place where the session is", &[record]);
        }
        self.mirror.snapshot(record, events, report);
    }

    fn deliver(&mut self, record: &Record, prev: u64, skipped: u64, events: &[Event], report: &mut Report) {
        let (Some((epoch, at)), Some(last)) = (self.cursor, events.last()) else {
            return report.violate(G::G3Reliable, "a delivery before the session was open, or an empty one", &[record]);
        };
        for guarantee in [G::G1Ordered, G::G2Unique, G::G3Reliable] {
            report.exercise(guarantee);
        }
        // After a violation it is where the server takes it to be, so that one mistake is told once.
        self.cursor = Some((epoch, last.offset));
        let mut before = prev;
        for event in events {
            let place = (epoch, event.offset);
            if self.seen.contains(place) {
                return report.violate(G::G2Unique, format!("{place:?} was delivered before"), &[record]);
            }
            if event.offset <= before {
                return report.violate(G::G1Ordered, format!("{place:?} came after {before}"), &[record]);
            }
            before = event.offset;
            self.seen.remember(place);
        }
        if self.keyed && self.mirror.is_fresh() {
            report.violate(G::G3Reliable, "a change came before the snapshot had ended", &[record]);
        }
        if prev != at {
            let sentence = format!("the session was at {at}, the delivery goes on after {prev}");
            report.violate(G::G3Reliable, sentence, &[record]);
        } else if self.is_uneven(last.offset - prev, events.len() as u64 + skipped) {
            let sentence = format!("from {prev} to {}: {} events and {skipped} skipped", last.offset, events.len());
            report.violate(G::G3Reliable, sentence, &[record]);
        }
        self.mirror.change(events);
    }

    /// Whether so many places do not hold so many events.
    fn is_uneven(&self, places: u64, events: u64) -> bool {
        if self.sparse { places < events } else { places != events }
    }

    fn gap(&mut self, record: &Record, from: Place, to: Place, reason: &str, report: &mut Report) {
        let diverged = reason == "GAP_REASON_DIVERGED";
        self.owed_gap = None;
        if self.cursor != Some(from) {
            let sentence = format!("the session was at {:?}, the gap begins at {from:?}", self.cursor);
            report.violate(G::G3Reliable, sentence, &[record]);
        }
        if to.0 == from.0 && to.1 <= from.1 && !diverged {
            report.violate(G::G1Ordered, "a gap leads back", &[record]);
        }
        if (to.0 != from.0) != (reason == "GAP_REASON_EPOCH") {
            report.violate(G::G1Ordered, "an epoch changes with a gap that says so, and with no other", &[record]);
        }
        if self.grant.is_paused() {
            report.violate(G::G11PauseAndCredit, "a gap came after the reply to a pause", &[record]);
        }
        if diverged {
            // What it has seen was something else.
            self.seen.clear();
        }
        (self.cursor, self.moved) = (Some(to), record.at);
        self.mirror.expect(self.keyed);
    }

    fn mark(&self, record: &Record, offset: u64, report: &mut Report) {
        report.exercise(G::G5Marks);
        if self.opened.is_none() {
            return;
        }
        if self.cursor.is_some_and(|(_, at)| offset > at) {
            report.violate(G::G5Marks, "a mark lies after what was delivered or announced", &[record]);
        }
        if let Some(opened) = &self.owed_gap {
            report.violate(G::G5Marks, "a mark came before the gap that was said to follow", &[opened, record]);
        }
        if self.keyed && self.mirror.is_fresh() {
            report.violate(G::G5Marks, "a mark came before the snapshot had ended", &[record]);
        }
    }
}
