//! Positions that must not be outrun: what readers that were declared required have not acknowledged yet.

use std::collections::HashMap;

/// Most required readers of one topic: the lowest of them is looked for at every publish.
const MAX_HOLDS: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holds {
    last_id: u64,
    offsets: HashMap<u64, u64>,
}

impl Holds {
    /// A new one at `offset`; none if there are too many.
    pub(super) fn add(&mut self, offset: u64) -> Option<u64> {
        if self.is_full() {
            return None;
        }
        self.last_id += 1;
        self.offsets.insert(self.last_id, offset);
        Some(self.last_id)
    }

    /// True if there is no room for another.
    pub(super) fn is_full(&self) -> bool {
        self.offsets.len() >= MAX_HOLDS
    }

    /// Moves one forward.
    pub(super) fn advance(&mut self, id: u64, offset: u64) {
        if let Some(held) = self.offsets.get_mut(&id) {
            *held = offset.max(*held);
        }
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.offsets.remove(&id);
    }

    /// The one furthest behind.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.offsets.values().min().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }
}
