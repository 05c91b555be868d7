//! The sessions of one connection, and whose turn it is.
//!
//! Deficit round robin (Shreedhar and Varghese, 1995): each lane that has something to send gets a quantum of bytes a
//! round, and what it does not use is its own until it falls quiet. So a flooded session costs its neighbours at most
//! one quantum of waiting, whatever the sizes of their events.

use std::collections::{BTreeMap, VecDeque};

use super::lane::{Batch, Lane, TurnEnd};
use crate::{
    error::Failure,
    hub::ReadySet,
    proto::v1::{self, stream_data_response::Frame},
    telemetry::metrics::Metrics,
};

/// Bytes a lane may send in one round.
const QUANTUM: isize = 4096;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    // Ordered: what befalls all of them befalls them in an order that can be repeated.
    by_alias: BTreeMap<u32, Lane>,
    turns: VecDeque<u32>,
}

impl Lanes {
    pub(super) fn insert(&mut self, alias: u32, lane: Lane) {
        self.by_alias.insert(alias, lane);
    }

    pub(super) fn get_mut(&mut self, alias: u32) -> Option<&mut Lane> {
        self.by_alias.get_mut(&alias)
    }

    pub(super) fn remove(&mut self, alias: u32) -> Option<Lane> {
        self.by_alias.remove(&alias)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&u32, &Lane)> {
        self.by_alias.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.by_alias.len()
    }

    /// Lets every lane go.
    pub(super) fn clear(&mut self) -> BTreeMap<u32, Lane> {
        self.turns.clear();
        std::mem::take(&mut self.by_alias)
    }

    /// Nothing is to follow what is stored now.
    pub(super) fn stop_at_heads(&mut self) {
        for (alias, lane) in &mut self.by_alias {
            if let Some(reading) = &mut lane.reading {
                reading.session.stop_at_head(&lane.feed.log());
                self.turns.push_back(*alias);
            }
        }
    }

    /// Takes those who have become ready into the round. True if somebody has a turn.
    pub(super) fn gather(&mut self, ready: &ReadySet) -> bool {
        ready.take(&mut self.turns);
        !self.turns.is_empty()
    }

    /// Gives turns until about `budget` bytes are in the batch or everybody is quiet. The bytes used.
    pub(super) fn fill(&mut self, batch: &mut Batch, budget: usize, metrics: &Metrics) -> usize {
        let mut used = 0;
        while used < budget
            && let Some(alias) = self.turns.pop_front()
        {
            // The lane may have ended since it became ready.
            let Some(reading) = self.by_alias.get_mut(&alias).and_then(|lane| lane.reading.as_mut()) else { continue };
            reading.deficit += QUANTUM;
            if reading.deficit <= 0 {
                self.turns.push_back(alias);
                continue;
            }
            let (bytes, end) = reading.turn(alias, batch, metrics);
            used += bytes;
            match end {
                TurnEnd::Quiet => {}
                TurnEnd::Spent => self.turns.push_back(alias),
                TurnEnd::Ended(failure) => {
                    self.by_alias.remove(&alias);
                    batch.frame(closed(alias, failure, metrics));
                }
            }
        }
        used
    }
}

/// The frame that ends a session.
pub(super) fn closed(alias: u32, failure: Option<Failure>, metrics: &Metrics) -> Frame {
    metrics.session_closed(failure.as_ref().map_or("OK", |failure| failure.reason.as_str()));
    Frame::SessionClosed(v1::SessionClosed { session: alias, failure: failure.map(Into::into) })
}
