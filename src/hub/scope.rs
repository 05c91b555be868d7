//! What a session may leave behind in a topic, undone when it is dropped.

use std::sync::Arc;

use super::Feed;
use crate::types::{Claim, Producer};

/// The keys of a topic that die with a session: dropped, it has the server remove those that are still the session's.
#[derive(Debug)]
pub struct Scope {
    feed: Arc<Feed>,
    /// None once somebody else sees to it.
    producer: Option<Producer>,
    claim: Option<Claim>,
}

impl Scope {
    /// The keys that `producer` sets in `feed`; under which claim, where sessions have claims.
    pub fn new(feed: Arc<Feed>, producer: Producer, claim: Option<Claim>) -> Self {
        Self { feed, producer: Some(producer), claim }
    }

    /// The session has a newer claim.
    pub fn renew(&mut self, claim: Option<Claim>) {
        self.claim = claim;
    }

    /// Another replica has the session, and sees to its keys.
    pub fn forget(mut self) {
        self.producer = None;
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if let Some(producer) = &self.producer {
            self.feed.remove_owned(producer, self.claim);
        }
    }
}

/// A reader that publishers to a topic wait for, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    feed: Arc<Feed>,
    id: u64,
}

impl Hold {
    /// One that has acknowledged everything up to `offset`; none if there are too many.
    pub fn new(feed: Arc<Feed>, offset: u64) -> Option<Self> {
        let id = feed.with_log(|log| log.hold(offset))?;
        Some(Self { feed, id })
    }

    /// It has acknowledged everything up to `offset`.
    pub fn advance(&self, offset: u64) {
        self.feed.with_log(|log| log.advance_hold(self.id, offset));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.feed.with_log(|log| log.release_hold(self.id));
    }
}
