//! A log that is kept elsewhere, as this replica sees it: its records come in, and it decides nothing.
//!
//! Offsets are those of a stream that holds many topics, so they are sparse: that one follows another is known by the
//! chain, in which each record names the one before it. A record that does not follow is not taken: whoever hands it in
//! has to fetch what is missing first.

use bytes::Bytes;

use super::{Limits, Log, Record, dedupe::Verdict};
use crate::{
    error::Failure,
    proto,
    types::{Cursor, Dedupe, NewEvent, Operation, Producer, Seq, Timestamp},
};

/// What a log that mirrors another one knows besides.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// Offset of the topic's newest record, whatever it is; 0 if there is none.
    pub(super) last: u64,
    /// Offset of the newest one that readers see, or saw; 0 if there is none.
    pub(super) shown: u64,
}

/// A record of a log that is kept elsewhere.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Its position.
    pub offset: u64,
    /// When it was stored.
    pub time: Timestamp,
    /// The event without its place; see [`proto::encode_content`].
    pub content: Bytes,
    /// The id by which the engine recognises a repeat, if the application chose one.
    pub id: Option<String>,
    /// The session that published it.
    pub origin: Option<Origin>,
}

/// The session that published a record.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The session.
    pub producer: Producer,
    /// Its number for the publish; 0 for none. Of a removal that is `scoped`: the offset of the event that it undoes.
    pub number: u64,
    /// The key dies with the session. Of a removal: it is the end of the session that removes the key, and only if
    /// nobody has set it since.
    pub scoped: bool,
}

/// What became of a record that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The log has grown, or at least its end was moved.
    Stored,
    /// It was there already.
    Known,
    /// Others come before it that are not here.
    Hole,
    /// The log has another record in its place, or names another one before it: it was lost in part, and written anew.
    Contradiction,
}

impl Log {
    /// An empty log for records that are kept elsewhere; see [`Log::settle`].
    pub fn mirroring(limits: Limits) -> Self {
        let mut log = Self::without_epoch(limits);
        log.mirror = Some(Mirror::default());
        log
    }

