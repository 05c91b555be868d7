//! What else a session may see: credit that comes late, keyed topics, resumes from an older place, restarts.

use super::*;

fn put(offset: u64, key: &str) -> Event {
    Event { key: key.into(), ..event(offset) }
}

fn removed(offset: u64, key: &str) -> Event {
    Event { removes: true, ..put(offset, key) }
}

/// A keyed topic, `state`, read by the session `s`.
impl Tale {
    fn keyed(count: u64) -> Self {
        let mut tale = Self { program: "back-end", ..Self::default() };
        for offset in 1..=count {
            let (session, topic, id) = ("".into(), "state".into(), format!("e{offset}").into());
            tale.say(Op::Publish { session, topic, id, request: 0 });
        }
        tale.by("reader")
    }

    fn snapshot_of(&mut self, attach: u64, head: u64) -> &mut Self {
        self.say(Op::Open {
            session: "s".into(),
            topic: "state".into(),
            start: Asked::Snapshot,
            credit: None,
            request: 0,
        });
        let (start, head, recovery) = (at(head), at(head), "RECOVERY_FRESH".into());
        let (session, topic) = ("s".into(), "state".into());
        self.say(Op::Opened { session, topic, attach, start, head, recovery, published_seq: 0 })
    }

    fn shown(&mut self, prev: u64, snapshot: bool, events: Vec<Event>) -> &mut Self {
        let (session, topic) = ("s".into(), "state".into());
        self.say(Op::Deliver { session, topic, prev, skipped: 0, snapshot, events })
    }

    fn mark(&mut self, offset: u64) -> &mut Self {
        self.say(Op::Mark { session: "s".into(), offset })
    }

    fn keyed_end(&mut self, events: Vec<Event>, head: u64) -> &mut Self {
        self.say(Op::Head { topic: "state".into(), head: at(head) });
        self.say(Op::Stored { topic: "state".into(), epoch: EPOCH, events });
        self.say(Op::Stands { session: "s".into(), topic: "state".into(), place: Some(at(head)) })
    }
}

#[test]
fn a_snapshot_is_in_order_and_ends_before_marks_and_changes() {
    fn first() -> Vec<Event> {
        vec![put(1, "a"), put(2, "b")]
    }
    let story = |tell: fn(&mut Tale)| {
        let mut tale = Tale::keyed(4);
        tale.snapshot_of(1, 3);
        tell(&mut tale);
        tale.broken()
    };
    assert_eq!(
        story(|t| {
            t.shown(3, true, first()).shown(3, true, vec![put(3, "c")]).shown(3, true, vec![]);
        }),
        []
    );
    assert_eq!(
        story(|t| {
            t.shown(3, true, vec![put(2, "b"), put(1, "a")]);
        }),
        [Guarantee::G1Ordered]
    );
    assert_eq!(
        story(|t| {
            t.shown(3, true, first()).shown(3, true, vec![put(2, "c")]);
        }),
        [Guarantee::G1Ordered, Guarantee::G9NoPhantom]
    );
    assert_eq!(
        story(|t| {
            t.shown(3, true, vec![put(4, "a")]);
        }),
        [Guarantee::G3Reliable]
    );
    assert_eq!(
        story(|t| {
            t.shown(3, true, first()).mark(3);
        }),
        [Guarantee::G5Marks]
    );
    assert_eq!(
        story(|t| {
            t.shown(3, true, first()).shown(3, false, vec![put(4, "a")]);
        }),
        [Guarantee::G3Reliable]
    );
}

#[test]
fn a_keyed_topic_is_seen_in_the_end_as_it_is() {
    let story = |seen: Vec<Event>, stored: Vec<Event>| {
        let mut tale = Tale::keyed(4);
        tale.snapshot_of(1, 3).shown(3, true, seen).shown(3, true, vec![]).shown(3, false, vec![put(4, "a")]);
        tale.keyed_end(stored, 4).broken()
    };
    let all = || vec![put(1, "a"), put(2, "b"), removed(3, "c"), put(4, "a")];
    assert_eq!(story(vec![put(1, "a"), put(2, "b")], all()), []);
    assert_eq!(story(vec![put(1, "a")], all()), [Guarantee::G3Reliable], "b is missing");
    assert_eq!(story(vec![put(2, "b")], vec![put(1, "c"), put(2, "b"), removed(3, "c"), put(4, "a")]), []);
    let removed = vec![put(1, "c"), put(2, "b"), removed(3, "c"), put(4, "a")];
    assert_eq!(story(vec![put(1, "c"), put(2, "b")], removed), [Guarantee::G3Reliable], "c is gone");
}

