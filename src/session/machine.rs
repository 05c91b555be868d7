//! The reading side of a session as a state machine: one `match` over state and event, and nothing that is not in them.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Credit, Gap, GapReason, Options, Records, Recovery, Run, Start, Step, allowance::Allowance, rounds::Rounds,
};
use crate::{
    error::{Failure, Reason},
    hub::Policy,
    log::{Keys, Log, Position, Record},
    planted::{self, Bug},
    types::Cursor,
};

/// What happens to a session.
#[derive(Debug, Clone, Copy)]
pub enum Event<'l> {
    /// The connection can take something: about `budget` encoded bytes, but always one event.
    Turn {
        /// The topic's log.
        log: &'l Log,
        /// See above.
        budget: usize,
        /// For sessions that are served at most so often.
        now: Instant,
    },
    /// The client grants credit, pauses or resumes.
    Flow {
        /// New totals; only more counts.
        credit: Option<Credit>,
        /// True pauses, false resumes.
        paused: Option<bool>,
    },
    /// Nothing is to follow what is stored now.
    StopAtHead {
        /// The topic's log.
        log: &'l Log,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Sending the latest of each key, as of the cursor: what lies up to `after` is sent.
    Snapshot { after: u64 },
    /// Sending what follows the cursor.
    Following,
    /// Over.
    Ended,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    state: State,
    cursor: Cursor,
    policy: Policy,
    rounds: Rounds,
    strict: bool,
    /// Where it ends, and in which epoch.
    stop_at: Option<(u64, u64)>,
    /// Up to here it is history that was asked for: however much of it waits, the session is not slow.
    history_end: u64,
    allowance: Allowance,
    paused: bool,
}

impl Session {
    /// Opens a session on a log. Fails if it is strict and `start` cannot be honoured (CURSOR_TRIMMED, EPOCH_CHANGED),
    /// or wants a snapshot of a topic without keys (UNSUPPORTED).
    pub fn open(start: Start, options: Options, log: &Log) -> Result<(Self, Recovery), Failure> {
        if start == Start::Snapshot && log.keys().is_none() {
            return Err(Failure::new(Reason::Unsupported, "only keyed topics have snapshots"));
        }
        let cursor = match start {
            Start::Live | Start::Snapshot => log.head(),
            Start::Earliest => log.floor(),
            Start::LastN(count) => log.before_last(count),
            Start::Since(time) => log.before_time(time),
            // With the time we know, where it is the same event: a fingerprint may be missing on the way here.
            Start::Cursor(cursor) if log.position(cursor) == Position::Kept => log.at(cursor.offset),
            Start::Cursor(cursor) => cursor,
        };
        let session = Self {
            state: if start == Start::Snapshot { State::Snapshot { after: 0 } } else { State::Following },
            cursor,
            policy: options.policy,
            rounds: Rounds::default(),
            strict: options.strict,
            stop_at: options.no_follow.then(|| place(log.newest())),
            history_end: log.newest().offset,
            allowance: Allowance::new(options.credit),
            paused: false,
        };
        let gap = session.gap(log);
        match (start, gap) {
            (_, Some(gap)) if options.strict => Err(refusal(&gap)),
            (Start::Cursor(_), Some(_)) => Ok((session, Recovery::Partial)),
            (Start::Cursor(_), None) => Ok((session, Recovery::Full)),
            _ => Ok((session, Recovery::Fresh)),
        }
    }

