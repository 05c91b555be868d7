//! The chain: proof that nothing was lost or doubled, kept by the client itself. No I/O.

use super::{ChainBreak, Cursor, Gap, GapReason, Start, Timestamp, TopicClass};
use crate::proto::v1;

/// The position up to which a session has received everything, or was told what it will not receive.
///
/// Every method either accepts a frame and moves on, or reports the break and stays where it was.
#[derive(Debug, Default)]
pub(super) struct Chain {
    cursor: Option<Cursor>,
    snapshot: Snapshot,
    /// The topic is keyed: after a gap a snapshot follows.
    keyed: bool,
}

/// How a session stands with a snapshot of its keyed topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Snapshot {
    /// None is due: what comes are changes.
    #[default]
    No,
    /// It was asked for, or a gap promised it; nothing of it has come.
    Due,
    /// Some of it may have come. Its end has not.
    Begun,
}

/// What a piece of a snapshot did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The position the snapshot is of.
    pub(super) of: Cursor,
    /// It is the first one.
    pub(super) begins: bool,
    /// It is the last one.
    pub(super) ends: bool,
}

impl Chain {
    /// A chain that must go on at a cursor, or begins wherever the first open says.
    pub(super) fn new(start: Start) -> Self {
        let cursor = if let Start::After(cursor) = start { Some(cursor) } else { None };
        let snapshot = if start == Start::Snapshot { Snapshot::Due } else { Snapshot::No };
        Self { cursor, snapshot, keyed: false }
    }

    /// Where it stands; `None` before the first open.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// True until the snapshot that is due has ended. Until then the cursor is no place to go on from: whoever loses
    /// the connection needs a new snapshot.
    pub(super) fn lacks_snapshot(&self) -> bool {
        self.snapshot != Snapshot::No
    }

    /// The session was opened at `start`.
    pub(super) fn opened(&mut self, start: Cursor, class: TopicClass) -> Result<(), ChainBreak> {
        // A snapshot takes the place of all that was known, and a signal topic has nothing to go on from.
        let anywhere = self.lacks_snapshot() || class == TopicClass::Signal;
        match self.cursor.filter(|_| !anywhere) {
            Some(expected) if !same_place(expected, start) => return Err(ChainBreak { expected, found: start }),
            // Keep what we know of its time.
            Some(_) => {}
            None => self.cursor = Some(start),
        }
        if self.lacks_snapshot() {
            self.snapshot = Snapshot::Due;
        }
        self.keyed = class == TopicClass::State;
        Ok(())
    }

    /// A run of changes after offset `prev`, in which `skipped` events were left out. Returns the cursor before it.
    pub(super) fn deliver(&mut self, prev: u64, skipped: u64, events: &[v1::Event]) -> Result<Cursor, ChainBreak> {
        let before = self.expect(prev)?;
        let broken = |found| ChainBreak { expected: before, found: Cursor { offset: found, ..before } };
        if self.lacks_snapshot() {
            return Err(broken(prev));
        }
        let mut last = before;
        for event in events {
            if event.offset <= last.offset {
                return Err(broken(event.offset));
            }
            last = Cursor { offset: event.offset, time: Timestamp(event.time_us), ..before };
        }
        // More than there was room for: one of the two numbers is wrong.
        if skipped > (last.offset - before.offset) - events.len() as u64 {
            return Err(broken(last.offset));
        }
        self.cursor = Some(last);
        Ok(before)
    }

    /// A piece of a snapshot of position `prev`; an empty one ends it. The cursor does not move.
    pub(super) fn piece(&mut self, prev: u64, events: &[v1::Event]) -> Result<Piece, ChainBreak> {
        let of = self.expect(prev)?;
        let broken = |found| ChainBreak { expected: of, found: Cursor { offset: found, ..of } };
        if !self.lacks_snapshot() {
            return Err(broken(prev));
        }
        if let Some(later) = events.iter().find(|event| event.offset > prev) {
            return Err(broken(later.offset));
        }
        let (begins, ends) = (self.snapshot == Snapshot::Due, events.is_empty());
        self.snapshot = if ends { Snapshot::No } else { Snapshot::Begun };
        Ok(Piece { of, begins, ends })
    }