#[test]
fn a_key_whose_removal_nobody_saw_is_not_missed() {
    let mut tale = Tale::keyed(4).by("early");
    tale.snapshot_of(1, 1).shown(1, true, vec![put(1, "a")]).shown(1, true, vec![]);
    let mut tale = tale.by("late");
    tale.snapshot_of(2, 4).shown(4, true, vec![put(4, "b")]).shown(4, true, vec![]);
    // 2 and 3 are gone from the log, and one of them has removed `a`.
    assert_eq!(tale.keyed_end(vec![put(4, "b")], 4).broken(), []);
}

#[test]
fn a_limit_that_comes_after_the_open_does_not_hold_what_is_on_its_way() {
    let story = |request, reply: bool| {
        let mut tale = Tale::with(5);
        tale.fresh().deliver(0, [1, 2]).flow(Some((3, 0)), None, request).deliver(2, [3, 4]);
        if reply {
            tale.reply(request);
        }
        tale.deliver(4, [5]).broken()
    };
    assert_eq!(story(0, false), [], "nobody can know when it came to be");
    assert_eq!(story(1, false), []);
    assert_eq!(story(1, true), [Guarantee::G11PauseAndCredit], "what was sent before counts");
}

#[test]
fn who_asks_for_an_older_place_gets_it_again() {
    let mut older = Tale::with(5);
    older.fresh().deliver(0, 1..=4).ask(Asked::Cursor(at(2)), None).opened(2, 2, 5, "RECOVERY_FULL");
    assert_eq!(older.deliver(2, [3, 4, 5]).broken(), []);
    let mut acknowledged = Tale::with(5);
    acknowledged.fresh().deliver(0, 1..=4).ask(Asked::Fresh, None).opened(2, 2, 5, "RECOVERY_FULL");
    assert_eq!(acknowledged.deliver(2, [3, 4, 5]).broken(), []);
    let mut beyond = Tale::with(5);
    beyond.fresh().deliver(0, [1]).ask(Asked::Cursor(at(3)), None).opened(2, 3, 5, "RECOVERY_FULL");
    assert_eq!(beyond.broken(), [Guarantee::G3Reliable], "what it takes itself to have had never came");
}

#[test]
fn a_partial_resume_announces_its_gap_before_anything_else() {
    let story = |tell: fn(&mut Tale)| {
        let mut tale = Tale::with(5);
        tale.fresh().deliver(0, [1]).ask(Asked::Cursor(at(1)), None).opened(2, 1, 5, "RECOVERY_PARTIAL");
        tell(&mut tale);
        tale.broken()
    };
    assert_eq!(
        story(|t| {
            t.gap(at(1), at(3)).deliver(3, [4]);
        }),
        []
    );
    assert_eq!(
        story(|t| {
            t.deliver(1, [2]);
        }),
        [Guarantee::G4Resumable]
    );
    assert_eq!(
        story(|t| {
            t.mark(1);
        }),
        [Guarantee::G5Marks]
    );
}

#[test]
fn an_epoch_changes_with_a_gap_that_says_so() {
    let story = |to: Place, reason: &str| {
        let mut tale = Tale::with(5);
        tale.fresh().deliver(0, [1, 2]);
        tale.say(Op::Gap { session: "s".into(), topic: "t".into(), from: at(2), to, reason: reason.into() });
        tale.broken()
    };
    assert_eq!(story((EPOCH + 1, 0), "GAP_REASON_EPOCH"), []);
    assert_eq!(story((EPOCH + 1, 0), "GAP_REASON_RETENTION"), [Guarantee::G1Ordered]);
    assert_eq!(story(at(4), "GAP_REASON_EPOCH"), [Guarantee::G1Ordered]);
    assert_eq!(story(at(1), "GAP_REASON_SLOW"), [Guarantee::G1Ordered]);
    assert_eq!(story(at(1), "GAP_REASON_DIVERGED"), []);
}

