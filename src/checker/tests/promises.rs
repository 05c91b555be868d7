//! For each promise a history that breaks it and it alone, beside one that does not.

use super::*;

#[test]
fn a_history_in_which_everything_is_right_breaks_nothing() {
    let mut tale = Tale::with(6);
    tale.ask(Asked::Fresh, Some((2, 0))).opened(1, 0, 6, "RECOVERY_FRESH").deliver(0, [1, 2]);
    tale.flow(Some((3, 0)), None, 1).reply(1).deliver(2, [3]).flow(None, Some(true), 2).reply(2);
    tale.ask(Asked::Cursor(at(3)), None).opened(2, 3, 6, "RECOVERY_PARTIAL").gap(at(3), at(4)).deliver(4, [5, 6]);
    tale.say(Op::Mark { session: "s".into(), offset: 6 }).end([5, 6], 6, 6);
    assert_eq!(tale.broken(), []);
    let report = check(&tale.records, Options::default());
    assert_eq!((report.resumes, report.exercised[&Guarantee::G4Resumable]), (1, 1));
}

#[test]
fn g1_a_step_back_is_out_of_order() {
    let mut tale = Tale::with(5);
    tale.ask(Asked::Fresh, None).opened(1, 3, 5, "RECOVERY_FRESH").deliver(3, [4, 2]);
    assert_eq!(tale.broken(), [Guarantee::G1Ordered]);
}

#[test]
fn g2_a_repeat_is_found_across_resumes() {
    let mut tale = Tale::with(5);
    tale.fresh().deliver(0, [1, 2, 3]).ask(Asked::Cursor(at(3)), None).opened(2, 3, 5, "RECOVERY_FULL");
    tale.deliver(2, [3, 4]);
    assert_eq!(tale.broken(), [Guarantee::G2Unique]);
    let mut again = Tale::with(5);
    again.fresh().deliver(0, [1, 2]).ask(Asked::Fresh, None).opened(2, 0, 5, "RECOVERY_FRESH").deliver(0, [1, 2]);
    assert_eq!(again.broken(), [], "who asks for the beginning gets the beginning");
}

#[test]
fn g3_a_hole_must_be_announced_or_counted() {
    for (prev, skipped) in [(2, 0), (1, 0), (1, 5)] {
        let mut tale = Tale::with(5);
        tale.fresh().deliver(0, [1]);
        let (session, topic) = ("s".into(), "t".into());
        let events = vec![event(4)];
        tale.say(Op::Deliver { session, topic, prev, skipped, snapshot: false, events });
        assert_eq!(tale.broken(), [Guarantee::G3Reliable], "{prev} {skipped}");
    }
    let mut counted = Tale::with(5);
    counted.fresh().deliver(0, [1]);
    let (session, topic) = ("s".into(), "t".into());
    counted.say(Op::Deliver { session, topic, prev: 1, skipped: 2, snapshot: false, events: vec![event(4)] });
    assert_eq!(counted.broken(), []);
}

#[test]
fn g4_a_resume_goes_on_where_it_was_asked_to_or_says_what_is_gone() {
    let resumed = |start, recovery| {
        let mut tale = Tale::with(5);
        tale.fresh().deliver(0, [1, 2, 3]).ask(Asked::Cursor(at(3)), None).opened(2, start, 5, recovery);
        tale.deliver(start, [start + 1]);
        tale.broken()
    };
    assert_eq!(resumed(3, "RECOVERY_FULL"), []);
    assert_eq!(resumed(4, "RECOVERY_FULL"), [Guarantee::G4Resumable]);
    assert_eq!(resumed(3, "RECOVERY_PARTIAL"), [Guarantee::G4Resumable]);
    assert_eq!(resumed(4, "RECOVERY_FRESH"), [Guarantee::G4Resumable]);
}

#[test]
fn g5_a_mark_is_not_ahead_of_what_was_delivered() {
    let mut tale = Tale::with(5);
    tale.fresh().deliver(0, [1, 2]).say(Op::Mark { session: "s".into(), offset: 3 });
    assert_eq!(tale.broken(), [Guarantee::G5Marks]);
}

#[test]
fn g6_what_was_acknowledged_is_in_the_log() {
    let mut lost = Tale::with(5);
    lost.fresh().deliver(0, 1..=4).end(1..=4, 4, 4);
    assert_eq!(lost.broken(), [Guarantee::G6Published]);
    let mut trimmed = Tale::with(5);
    trimmed.fresh().deliver(0, 1..=5).end([4, 5], 5, 5);
    assert_eq!(trimmed.broken(), []);
}