    /// Events that will not come. Moves back inside an epoch only where the log has diverged: what the client has seen
    /// is then not what the log holds, and the log may well be shorter.
    pub(super) fn gap(&mut self, gap: &Gap) -> Result<(), ChainBreak> {
        let Gap { from, to, reason, .. } = *gap;
        let expected = self.cursor.unwrap_or_default();
        if self.cursor.is_none() || !same_place(expected, from) {
            return Err(ChainBreak { expected, found: from });
        }
        if to.epoch == from.epoch && to.offset < from.offset && reason != GapReason::Diverged {
            return Err(ChainBreak { expected, found: to });
        }
        self.cursor = Some(to);
        if self.keyed {
            // Also where one was under way: what came of it is of another position.
            self.snapshot = Snapshot::Due;
        }
        Ok(())
    }

    /// Everything up to `offset` was delivered or announced. Marks of the past are ignored, and marks in a snapshot,
    /// whose position they would move.
    pub(super) fn mark(&mut self, offset: u64, time: Timestamp) {
        let moves = !self.lacks_snapshot();
        if let Some(cursor) = self.cursor.as_mut().filter(|cursor| moves && cursor.offset < offset) {
            *cursor = Cursor { offset, time, ..*cursor };
        }
    }

    fn expect(&self, prev: u64) -> Result<Cursor, ChainBreak> {
        let expected = self.cursor.unwrap_or_default();
        if self.cursor.is_none() || prev != expected.offset {
            return Err(ChainBreak { expected, found: Cursor { offset: prev, ..expected } });
        }
        Ok(expected)
    }
}