    /// What comes of an event. A Flow is answered by `Blocked` or `Idle`: whether something may be sent.
    pub fn on<'l>(&mut self, event: Event<'l>) -> Step<'l> {
        match (self.state, event) {
            (State::Ended, _) => Step::Idle,
            (_, Event::Flow { credit, paused }) => {
                credit.into_iter().for_each(|credit| self.allowance.grant(credit));
                self.paused = paused.unwrap_or(self.paused);
                if self.paused || !self.allowance.covers(0, 0) { Step::Blocked } else { Step::Idle }
            }
            (_, Event::StopAtHead { log }) => {
                self.stop_at.get_or_insert_with(|| place(log.newest()));
                Step::Idle
            }
            (_, Event::Turn { log, .. }) if self.paused && !planted::active(Bug::DeliversPaused) => self.wait(log),
            (State::Snapshot { after }, Event::Turn { log, budget, .. }) => self.snapshot(after, log, budget),
            (State::Following, Event::Turn { log, budget, now }) => self.follow(log, budget, now),
        }
    }

    // --- turns

    /// Nothing can be sent: only the end may come.
    fn wait<'l>(&mut self, log: &Log) -> Step<'l> {
        match self.policy {
            Policy::Disconnect { limit } if self.is_overdue(limit, log) => self.end(Some(slow(limit))),
            _ => Step::Blocked,
        }
    }

    fn follow<'l>(&mut self, log: &'l Log, budget: usize, now: Instant) -> Step<'l> {
        let (at, head) = (self.cursor, log.head());
        // What was asked for has come. Whatever happens after it is not this session's business.
        if self.stop_at.is_some_and(|(epoch, stop)| at.epoch == epoch && at.offset >= stop) {
            return self.end(None);
        }
        match self.policy {
            Policy::Disconnect { limit } if self.is_overdue(limit, log) => return self.end(Some(slow(limit))),
            Policy::DropOldest { keep } if self.is_overdue(keep, log) => {
                let to = if log.keys().is_some() { head } else { log.before_last(keep) };
                let count = log.count_between(at.offset, to.offset);
                let gap = Gap { from: at, to, reason: GapReason::Slow, count };
                return self.announce(gap, log);
            }
            _ => {}
        }
        if let Some(gap) = self.gap(log) {
            return self.announce(gap, log);
        }
        if at.offset >= log.newest().offset {
            return Step::Idle;
        }
        match (self.policy, log.keys()) {
            (Policy::Conflate { interval }, Some(keys)) => self.conflated(keys, interval, log, budget, now),
            _ => self.run(log, budget),
        }
    }

    /// A stretch of the history.
    fn run<'l>(&mut self, log: &'l Log, budget: usize) -> Step<'l> {
        let prev = self.cursor.offset;
        let lost = prev + 1 < log.head().offset && planted::strikes(Bug::LosesAnEvent, 10);
        let records = log.after(prev + u64::from(lost));
        let stop_at = self.stop_at;
        let wanted = records.clone().take_while(|record| stop_at.is_none_or(|(_, stop)| record.offset <= stop));
        let Some((last, measure)) = self.measure(wanted, budget) else { return Step::Blocked };
        self.cursor = Cursor { offset: last.offset, time: last.time, ..self.cursor };
        Step::Run(measure.run(prev, Records::History(records.take(measure.count))))
    }

    /// The latest of each key after the cursor, with what was removed: no key more often than once an `interval`.
    fn conflated<'l>(
        &mut self,
        keys: &'l Keys,
        interval: Duration,
        log: &'l Log,
        budget: usize,
        now: Instant,
    ) -> Step<'l> {
        let (prev, head) = (self.cursor.offset, log.head().offset);
        let through = match self.rounds.through(now, head) {
            // What is to end has nothing to wait for.
            _ if self.stop_at.is_some() => head,
            Ok(through) => through,
            Err(later) => return Step::Later(later),
        };
        let records = keys.between(prev, through, true);
        if records.clone().next().is_none() {
            // All that was left of the round has been replaced. It comes with the next, which goes up to the head.
            self.rounds.end();
            return self.conflated(keys, interval, log, budget, now);
        }
        let Some((last, measure)) = self.measure(records.clone(), budget) else {
            self.rounds.end();
            return Step::Blocked;
        };
        self.cursor = Cursor { offset: last.offset, time: last.time, ..self.cursor };
        self.rounds.sent(now, interval);
        if last.offset >= through {
            self.rounds.end();
        }
        let run = measure.run(prev, Records::Latest(records.take(measure.count)));
        let skipped = log.count_between(prev, last.offset).saturating_sub(run.count as u64);
        Step::Run(Run { skipped, ..run })
    }

    /// The latest of each key up to the cursor, then an empty run.
    fn snapshot<'l>(&mut self, after: u64, log: &'l Log, budget: usize) -> Step<'l> {
        let at = self.cursor.offset;
        let Some(keys) = log.keys() else { return self.end(None) };
        let lost = planted::strikes(Bug::LosesAKey, 2).then(|| keys.between(after, at, false).next()).flatten();
        let after = lost.map_or(after, |record| record.offset);
        let records = keys.between(after, at, false);
        if records.clone().next().is_none() {
            self.state = State::Following;
            // What has come meanwhile was asked for as well.
            self.history_end = log.newest().offset;
            let end = Measure::default().run(at, Records::Latest(records.take(0)));
            return Step::Run(Run { snapshot: true, ..end });
        }
        let Some((last, measure)) = self.measure(records.clone(), budget) else { return self.wait(log) };
        self.state = State::Snapshot { after: last.offset };
        Step::Run(Run { snapshot: true, ..measure.run(at, Records::Latest(records.take(measure.count))) })
    }

    /// As many records as budget and credit allow, at least one if there is credit: the last of them, and their
    /// measure. They count as sent.
    fn measure<'l>(
        &mut self,
        records: impl Iterator<Item = &'l Record>,
        budget: usize,
    ) -> Option<(&'l Record, Measure)> {
        let (mut measure, mut last) = (Measure::default(), None);
        for record in records {
            let over_budget = last.is_some() && measure.encoded_len + record.encoded.len() > budget;
            if over_budget || !self.allowance.covers(measure.count, measure.payload_len) {
                break;
            }
            measure.count += 1;
            measure.encoded_len += record.encoded.len();
            measure.payload_len += record.payload_len as u64;
            last = Some(record);
        }
        self.allowance.spend(measure.count, measure.payload_len);
        Some((last?, measure))
    }

    fn end<'l>(&mut self, failure: Option<Failure>) -> Step<'l> {
        self.state = State::Ended;
        Step::End(failure)
    }

    // --- what will not come

    fn gap(&self, log: &Log) -> Option<Gap> {
        let from = self.cursor;
        let keyed = log.keys();
        // In a keyed topic a snapshot follows, and it is of the head.
        let onward = |to| if keyed.is_some() { log.head() } else { to };
        let (to, reason) = match log.position(from) {
            Position::Kept => return None,
            Position::Trimmed if planted::active(Bug::TrimsSilently) => return None,
            // A conflating session gets what is latest, not what is in the history.
            Position::Trimmed if self.policy.conflates() && keyed.is_some_and(|keys| keys.reach(from.offset)) => {
                return None;
            }
            Position::Trimmed => (onward(log.floor()), GapReason::Retention),
            // What the new log has kept is new to the client: begin with all of it.
            Position::OtherEpoch => (onward(log.floor()), GapReason::Epoch),
            // What the client has seen is not what is here; only what comes from now on is sure to be new to it.
            Position::Diverged => (log.head(), GapReason::Diverged),
        };
        let lost = || log.count_between(from.offset, to.offset);
        let count = if reason == GapReason::Retention { lost() } else { 0 };
        Some(Gap { from, to, reason, count })
    }

    fn announce<'l>(&mut self, gap: Gap, log: &Log) -> Step<'l> {
        if self.strict {
            return self.end(Some(refusal(&gap)));
        }
        self.cursor = gap.to;
        self.rounds.end();
        if matches!(gap.reason, GapReason::Epoch | GapReason::Diverged) {
            self.history_end = log.newest().offset;
            self.stop_at = self.stop_at.map(|_| place(log.newest()));
        }
        if log.keys().is_some() {
            self.state = State::Snapshot { after: 0 };
        }
        if gap.reason == GapReason::Slow && planted::active(Bug::SkipsSilently) {
            return Step::Idle;
        }
        Step::Gap(gap)
    }

    /// True if more than `limit` events wait for which the session has no credit. Without any limit on credit, what
    /// HTTP/2 does not take waits as well. History that was asked for does not count, nor does a session that only reads
    /// up to a certain place.
    pub fn is_overdue(&self, limit: u64, log: &Log) -> bool {
        let (at, head) = (self.cursor, log.head());
        if at.epoch != head.epoch || self.reads_history() {
            return false;
        }
        let covered = if self.paused { 0 } else { self.allowance.remaining() };
        log.count_after(at.offset).saturating_sub(covered) > limit
    }

    // --- what others want to know

    /// A position up to which an idle session has been told everything, if it is caught up and its place is kept.
    pub fn mark(&self, log: &Log) -> Option<Cursor> {
        let caught_up = self.cursor.offset == log.head().offset || planted::active(Bug::MarksEarly);
        let idle = self.state == State::Following && !self.paused && caught_up;
        (idle && self.gap(log).is_none()).then(|| log.head())
    }

    /// Where it will be once it has been told what will not come: nothing before that can be delivered any more.
    pub fn onward(&self, log: &Log) -> Cursor {
        self.gap(log).map_or(self.cursor, |gap| gap.to)
    }

    /// True while what it is sent was stored before it asked for it, or is all that it will be sent.
    pub fn reads_history(&self) -> bool {
        self.stop_at.is_some() || self.cursor.offset < self.history_end
    }

    /// Events between its place and the newest.
    pub fn lag(&self, log: &Log) -> u64 {
        log.count_after(self.cursor.offset)
    }

    /// The last position sent.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// What happens if it does not keep up.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// True while the client has paused it.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Events sent since the open.
    pub fn sent_events(&self) -> u64 {
        self.allowance.sent_events()
    }
}