#[test]
fn g7_an_event_is_stored_once_and_every_answer_names_its_place() {
    let mut twice = Tale::with(2);
    twice.fresh();
    let again = Event { id: "e1".into(), ..event(3) };
    let (session, topic) = ("s".into(), "t".into());
    let events = vec![event(1), event(2), again];
    twice.say(Op::Deliver { session, topic, prev: 0, skipped: 0, snapshot: false, events });
    assert_eq!(twice.broken(), [Guarantee::G7Idempotent]);
    let mut answers = Tale::with(2);
    answers.answer("", "e1", at(2));
    assert!(answers.broken().contains(&Guarantee::G7Idempotent));
}

#[test]
fn g8_a_session_s_events_are_stored_in_its_order() {
    let mut tale = Tale::default().by("writer");
    tale.publish("w", "e2").publish("w", "e1").answer("w", "e2", at(2)).answer("w", "e1", at(1));
    tale.fresh().deliver(0, [1, 2]);
    assert_eq!(tale.broken(), [Guarantee::G8Fifo]);
}

#[test]
fn g9_nothing_is_read_that_nobody_published_and_all_read_the_same() {
    let mut phantom = Tale::with(1);
    phantom.fresh().deliver(0, [1, 2]);
    assert_eq!(phantom.broken(), [Guarantee::G9NoPhantom]);
    let mut different = Tale::with(1);
    different.fresh().deliver(0, [1]);
    let mut different = different.by("other");
    let other = Event { length: 11, ..event(1) };
    different.fresh().records.pop();
    different.opened(2, 0, 0, "RECOVERY_FRESH");
    let (session, topic) = ("s".into(), "t".into());
    different.say(Op::Deliver { session, topic, prev: 0, skipped: 0, snapshot: false, events: vec![other] });
    assert!(different.broken().contains(&Guarantee::G9NoPhantom));
}

#[test]
fn g10_an_older_holder_gets_nothing_that_was_stored_after_the_newer_one_came() {
    let story = |head| {
        let mut tale = Tale::with(5).by("old");
        tale.fresh().deliver(0, [1, 2]);
        let mut tale = tale.by("new");
        tale.ask(Asked::Fresh, None).opened(2, 2, head, "RECOVERY_FRESH");
        let mut tale = tale.by("old");
        tale.deliver(2, [3]);
        tale.broken()
    };
    assert_eq!(story(3), [], "it was on its way");
    assert_eq!(story(2), [Guarantee::G10OneHolder]);
    let mut falling = Tale::with(5);
    falling.fresh().ask(Asked::Cursor(at(0)), None).opened(1, 0, 5, "RECOVERY_FULL");
    assert!(falling.broken().contains(&Guarantee::G10OneHolder));
}

#[test]
fn g11_nothing_comes_in_a_pause_or_over_the_credit() {
    let mut paused = Tale::with(5);
    paused.fresh().flow(None, Some(true), 1).deliver(0, [1]).reply(1).deliver(1, [2]);
    assert_eq!(paused.broken(), [Guarantee::G11PauseAndCredit]);
    let mut resumed = Tale::with(5);
    resumed.fresh().flow(None, Some(true), 1).reply(1).flow(None, Some(false), 2).deliver(0, [1]).reply(2);
    assert_eq!(resumed.broken(), []);
    for (credit, fine) in [((2, 0), false), ((3, 0), true), ((9, 20), false), ((9, 21), true), ((0, 0), false)] {
        let mut tale = Tale::with(5);
        tale.ask(Asked::Fresh, Some(credit)).opened(1, 0, 0, "RECOVERY_FRESH").deliver(0, [1, 2, 3]);
        assert_eq!(tale.broken().is_empty(), fine, "{credit:?}");
    }
}

#[test]
fn g12_an_event_of_another_topic_is_found() {
    let mut tale = Tale::with(1);
    let (session, topic) = ("s".into(), "other".into());
    tale.say(Op::Publish { session, topic, id: "e2".into(), request: 0 }).fresh().deliver(0, [1, 2]);
    assert_eq!(tale.broken(), [Guarantee::G12Isolation]);
}

#[test]
fn g13_everybody_catches_up_and_every_request_is_answered_once() {
    let mut behind = Tale::with(3);
    behind.fresh().deliver(0, [1, 2]).end(1..=3, 3, 2);
    assert_eq!(behind.broken(), [Guarantee::G13Live]);
    let mut twice = Tale::with(1);
    twice.fresh().flow(None, None, 1).reply(1).reply(1);
    assert_eq!(twice.broken(), [Guarantee::G13Live]);
    for (why, fine) in [("left", false), ("cut", true)] {
        let mut never = Tale::with(1);
        never.fresh().flow(None, None, 1).say(Op::Disconnected { why: why.into() });
        assert_eq!(never.broken().is_empty(), fine, "{why}");
    }
}

#[test]
fn g14_memory_stays_under_its_limit() {
    let mut tale = Tale::with(0);
    tale.say(Op::Memory { bytes: 10, limit: 10 }).say(Op::Memory { bytes: 11, limit: 10 });
    assert_eq!(tale.broken(), [Guarantee::G14Bounded]);
}
