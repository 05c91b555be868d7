use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{log::Limits, types::NewEvent};

fn limits(max_events: u64) -> Limits {
    Limits {
        max_events,
        max_bytes: 1 << 30,
        max_age: Duration::ZERO,
        dedupe_window: Duration::from_secs(60),
        dedupe_depth: 16,
    }
}

fn publish(log: &mut Log, count: u64) {
    for _ in 0..count {
        let event = NewEvent { payload: vec![0; 10].into(), ..NewEvent::default() };
        log.append(event, Timestamp::now()).unwrap();
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
    assert_eq!(run_offsets(session.next(&log, 1 << 20)), [13, 14, 15]);
    assert!(matches!(session.next(&log, 1 << 20), Step::Idle));
}

#[test]
fn a_resume_before_the_history_announces_what_is_gone_first() {
    let log = log_with(10, 15);
    let cursor = log.at(2);
    let (mut session, recovery) = Session::open(Start::Cursor(cursor), Options::default(), &log).unwrap();
    assert_eq!(recovery, Recovery::Partial);
    let Step::Gap(gap) = session.next(&log, 1 << 20) else { panic!("no gap") };
    assert_eq!((gap.from.offset, gap.to.offset, gap.count, gap.reason), (2, 5, 3, GapReason::Retention));
    assert_eq!(run_offsets(session.next(&log, 1 << 20))[0], 6);
}

#[test]
fn another_epoch_is_announced_and_the_new_log_begins_with_its_oldest() {
    let (old, new) = (log_with(10, 3), log_with(10, 2));
    let mut session = open(Start::Cursor(old.head()), Options::default(), &new);
    let Step::Gap(gap) = session.next(&new, 1 << 20) else { panic!("no gap") };
    assert_eq!((gap.reason, gap.to), (GapReason::Epoch, new.floor()));
    assert_eq!(run_offsets(session.next(&new, 1 << 20)), [1, 2]);
}

#[test]
fn a_strict_session_ends_instead_of_announcing_a_gap() {
    let mut log = log_with(10, 5);
    let strict = Options { strict: true, ..Options::default() };
    let mut session = open(Start::Earliest, strict, &log);
    publish(&mut log, 20);
    let Step::End(Some(failure)) = session.next(&log, 1 << 20) else { panic!("goes on") };
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
    assert_eq!(run_offsets(session.next(&log, 1 << 20)), [3, 4, 5]);
    assert!(matches!(session.next(&log, 1 << 20), Step::End(None)));
}

#[test]
fn nothing_is_sent_while_paused() {
    let log = log_with(10, 5);
    let mut session = open(Start::Earliest, Options::default(), &log);
    assert!(!session.flow(None, Some(true)));
    assert!(matches!(session.next(&log, 1 << 20), Step::Blocked));
    assert!(session.flow(None, Some(false)));
    assert_eq!(run_offsets(session.next(&log, 1 << 20)).len(), 5);
}

#[test]
fn credit_is_a_total_and_lower_totals_are_ignored() {
    let log = log_with(10, 10);
    let mut session = open(Start::Earliest, with_credit(2, 0), &log);
    assert_eq!(run_offsets(session.next(&log, 1 << 20)), [1, 2]);
    assert!(matches!(session.next(&log, 1 << 20), Step::Blocked));
    assert!(!session.flow(Some(Credit { events: 1, bytes: 0 }), None));
    assert!(session.flow(Some(Credit { events: 3, bytes: 0 }), None));
    assert_eq!(run_offsets(session.next(&log, 1 << 20)), [3]);
}

#[test]
fn the_event_that_crosses_the_byte_credit_is_the_last() {
    let log = log_with(10, 10);
    let mut session = open(Start::Earliest, with_credit(100, 25), &log);
    assert_eq!(run_offsets(session.next(&log, 1 << 20)), [1, 2, 3]);
    assert!(matches!(session.next(&log, 1 << 20), Step::Blocked));
}

#[test]
fn no_limit_on_bytes_is_the_most_there_can_be() {
    let log = log_with(100, 100);
    let mut session = open(Start::Earliest, with_credit(10, 0), &log);
    session.flow(Some(Credit { events: 20, bytes: 50 }), None);
    assert_eq!(run_offsets(session.next(&log, 1 << 20)).len(), 20, "a lower total is ignored");
    let mut session = open(Start::Earliest, with_credit(10, 50), &log);
    assert_eq!(run_offsets(session.next(&log, 1 << 20)).len(), 5);
    session.flow(Some(Credit { events: 20, bytes: 0 }), None);
    assert_eq!(run_offsets(session.next(&log, 1 << 20)).len(), 15);
}

proptest! {
    /// The chain (G1–G3) and the credit (G11), whatever is published, trimmed, granted, paused and asked for.
    #[test]
    fn every_record_comes_once_in_order_or_is_announced(
        history in 1_u64..20,
        steps in proptest::collection::vec((0_u64..12, 0_u64..8, 1_usize..200, any::<bool>()), 1..60),
    ) {
        let mut log = Log::new(limits(history));
        let mut session = open(Start::Live, with_credit(0, 0), &log);
        let (mut granted, mut sent, mut cursor) = (0, 0, session.cursor());
        for (published, credit, budget, paused) in steps {
            publish(&mut log, published);
            granted += credit;
            session.flow(Some(Credit { events: granted, bytes: 0 }), Some(paused));
            loop {
                match session.next(&log, budget) {
                    Step::Idle | Step::Blocked => break,
                    Step::Gap(gap) => {
                        prop_assert!(!paused);
                        prop_assert_eq!(gap.from, cursor);
                        prop_assert!(gap.to.offset > cursor.offset && gap.count == gap.to.offset - gap.from.offset);
                        cursor = gap.to;
                    }
                    Step::Run(run) => {
                        prop_assert!(!paused);
                        prop_assert_eq!(run.prev, cursor.offset);
                        for record in run.records {
                            prop_assert_eq!(record.offset, cursor.offset + 1);
                            cursor = log.at(record.offset);
                            sent += 1;
                        }
                        prop_assert!(sent <= granted);
                    }
                    Step::End(end) => prop_assert!(false, "ended: {:?}", end),
                }
            }
            prop_assert!(paused || sent == granted || cursor == log.head());
        }
    }
}