/// What a run weighs.
#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    count: usize,
    encoded_len: usize,
    payload_len: u64,
}

impl Measure {
    fn run(self, prev: u64, records: Records<'_>) -> Run<'_> {
        let Self { count, encoded_len, payload_len } = self;
        Run { prev, skipped: 0, snapshot: false, records, count, encoded_len, payload_len }
    }
}

fn place(cursor: Cursor) -> (u64, u64) {
    (cursor.epoch, cursor.offset)
}

fn slow(limit: u64) -> Failure {
    let message = format!("more than {limit} events wait for the session");
    Failure::new(Reason::SlowSession, message).with("limit", limit)
}

/// Why a strict session ends instead of hearing of a gap.
fn refusal(gap: &Gap) -> Failure {
    let (reason, message) = match gap.reason {
        GapReason::Retention => (Reason::CursorTrimmed, "the history no longer reaches back to the cursor"),
        GapReason::Slow => (Reason::SlowSession, "events would have been dropped, because the session is slow"),
        GapReason::Epoch => (Reason::EpochChanged, "the cursor belongs to another log of this topic"),
        GapReason::Diverged => (Reason::EpochChanged, "the log has another event at the cursor"),
    };
    Failure::new(reason, message).with("cursor", gap.from).with("first", gap.to)
}
