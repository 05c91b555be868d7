//! Histories of a small model are right; changed in one place, they break the promise that the change concerns.

use proptest::prelude::*;

use super::*;

/// What happens next in the model.
#[derive(Debug, Clone, Copy)]
enum Act {
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

fn act() -> impl Strategy<Value = Act> {
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
struct Model {
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
    fn run(acts: &[Act]) -> Vec<Record> {
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

/// What is changed in a history that is right.
#[derive(Debug, Clone, Copy)]
enum Change {
    LoseADelivery,
    RepeatADelivery,
    SwapDeliveries,
    LoseAGap,
    MiscountSkipped,
    DeliverInPause,
    GrantNothing,
    MarkEarly,
    ReadAnother,
    PublishElsewhere,
    PublishInAnotherOrder,
    LoseAStoredEvent,
    AnswerAnotherPlace,
    GiveANumberTwice,
    ForgetAnAnswer,
    StandStill,
    ResumeBehind,
}

use Change::*;

const CHANGES: [(Change, &[Guarantee]); 17] = [
    // Unless the reader asks to go on after what was lost, and the break shows there.
    (LoseADelivery, &[Guarantee::G3Reliable, Guarantee::G4Resumable]),
    (RepeatADelivery, &[Guarantee::G2Unique]),
    // Those of two epochs may have the same offsets, and hold what was not answered to be there.
    (SwapDeliveries, &[Guarantee::G1Ordered, Guarantee::G2Unique, Guarantee::G3Reliable, Guarantee::G6Published]),
    (LoseAGap, &[Guarantee::G3Reliable, Guarantee::G4Resumable]),
    (MiscountSkipped, &[Guarantee::G3Reliable]),
    (DeliverInPause, &[Guarantee::G11PauseAndCredit]),
    (GrantNothing, &[Guarantee::G11PauseAndCredit]),
    (MarkEarly, &[Guarantee::G5Marks]),
    (ReadAnother, &[Guarantee::G9NoPhantom]),
    (PublishElsewhere, &[Guarantee::G12Isolation]),
    (PublishInAnotherOrder, &[Guarantee::G8Fifo]),
    (LoseAStoredEvent, &[Guarantee::G6Published]),
    (AnswerAnotherPlace, &[Guarantee::G7Idempotent]),
    (GiveANumberTwice, &[Guarantee::G10OneHolder]),
    (ForgetAnAnswer, &[Guarantee::G13Live]),
    (StandStill, &[Guarantee::G13Live]),
    (ResumeBehind, &[Guarantee::G4Resumable]),
];

/// The places of records of a kind, and one of them.
fn pick(records: &[Record], seed: usize, wanted: impl Fn(&Op) -> bool) -> Option<usize> {
    let places: Vec<_> = (0..records.len()).filter(|place| wanted(&records[*place].op)).collect();
    (!places.is_empty()).then(|| places[seed % places.len()])
}

fn is_delivery(op: &Op) -> bool {
    matches!(op, Op::Deliver { .. })
}

/// The next delivery after a place.
fn next_delivery(records: &[Record], after: usize) -> Option<usize> {
    (after + 1..records.len()).find(|place| is_delivery(&records[*place].op))
}

/// Makes the change; none if there is nothing to be changed like that.
fn change(records: &mut Vec<Record>, change: Change, seed: usize) -> Option<()> {
    match change {
        LoseADelivery | RepeatADelivery | SwapDeliveries => {
            let place = pick(records, seed, is_delivery)?;
            let next = next_delivery(records, place)?;
            match change {
                LoseADelivery => drop(records.remove(place)),
                RepeatADelivery => records.insert(place, records[place].clone()),
                _ => {
                    let (one, other) = (records[place].op.clone(), records[next].op.clone());
                    (records[place].op, records[next].op) = (other, one);
                }
            }
        }
        LoseAGap => {
            let place = pick(records, seed, |op| matches!(op, Op::Gap { .. }))?;
            next_delivery(records, place)?;
            records.remove(place);
        }
        DeliverInPause => {
            let place = pick(records, seed, |op| matches!(op, Op::Flow { paused: Some(true), .. }))?;
            let next = next_delivery(records, place)?;
            let delivery = records.remove(next);
            records.insert(place + 2, delivery);
        }
        ForgetAnAnswer => {
            let cut = records.iter().rposition(|record| matches!(&record.op, Op::Disconnected { why } if why == "cut"));
            let last = records[cut.unwrap_or(0)..].iter().position(|r| matches!(r.op, Op::Reply { .. }))?;
            records.remove(cut.unwrap_or(0) + last);
        }
        GiveANumberTwice => {
            let given = |records: &[Record], place: usize| match records[place].op {
                Op::Opened { attach, head, .. } => Some((head.0, attach)),
                _ => None,
            };
            // On one server: a restart begins them anew.
            let twice = (0..records.len()).find(|place| {
                let (now, mut before) = (given(records, *place), (0..*place).rev());
                now.is_some() && before.find_map(|place| given(records, place)).map(|(e, a)| (e, a + 1)) == now
            })?;
            if let Op::Opened { attach, .. } = &mut records[twice].op {
                *attach -= 1;
            }
        }
        PublishElsewhere => {
            // The last is sure to be read.
            let publish = records.iter_mut().rev().find_map(|record| match &mut record.op {
                Op::Publish { topic, .. } => Some(topic),
                _ => None,
            });
            *publish? = "elsewhere".into();
        }
        GrantNothing => records.iter_mut().for_each(|record| {
            if let Op::Open { credit: Some(credit), .. } | Op::Flow { credit: Some(credit), .. } = &mut record.op {
                *credit = (0, 0);
            }
        }),
        PublishInAnotherOrder => {
            let end = records.iter().rposition(|record| matches!(record.op, Op::Publish { .. }))?;
            let before = records[..end].iter().rposition(|record| matches!(record.op, Op::Publish { .. }))?;
            records.swap(before, end);
        }
        _ => {
            let place = pick(records, seed, |op| edit(&mut op.clone(), change).is_some())?;
            edit(&mut records[place].op, change)?;
        }
    }
    Some(())
}

/// A change within a record; none if it is not one of that kind.
fn edit(op: &mut Op, change: Change) -> Option<()> {
    match (change, op) {
        (MiscountSkipped, Op::Deliver { skipped, .. }) => *skipped += 1,
        (MarkEarly, Op::Mark { offset, .. }) => *offset += 1,
        (ReadAnother, Op::Deliver { events, .. }) => events[0].id = "nobody's".into(),
        (LoseAStoredEvent, Op::Stored { events, .. }) => drop(events.pop()),
        (AnswerAnotherPlace, Op::Answered { outcome: Outcome::Stored { place, duplicate: true }, .. }) => place.1 += 1,
        (StandStill, Op::Stands { place: Some(place), .. }) => place.1 -= 1,
        (ResumeBehind, Op::Opened { start: (_, offset @ 1..), attach: 2.., .. }) => *offset -= 1,
        _ => return None,
    }
    Some(())
}

fn broken(records: &[Record]) -> Vec<Guarantee> {
    check(records, Options::default()).violations.iter().map(|violation| violation.guarantee).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_model_breaks_no_promise(acts in prop::collection::vec(act(), 0..80)) {
        prop_assert_eq!(broken(&Model::run(&acts)), []);
    }

    #[test]
    fn whatever_is_changed_breaks_the_promise_it_concerns(
        acts in prop::collection::vec(act(), 20..80),
        seed in any::<usize>(),
    ) {
        for (kind, promises) in CHANGES {
            let mut records = Model::run(&acts);
            if change(&mut records, kind, seed).is_some() {
                let broken = broken(&records);
                let caught = promises.iter().any(|promise| broken.contains(promise));
                prop_assert!(caught, "{:?}: {:?}", kind, broken);
            }
        }
    }
}

#[test]
fn every_change_can_be_made() {
    use Act::*;
    let serve = [Publish(3), Repeat, Serve(1), Serve(1), Mark, Serve(1), Mark, Publish(3), Conflate(1), Pause, Resume];
    let acts = [&serve[..], &[Reconnect, Credit(9), Serve(1), Publish(2), Trim(8), Serve(2), Reconnect]].concat();
    for (kind, _) in CHANGES {
        assert!(change(&mut Model::run(&acts), kind, 0).is_some(), "{kind:?}");
    }
}
