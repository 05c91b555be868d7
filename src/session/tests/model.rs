//! The session driven at random beside a model that knows only what was stored and what was said.
//!
//! After every step it holds: what was sent is a chain without a hole or a repeat; nothing over the credit; nothing while
//! paused but the end; skipped, delivered and announced add up to what was stored; a reader of a keyed topic that is
//! caught up knows the topic as it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;
use crate::proto::v1;
use prost::Message as _;

/// What may happen, to a topic and to a session on it.
#[derive(Debug, Clone)]
enum Action {
    /// Events with these keys; an odd number removes its key.
    Store(Vec<u8>),
    Turn {
        budget: usize,
    },
    Grant {
        events: u64,
        bytes: u64,
    },
    Pause(bool),
    Wait {
        millis: u64,
    },
    /// The connection is lost; the client opens again at its cursor.
    Resume {
        paused: bool,
    },
    /// The log is lost.
    Lose,
    /// The client half-closes.
    StopAtHead,
}

/// What a run is made with, and what has been granted in all since the open.
#[derive(Debug, Clone)]
struct Setting {
    policy: Policy,
    keyed: bool,
    history: u64,
    strict: bool,
    no_follow: bool,
    unlimited: bool,
}

struct Reference;

impl ReferenceStateMachine for Reference {
    type State = Setting;
    type Transition = Action;

    fn init_state() -> BoxedStrategy<Setting> {
        let policy = prop_oneof![
            Just(Policy::Lag),
            (1_u64..6).prop_map(|keep| Policy::DropOldest { keep }),
            (1_u64..6).prop_map(|limit| Policy::Disconnect { limit }),
            (0_u64..80).prop_map(|millis| Policy::Conflate { interval: Duration::from_millis(millis) }),
        ];
        let rarely = || prop::bool::weighted(0.2);
        let setting = (policy, any::<bool>(), 3_u64..20, rarely(), rarely(), rarely());
        setting
            .prop_map(|(policy, keyed, history, strict, no_follow, unlimited)| {
                let keyed = keyed || policy.conflates();
                Setting { policy, keyed, history, strict, no_follow, unlimited }
            })
            .boxed()
    }

    fn transitions(_: &Setting) -> BoxedStrategy<Action> {
        prop_oneof![
            4 => prop::collection::vec(0_u8..12, 0..9).prop_map(Action::Store),
            8 => (1_usize..300).prop_map(|budget| Action::Turn { budget }),
            3 => (0_u64..12, 0_u64..80).prop_map(|(events, bytes)| Action::Grant { events, bytes }),
            2 => any::<bool>().prop_map(Action::Pause),
            2 => (0_u64..60).prop_map(|millis| Action::Wait { millis }),
            1 => any::<bool>().prop_map(|paused| Action::Resume { paused }),
            1 => Just(Action::Lose),
            1 => Just(Action::StopAtHead),
        ]
        .boxed()
    }

    fn apply(state: Setting, _: &Action) -> Setting {
        state
    }
}

/// The session under test, and a client that believes nothing it is not told.
struct Machine {
    setting: Setting,
    log: Log,
    session: Session,
    now: Instant,
    granted: Credit,
    /// A total of bytes has been granted that means as many as the events allow.
    any_bytes: bool,
    sent: Credit,
    paused: bool,
    ended: bool,
    /// Where it is to end, if it is, and in which epoch.
    stop_at: Option<(u64, u64)>,
    cursor: Cursor,
    /// The client's picture of a keyed topic, and the one it is being told anew.
    picture: Option<BTreeMap<Bytes, u64>>,
    fresh: Option<BTreeMap<Bytes, u64>>,
}

impl Machine {
    fn new(setting: &Setting) -> Self {
        let log = Self::empty(setting);
        let now = Instant::now();
        let start = if setting.keyed { Start::Snapshot } else { Start::Live };
        let session = Self::open(start, setting, &log).expect("nothing is gone yet");
        Self {
            setting: setting.clone(),
            cursor: session.cursor(),
            stop_at: setting.no_follow.then(|| (log.head().epoch, log.head().offset)),
            log,
            session,
            now,
            granted: Credit::default(),
            any_bytes: false,
            sent: Credit::default(),
            paused: false,
            ended: false,
            picture: None,
            fresh: setting.keyed.then(BTreeMap::new),
        }
    }

