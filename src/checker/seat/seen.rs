//! The latest places that a session was sent: enough to tell a repeat from a step back.

use std::collections::{HashSet, VecDeque};

use super::Place;

/// How many are remembered.
const RECENT: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seen {
    order: VecDeque<Place>,
    places: HashSet<Place>,
}

impl Seen {
    pub(super) fn contains(&self, place: Place) -> bool {
        self.places.contains(&place)
    }

    /// Forgets the oldest for it, if there are too many.
    pub(super) fn remember(&mut self, place: Place) {
        if self.order.len() == RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
        self.order.push_back(place);
        self.places.insert(place);
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.places.clear();
    }
}
