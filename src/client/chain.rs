//! The chain: proof that nothing was lost or doubled, kept by the client itself. No I/O.

use super::{ChainBreak, Cursor, Timestamp};
use crate::proto::v1;

/// The position up to which a session has received everything, or was told what it will not receive.
///
/// Every method either accepts a frame and moves on, or reports the break and stays where it was.
#[derive(Debug, Default)]
pub(super) struct Chain {
    cursor: Option<Cursor>,
}

impl Chain {
    /// A chain that must go on at `cursor`, or begins wherever the first open says.
    pub(super) fn new(cursor: Option<Cursor>) -> Self {
        Self { cursor }
    }

    /// Where it stands; `None` before the first open.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// The session was opened at `start`.
    pub(super) fn opened(&mut self, start: Cursor) -> Result<(), ChainBreak> {
        match self.cursor {
            Some(expected) if !same_place(expected, start) => Err(ChainBreak { expected, found: start }),
            // Keep what we know of its time.
            Some(_) => Ok(()),
            None => {
                self.cursor = Some(start);
                Ok(())
            }
        }
    }

    /// A run of events after offset `prev`. Returns the cursor before it.
    pub(super) fn deliver(&mut self, prev: u64, events: &[v1::Event]) -> Result<Cursor, ChainBreak> {
        let before = self.cursor.unwrap_or_default();
        let broken = |found| ChainBreak { expected: before, found: Cursor { offset: found, ..before } };
        if self.cursor.is_none() || prev != before.offset {
            return Err(broken(prev));
        }
        let mut last = before;
        for event in events {
            if event.offset <= last.offset {
                return Err(broken(event.offset));
            }
            last = Cursor { offset: event.offset, time: Timestamp(event.time_us), ..before };
        }
        self.cursor = Some(last);
        Ok(before)
    }

    /// Events that will not come. Never moves back inside an epoch.
    pub(super) fn gap(&mut self, from: Cursor, to: Cursor) -> Result<(), ChainBreak> {
        let expected = self.cursor.unwrap_or_default();
        if self.cursor.is_none() || !same_place(expected, from) {
            return Err(ChainBreak { expected, found: from });
        }
        if to.epoch == from.epoch && to.offset < from.offset {
            return Err(ChainBreak { expected, found: to });
        }
        self.cursor = Some(to);
        Ok(())
    }

    /// Everything up to `offset` was delivered or announced. Marks of the past are ignored.
    pub(super) fn mark(&mut self, offset: u64, time: Timestamp) {
        if let Some(cursor) = self.cursor.as_mut().filter(|cursor| cursor.offset < offset) {
            *cursor = Cursor { offset, time, ..*cursor };
        }
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

    fn chain(epoch: u64, offset: u64) -> Chain {
        Chain::new(Some(at(epoch, offset)))
    }

    #[test]
    fn runs_that_follow_each_other_move_the_cursor() {
        let mut chain = Chain::default();
        chain.opened(at(7, 10)).unwrap();
        chain.deliver(10, &events(&[11, 12])).unwrap();
        // Offsets need not be dense.
        assert_eq!(chain.deliver(12, &events(&[20])), Ok(at(7, 12)));
        assert_eq!(chain.cursor(), Some(at(7, 20)));
    }

    #[test]
    fn a_hole_a_repeat_and_a_step_back_break_it_and_leave_the_cursor_alone() {
        let mut chain = chain(7, 10);
        for (prev, offsets) in [(11, &[12][..]), (9, &[10]), (10, &[10]), (10, &[12, 11]), (10, &[11, 11])] {
            assert!(chain.deliver(prev, &events(offsets)).is_err(), "{prev} {offsets:?}");
            assert_eq!(chain.cursor(), Some(at(7, 10)));
        }
    }

    #[test]
    fn nothing_can_be_delivered_before_the_open() {
        assert!(Chain::default().deliver(0, &events(&[1])).is_err());
        assert!(Chain::default().gap(at(0, 0), at(7, 1)).is_err());
    }

    #[test]
    fn a_resume_must_begin_at_the_cursor() {
        let mut chain = chain(7, 10);
        assert!(chain.opened(at(7, 10)).is_ok());
        assert!(chain.opened(at(7, 11)).is_err());
        assert!(chain.opened(at(8, 10)).is_err());
    }

    #[test]
    fn a_gap_begins_at_the_cursor_and_may_change_the_epoch() {
        let mut chain = chain(7, 10);
        assert!(chain.gap(at(7, 9), at(7, 20)).is_err());
        assert!(chain.gap(at(7, 10), at(7, 9)).is_err());
        chain.gap(at(7, 10), at(8, 3)).unwrap();
        assert_eq!(chain.cursor(), Some(at(8, 3)));
    }

    #[test]
    fn a_mark_moves_forward_only() {
        let mut chain = chain(7, 10);
        chain.mark(15, Timestamp(5));
        chain.mark(12, Timestamp(4));
        assert_eq!(chain.cursor(), Some(Cursor { epoch: 7, offset: 15, time: Timestamp(5) }));
    }
}