    fn empty(setting: &Setting) -> Log {
        Log::new(Limits { max_keys: if setting.keyed { 100 } else { 0 }, ..limits(setting.history) })
    }

    fn open(start: Start, setting: &Setting, log: &Log) -> Result<Session, Failure> {
        let Setting { policy, strict, no_follow, unlimited, .. } = *setting;
        let credit = (!unlimited).then(Credit::default);
        Session::open(start, Options { strict, no_follow, credit, policy }, log).map(|(session, _)| session)
    }

    fn resume(&mut self, paused: bool) {
        // A client whose picture is not whole asks for a new one.
        let whole = self.fresh.is_none();
        let start = if whole { Start::Cursor(self.cursor) } else { Start::Snapshot };
        match Self::open(start, &self.setting, &self.log) {
            Ok(session) => self.session = session,
            Err(_) => {
                assert!(self.setting.strict && whole, "only what is strict is refused");
                // It begins anew, without its cursor.
                self.fresh = None;
                self.picture = None;
                self.session = Self::open(Start::Live, &self.setting, &self.log).expect("nothing is asked for");
                self.cursor = self.session.cursor();
            }
        }
        self.stop_at = self.setting.no_follow.then(|| (self.log.head().epoch, self.log.head().offset));
        if !whole {
            self.cursor = self.session.cursor();
            self.fresh = Some(BTreeMap::new());
        }
        let place = |cursor: Cursor| (cursor.epoch, cursor.offset);
        assert_eq!(place(self.session.cursor()), place(self.cursor));
        (self.granted, self.sent, self.ended) = (Credit::default(), Credit::default(), false);
        (self.paused, self.any_bytes) = (false, false);
        self.flow(None, Some(paused));
    }

    fn flow(&mut self, credit: Option<Credit>, paused: Option<bool>) {
        self.paused = paused.unwrap_or(self.paused);
        let may_send = flow(&mut self.session, credit, paused);
        assert!(self.ended || !may_send || !(self.paused || self.credit_is_used()));
    }

    fn turn(&mut self, budget: usize) {
        let log = &self.log;
        match self.session.on(Event::Turn { log, budget, now: self.now }) {
            Step::Idle => {
                let head = self.log.head();
                assert!(
                    self.ended
                        || (!self.paused && self.cursor.epoch == head.epoch && self.cursor.offset == head.offset)
                );
                self.check_picture();
            }
            Step::Blocked => assert!(self.paused || self.credit_is_used(), "blocked without a reason"),
            Step::Later(at) => assert!(at > self.now && self.setting.policy.conflates()),
            Step::End(failure) => self.end(failure),
            Step::Gap(gap) => {
                assert!(!self.paused && !self.ended && !self.setting.strict);
                assert!(!self.is_done(), "it had come as far as it was to");
                let head = self.log.head();
                if gap.to.epoch != gap.from.epoch || gap.reason == GapReason::Diverged {
                    self.stop_at = self.stop_at.map(|_| (head.epoch, head.offset));
                }
                assert_eq!((gap.from.epoch, gap.from.offset), (self.cursor.epoch, self.cursor.offset));
                let counted = matches!(gap.reason, GapReason::Retention | GapReason::Slow);
                assert!(!counted || gap.count == gap.to.offset - gap.from.offset && gap.count > 0);
                self.cursor = gap.to;
                self.fresh = self.setting.keyed.then(BTreeMap::new);
            }
            Step::Run(run) => {
                assert!(!self.paused && !self.ended);
                assert_eq!(run.prev, self.cursor.offset, "the chain");
                let (snapshot, skipped, count) = (run.snapshot, run.skipped, run.count);
                let records: Vec<_> = run.records.cloned().collect();
                assert_eq!(records.len(), count);
                self.receive(&records, skipped, snapshot);
            }
        }
    }

    /// It has come as far as it was to.
    fn is_done(&self) -> bool {
        let cursor = self.cursor;
        let there = self.stop_at.is_some_and(|(epoch, stop)| cursor.epoch == epoch && cursor.offset >= stop);
        there && self.fresh.is_none()
    }

