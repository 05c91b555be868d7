//! Publishes that the broker has not answered yet, and what waits behind them.
//!
//! Publishes that are under way together may be stored in any order, or one of them not at all: of each session there is
//! one at a time, and those that come meanwhile wait here, in order, with the closing of their session behind them. A
//! connection has so many of them, under way or waiting, and no more: the next is refused, and its client comes back.
//! With a broker that answers at once nothing of this is ever used.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use prost::Message;

use super::publish::Sent;
use crate::{
    connection::{Config, lane::Lane},
    error::Failure,
    proto::v1,
    session::Estate,
    types::Published,
};

/// What came of a publish that the broker did not answer at once.
pub(in crate::connection) struct Outcome {
    pub(super) sent: Sent,
    pub(super) published: Result<Published, Failure>,
}

/// Which session, whatever lane it is on: by the address of its estate, which is held for as long as this is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EstateId(usize);

impl EstateId {
    pub(super) fn of(estate: &Arc<Estate>) -> Self {
        Self(Arc::as_ptr(estate).addr())
    }
}

/// Which lane: that of its alias may be another one by the time that what waits has its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneId {
    pub(super) estate: EstateId,
    pub(super) alias: u32,
    attach: u64,
}

impl LaneId {
    pub(super) fn of(alias: u32, lane: &Lane) -> Self {
        Self { estate: EstateId::of(&lane.estate), alias, attach: lane.attach }
    }
}

/// What waits, with the number of its request.
pub(super) enum Waiting {
    Publish(u64, Box<v1::Publish>),
    Close(u64, v1::CloseSession),
}

impl Waiting {
    fn size(&self) -> usize {
        match self {
            Self::Publish(_, publish) => size(publish),
            Self::Close(..) => 0,
        }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Pending {
    /// None until the broker has had somebody wait.
    outcomes: Option<FuturesUnordered<BoxFuture<'static, Outcome>>>,
    /// Sessions that have one under way.
    busy: BTreeMap<EstateId, Behind>,
    /// Aliases whose closing waits.
    closing: Vec<u32>,
    /// Of all that is under way or waits.
    count: usize,
    bytes: usize,
}

/// What waits for a session's publish that is under way. Holds the estate, whose address stands for the session.
struct Behind {
    _estate: Arc<Estate>,
    under_way: bool,
    waiting: VecDeque<(LaneId, Waiting)>,
}

impl Pending {
    /// True if nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.busy.is_empty()
    }

    /// True if there is room for one more of that size. One alone always fits.
    pub(super) fn has_room(&self, size: usize, config: &Config) -> bool {
        let most = usize::try_from(config.max_message_size.as_u64()).unwrap_or(usize::MAX);
        self.is_empty() || (self.count < config.queue_size && self.bytes.saturating_add(size) <= most)
    }

    /// True if the session has one under way, or something that waits.
    pub(super) fn is_busy(&self, lane: LaneId) -> bool {
        self.busy.contains_key(&lane.estate)
    }

    /// True if the alias is to be closed when its turn comes.
    pub(super) fn is_closing(&self, alias: u32) -> bool {
        self.closing.contains(&alias)
    }

    /// True if a closing waits.
    pub(super) fn has_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// One is under way.
    pub(super) fn begun(&mut self, sent: Sent, outcome: BoxFuture<'static, Result<Published, Failure>>) {
        let estate = &sent.origin.estate;
        let behind = || Behind { _estate: estate.clone(), under_way: true, waiting: VecDeque::new() };
        self.busy.entry(EstateId::of(estate)).or_insert_with(behind).under_way = true;
        self.count += 1;
        self.bytes += sent.size;
        let outcomes = self.outcomes.get_or_insert_with(FuturesUnordered::new);
        outcomes.push(Box::pin(async move {
            let published = outcome.await;
            Outcome { sent, published }
        }));
    }

    /// The next outcome that comes; none if nothing is under way. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Outcome> {
        match &mut self.outcomes {
            Some(outcomes) => outcomes.next().await,
            None => None,
        }
    }

    /// It is over.
    pub(super) fn over(&mut self, sent: &Sent) {
        self.count -= 1;
        self.bytes -= sent.size;
        if let Some(behind) = self.busy.get_mut(&EstateId::of(&sent.origin.estate)) {
            behind.under_way = false;
        }
    }

    /// Puts something behind what a busy session has under way.
    pub(super) fn wait(&mut self, lane: LaneId, mut waiting: Waiting) {
        let Some(behind) = self.busy.get_mut(&lane.estate) else { return };
        self.count += 1;
        self.bytes += waiting.size();
        match &mut waiting {
            Waiting::Publish(_, publish) => detach(publish),
            Waiting::Close(..) => self.closing.push(lane.alias),
        }
        behind.waiting.push_back((lane, waiting));
    }

    /// What the session's turn is next; nothing while one is under way.
    pub(super) fn turn(&mut self, estate: EstateId) -> Option<(LaneId, Waiting)> {
        let behind = self.busy.get_mut(&estate).filter(|behind| !behind.under_way)?;
        let Some((lane, waiting)) = behind.waiting.pop_front() else {
            self.busy.remove(&estate);
            return None;
        };
        self.count -= 1;
        self.bytes -= waiting.size();
        if let Waiting::Close(..) = waiting {
            self.closing.retain(|alias| *alias != lane.alias);
        }
        Some((lane, waiting))
    }

    /// What is under way, for whoever waits for it from now on.
    pub(super) fn abandon(&mut self) -> Option<FuturesUnordered<BoxFuture<'static, Outcome>>> {
        self.outcomes.take().filter(|outcomes| !outcomes.is_empty())
    }
}

/// Bytes of its event.
pub(super) fn size(publish: &v1::Publish) -> usize {
    publish.event.as_ref().map_or(0, Message::encoded_len)
}

/// Copied: what came in may be a small piece of a much larger read buffer.
fn detach(publish: &mut v1::Publish) {
    if let Some(event) = &mut publish.event {
        event.payload = Bytes::copy_from_slice(&event.payload);
        event.key = Bytes::copy_from_slice(&event.key);
    }
}
