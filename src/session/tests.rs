mod model;

use std::time::Duration;

use super::*;
use crate::{
    error::Reason,
    log::{Limits, Log},
    types::{NewEvent, Operation},
};

fn limits(max_events: u64) -> Limits {
    Limits {
        max_events,
        max_bytes: 1 << 30,
        max_age: Duration::ZERO,
        dedupe_window: Duration::from_secs(60),
        dedupe_depth: 16,
        max_keys: 0,
        max_lag: 0,
    }
}

fn publish(log: &mut Log, count: u64) {
    for _ in 0..count {
        let event = NewEvent { payload: vec![0; 10].into(), ..NewEvent::default() };
        log.append(&event, Timestamp::now()).unwrap();
    }
}

fn log_with(max_events: u64, count: u64) -> Log {
    let mut log = Log::new(limits(max_events));
    publish(&mut log, count);
    log
}

fn open(start: Start, options: Options, log: &Log) -> Session {
    Session::open(start, options, log).unwrap().0
}

/// A turn with room for whatever there is.
fn turn<'l>(session: &mut Session, log: &'l Log) -> Step<'l> {
    session.on(Event::Turn { log, budget: 1 << 20, now: Instant::now() })
}

/// True if something may be sent after it.
fn flow(session: &mut Session, credit: Option<Credit>, paused: Option<bool>) -> bool {
    matches!(session.on(Event::Flow { credit, paused }), Step::Idle)
}

fn run_offsets(step: Step<'_>) -> Vec<u64> {
    match step {
        Step::Run(run) => run.records.map(|record| record.offset).collect(),
        other => panic!("no run: {other:?}"),
    }
}

fn with_credit(events: u64, bytes: u64) -> Options {
    Options { credit: Some(Credit { events, bytes }), ..Options::default() }
}

#[test]
fn a_session_begins_where_it_is_told() {
    let log = log_with(10, 15);
    for (start, offset) in
        [(Start::Live, 15), (Start::Earliest, 5), (Start::LastN(2), 13), (Start::Cursor(log.at(7)), 7)]
    {
        assert_eq!(open(start, Options::default(), &log).cursor().offset, offset, "{start:?}");
    }
}

#[test]
fn a_resume_inside_the_history_goes_on_with_the_next_record() {
    let log = log_with(10, 15);
    let (mut session, recovery) = Session::open(Start::Cursor(log.at(12)), Options::default(), &log).unwrap();
    assert_eq!(recovery, Recovery::Full);
    assert_eq!(run_offsets(turn(&mut session, &log)), [13, 14, 15]);
    assert!(matches!(turn(&mut session, &log), Step::Idle));
}

#[test]
fn a_resume_before_the_history_announces_what_is_gone_first() {
    let log = log_with(10, 15);
    let cursor = log.at(2);
    let (mut session, recovery) = Session::open(Start::Cursor(cursor), Options::default(), &log).unwrap();
    assert_eq!(recovery, Recovery::Partial);
    let Step::Gap(gap) = turn(&mut session, &log) else { panic!("no gap") };
    assert_eq!((gap.from.offset, gap.to.offset, gap.count, gap.reason), (2, 5, 3, GapReason::Retention));
    assert_eq!(run_offsets(turn(&mut session, &log))[0], 6);
}

#[test]
fn another_epoch_is_announced_and_the_new_log_begins_with_its_oldest() {
    let (old, new) = (log_with(10, 3), log_with(10, 2));
    let mut session = open(Start::Cursor(old.head()), Options::default(), &new);
    let Step::Gap(gap) = turn(&mut session, &new) else { panic!("no gap") };
    assert_eq!((gap.reason, gap.to), (GapReason::Epoch, new.floor()));
    assert_eq!(run_offsets(turn(&mut session, &new)), [1, 2]);
}

#[test]
fn a_strict_session_ends_instead_of_announcing_a_gap() {
    let mut log = log_with(10, 5);
    let strict = Options { strict: true, ..Options::default() };
    let mut session = open(Start::Earliest, strict, &log);
    publish(&mut log, 20);
    let Step::End(Some(failure)) = turn(&mut session, &log) else { panic!("goes on") };
    assert_eq!(failure.reason, Reason::CursorTrimmed);

    let refused = Session::open(Start::Cursor(log.at(0)), strict, &log).unwrap_err();
    assert_eq!(refused.reason, Reason::CursorTrimmed);
    let refused = Session::open(Start::Cursor(log_with(1, 1).head()), strict, &log).unwrap_err();
    assert_eq!(refused.reason, Reason::EpochChanged);
}

#[test]
fn a_history_read_ends_at_the_head_it_began_with() {
    let mut log = log_with(10, 5);
    let mut session = open(Start::LastN(3), Options { no_follow: true, ..Options::default() }, &log);
    publish(&mut log, 2);
    assert_eq!(run_offsets(turn(&mut session, &log)), [3, 4, 5]);
    assert!(matches!(turn(&mut session, &log), Step::End(None)));
}

