//! Whoever reads a topic, and in which order they are woken.
//!
//! Those of one transport are woken one after the other, as far as they are known by then: what they have to send can then
//! share a write, which is most of what a frame costs. They are put into that order whenever about an eighth of them has come
//! or gone, and no more once there are so many that publishers would have to wait for it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::ReadySet;
use crate::planted::{self, Bug};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Readers {
    list: Vec<Arc<Reader>>,
    /// How many have come, or taken the place of one that left, since they were in order.
    astray: usize,
}

/// Of so many readers one may be astray.
const TOLERANCE: usize = 8;
/// Most readers that are put in order: for so many it takes a millisecond or two.
const MOST: usize = 10_000;

impl Readers {
    pub(super) fn add(&mut self, reader: Arc<Reader>) {
        reader.index.store(self.list.len(), Ordering::Relaxed);
        self.list.push(reader);
        self.stray();
    }

    /// Takes out one that is there.
    pub(super) fn remove(&mut self, reader: &Reader) {
        let index = reader.index.load(Ordering::Relaxed);
        self.list.swap_remove(index);
        if let Some(moved) = self.list.get(index) {
            moved.index.store(index, Ordering::Relaxed);
            self.stray();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Reader>> {
        self.list.iter()
    }

    fn stray(&mut self) {
        self.astray += 1;
        if self.astray * TOLERANCE > self.list.len() && self.list.len() <= MOST {
            self.astray = 0;
            self.list.sort_by_cached_key(|reader| reader.ready.transport());
            self.list.iter().enumerate().for_each(|(index, reader)| reader.index.store(index, Ordering::Relaxed));
        }
    }
}

/// A session as its topic knows it: a flag and a place to report to.
#[derive(Debug)]
pub struct Reader {
    alias: u32,
    ready: Arc<ReadySet>,
    /// In the ready set, being looked at, or blocked: a publish need not wake it.
    queued: AtomicBool,
    /// Its place among the readers of its topic; written under their lock.
    index: AtomicUsize,
}

impl Reader {
    /// A reader that reports to `ready` as `alias`. It is held: until it is armed, growth does not wake it.
    pub fn new(alias: u32, ready: Arc<ReadySet>) -> Arc<Self> {
        Arc::new(Self { alias, ready, queued: AtomicBool::new(true), index: AtomicUsize::new(0) })
    }

    /// Puts the reader into its ready set unless it is there or held.
    pub fn wake(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) && !planted::strikes(Bug::ForgetsAWake, 200) {
            self.ready.push(self.alias);
        }
    }

    /// From now on growth wakes it again. Look at the log once more after this: what came before it woke nobody, and
    /// what comes after that look will, because the log's lock puts the two looks in an order.
    pub fn rearm(&self) {
        self.queued.store(false, Ordering::Release);
    }

    /// Growth no longer wakes it until `rearm`. False if it was held, or in its ready set, already.
    pub fn hold(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_of_one_transport_are_woken_one_after_the_other() {
        let sets: Vec<_> = (1..=10).map(|port| Arc::new(ReadySet::of(([127, 0, 0, 1], port).into()))).collect();
        let mut readers = Readers::default();
        let all: Vec<_> = (0..1000).map(|n| Reader::new(n, sets[n as usize % sets.len()].clone())).collect();
        all.iter().for_each(|reader| readers.add(reader.clone()));
        // From one to the next it is another transport: nine times if all were in order, and up to twice for each that is not.
        let changes = |readers: &Readers| {
            readers.list.windows(2).filter(|two| two[0].ready.transport() != two[1].ready.transport()).count()
        };
        assert!(changes(&readers) < 10 + 2 * 1000 / TOLERANCE, "{}", changes(&readers));

        all.iter().step_by(3).for_each(|reader| readers.remove(reader));
        assert_eq!(readers.len(), 666);
        assert!(changes(&readers) < 10 + 2 * 666 / TOLERANCE, "{}", changes(&readers));
        for (index, reader) in readers.iter().enumerate() {
            assert_eq!(reader.index.load(Ordering::Relaxed), index, "each is found where it is");
        }
    }
}