#[test]
fn numbers_begin_anew_where_a_server_has_lost_its_memory_or_a_session_was_closed() {
    let mut lost = Tale::with(1);
    lost.fresh().ask(Asked::Cursor(at(0)), None);
    let (start, head, recovery) = (at(0), (EPOCH + 1, 0), "RECOVERY_PARTIAL".into());
    let (session, topic) = ("s".into(), "t".into());
    lost.say(Op::Opened { session, topic, attach: 1, start, head, recovery, published_seq: 0 });
    assert_eq!(lost.broken(), []);
    let closed = |reason: Option<&str>| {
        let mut tale = Tale::with(1);
        tale.fresh().say(Op::Closed { session: "s".into(), reason: reason.map(Into::into) });
        tale.fresh().broken()
    };
    assert_eq!(closed(None), []);
    assert!(closed(Some("SLOW_SESSION")).contains(&Guarantee::G10OneHolder));
}

#[test]
fn what_was_refused_takes_its_place_when_it_is_published_again() {
    let refused = Outcome::Refused("BACKPRESSURE".into());
    let story = |again: bool| {
        let mut tale = Tale::default().by("writer");
        tale.publish("w", "e2").publish("w", "e1");
        let (session, topic, id) = ("w".into(), "t".into(), "e2".into());
        tale.say(Op::Answered { session, topic, id, outcome: refused.clone() }).answer("w", "e1", at(1));
        if again {
            tale.publish("w", "e2").answer("w", "e2", at(2));
        }
        tale.fresh().deliver(0, [1, 2]).broken()
    };
    assert_eq!(story(true), []);
    assert_eq!(story(false), [Guarantee::G9NoPhantom, Guarantee::G8Fifo]);
}

#[test]
fn who_could_be_served_and_was_not_waited_for_nothing() {
    let story = |ask: u64, trouble: bool| {
        let mut tale = Tale::with(2);
        tale.fresh().deliver(0, [1]);
        if trouble {
            tale.say(Op::Fault { what: "cut".into(), took_hold: true });
        }
        tale.deliver(1, [2]);
        let last = tale.records.last_mut().unwrap();
        last.at += ask;
        let options = Options { patience: Some(1_000_000), ..Options::default() };
        let report = check(&tale.records, options);
        report.violations.iter().map(|violation| violation.guarantee).collect::<Vec<_>>()
    };
    assert_eq!(story(999_999, false), []);
    assert_eq!(story(1_000_000, false), [Guarantee::G12Isolation]);
    assert_eq!(story(1_000_000, true), [], "something was made to go wrong");
}

#[test]
fn a_session_that_catches_up_late_is_not_live() {
    let story = |late: u64, flow: bool| {
        let mut tale = Tale::with(2);
        tale.fresh().deliver(0, [1]);
        if flow {
            tale.flow(Some((5, 0)), None, 0);
            tale.records.last_mut().unwrap().at += late;
        }
        tale.deliver(1, [2]);
        tale.records.last_mut().unwrap().at += late;
        tale.end(1..=2, 2, 2).broken()
    };
    assert_eq!(story(29_000_000, false), []);
    assert_eq!(story(31_000_000, false), [Guarantee::G13Live]);
    assert_eq!(story(31_000_000, true), [], "it had not asked for it");
}

#[test]
fn a_request_is_not_forgotten_while_its_connection_goes_on() {
    let story = |later: u64| {
        let mut tale = Tale::with(1);
        tale.fresh().flow(None, None, 1).mark(0);
        tale.records.last_mut().unwrap().at += later;
        tale.broken()
    };
    assert_eq!(story(29_000_000), []);
    assert_eq!(story(31_000_000), [Guarantee::G13Live]);
}

#[test]
fn a_server_that_leaves_is_gone_in_time() {
    let story = |took: u64, left: bool| {
        let mut tale = Tale::default();
        tale.say(Op::Leaving { node: "n".into(), deadline: 4_000_000 });
        tale.say(if left { Op::Left { node: "n".into() } } else { Op::Memory { bytes: 1, limit: 1 } });
        tale.records[1].at += took;
        tale.broken()
    };
    assert_eq!(story(8_000_000, true), []);
    assert_eq!(story(9_000_001, true), [Guarantee::G15Drain]);
    assert_eq!(story(8_000_000, false), [], "it has some time left");
    assert_eq!(story(9_000_001, false), [Guarantee::G15Drain]);
}
