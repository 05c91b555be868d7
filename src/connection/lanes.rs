//! The sessions of one connection, and whose turn it is.
//!
//! Deficit round robin (Shreedhar and Varghese, 1995): each lane that has something to send gets a quantum of bytes a
//! round, and what it does not use is its own until it falls quiet. So a flooded session costs its neighbours at most
//! one quantum of waiting, whatever the sizes of their events.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use tokio::time::Instant;

use super::{
    Shared,
    lane::{Batch, Lane, Reading, Turn, TurnEnd},
};
use crate::{
    error::{Failure, Reason},
    hub::ReadySet,
    proto::v1::{self, stream_data_response::Frame},
    session::Event,
    telemetry::metrics::{
        Metrics,
        words::{SessionEnd, SlowAction},
    },
};

/// Bytes a lane may send in one round.
const QUANTUM: isize = 4096;
/// Most marks on one heartbeat.
const MAX_MARKS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    // Ordered, so that what concerns all of them happens in the same order every time. Boxed: a map keeps room for eleven,
    // and mostly there is one.
    by_alias: BTreeMap<u32, Box<Lane>>,
    turns: VecDeque<u32>,
    /// Lanes that are to have a turn at a certain time. A lane is in it once; one that has ended since is stale.
    later: BinaryHeap<Reverse<(Instant, u32)>>,
    /// The last alias that was looked at for a mark.
    marked: u32,
}

impl Lanes {
    pub(super) fn insert(&mut self, alias: u32, lane: Lane) {
        self.by_alias.insert(alias, Box::new(lane));
    }

    pub(super) fn get_mut(&mut self, alias: u32) -> Option<&mut Lane> {
        self.by_alias.get_mut(&alias).map(Box::as_mut)
    }

    pub(super) fn remove(&mut self, alias: u32) -> Option<Box<Lane>> {
        self.by_alias.remove(&alias)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.by_alias.values().map(Box::as_ref)
    }

    /// Takes out those of which `judge` says why they cannot stay.
    pub(super) fn take_if(
        &mut self,
        mut judge: impl FnMut(&mut Lane) -> Option<Failure>,
    ) -> Vec<(u32, Box<Lane>, Failure)> {
        let judged = self.by_alias.iter_mut().filter_map(|(alias, lane)| Some((*alias, judge(lane)?)));
        let ended: Vec<_> = judged.collect();
        let take = |(alias, failure): (u32, Failure)| Some((alias, self.by_alias.remove(&alias)?, failure));
        ended.into_iter().filter_map(take).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_alias.len()
    }

    /// Lets every lane go.
    pub(super) fn clear(&mut self) -> BTreeMap<u32, Box<Lane>> {
        self.turns.clear();
        self.later.clear();
        std::mem::take(&mut self.by_alias)
    }

    /// Nothing is to follow what is stored now.
    pub(super) fn stop_at_heads(&mut self) {
        for (alias, lane) in &mut self.by_alias {
            if let Some(reading) = &mut lane.reading {
                reading.session.on(Event::StopAtHead { log: &lane.feed.log() });
                reading.later = None;
                if !std::mem::replace(&mut reading.has_turn, true) {
                    self.turns.push_back(*alias);
                }
            }
        }
    }

    /// Takes those who have become ready, or whose time has come, into the round. True if somebody has a turn.
    pub(super) fn gather(&mut self, ready: &ReadySet) -> bool {
        let Self { by_alias, turns, later, .. } = self;
        // A lane that is not there has ended since it became ready; one that has a turn already needs no other.
        let mut give = |alias: u32, wanted: &dyn Fn(&Reading) -> bool| {
            let reading = by_alias.get_mut(&alias).and_then(|lane| lane.reading.as_mut());
            if let Some(reading) = reading.filter(|reading| wanted(reading)) {
                reading.later = None;
                if !std::mem::replace(&mut reading.has_turn, true) {
                    turns.push_back(alias);
                }
            }
        };
        ready.drain(|alias| give(alias, &|_| true));
        let now = (!later.is_empty()).then(Instant::now);
        while let Some(Reverse((at, alias))) = later.peek().copied()
            && now.is_some_and(|now| at <= now)
        {
            later.pop();
            give(alias, &|reading| reading.later == Some(at));
        }
        !self.turns.is_empty()
    }

    /// When the next lane's time comes, if one waits for that.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.later.peek().map(|Reverse((at, _))| *at)
    }

    /// Safe positions of the sessions that have sent nothing since this was asked last; of the next so many, where there
    /// are more than fit. Looks at how far each of those asked is behind.
    pub(super) fn marks(&mut self, metrics: &Metrics) -> Vec<v1::Mark> {
        let after = if self.by_alias.len() > MAX_MARKS { self.marked } else { 0 };
        let all = self.by_alias.range(after + 1..).chain(self.by_alias.range(..=after));
        let next: Vec<u32> = all.map(|(alias, _)| *alias).take(MAX_MARKS).collect();
        self.marked = next.last().copied().unwrap_or(0).min(u32::MAX - 1);
        let mark = |alias: u32| {
            let reading = self.by_alias.get_mut(&alias)?.reading.as_mut()?;
            let was_quiet = std::mem::replace(&mut reading.quiet, true);
            let log = reading.reader.feed().log();
            metrics.session_lag.observe(reading.session.lag(&log));
            let cursor = was_quiet.then(|| reading.session.mark(&log))??;
            Some(v1::Mark { session: alias, offset: cursor.offset, time_us: cursor.time.0 })
        };
        next.into_iter().filter_map(mark).collect()
    }

    /// Gives turns until about `budget` bytes are in the batch or everybody is quiet. The bytes used.
    pub(super) fn fill(&mut self, batch: &mut Batch, budget: usize, shared: &Shared) -> usize {
        let (mut used, now) = (0, Instant::now());
        while used < budget
            && let Some(alias) = self.turns.pop_front()
        {
            // The lane may have ended since it was given its turn.
            let Some(lane) = self.by_alias.get_mut(&alias) else { continue };
            let Some(reading) = lane.reading.as_mut() else { continue };
            reading.deficit += QUANTUM;
            if reading.deficit <= 0 {
                self.turns.push_back(alias);
                continue;
            }
            reading.has_turn = false;
            let (bytes, end) = reading.turn(&Turn { alias, producer: &lane.producer, now, shared }, batch);
            used += bytes;
            match end {
                TurnEnd::Quiet => {}
                TurnEnd::Later(at) => self.later.push(Reverse((at, alias))),
                TurnEnd::Spent => {
                    reading.has_turn = true;
                    self.turns.push_back(alias);
                }
                TurnEnd::Ended(failure) => {
                    self.by_alias.remove(&alias);
                    batch.frame(closed(alias, failure, &shared.metrics));
                }
            }
        }
        used
    }
}

/// The frame that ends a session.
pub(super) fn closed(alias: u32, failure: Option<Failure>, metrics: &Metrics) -> Frame {
    if failure.as_ref().is_some_and(|failure| failure.reason == Reason::SlowSession) {
        metrics.slow_session(SlowAction::Disconnect);
    }
    metrics.session_closed(SessionEnd::from(failure.as_ref().map(|failure| failure.reason)));
    Frame::SessionClosed(v1::SessionClosed { session: alias, failure: failure.map(Into::into) })
}
