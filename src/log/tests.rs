use super::*;
use crate::types::{ClientId, Dedupe, Producer, Seq, SessionId};

const LIMITS: Limits = Limits {
    max_events: 10,
    max_bytes: 1 << 20,
    max_age: Duration::from_secs(60),
    dedupe_window: Duration::from_secs(180),
    dedupe_depth: 4,
    max_keys: 0,
    max_lag: 0,
};

const SECOND: u64 = 1_000_000;

fn at(second: u64) -> Timestamp {
    Timestamp(second * SECOND)
}

fn event(dedupe: Dedupe) -> NewEvent {
    NewEvent { payload: "hello".into(), dedupe, ..NewEvent::default() }
}

fn filled(count: u64) -> Log {
    let mut log = Log::new(LIMITS);
    for n in 1..=count {
        log.append(&event(Dedupe::default()), at(n)).unwrap();
    }
    log
}

fn offsets(log: &Log, after: u64) -> Vec<u64> {
    log.after(after).map(|record| record.offset).collect()
}

#[test]
fn offsets_and_times_rise_even_when_the_clock_does_not() {
    let mut log = Log::new(LIMITS);
    let places: Vec<_> = [5, 5, 3].map(|s| log.append(&event(Dedupe::default()), at(s)).unwrap().cursor).into();
    assert_eq!(places.iter().map(|c| c.offset).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(places.windows(2).all(|pair| pair[0].time < pair[1].time));
}

#[test]
fn history_is_bounded_by_count_by_bytes_and_by_age() {
    let log = filled(15);
    assert_eq!((log.floor().offset, log.size().0), (5, 10));

    let mut log = Log::new(Limits { max_bytes: 1, ..LIMITS });
    log.append(&event(Dedupe::default()), at(1)).unwrap();
    assert_eq!((log.size(), log.floor().offset), ((0, 0), 1), "an event over the limit is stored and gone");

    let mut log = filled(10);
    log.trim(at(65));
    assert_eq!(offsets(&log, 0), [5, 6, 7, 8, 9, 10]);
}

#[test]
fn a_position_tells_what_became_of_it() {
    let log = filled(15);
    let cursor = |offset| Cursor { time: Timestamp(0), ..log.at(offset) };
    assert_eq!(log.position(cursor(5)), Position::Kept);
    assert_eq!(log.position(cursor(15)), Position::Kept);
    assert_eq!(log.position(cursor(4)), Position::Trimmed);
    assert_eq!(log.position(cursor(16)), Position::Diverged);
    assert_eq!(log.position(Cursor { time: at(999), ..cursor(7) }), Position::Diverged);
    assert_eq!(log.position(log.at(7)), Position::Kept);
    assert_eq!(log.position(Cursor { epoch: 0, ..cursor(7) }), Position::OtherEpoch);
}

#[test]
fn a_start_is_found_by_count_and_by_time() {
    let log = filled(15);
    assert_eq!(log.before_last(3).offset, 12);
    assert_eq!(log.before_last(100).offset, 5);
    assert_eq!(log.before_last(0).offset, 15);
    assert_eq!(log.before_time(at(8)).offset, 7);
    assert_eq!(log.before_time(at(0)).offset, 5);
    assert_eq!(log.before_time(at(99)).offset, 15);
    assert_eq!(offsets(&log, 13), [14, 15]);
    assert_eq!(offsets(&log, 0).len(), 10);
    assert_eq!(offsets(&Log::new(LIMITS), 0), [0; 0]);
}

#[test]
fn a_dedupe_id_is_stored_once_inside_its_window() {
    let mut log = Log::new(LIMITS);
    let id = || named("order-1");
    let first = log.append(&event(id()), at(1)).unwrap();
    let second = log.append(&event(id()), at(100)).unwrap();
    assert!(second.duplicate && !first.duplicate);
    assert_eq!(second.cursor, first.cursor);
    log.trim(at(182));
    assert!(!log.append(&event(id()), at(182)).unwrap().duplicate, "the window runs from the first store");
}

fn named(id: &str) -> Dedupe {
    Dedupe { id: Some(id.into()), seq: None }
}

fn seq(number: u64, fresh: bool) -> Dedupe {
    let producer = Producer::new(ClientId::parse("alice").unwrap(), SessionId::parse("s").unwrap());
    Dedupe { id: None, seq: Some(Seq { producer, number, through: if fresh { 0 } else { number - 1 } }) }
}

#[test]
fn a_session_seq_is_stored_once_and_leaves_no_hole() {
    let mut log = Log::new(LIMITS);
    let refused = log.append(&event(seq(2, true)), at(1)).unwrap_err();
    assert_eq!(refused.reason, Reason::WrongSeq);
    for n in 1..=6 {
        assert!(!log.append(&event(seq(n, true)), at(1)).unwrap().duplicate);
    }
    let repeat = log.append(&event(seq(4, false)), at(2)).unwrap();
    assert!(repeat.duplicate && repeat.cursor.offset == 4);
    assert_eq!(log.append(&event(seq(2, false)), at(2)).unwrap_err().reason, Reason::ForgottenSeq);
    let hole = log.append(&event(seq(8, false)), at(2)).unwrap_err();
    assert_eq!((hole.reason, &hole.metadata[..]), (Reason::WrongSeq, &[("through_seq", "6".to_owned())][..]));
    assert_eq!(log.head().offset, 6);
}

#[test]
fn a_session_goes_on_with_its_numbers_on_a_log_that_does_not_know_it() {
    let mut log = Log::new(LIMITS);
    assert!(!log.append(&event(seq(57, false)), at(1)).unwrap().duplicate);
    assert!(!log.append(&event(seq(58, false)), at(1)).unwrap().duplicate);
    assert!(log.append(&event(seq(57, false)), at(1)).unwrap().duplicate);
    assert_eq!(log.append(&event(seq(56, false)), at(1)).unwrap_err().reason, Reason::ForgottenSeq);
}

#[test]
fn a_conditional_publish_meets_the_head_it_names_or_is_told_the_real_one() {
    let mut log = filled(3);
    let conditional = |if_last| NewEvent { if_last: Some(if_last), ..event(Dedupe::default()) };
    let refused = log.append(&conditional(2), at(4)).unwrap_err();
    assert_eq!((refused.reason, &refused.metadata[..]), (Reason::WrongLast, &[("actual", "3".to_owned())][..]));
    assert_eq!(log.append(&conditional(3), at(4)).unwrap().cursor.offset, 4);
}

#[test]
fn a_log_is_vacant_when_history_and_windows_have_run_out() {
    let mut log = Log::new(LIMITS);
    log.append(&event(named("x")), at(1)).unwrap();
    log.trim(at(100));
    assert!(!log.is_vacant(), "the id is still remembered");
    log.trim(at(200));
    assert!(log.is_vacant());
}

#[test]
fn a_number_whose_id_was_known_counts_and_leads_to_the_same_place() {
    let mut log = Log::new(LIMITS);
    let first = log.append(&event(named("x")), at(1)).unwrap();
    let both = log.append(&event(Dedupe { id: Some("x".into()), ..seq(1, true) }), at(2)).unwrap();
    assert_eq!((both.cursor, both.duplicate), (first.cursor, true));
    assert!(!log.append(&event(seq(2, false)), at(3)).unwrap().duplicate);
    assert_eq!(log.append(&event(seq(1, false)), at(4)).unwrap().cursor, first.cursor);
}

#[test]
fn what_its_only_reader_has_can_be_discarded() {
    let mut log = filled(10);
    log.discard_through(7);
    assert_eq!((offsets(&log, 0), log.floor().offset), (vec![8, 9, 10], 7));
}

#[test]
fn a_number_the_log_has_forgotten_is_not_stored_again() {
    let mut log = Log::new(LIMITS);
    for n in 1..=5 {
        log.append(&event(seq(n, true)), at(1)).unwrap();
    }
    log.trim(at(500));
    let known = |number| {
        let seq = seq(number, false).seq.map(|seq| Seq { through: 5, ..seq });
        event(Dedupe { id: None, seq })
    };
    assert_eq!(log.append(&known(3), at(500)).unwrap_err().reason, Reason::ForgottenSeq);
    assert!(!log.append(&known(6), at(500)).unwrap().duplicate);
}

#[test]
fn absurd_positions_are_positions_too() {
    let log = filled(15);
    let cursor = Cursor { offset: u64::MAX, time: Timestamp(u64::MAX), ..log.head() };
    assert_eq!(log.position(cursor), Position::Diverged);
    assert_eq!(offsets(&log, u64::MAX), [0; 0]);
    assert_eq!(log.before_last(u64::MAX).offset, 5);
    assert_eq!(log.before_time(Timestamp(u64::MAX)).offset, 15);
    let mut log = Log::new(LIMITS);
    log.append(&event(seq(u64::MAX, false)), at(1)).unwrap();
    assert!(log.append(&event(seq(u64::MAX, false)), at(1)).unwrap().duplicate);
}

const KEYED: Limits = Limits { max_keys: 3, ..LIMITS };

fn producer(session: &str) -> Producer {
    Producer::new(ClientId::parse("c").unwrap(), SessionId::parse(session).unwrap())
}

fn put(log: &mut Log, key: &str, scope: Option<Producer>) -> Result<Published, Failure> {
    log.append(&NewEvent { key: key.to_owned().into(), scope, ..event(Dedupe::default()) }, at(1))
}

fn put_again(log: &mut Log, key: &str) {
    for _ in 0..20 {
        put(log, key, None).unwrap();
    }
}

fn remove(log: &mut Log, key: &str) {
    let operation = Operation::Delete;
    log.append(&NewEvent { key: key.to_owned().into(), operation, ..NewEvent::default() }, at(1)).unwrap();
}

fn names(log: &Log) -> Vec<String> {
    let rows = log.keys().unwrap().list(b"", usize::MAX);
    rows.into_iter().map(|(key, ..)| String::from_utf8(key.to_vec()).unwrap()).collect()
}

#[test]
fn the_latest_of_a_key_outlives_the_history_until_it_is_removed() {
    let mut log = Log::new(KEYED);
    put(&mut log, "old", None).unwrap();
    put_again(&mut log, "new");
    assert_eq!((log.floor().offset, names(&log)), (11, vec!["new".into(), "old".into()]));
    remove(&mut log, "old");
    assert_eq!(names(&log), ["new"]);
    assert!(log.keys().unwrap().reach(0), "the removal is still in the history");
    put_again(&mut log, "new");
    assert!(!log.keys().unwrap().reach(21) && log.keys().unwrap().reach(22));
}

#[test]
fn a_keyed_topic_holds_so_many_keys_and_bytes_and_takes_no_event_without_a_key() {
    let mut log = Log::new(KEYED);
    assert_eq!(put(&mut log, "", None).unwrap_err().reason, Reason::InvalidField);
    for key in ["a", "b", "c"] {
        put(&mut log, key, None).unwrap();
    }
    assert_eq!(put(&mut log, "d", None).unwrap_err().reason, Reason::KeyLimit);
    put(&mut log, "a", None).unwrap();
    remove(&mut log, "b");
    remove(&mut log, "never there");
    put(&mut log, "d", None).unwrap();

    let mut log = Log::new(Limits { max_bytes: 200, ..KEYED });
    put(&mut log, "a", None).unwrap();
    put_again(&mut log, "a");
    let large = NewEvent { key: "b".into(), payload: vec![0; 150].into(), ..NewEvent::default() };
    assert_eq!(log.append(&large, at(1)).unwrap_err().reason, Reason::KeyLimit);
}

#[test]
fn a_key_dies_with_its_session_unless_somebody_has_set_it_since() {
    let mut log = Log::new(KEYED);
    let (one, two) = (producer("one"), producer("two"));
    put(&mut log, "mine", Some(one.clone())).unwrap();
    put(&mut log, "theirs", Some(one.clone())).unwrap();
    put(&mut log, "nobody's", Some(one.clone())).unwrap();
    put(&mut log, "theirs", Some(two.clone())).unwrap();
    put(&mut log, "nobody's", None).unwrap();
    assert!(log.remove_owned(&one, at(2)));
    assert_eq!(names(&log), ["nobody's", "theirs"]);
    assert!(!log.remove_owned(&one, at(2)));
    assert!(log.remove_owned(&two, at(2)));
    assert_eq!((names(&log).len(), log.head().offset), (1, 7));
}

#[test]
fn a_publish_waits_for_a_reader_that_is_behind() {
    let mut log = Log::new(Limits { max_lag: 3, ..LIMITS });
    let store = |log: &mut Log| log.append(&event(Dedupe::default()), at(1));
    let (slow, quick) = (log.hold(0).unwrap(), log.hold(0).unwrap());
    assert!((0..3).all(|_| store(&mut log).is_ok()));
    log.advance_hold(quick, 3);
    assert_eq!(store(&mut log).unwrap_err().reason, Reason::Backpressure);
    log.advance_hold(slow, 1);
    store(&mut log).unwrap();
    assert_eq!(store(&mut log).unwrap_err().reason, Reason::Backpressure);
    log.release_hold(slow);
    assert!((0..2).all(|_| store(&mut log).is_ok()));
    assert_eq!(store(&mut log).unwrap_err().reason, Reason::Backpressure, "the other one is waited for still");
}

#[test]
fn nothing_is_trimmed_that_a_reader_is_waited_for_needs_however_large_it_is() {
    let mut log = Log::new(Limits { max_lag: 100, max_bytes: 900, max_events: 100, ..LIMITS });
    let large = || NewEvent { payload: vec![0; 200].into(), ..NewEvent::default() };
    let hold = log.hold(0).unwrap();
    assert!((0..2).all(|_| log.append(&large(), at(1)).is_ok()));
    assert_eq!(log.append(&large(), at(1)).unwrap_err().reason, Reason::Backpressure);
    log.advance_hold(hold, 1);
    log.append(&large(), at(1)).unwrap();
    assert_eq!(log.floor().offset, 1);
}

#[test]
fn a_topic_that_remembers_no_publishes_stores_a_repeat_twice() {
    let mut log = Log::new(Limits { dedupe_depth: 0, ..LIMITS });
    let dedupe = Dedupe { id: Some("x".into()), seq: Some(Seq { producer: producer("s"), number: 1, through: 0 }) };
    let offsets = [(); 2].map(|()| log.append(&event(dedupe.clone()), at(1)).unwrap().cursor.offset);
    assert_eq!(offsets, [1, 2]);
}

/// What is counted is what a log holds, whatever became of it, and nothing is left of one that is gone.
#[test]
fn what_a_log_holds_is_counted_until_it_is_gone() {
    let total = Total::default();
    let (client, session) = (ClientId::parse("a").unwrap(), SessionId::parse("s").unwrap());
    let producer = Producer::new(client, session);
    let limits = Limits { max_bytes: 4000, max_keys: 8, ..LIMITS };
    let mut logs = [LIMITS, limits].map(|limits| Log::new(limits).counted(total.clone()));
    let mut last = 0;
    for second in 1..2000 {
        let log = &mut logs[fastrand::usize(..2)];
        match fastrand::u8(..10) {
            0 => log.trim(at(second)),
            1 => drop(log.trim_to(fastrand::u64(..4000))),
            2 => drop(log.remove_owned(&producer, at(second))),
            3 => log.discard_through(log.floor().offset + fastrand::u64(..4)),
            _ => {
                let delete = fastrand::bool();
                let id = fastrand::bool().then(|| fastrand::u64(..1000).to_string());
                let event = NewEvent {
                    key: fastrand::u8(..20).to_string().into(),
                    operation: if delete { Operation::Delete } else { Operation::Put },
                    payload: vec![0; fastrand::usize(..800)].into(),
                    scope: fastrand::bool().then(|| producer.clone()),
                    dedupe: Dedupe { id, seq: None },
                    ..NewEvent::default()
                };
                // Refused for want of room for the key, now and then.
                log.append(&event, at(second)).ok();
            }
        }
        let weigh = |log: &Log| {
            let events: u64 = log.after(0).map(Record::weight).sum();
            assert_eq!(events, log.size().1);
            events + log.keys().map_or(0, Keys::weight) + log.dedupes.weight()
        };
        logs.iter_mut().for_each(|log| log.trim(at(second)));
        last = logs.iter().map(weigh).sum();
        assert_eq!(total.bytes(), last);
    }
    assert!(last > 0);
    drop(logs);
    assert_eq!(total.bytes(), 0);
}

#[test]
fn what_a_reader_is_waited_for_to_read_is_not_cut() {
    let mut log = filled(10);
    let hold = log.hold(4).unwrap();
    assert!(log.trim_to(0) > 0);
    assert_eq!(offsets(&log, 0), [5, 6, 7, 8, 9, 10]);
    log.release_hold(hold);
    log.trim_to(log.size().1 / 2);
    assert_eq!(offsets(&log, 0), [8, 9, 10]);
}

#[test]
fn at_the_limit_of_all_repeats_are_answered_and_keys_can_be_removed_but_nothing_is_stored() {
    let total = Total::new(1);
    let mut log = Log::new(Limits { max_keys: 8, ..LIMITS }).counted(total);
    let put = |id: &str| NewEvent { key: "k".into(), ..event(Dedupe { id: Some(id.to_owned()), seq: None }) };
    let first = log.append(&put("1"), at(1)).unwrap();
    assert!(log.append(&put("1"), at(2)).is_ok_and(|again| again.duplicate && again.cursor == first.cursor));
    assert_eq!(log.append(&put("2"), at(2)).unwrap_err().reason, Reason::HistoryLimit);
    log.append(&NewEvent { operation: Operation::Delete, ..put("3") }, at(3)).unwrap();
    assert_eq!(log.keys().unwrap().len(), 0);
}