#[test]
fn nothing_is_sent_while_paused() {
    let log = log_with(10, 5);
    let mut session = open(Start::Earliest, Options::default(), &log);
    assert!(!flow(&mut session, None, Some(true)));
    assert!(matches!(turn(&mut session, &log), Step::Blocked));
    assert!(flow(&mut session, None, Some(false)));
    assert_eq!(run_offsets(turn(&mut session, &log)).len(), 5);
}

#[test]
fn credit_is_a_total_and_lower_totals_are_ignored() {
    let log = log_with(10, 10);
    let mut session = open(Start::Earliest, with_credit(2, 0), &log);
    assert_eq!(run_offsets(turn(&mut session, &log)), [1, 2]);
    assert!(matches!(turn(&mut session, &log), Step::Blocked));
    assert!(!flow(&mut session, Some(Credit { events: 1, bytes: 0 }), None));
    assert!(flow(&mut session, Some(Credit { events: 3, bytes: 0 }), None));
    assert_eq!(run_offsets(turn(&mut session, &log)), [3]);
}

#[test]
fn a_grant_of_nothing_limits_nothing() {
    let log = log_with(10, 10);
    let mut session = open(Start::Earliest, Options::default(), &log);
    assert!(flow(&mut session, Some(Credit::default()), None));
    assert_eq!(run_offsets(turn(&mut session, &log)).len(), 10);
    assert!(!flow(&mut session, Some(Credit { events: 10, bytes: 0 }), None), "a limit from now on");
}

#[test]
fn the_event_that_crosses_the_byte_credit_is_the_last() {
    let log = log_with(10, 10);
    let mut session = open(Start::Earliest, with_credit(100, 25), &log);
    assert_eq!(run_offsets(turn(&mut session, &log)), [1, 2, 3]);
    assert!(matches!(turn(&mut session, &log), Step::Blocked));
}

#[test]
fn no_limit_on_bytes_is_the_most_there_can_be() {
    let log = log_with(100, 100);
    let mut session = open(Start::Earliest, with_credit(10, 0), &log);
    flow(&mut session, Some(Credit { events: 20, bytes: 50 }), None);
    assert_eq!(run_offsets(turn(&mut session, &log)).len(), 20, "a lower total is ignored");
    let mut session = open(Start::Earliest, with_credit(10, 50), &log);
    assert_eq!(run_offsets(turn(&mut session, &log)).len(), 5);
    flow(&mut session, Some(Credit { events: 20, bytes: 0 }), None);
    assert_eq!(run_offsets(turn(&mut session, &log)).len(), 15);
}

fn options(policy: Policy) -> Options {
    Options { policy, ..with_credit(2, 0) }
}

#[test]
fn a_slow_session_jumps_so_that_the_newest_remain_and_is_told_so() {
    let mut log = log_with(100, 0);
    let mut session = open(Start::Live, options(Policy::DropOldest { keep: 5 }), &log);
    publish(&mut log, 7);
    assert_eq!(run_offsets(turn(&mut session, &log)), [1, 2], "what has credit, and five more, may wait");
    publish(&mut log, 1);
    let Step::Gap(gap) = turn(&mut session, &log) else { panic!("no gap") };
    assert_eq!((gap.reason, gap.from.offset, gap.to.offset, gap.count), (GapReason::Slow, 2, 3, 1));
    assert!(matches!(turn(&mut session, &log), Step::Blocked));
    assert!(flow(&mut session, Some(Credit { events: 100, bytes: 0 }), None));
    assert_eq!(run_offsets(turn(&mut session, &log)), [4, 5, 6, 7, 8]);
}

#[test]
fn history_that_was_asked_for_does_not_make_a_session_slow() {
    let mut log = log_with(100, 50);
    let mut session = open(Start::Earliest, options(Policy::Disconnect { limit: 5 }), &log);
    assert_eq!(run_offsets(turn(&mut session, &log)), [1, 2]);
    publish(&mut log, 20);
    assert!(matches!(turn(&mut session, &log), Step::Blocked), "it is still reading what was there");
    flow(&mut session, Some(Credit { events: 65, bytes: 0 }), None);
    assert_eq!(run_offsets(turn(&mut session, &log)).len(), 63);
    assert!(matches!(turn(&mut session, &log), Step::Blocked));
    publish(&mut log, 1);
    let Step::End(Some(failure)) = turn(&mut session, &log) else { panic!("goes on") };
    assert_eq!(failure.reason, Reason::SlowSession);
    assert!(matches!(turn(&mut session, &log), Step::Idle), "what has ended says nothing");
}

