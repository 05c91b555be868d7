//! Positions in a log: where a cursor lies, and what lies between two of them.

use super::{Log, Position};
use crate::types::{Cursor, Timestamp};

impl Log {
    /// The newest record's position. It is the head, but where nothing has been stored yet that is known to this replica: then
    /// the head may be any position of the stream that holds the topic, and this is its beginning.
    pub fn newest(&self) -> Cursor {
        self.mirror.as_ref().map_or_else(|| self.head(), |mirror| self.at(mirror.shown))
    }

    /// Where `cursor` lies.
    pub fn position(&self, cursor: Cursor) -> Position {
        // Where nearly everybody is: nothing has to be looked up.
        if cursor == self.head() {
            return Position::Kept;
        }
        if cursor.epoch != self.epoch {
            return Position::OtherEpoch;
        }
        let time = self.time_at(cursor.offset);
        let same_event = cursor.time == Timestamp(0) || time.is_none_or(|time| time == cursor.time);
        match cursor.offset {
            // Where nothing has ever been, every position is one after all there is.
            offset if offset > self.head.0 && self.last() == 0 && self.mirror.is_some() => Position::Kept,
            offset if offset > self.head.0 || !same_event => Position::Diverged,
            offset if offset < self.floor => Position::Trimmed,
            _ => Position::Kept,
        }
    }

    /// How many events lie after `offset`, as far as that is known: where offsets are sparse, only those kept are.
    pub fn count_after(&self, offset: u64) -> u64 {
        match self.mirror {
            None => self.head.0.saturating_sub(offset),
            Some(_) => (self.records.len() - self.index_after(offset)) as u64,
        }
    }

    /// How many events lie after `from` and up to `to`, as far as that is known; see [`Log::count_after`].
    pub fn count_between(&self, from: u64, to: u64) -> u64 {
        self.count_after(from).saturating_sub(self.count_after(to))
    }
}
