//! The publishing side of a session: its numbers.

use crate::{
    error::{Failure, Reason},
    types::{Producer, Seq},
};

/// Keeps a session's publishes in order: 1, 2, 3 … without a hole, a repeat where the client is not sure.
///
/// Once one has failed, every later one leaves a hole and is refused, and the refusal says where to go on: so a
/// pipelining client can never have its publishes reordered around a failure.
#[derive(Debug)]
pub struct Numbering {
    producer: Producer,
    /// Nobody has seen this session before: its first number must be 1.
    fresh: bool,
    /// Highest number known to be stored. `None` until one is.
    through: Option<u64>,
}

impl Numbering {
    /// Goes on after `through` (0 if nothing is known to be stored).
    pub fn new(producer: Producer, fresh: bool, through: u64) -> Self {
        Self { producer, fresh, through: (through > 0).then_some(through) }
    }

    /// Admits a publish by its number: INVALID_FIELD for 0, WRONG_SEQ for a hole. Where nothing is known, the first
    /// number says where the session stands: those after it wait for it, whatever becomes of it.
    pub fn seq(&mut self, number: u64) -> Result<Seq, Failure> {
        if number == 0 {
            return Err(Failure::new(Reason::InvalidField, "seq must be 1 or more").with("field", "seq"));
        }
        let through = *self.through.get_or_insert(if self.fresh { 0 } else { number - 1 });
        if number > through.saturating_add(1) {
            let message = format!("seq {number} leaves a hole after {through}");
            return Err(Failure::new(Reason::WrongSeq, message).with("through_seq", through));
        }
        Ok(Seq { producer: self.producer.clone(), number, through })
    }

    /// The publish of that number is stored.
    pub fn stored(&mut self, number: u64) {
        self.through = Some(self.through.map_or(number, |through| through.max(number)));
    }

    /// Highest number known to be stored; 0 if none is.
    pub fn through(&self) -> u64 {
        self.through.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClientId, SessionId};

    fn numbering(fresh: bool, through: u64) -> Numbering {
        let producer = Producer::new(ClientId::parse("c").unwrap(), SessionId::parse("s").unwrap());
        Numbering::new(producer, fresh, through)
    }

    #[test]
    fn after_a_failure_later_publishes_are_refused_until_the_hole_is_filled() {
        let mut numbering = numbering(true, 0);
        for seq in [1, 2] {
            numbering.seq(seq).unwrap();
            numbering.stored(seq);
        }
        // 3 fails in the broker; 4 and 5 are on their way already.
        numbering.seq(3).unwrap();
        for seq in [4, 5] {
            let refused = numbering.seq(seq).unwrap_err();
            assert_eq!((refused.reason, refused.metadata[0].1.as_str()), (Reason::WrongSeq, "2"));
        }
        assert!(numbering.seq(3).is_ok());
    }

    #[test]
    fn where_nothing_is_known_the_first_number_counts_even_if_its_publish_fails() {
        let mut numbering = numbering(false, 0);
        numbering.seq(5).unwrap();
        assert_eq!(numbering.seq(6).unwrap_err().reason, Reason::WrongSeq);
        numbering.seq(5).unwrap();
        numbering.stored(5);
        numbering.seq(6).unwrap();
    }

    #[test]
    fn only_a_session_nobody_knows_must_begin_with_one() {
        assert_eq!(numbering(true, 0).seq(7).unwrap_err().reason, Reason::WrongSeq);
        assert!(matches!(numbering(true, 0).seq(1), Ok(Seq { through: 0, .. })));
        assert!(matches!(numbering(false, 0).seq(7), Ok(Seq { through: 6, .. })));
        assert!(matches!(numbering(true, 6).seq(7), Ok(Seq { through: 6, .. })));
        assert_eq!(numbering(true, 0).seq(0).unwrap_err().reason, Reason::InvalidField);
    }
}