#[test]
fn a_paused_session_may_end_but_says_nothing_else() {
    for (policy, ends) in [(Policy::Disconnect { limit: 5 }, true), (Policy::DropOldest { keep: 5 }, false)] {
        let mut log = log_with(100, 0);
        let mut session = open(Start::Live, Options { policy, ..Options::default() }, &log);
        assert!(!flow(&mut session, None, Some(true)));
        publish(&mut log, 6);
        assert_eq!(matches!(turn(&mut session, &log), Step::End(Some(_))), ends, "{policy:?}");
    }
}

fn keyed(keys: &[&str]) -> Log {
    let mut log = Log::new(Limits { max_keys: 10, ..limits(4) });
    set(&mut log, keys);
    log
}

/// Sets each key in turn; one with a `-` before it is removed.
fn set(log: &mut Log, keys: &[&str]) {
    for key in keys {
        let (operation, key) = match key.strip_prefix('-') {
            Some(key) => (Operation::Delete, key),
            None => (Operation::Put, *key),
        };
        let event = NewEvent { key: key.to_owned().into(), operation, ..NewEvent::default() };
        log.append(&event, Timestamp::now()).unwrap();
    }
}

fn snapshot(session: &mut Session, log: &Log) -> Vec<u64> {
    let mut offsets = Vec::new();
    loop {
        match turn(session, log) {
            Step::Run(run) if run.snapshot && run.count == 0 => return offsets,
            Step::Run(run) if run.snapshot => offsets.extend(run.records.map(|record| record.offset)),
            other => panic!("not a snapshot: {other:?}"),
        }
    }
}

#[test]
fn a_snapshot_has_the_latest_of_each_key_and_changes_follow() {
    let mut log = keyed(&["a", "b", "a", "c", "-c", "d", "d"]);
    let mut session = open(Start::Snapshot, Options::default(), &log);
    assert_eq!(session.cursor(), log.head());
    set(&mut log, &["b", "e"]);
    assert_eq!(snapshot(&mut session, &log), [3, 7], "b has changed since: it comes as a change");
    assert_eq!(run_offsets(turn(&mut session, &log)), [8, 9]);
    assert!(matches!(turn(&mut session, &log), Step::Idle));
}

#[test]
fn after_a_gap_in_a_keyed_topic_a_snapshot_says_how_it_is_now() {
    let mut log = keyed(&["a"]);
    let mut session = open(Start::Live, Options::default(), &log);
    set(&mut log, &["b", "b", "b", "b", "b", "-a"]);
    let Step::Gap(gap) = turn(&mut session, &log) else { panic!("no gap") };
    assert_eq!((gap.reason, gap.to, gap.count), (GapReason::Retention, log.head(), 6));
    assert_eq!(snapshot(&mut session, &log), [6]);
}

#[tokio::test(start_paused = true)]
async fn a_conflating_session_gets_the_latest_of_each_key_so_often_and_the_rest_is_counted() {
    let mut log = keyed(&[]);
    let policy = Policy::Conflate { interval: Duration::from_millis(50) };
    let mut session = open(Start::Live, Options { policy, ..Options::default() }, &log);
    set(&mut log, &["a", "b", "a", "a", "b", "c", "-c"]);
    let Step::Run(run) = turn(&mut session, &log) else { panic!("no run") };
    assert_eq!((run.prev, run.skipped), (0, 4));
    assert_eq!(run.records.map(|record| record.offset).collect::<Vec<_>>(), [4, 5, 7], "a removal is a change too");

    set(&mut log, &["a"]);
    let Step::Later(at) = turn(&mut session, &log) else { panic!("too often") };
    assert_eq!(at - Instant::now(), Duration::from_millis(50));
    tokio::time::advance(Duration::from_millis(50)).await;
    assert_eq!(run_offsets(turn(&mut session, &log)), [8]);
}

#[test]
fn a_conflating_session_needs_no_history_unless_it_may_have_missed_a_removal() {
    let policy = Policy::Conflate { interval: Duration::ZERO };
    let mut log = keyed(&["a"]);
    let mut session = open(Start::Live, Options { policy, ..Options::default() }, &log);
    set(&mut log, &["b", "b", "b", "b", "b", "b"]);
    let Step::Run(run) = turn(&mut session, &log) else { panic!("a gap without need") };
    assert_eq!((run.skipped, run.count), (5, 1));
    set(&mut log, &["-a", "b", "b", "b", "b", "b"]);
    let Step::Gap(gap) = turn(&mut session, &log) else { panic!("nobody was told that a is gone") };
    assert_eq!(gap.to, log.head());
    assert_eq!(snapshot(&mut session, &log), [13]);
}

#[test]
fn a_mark_is_given_to_a_session_that_is_caught_up_and_to_no_other() {
    let mut log = log_with(10, 3);
    let mut session = open(Start::Live, Options::default(), &log);
    assert_eq!(session.mark(&log), Some(log.head()));
    flow(&mut session, None, Some(true));
    assert_eq!(session.mark(&log), None, "paused");
    flow(&mut session, None, Some(false));
    publish(&mut log, 1);
    assert_eq!(session.mark(&log), None, "not caught up");
}
