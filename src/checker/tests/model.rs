//! A small model of a server with a writer and a reader, and the histories it makes, which are right.

use proptest::prelude::*;

use super::*;

/// What happens next in the model. Afterwards everybody catches up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Publish(u64),
    /// The last publish is sent again.
    Repeat,
    Serve(u64),
    /// Only the last of so many is sent, as a conflating session gets it.
    Conflate(u64),
    Credit(u64),
    Pause,
    Resume,
    Reconnect,
    Trim(u64),
    /// The server loses its memory.
    Crash,
    Mark,
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1_u64..4).prop_map(Act::Publish),
        1 => Just(Act::Repeat),
        6 => (1_u64..4).prop_map(Act::Serve),
        1 => (2_u64..4).prop_map(Act::Conflate),
        2 => (1_u64..5).prop_map(Act::Credit),
        1 => Just(Act::Pause),
        2 => Just(Act::Resume),
        1 => Just(Act::Reconnect),
        1 => (1_u64..3).prop_map(Act::Trim),
        1 => Just(Act::Crash),
        1 => Just(Act::Mark),
    ]
}

/// A writer, a log, and a reader with credit and pauses.
#[derive(Default)]
pub(super) struct Model {
    tale: Tale,
    ids: u64,
    epoch: u64,
    /// Numbers of the events in the log, whose offsets count from 1.
    log: Vec<u64>,
    floor: u64,
    cursor: Place,
    attach: u64,
    requests: u64,
    paused: bool,
    sent: u64,
    granted: u64,
}

impl Model {
    /// What everybody saw.
    pub(super) fn run(acts: &[Act]) -> Vec<Record> {
        let mut model = Self { epoch: EPOCH, granted: 4, ..Self::default() };
        model.cursor = (model.epoch, 0);
        model.open();
        for act in acts {
            model.step(*act);
        }
        // Everybody catches up with two more events of an epoch that nobody leaves.
        model.step(Act::Publish(2));
        model.step(Act::Resume);
        model.step(Act::Credit(1000));
        model.step(Act::Serve(1000));
        model.end();
        model.tale.records
    }

    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    fn said(&mut self, program: &'static str, op: Op) {
        self.tale.program = program;
        self.tale.say(op);
    }

    fn request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    fn event(&self, offset: u64) -> Event {
        let id = format!("e{}", self.log[offset as usize - 1]).into();
        Event { id, ..event(offset) }
    }

    fn open(&mut self) {
        let resumes = self.attach > 0;
        self.attach += 1;
        (self.sent, self.paused) = (0, false);
        let request = self.request();
        let start = if resumes { Asked::Cursor(self.cursor) } else { Asked::Fresh };
        let credit = Some((self.granted, 0));
        self.said("reader", Op::Open { session: "s".into(), topic: "t".into(), start, credit, request });
        let partial = self.cursor.0 != self.epoch || self.cursor.1 < self.floor;
        let recovery = match (resumes, partial) {
            (false, _) => "RECOVERY_FRESH",
            (true, true) => "RECOVERY_PARTIAL",
            (true, false) => "RECOVERY_FULL",
        };
        let (session, topic, head) = ("s".into(), "t".into(), (self.epoch, self.head()));
        let (attach, start, recovery) = (self.attach, self.cursor, recovery.into());
        self.said("reader", Op::Opened { session, topic, attach, start, head, recovery, published_seq: 0 });
        self.said("reader", Op::Reply { request, failure: None });
    }

    fn flow(&mut self, credit: Option<(u64, u64)>, paused: Option<bool>) {
        let request = self.request();
        self.said("reader", Op::Flow { session: "s".into(), credit, paused, acked: None, request });
        self.said("reader", Op::Reply { request, failure: None });
    }

    fn step(&mut self, act: Act) {
        match act {
            Act::Publish(count) => (0..count).for_each(|_| self.publish()),
            Act::Repeat => self.answer(true),
            Act::Serve(count) => self.serve(count, false),
            Act::Conflate(count) => self.serve(count, true),
            Act::Credit(more) => {
                self.granted += more;
                self.flow(Some((self.granted, 0)), None);
            }
            Act::Pause => {
                self.paused = true;
                self.flow(None, Some(true));
            }
            Act::Resume => {
                self.paused = false;
                self.flow(None, Some(false));
            }
            Act::Reconnect => {
                self.said("reader", Op::Disconnected { why: "cut".into() });
                self.open();
            }
            Act::Trim(count) => self.floor = (self.floor + count).min(self.head()),
            Act::Crash => {
                (self.epoch, self.floor) = (self.epoch + 1, 0);
                self.log.clear();
                self.step(Act::Reconnect);
            }
            Act::Mark if self.cursor == (self.epoch, self.head()) && !self.paused => {
                let offset = self.cursor.1;
                self.said("reader", Op::Mark { session: "s".into(), offset });
            }
            Act::Mark => {}
        }
    }

    fn publish(&mut self) {
        self.ids += 1;
        self.log.push(self.ids);
        let id = format!("e{}", self.ids).into();
        self.said("writer", Op::Publish { session: "w".into(), topic: "t".into(), id, request: 0 });
        self.answer(false);
    }

    fn answer(&mut self, duplicate: bool) {
        let Some(id) = self.log.last().map(|id| format!("e{id}").into()) else { return };
        let outcome = Outcome::Stored { place: (self.epoch, self.head()), duplicate };
        self.said("writer", Op::Answered { session: "w".into(), topic: "t".into(), id, outcome });
    }

    fn serve(&mut self, count: u64, conflated: bool) {
        if self.paused {
            return;
        }
        let (session, topic): (Arc<str>, Arc<str>) = ("s".into(), "t".into());
        let (from, floor) = (self.cursor, (self.epoch, self.floor));
        if from.0 != floor.0 || from.1 < floor.1 {
            let reason = if from.0 == floor.0 { "GAP_REASON_RETENTION" } else { "GAP_REASON_EPOCH" };
            self.cursor = floor;
            let (session, topic) = (session.clone(), topic.clone());
            self.said("reader", Op::Gap { session, topic, from, to: floor, reason: reason.into() });
        }
        let prev = self.cursor.1;
        let due = count.min(self.head() - prev).min(self.granted - self.sent.min(self.granted));
        if due == 0 {
            return;
        }
        let first = if conflated { prev + due } else { prev + 1 };
        let events: Vec<_> = (first..=prev + due).map(|offset| self.event(offset)).collect();
        self.sent += events.len() as u64;
        self.cursor.1 += due;
        let skipped = first - prev - 1;
        self.said("reader", Op::Deliver { session, topic, prev, skipped, snapshot: false, events });
    }

    fn end(&mut self) {
        let (epoch, place) = (self.epoch, self.cursor);
        let events = (self.floor + 1..=self.head()).map(|offset| self.event(offset)).collect();
        self.said("reader", Op::Disconnected { why: "left".into() });
        self.said("reader", Op::Stands { session: "s".into(), topic: "t".into(), place: Some(place) });
        self.said("operator", Op::Head { topic: "t".into(), head: (epoch, self.head()) });
        self.said("operator", Op::Stored { topic: "t".into(), epoch, events });
    }
}