    fn end(&mut self, failure: Option<Failure>) {
        match failure.map(|failure| failure.reason) {
            None => assert!(!self.paused && self.stop_at.is_some(), "nobody asked it to end"),
            Some(Reason::SlowSession) => {
                assert!(self.stop_at.is_none(), "what only reads history is not slow");
                let may_end = matches!(self.setting.policy, Policy::Disconnect { .. });
                assert!(may_end || (self.setting.strict && matches!(self.setting.policy, Policy::DropOldest { .. })));
            }
            Some(reason) => {
                assert!(self.setting.strict, "{reason:?}");
                assert!(!self.is_done(), "it had come as far as it was to: {reason:?}");
            }
        }
        self.ended = true;
    }

    fn receive(&mut self, records: &[crate::log::Record], skipped: u64, snapshot: bool) {
        for record in records {
            assert!(!self.credit_is_used(), "more than was granted");
            self.sent.events += 1;
            self.sent.bytes += record.payload_len as u64;
        }
        if snapshot {
            assert!(records.iter().all(|record| record.offset <= self.cursor.offset));
            let fresh = self.fresh.as_mut().expect("nobody asked for a snapshot");
            learn(fresh, records);
            if records.is_empty() {
                self.picture = self.fresh.take();
            }
            return;
        }
        assert!(self.fresh.is_none(), "a change before the snapshot has ended");
        let last = records.last().expect("an empty run");
        assert_eq!(last.offset - self.cursor.offset, records.len() as u64 + skipped, "everything is accounted for");
        assert!(records.windows(2).all(|pair| pair[0].offset < pair[1].offset));
        assert!(skipped == 0 || self.setting.policy.conflates());
        if let Some(picture) = &mut self.picture {
            learn(picture, records);
        }
        self.cursor = Cursor { offset: last.offset, time: last.time, ..self.cursor };
    }

    fn credit_is_used(&self) -> bool {
        if self.setting.unlimited && self.granted == Credit::default() {
            return false;
        }
        let bytes = !self.any_bytes && self.sent.bytes >= self.granted.bytes;
        self.sent.events >= self.granted.events || bytes
    }

    /// Caught up, a reader of a keyed topic knows exactly what is there.
    fn check_picture(&self) {
        let Some(keys) = self.log.keys().filter(|_| !self.ended && self.fresh.is_none()) else { return };
        // Who began without a snapshot has no whole picture.
        if self.picture.is_none() {
            return;
        }
        let there = keys.list(b"", usize::MAX).into_iter().map(|(key, _, record)| (key.clone(), record.offset));
        assert_eq!(self.picture.as_ref(), Some(&there.collect()));
    }
}

fn learn(picture: &mut BTreeMap<Bytes, u64>, records: &[crate::log::Record]) {
    for record in records {
        let event = v1::Delivery::decode(record.encoded.clone()).unwrap().events.pop().unwrap();
        match event.operation() {
            v1::Operation::Delete => picture.remove(&event.key),
            _ => picture.insert(event.key, event.offset),
        };
    }
}

impl StateMachineTest for Machine {
    type SystemUnderTest = Self;
    type Reference = Reference;

    fn init_test(setting: &Setting) -> Self {
        Self::new(setting)
    }

    fn apply(mut machine: Self, _: &Setting, action: Action) -> Self {
        match action {
            Action::Store(keys) => {
                for key in keys {
                    let operation =
                        if key % 2 == 1 && machine.setting.keyed { Operation::Delete } else { Operation::Put };
                    let (key, payload) = (vec![b'a' + key / 2].into(), vec![0; usize::from(key)].into());
                    machine
                        .log
                        .append(&NewEvent { key, payload, operation, ..NewEvent::default() }, Timestamp::now())
                        .unwrap();
                }
            }
            Action::Turn { budget } => machine.turn(budget),
            Action::Grant { events, bytes } => {
                let granted = Credit { events: machine.granted.events + events, bytes: machine.granted.bytes + bytes };
                machine.granted = granted;
                machine.any_bytes |= granted.bytes == 0 && granted.events > 0;
                machine.flow(Some(granted), None);
            }
            Action::Pause(paused) => machine.flow(None, Some(paused)),
            Action::Wait { millis } => machine.now += Duration::from_millis(millis),
            Action::Resume { paused } => machine.resume(paused),
            Action::Lose => machine.log = Self::empty(&machine.setting),
            Action::StopAtHead => {
                let head = machine.log.head();
                machine.session.on(Event::StopAtHead { log: &machine.log });
                machine.stop_at.get_or_insert((head.epoch, head.offset));
            }
        }
        machine
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_session_keeps_its_promises(sequential 1..120 => Machine);
}
