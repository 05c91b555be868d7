//! Holds what was recorded to what is promised: the README's G1 to G15.
//!
//! A history is what clients, publishers and whoever breaks things have written down, each frame as it came. The checker
//! knows nothing of servers. It believes the clients' records, follows each session through them, and in the end holds
//! what was published, acknowledged and read against each other. A violation comes with the promise's name, the records
//! that cannot all be right, and what was made to go wrong shortly before. And a history in which nothing happened proves
//! nothing: [`Report::vacuity`] says what was missing.
//!
//! [`Online`] needs bounded memory and sees what a single session can see; [`check`] needs the whole history and sees all.
//!
//! What it cannot see: how long an older holder of a session is still sent what had been stored before (G10), rights (G12),
//! and of a server that leaves (G15) more than how long it takes: at what pace its clients arrive elsewhere only a load
//! balancer sees, as in `tests/rollout.rs`. Where offsets are sparse, as those of several replicas are ([`Options::sparse`]), a
//! hole is seen if anybody has seen what lies in it, and the last look at the log sees all that is left.

mod answers;
mod drains;
mod fence;
pub mod history;
mod report;
mod runs;
mod seat;
mod stored;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use answers::Answers;
use drains::Drains;
use fence::Fence;
use history::{Op, Record};
pub use report::{Floor, Guarantee, Report, Violation};
use runs::Runs;
use seat::Seat;
use stored::Stored;

/// What the checker has to know of a history: its topics, by the first segment of their names, and its clocks.
#[derive(Debug, Clone)]
pub struct Options {
    /// Keyed ones.
    pub keyed: Vec<String>,
    /// Openly lossy ones.
    pub signal: Vec<String>,
    /// The longest that an event may wait for a session that could be served, microseconds, when nothing was made to go
    /// wrong in the last five seconds: the second of G12. None where times of records and of events are of two clocks, or
    /// where the network is slow by itself.
    pub patience: Option<u64>,
    /// The longest that it may take to catch up with the last event after the last fault, microseconds.
    pub recovery: u64,
    /// Offsets of a topic have holes: its log is one of several in a stream.
    pub sparse: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keyed: vec!["state".into(), "~presence".into()],
            signal: vec!["signal".into()],
            patience: None,
            recovery: 30_000_000,
            sparse: false,
        }
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
    /// Whose Flow a request was: of a program, on a connection.
    flows: HashMap<(Arc<str>, u64, u64), Arc<str>>,
    answers: Answers,
    drains: Drains,
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
        self.drains.take(record, &mut self.report);
        let request = |request| (record.program.clone(), record.connection, request);
        match &record.op {
            Op::Flow { session, request: number, .. } => {
                if *number != 0 {
                    self.flows.insert(request(*number), session.clone());
                }
                self.seated(record, session, "");
            }
            Op::Reply { request: number, .. } => {
                if let Some(session) = self.flows.remove(&request(*number)) {
                    self.seated(record, &session, "");
                }
            }
            Op::Disconnected { .. } => {
                self.flows.retain(|(program, line, _), _| (program, *line) != (&record.program, record.connection));
            }
            Op::Memory { bytes, limit } => {
                self.report.exercise(Guarantee::G14Bounded);
                if bytes > limit {
                    self.report.violate(Guarantee::G14Bounded, "more memory than there may be", &[record]);
                }
            }
            _ => self.frame(record),
        }
    }

    /// What a server has said of a session, and its open.
    fn frame(&mut self, record: &Record) {
        match &record.op {
            Op::Opened { session, topic, attach, head, .. } => {
                self.fence.opened(record, session, *attach, *head, &mut self.report);
                self.seated(record, session, topic);
            }
            Op::Deliver { session, topic, snapshot, events, .. } => {
                self.seated(record, session, topic);
                if let Some(last) = events.last().filter(|_| !snapshot)
                    && let Some(seat) = self.seats.get(&(record.program.clone(), session.clone()))
                {
                    let place = (seat.epoch(), last.offset);
                    self.fence.delivered(record, session, seat.attach(), place, &mut self.report);
                }
            }
            Op::Open { session, topic, .. } | Op::Gap { session, topic, .. } => self.seated(record, session, topic),
            Op::Closed { session, reason } => {
                if reason.is_none() {
                    self.fence.closed(&record.client, session);
                }
                self.seated(record, session, "");
            }
            Op::Mark { session, .. } | Op::Broken { session, .. } => self.seated(record, session, ""),
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
        self.answers.close(&mut self.report);
        self.drains.close(&mut self.report);
        self.report
    }
}

/// Checks a whole history, in the order in which its records were made.
pub fn check(records: &[Record], options: Options) -> Report {
    let mut online = Online::new(options.clone());
    let (mut stored, mut runs) = (Stored::default(), Runs::default());
    let mut stands = Vec::new();
    for record in records {
        online.take(record);
        let epoch = match &record.op {
            Op::Deliver { session, .. } => online.seat(record, session).map_or(0, Seat::epoch),
            _ => 0,
        };
        stored.take(record, epoch, &mut online.report);
        if options.sparse {
            runs.take(record, epoch);
        }
        if let Op::Stands { session, topic, place } = &record.op {
            let stand = online.seat(record, session).map(Seat::stand).unwrap_or_default();
            stands.push((record, topic, *place, stand));
        }
    }
    stored.close(&options, &mut online.report);
    runs.close(&stored, &mut online.report);
    for (record, topic, place, stand) in stands {
        stored.stands(record, (topic, place), &stand, &options, &mut online.report);
    }
    let mut report = online.finish();
    report.blame(records);
    report
}