    /// Offset of the newest record there is, as far as it is known here; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.mirror.as_ref().map_or(self.head.0, |mirror| mirror.last)
    }

    /// Takes in a record that follows the one at `prev`. Without one, it is the next there is, by whoever fetched it.
    pub fn take(&mut self, arrival: Arrival, prev: Option<u64>, now: Timestamp) -> Taken {
        let last = self.last();
        if arrival.offset <= last.max(self.floor) {
            return self.compare(&arrival);
        }
        match prev {
            Some(prev) if prev != 0 && prev < last => return Taken::Contradiction,
            // What an idle topic had last may have run out where it is kept: then no record is named, and it is for
            // whoever fetches to say whether there were others.
            Some(prev) if prev != last => return Taken::Hole,
            _ => {}
        }
        self.keep(arrival, now);
        Taken::Stored
    }

    /// Whether a record that is not new is the one that is here.
    fn compare(&self, arrival: &Arrival) -> Taken {
        match self.time_at(arrival.offset) {
            Some(time) if time != arrival.time => Taken::Contradiction,
            _ => Taken::Known,
        }
    }

    fn keep(&mut self, arrival: Arrival, now: Timestamp) {
        let Arrival { offset, time, content, id, origin } = arrival;
        if let Some(mirror) = &mut self.mirror {
            mirror.last = offset;
        }
        // Not ours: somebody else has written to where our topics are. It is stepped over.
        let Some(placed) = proto::place_event(&content, offset, time) else { return };
        let undoes = |origin: &&Origin| origin.scoped && placed.operation == Operation::Delete;
        if origin.as_ref().filter(undoes).is_some_and(|origin| !self.is_owned(&placed.key, origin)) {
            return;
        }
        let origin = origin.filter(|origin| !undoes(&origin));
        let record = Record { offset, time, payload_len: placed.payload_len, encoded: placed.encoded, trace: None };
        if let Some(keys) = self.keys.as_mut().filter(|_| !placed.key.is_empty()) {
            let owner = origin.as_ref().filter(|origin| origin.scoped).map(|origin| origin.producer.clone());
            keys.apply(&placed.key, placed.operation, owner, &record);
        }
        self.remember(id, origin, (offset, time));
        self.bytes += record.weight();
        self.records.push_back(record);
        self.head = (offset, time);
        if let Some(mirror) = &mut self.mirror {
            mirror.shown = offset;
        }
        self.trim(now);
    }

    /// Whether a key that died with its session is still what it was: otherwise its removal is void. Everybody sees all of
    /// it in one order, so everybody leaves the same removals out.
    fn is_owned(&self, key: &[u8], origin: &Origin) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.is_owned(key, &origin.producer, origin.number))
    }

    fn remember(&mut self, id: Option<String>, origin: Option<Origin>, place: (u64, Timestamp)) {
        let numbered = origin.filter(|origin| origin.number > 0);
        let seq = numbered.map(|Origin { producer, number, .. }| Seq { producer, number, through: 0 });
        if id.is_some() || seq.is_some() {
            self.dedupes.remember(&Dedupe { id, seq }, place);
        }
    }

    /// Everything there was has been handed in, and it is to be read from now on: in this epoch, where all that lies
    /// after `floor` is known, and the newest position is no less than `head`.
    pub fn settle(&mut self, epoch: u64, floor: u64, head: u64) {
        self.epoch = epoch;
        self.forget_through(floor);
        // Of a topic without a record, that position is all that can be said.
        if self.last() == 0 {
            self.head = (head.max(floor), Timestamp(0));
        }
    }

    /// What lies up to `floor` is not kept where the log is: some of it may never have come here.
    pub fn forget_through(&mut self, floor: u64) {
        self.discard_through(floor);
        self.floor = self.floor.max(floor);
        if self.head.0 < self.floor {
            self.head = (self.floor, Timestamp(0));
        }
        self.trimmed();
    }

    /// Takes the place of this log, whose readers go on with that one.
    pub fn succeed(&mut self, mut next: Self) {
        next.holds = std::mem::take(&mut self.holds);
        *self = next;
    }

    /// What can be said of a publish without asking those who keep the log: where it was stored before, or why it must
    /// not be; `id` is the one of [`Arrival::id`]. Fails as [`Log::append`] does, except that it cannot judge
    /// [`NewEvent::if_last`].
    pub fn consider(&self, event: &NewEvent, id: Option<&str>) -> Result<Option<Cursor>, Failure> {
        let dedupe = Dedupe { id: id.map(str::to_owned), seq: event.dedupe.seq.clone() };
        // What the session has an answer for may not have come back to this replica yet.
        let goes_on =
            |seq: &Seq| seq.number == seq.through.saturating_add(1) && seq.through > self.published_seq(&seq.producer);
        if !dedupe.seq.as_ref().is_some_and(goes_on)
            && let Verdict::Repeat((offset, time)) = self.dedupes.judge(&dedupe)?
        {
            return Ok(Some(Cursor { epoch: self.epoch, offset, time }));
        }
        self.check_room(event)?;
        Ok(None)
    }

    /// The keys that are to die with a session, each with the offset of its latest event.
    pub fn owned_keys(&self, owner: &Producer) -> Vec<(Bytes, u64)> {
        self.keys.as_ref().map(|keys| keys.owned_by(owner)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        log::{Keys, Position},
        types::{ClientId, SessionId},
    };

    const LIMITS: Limits = Limits {
        max_events: 10,
        max_bytes: 1 << 20,
        max_age: std::time::Duration::ZERO,
        dedupe_window: std::time::Duration::from_secs(180),
        dedupe_depth: 4,
        max_keys: 0,
        max_lag: 0,
    };

    fn producer(session: &str) -> Producer {
        Producer::new(ClientId::parse("c").unwrap(), SessionId::parse(session).unwrap())
    }

    fn arrival(offset: u64) -> Arrival {
        let event = NewEvent { payload: "hello".into(), ..NewEvent::default() };
        let content = proto::encode_content(&event);
        Arrival { offset, time: Timestamp(offset * 10), content, id: None, origin: None }
    }

    fn by(offset: u64, session: &str, number: u64) -> Arrival {
        let origin = Origin { producer: producer(session), number, scoped: false };
        Arrival { origin: Some(origin), ..arrival(offset) }
    }

    fn mirror(offsets: &[u64]) -> Log {
        let mut log = Log::mirroring(LIMITS);
        for offset in offsets {
            assert_eq!(log.take(arrival(*offset), None, Timestamp(0)), Taken::Stored);
        }
        log.settle(7, 0, 0);
        log
    }

    #[test]
    fn a_record_is_taken_if_it_follows_the_newest() {
        let mut log = mirror(&[5, 9]);
        let mut take = |offset, prev| log.take(arrival(offset), Some(prev), Timestamp(0));
        assert_eq!(take(20, 12), Taken::Hole);
        assert_eq!(take(12, 9), Taken::Stored);
        assert_eq!(take(20, 12), Taken::Stored);
        assert_eq!(take(12, 9), Taken::Known);
        assert_eq!(take(30, 0), Taken::Hole, "nothing is kept of what was before: whether that is all is to be asked");
        assert_eq!(take(30, 12), Taken::Contradiction, "20 is gone");
        assert_eq!(log.after(5).map(|record| record.offset).collect::<Vec<_>>(), [9, 12, 20]);
        assert_eq!((log.head().offset, log.last(), log.count_after(5)), (20, 20, 3));
        let other = Arrival { time: Timestamp(1), ..arrival(20) };
        assert_eq!(log.take(other, Some(12), Timestamp(0)), Taken::Contradiction);
    }

    #[test]
    fn a_topic_without_a_record_is_at_a_position_of_its_stream_and_so_is_whoever_reads_it() {
        let mut log = Log::mirroring(LIMITS);
        log.settle(7, 40, 90);
        assert_eq!((log.floor().offset, log.head().offset, log.last()), (40, 90, 0));
        let cursor = |offset| Cursor { epoch: 7, offset, time: Timestamp(0) };
        // Another replica may have settled later, and there is nothing that could have been missed.
        assert_eq!(
            [90, 300, 39].map(|offset| log.position(cursor(offset))),
            [Position::Kept, Position::Kept, Position::Trimmed]
        );
        assert_eq!(log.newest().offset, 0, "whoever is at any of these positions has nothing to wait for");
        assert_eq!(log.take(arrival(400), Some(0), Timestamp(0)), Taken::Stored);
        assert_eq!(log.newest(), log.head());
        assert_eq!((log.position(cursor(300)), log.position(cursor(401))), (Position::Kept, Position::Diverged));
    }

    #[test]
    fn what_is_no_longer_kept_at_its_origin_is_announced() {
        let mut log = mirror(&[5, 9]);
        log.take(arrival(50), None, Timestamp(0));
        log.forget_through(30);
        assert_eq!((log.floor().offset, log.after(0).count()), (30, 1));
        assert_eq!(log.position(Cursor { epoch: 7, offset: 9, time: Timestamp(0) }), Position::Trimmed);
    }

    #[test]
    fn what_a_session_has_published_is_known_from_its_records() {
        let mut log = mirror(&[]);
        for (offset, number) in [(3, 1), (8, 2), (11, 3)] {
            log.take(by(offset, "s", number), None, Timestamp(0));
        }
        assert_eq!(log.published_seq(&producer("s")), 3);
        let publish = |number, through| NewEvent {
            dedupe: Dedupe { id: None, seq: Some(Seq { producer: producer("s"), number, through }) },
            ..NewEvent::default()
        };
        assert_eq!(log.consider(&publish(2, 1), None).unwrap().unwrap().offset, 8);
        assert_eq!(log.consider(&publish(4, 3), None), Ok(None));
        assert!(log.consider(&publish(9, 3), None).is_err(), "it leaves a hole");
        assert_eq!(log.consider(&publish(6, 5), None), Ok(None), "the session knows more than has come here");
        log.take(by(30, "s", 6), None, Timestamp(0));
        assert_eq!(log.consider(&publish(6, 5), None).unwrap().unwrap().offset, 30);
        assert!(log.consider(&publish(3, 2), None).is_err(), "numbers after a hole in what is known are no places");
        log.take(Arrival { id: Some("x".into()), ..arrival(31) }, None, Timestamp(0));
        assert_eq!(log.consider(&NewEvent::default(), Some("x")).unwrap().unwrap().offset, 31);
    }

    #[test]
    fn the_end_of_a_session_removes_a_key_that_nobody_else_has_set_since() {
        let limits = Limits { max_keys: 5, ..LIMITS };
        let mut log = Log::mirroring(limits);
        let mut next = 0;
        let mut take = |key: &str, session: &str, operation| {
            next += 1;
            let event = NewEvent { key: key.to_owned().into(), operation, ..NewEvent::default() };
            let number = if operation == Operation::Delete { next - 3 } else { 0 };
            let origin = Some(Origin { producer: producer(session), number, scoped: true });
            log.take(Arrival { content: proto::encode_content(&event), origin, ..arrival(next) }, None, Timestamp(0))
        };
        take("mine", "one", Operation::Put);
        take("theirs", "one", Operation::Put);
        take("theirs", "two", Operation::Put);
        take("mine", "one", Operation::Delete);
        take("theirs", "one", Operation::Delete);
        assert_eq!(log.published_seq(&producer("one")), 0);
        log.settle(7, 0, 0);
        assert_eq!(log.keys().map(Keys::len), Some(1));
        assert_eq!((log.head().offset, log.last(), log.size().0), (4, 5, 4), "the void removal is left out");
        assert_eq!(log.owned_keys(&producer("two")), [(Bytes::from("theirs"), 3)]);
        assert!(log.owned_keys(&producer("one")).is_empty());
    }

    #[test]
    fn what_is_not_ours_is_stepped_over() {
        let mut log = mirror(&[5]);
        let strange = Arrival { content: Bytes::from_static(b"\xff\xff not an event"), ..arrival(6) };
        assert_eq!(log.take(strange, Some(5), Timestamp(0)), Taken::Stored);
        assert_eq!((log.head().offset, log.last()), (5, 6));
        assert_eq!(log.take(arrival(7), Some(6), Timestamp(0)), Taken::Stored);
    }
}
