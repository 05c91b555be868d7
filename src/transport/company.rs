//! Whether what HTTP/2 has to say should wait for what its other streams are about to.
//!
//! An event that goes to ten streams of a transport wakes ten tasks. The first of them wakes the task that drives the
//! transport, and tokio runs that one next, before the other nine: each frame would be a write of its own, where the write
//! is most of what a frame costs. So the driver goes to the end of the queue once, and writes when it comes to its turn
//! again: by then whoever was ready has spoken. That waits for nothing but work that is there already.
//!
//! Where nobody had anything to add, the next turns do without, so that a transport whose streams speak one at a time pays
//! little for those that are silent.

use super::{call::Calls, coalesce::Wire};

/// Turns without, after one that was put off for nothing.
const LESSON: u8 = 15;

/// See the module.
pub(super) struct Company {
    calls: Calls,
    /// What was collected when the write was put off.
    put_off: Option<usize>,
    /// Turns that are not to be put off.
    alone: u8,
}

impl Company {
    pub(super) fn new(calls: &Calls) -> Self {
        Self { calls: calls.clone(), put_off: None, alone: 0 }
    }

    /// True if the write is to be put off, once.
    pub(super) fn is_expected(&mut self, wire: &Wire) -> bool {
        if self.put_off.is_none() && !self.calls.are_several() {
            return false;
        }
        let collected = wire.collected();
        match self.put_off.take() {
            Some(before) => {
                if collected == before {
                    self.alone = LESSON;
                }
                false
            }
            None if collected == 0 => false,
            None if self.alone > 0 => {
                self.alone -= 1;
                false
            }
            None => {
                self.put_off = Some(collected);
                true
            }
        }
    }
}
