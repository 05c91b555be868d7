//! Holds what was recorded to what is promised: the README's G1 to G14.
//!
//! A history is what clients, publishers and whoever breaks things have written down, each frame as it came. The checker
//! knows nothing of servers. It believes the clients' records, follows each session through them, and in the end holds
//! what was published, acknowledged and read against each other. A violation comes with the promise's name, the records
//! that cannot all be right, and what was made to go wrong shortly before. And a history in which nothing happened proves
//! nothing: [`Report::vacuity`] says what was missing.
//!
//! [`Online`] needs bounded memory and sees what a single session can see; [`check`] needs the whole history and sees all.
//!
//! What it cannot see: G12's "within a second", which needs a quiet network (see the load tests), and G15, the drain, which
//! is not paced yet. Offsets are taken to be dense, as those of the memory engine are.

mod answers;
mod fence;
pub mod history;
mod report;
mod seat;
mod stored;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use answers::Answers;
use fence::Fence;
use history::{Op, Record};
pub use report::{Floor, Guarantee, Report, Violation};
use seat::Seat;
use stored::Stored;

/// What the checker has to know of the topics in a history, by the first segment of their names.
#[derive(Debug, Clone)]
pub struct Options {
    /// Keyed ones.
    pub keyed: Vec<String>,
    /// Openly lossy ones.
    pub signal: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { keyed: vec!["state".into(), "~presence".into()], signal: vec!["signal".into()] }
    }
}

impl Options {
    fn is_keyed(&self, topic: &str) -> bool {
        self.keyed.iter().any(|name| name == class(topic))
    }

    fn is_signal(&self, topic: &str) -> bool {
        self.signal.iter().any(|name| name == class(topic))
    }

    fn is_written_by_the_server(&self, topic: &str) -> bool {
        class(topic) == "~presence"
    }
}

fn class(topic: &str) -> &str {
    topic.split('.').next().unwrap_or_default()
}

/// Follows a history as it is written: what a single session can see. Memory is bounded by the sessions that are recorded.
#[derive(Debug, Default)]
pub struct Online {
    options: Options,
    report: Report,
    seats: HashMap<(Arc<str>, Arc<str>), Seat>,
    /// Whose Flow a request was.
    flows: HashMap<(Arc<str>, u64), Arc<str>>,
    answers: Answers,
    fence: Fence,
}

impl Online {
    /// With nothing seen yet.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Takes in the next record.
    pub fn take(&mut self, record: &Record) {
        self.report.note(record);
        self.answers.take(record, &mut self.report);
        match &record.op {
            Op::Flow { session, request, paused: Some(true), .. } if *request != 0 => {
                self.flows.insert((record.program.clone(), *request), session.clone());
                self.seated(record, &session.clone(), "");
            }
            Op::Reply { request, .. } => {
                if let Some(session) = self.flows.remove(&(record.program.clone(), *request)) {
                    self.seated(record, &session, "");
                }
            }
            Op::Disconnected { .. } => self.flows.retain(|(program, _), _| *program != record.program),
            Op::Memory { bytes, limit } => {
                self.report.exercise(Guarantee::G14Bounded);
                if bytes > limit {
                    self.report.violate(Guarantee::G14Bounded, "more memory than there may be", &[record]);
                }
            }
            Op::Opened { session, topic, attach, head, .. } => {
                self.fence.opened(record, session, *attach, *head, &mut self.report);
                self.seated(record, session, topic);
            }
            Op::Deliver { session, topic, snapshot, events, .. } => {
                self.seated(record, session, topic);
                if let Some(last) = events.last().filter(|_| !snapshot)
                    && let Some(seat) = self.seats.get(&(record.program.clone(), session.clone()))
                {
                    self.fence.delivered(record, session, seat.attach(), seat.epoch(), last.offset);
                }
            }
            Op::Open { session, topic, .. } | Op::Gap { session, topic, .. } => self.seated(record, session, topic),
            Op::Flow { session, .. }
            | Op::Mark { session, .. }
            | Op::Broken { session, .. }
            | Op::Closed { session, .. } => self.seated(record, session, ""),
            _ => {}
        }
    }

    fn seated(&mut self, record: &Record, session: &Arc<str>, topic: &str) {
        let key = (record.program.clone(), session.clone());
        let seat = self.seats.entry(key).or_insert_with(|| Seat::new(topic, &self.options));
        seat.take(record, &mut self.report);
    }

    fn seat(&self, record: &Record, session: &Arc<str>) -> Option<&Seat> {
        self.seats.get(&(record.program.clone(), session.clone()))
    }

    /// What was found.
    pub fn finish(mut self) -> Report {
        self.fence.close(&mut self.report);
        self.report
    }
}

/// Checks a whole history, in the order in which its records were made.
pub fn check(records: &[Record], options: Options) -> Report {
    let mut online = Online::new(options.clone());
    let mut stored = Stored::default();
    let mut stands = Vec::new();
    for record in records {
        online.take(record);
        let epoch = match &record.op {
            Op::Deliver { session, .. } => online.seat(record, session).map_or(0, Seat::epoch),
            _ => 0,
        };
        stored.take(record, epoch, &mut online.report);
        if let Op::Stands { session, topic, place } = &record.op {
            let picture = online.seat(record, session).and_then(|seat| seat.picture.clone());
            stands.push((record, topic, *place, picture));
        }
    }
    stored.close(&options, &mut online.report);
    for (record, topic, place, picture) in stands {
        stored.stands(record, (topic, place), picture.as_ref(), &mut online.report);
    }
    online.finish()
}