/// Times are fingerprints and may be unknown on either side.
fn same_place(a: Cursor, b: Cursor) -> bool {
    (a.epoch, a.offset) == (b.epoch, b.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, offset: u64) -> Cursor {
        Cursor { epoch, offset, time: Timestamp(0) }
    }

    fn events(offsets: &[u64]) -> Vec<v1::Event> {
        offsets.iter().map(|offset| v1::Event { offset: *offset, ..v1::Event::default() }).collect()
    }

    fn gap(from: Cursor, to: Cursor) -> Gap {
        Gap { from, to, reason: GapReason::Retention, count: 0, possible: false }
    }

    fn chain(epoch: u64, offset: u64) -> Chain {
        Chain::new(Start::After(at(epoch, offset)))
    }

    #[test]
    fn runs_that_follow_each_other_move_the_cursor() {
        let mut chain = Chain::default();
        chain.opened(at(7, 10), TopicClass::Log).unwrap();
        chain.deliver(10, 0, &events(&[11, 12])).unwrap();
        // Offsets need not be dense.
        assert_eq!(chain.deliver(12, 0, &events(&[20])), Ok(at(7, 12)));
        assert_eq!(chain.cursor(), Some(at(7, 20)));
    }

    #[test]
    fn a_hole_a_repeat_and_a_step_back_break_it_and_leave_the_cursor_alone() {
        let mut chain = chain(7, 10);
        for (prev, offsets) in [(11, &[12][..]), (9, &[10]), (10, &[10]), (10, &[12, 11]), (10, &[11, 11])] {
            assert!(chain.deliver(prev, 0, &events(offsets)).is_err(), "{prev} {offsets:?}");
            assert_eq!(chain.cursor(), Some(at(7, 10)));
        }
    }

    #[test]
    fn nothing_can_be_delivered_before_the_open() {
        assert!(Chain::default().deliver(0, 0, &events(&[1])).is_err());
        assert!(Chain::default().gap(&gap(at(0, 0), at(7, 1))).is_err());
    }

    #[test]
    fn a_resume_must_begin_at_the_cursor() {
        let mut chain = chain(7, 10);
        assert!(chain.opened(at(7, 10), TopicClass::Log).is_ok());
        assert!(chain.opened(at(7, 11), TopicClass::Log).is_err());
        assert!(chain.opened(at(8, 10), TopicClass::Log).is_err());
    }

    #[test]
    fn a_gap_begins_at_the_cursor_and_may_change_the_epoch() {
        let mut chain = chain(7, 10);
        assert!(chain.gap(&gap(at(7, 9), at(7, 20))).is_err());
        assert!(chain.gap(&gap(at(7, 10), at(7, 9))).is_err());
        chain.gap(&gap(at(7, 10), at(8, 3))).unwrap();
        assert_eq!(chain.cursor(), Some(at(8, 3)));
    }

    #[test]
    fn only_a_log_that_has_diverged_may_be_shorter_than_what_was_seen() {
        let mut chain = chain(7, 10);
        let shorter = Gap { reason: GapReason::Diverged, ..gap(at(7, 10), at(7, 4)) };
        chain.gap(&shorter).unwrap();
        assert_eq!(chain.cursor(), Some(at(7, 4)));
    }

    #[test]
    fn a_mark_moves_forward_only() {
        let mut chain = chain(7, 10);
        chain.mark(15, Timestamp(5));
        chain.mark(12, Timestamp(4));
        assert_eq!(chain.cursor(), Some(Cursor { epoch: 7, offset: 15, time: Timestamp(5) }));
    }

    fn keyed(start: Start) -> Chain {
        let mut chain = Chain::new(start);
        chain.opened(at(7, 10), TopicClass::State).unwrap();
        chain
    }

    #[test]
    fn what_was_skipped_must_fit_between_the_events() {
        let mut chain = chain(7, 10);
        assert!(chain.deliver(10, 9, &events(&[15, 20])).is_err(), "nine and two are more than ten");
        assert!(chain.deliver(10, 1, &[]).is_err());
        chain.deliver(10, 8, &events(&[15, 20])).unwrap();
        // Sparse offsets leave more room than is used.
        chain.deliver(20, 1, &events(&[90])).unwrap();
    }

    #[test]
    fn a_snapshot_leaves_the_cursor_and_ends_with_an_empty_run() {
        let mut chain = keyed(Start::Snapshot);
        let piece = |begins, ends| Ok(Piece { of: at(7, 10), begins, ends });
        assert_eq!(chain.piece(10, &events(&[3, 5])), piece(true, false));
        assert_eq!(chain.piece(10, &events(&[10])), piece(false, false));
        assert!(chain.lacks_snapshot());
        assert_eq!(chain.piece(10, &[]), piece(false, true));
        assert!(!chain.lacks_snapshot());
        assert_eq!(chain.cursor(), Some(at(7, 10)));
        chain.deliver(10, 0, &events(&[11])).unwrap();
    }

    #[test]
    fn nothing_but_its_own_pieces_may_come_in_a_snapshot_and_no_piece_outside_of_one() {
        let mut chain = keyed(Start::Snapshot);
        assert!(chain.piece(9, &events(&[3])).is_err(), "of another position");
        assert!(chain.piece(10, &events(&[11])).is_err(), "later than its position");
        assert!(chain.deliver(10, 0, &events(&[11])).is_err(), "a change before it has begun");
        chain.piece(10, &events(&[3])).unwrap();
        assert!(chain.deliver(10, 0, &events(&[11])).is_err(), "a change before it has ended");
        chain.mark(15, Timestamp(5));
        chain.piece(10, &[]).unwrap();
        assert!(chain.piece(10, &events(&[3])).is_err(), "it has ended");
        assert!(Chain::default().piece(0, &[]).is_err(), "before the open");
    }

    #[test]
    fn after_a_gap_in_a_keyed_topic_a_snapshot_is_due_even_in_the_middle_of_one() {
        let mut chain = keyed(Start::After(at(7, 10)));
        chain.gap(&gap(at(7, 10), at(8, 20))).unwrap();
        assert!(chain.deliver(20, 0, &events(&[21])).is_err());
        assert!(chain.piece(20, &events(&[4])).unwrap().begins);
        chain.gap(&gap(at(8, 20), at(8, 30))).unwrap();
        assert!(chain.piece(20, &events(&[5])).is_err(), "of the one before");
        assert_eq!(chain.piece(30, &[]), Ok(Piece { of: at(8, 30), begins: true, ends: true }));
        chain.deliver(30, 0, &events(&[31])).unwrap();
    }

    #[test]
    fn a_log_has_no_snapshot_after_a_gap() {
        let mut chain = Chain::default();
        chain.opened(at(7, 10), TopicClass::Log).unwrap();
        chain.gap(&gap(at(7, 10), at(7, 20))).unwrap();
        chain.deliver(20, 0, &events(&[21])).unwrap();
    }

    #[test]
    fn a_snapshot_that_was_cut_begins_anew_wherever_the_topic_is_then() {
        let mut chain = keyed(Start::Snapshot);
        chain.piece(10, &events(&[3])).unwrap();
        chain.opened(at(8, 2), TopicClass::State).unwrap();
        assert_eq!(chain.piece(2, &events(&[1])), Ok(Piece { of: at(8, 2), begins: true, ends: false }));
        chain.piece(2, &[]).unwrap();
        // After its end, the cursor counts again.
        assert!(chain.opened(at(8, 1), TopicClass::State).is_err());
    }

    #[test]
    fn a_signal_topic_goes_on_wherever_it_is() {
        let mut chain = chain(7, 10);
        chain.opened(at(7, 90), TopicClass::Signal).unwrap();
        chain.deliver(90, 0, &events(&[91])).unwrap();
    }
}
