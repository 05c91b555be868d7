//! Whether what HTTP/2 has to say should wait for what its other streams are about to.
//!
//! An event that goes to ten streams of a transport wakes ten tasks. The first of them wakes the task that drives the
//! transport, and tokio runs that one next, before the other nine: each frame would be a write of its own, where the write
//! is most of what a frame costs. So the driver goes to the end of the queue, and writes when it comes to its turn and
//! nobody has spoken since: whoever was ready has. That waits for nothing but work that is there already.
//!
//! Where nobody had anything to add, the next turns do without, so that a transport whose streams speak one at a time pays
//! little for those that are silent.

use super::call::Calls;

/// Turns without, after one that was put off for nothing.
const LESSON: u8 = 15;
/// How often a write is put off: there may be more in the queue than comes to its turn at once.
const MOST: u8 = 16;

/// See the module.
pub(super) struct Company {
    calls: Calls,
    /// What was collected when the write was put off last, and how often it has been.
    put_off: (usize, u8),
    /// Turns that are not to be put off.
    alone: u8,
}

impl Company {
    pub(super) fn new(calls: &Calls) -> Self {
        Self { calls: calls.clone(), put_off: (0, 0), alone: 0 }
    }

    /// True if the write is to be put off; `collected` says how many bytes it would be of.
    pub(super) fn is_expected(&mut self, collected: impl FnOnce() -> usize) -> bool {
        let (before, times) = std::mem::take(&mut self.put_off);
        if times == 0 && !self.calls.are_several() {
            return false;
        }
        let collected = collected();
        if collected == before || times == MOST {
            if times == 1 {
                self.alone = LESSON;
            }
            return false;
        }
        if times == 0 && self.alone > 0 {
            self.alone -= 1;
            return false;
        }
        self.put_off = (collected, times + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a transport with so many calls, which are held.
    fn company(count: usize) -> (Company, Vec<super::super::call::Open>) {
        let calls = Calls::default();
        (Company::new(&calls), (0..count).map(|_| calls.one()).collect())
    }

    #[test]
    fn a_call_that_is_alone_waits_for_nobody() {
        let (mut company, mut open) = company(2);
        assert!(company.is_expected(|| 10));
        assert!(!company.is_expected(|| 10));
        open.pop();
        assert!(!company.is_expected(|| panic!("it is not even looked at")));
    }

    #[test]
    fn a_write_is_put_off_while_others_speak() {
        let (mut company, _open) = company(3);
        assert!(!company.is_expected(|| 0), "nothing to write");
        for collected in [10, 20, 30] {
            assert!(company.is_expected(|| collected));
        }
        assert!(!company.is_expected(|| 30), "nobody has spoken since");
        assert!(company.is_expected(|| 10), "and it was worth it");
    }

    #[test]
    fn for_nothing_it_is_put_off_seldom() {
        let (mut company, _open) = company(2);
        let mut put_off = 0;
        for _ in 0..160 {
            if company.is_expected(|| 10) {
                put_off += 1;
                assert!(!company.is_expected(|| 10));
            }
        }
        assert_eq!(put_off, 10);
    }

    #[test]
    fn it_is_not_put_off_for_ever() {
        let (mut company, _open) = company(2);
        let put_off = (1..).take_while(|collected| company.is_expected(|| *collected)).count();
        assert_eq!(put_off, usize::from(MOST));
    }
}
