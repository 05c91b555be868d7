//! What a session may leave behind in a topic, undone when it is dropped.

use std::sync::Arc;

use super::Feed;
use crate::types::Producer;

/// The keys of a topic that die with a session: dropped, it has the server remove those that are still the session's.
#[derive(Debug)]
pub struct Scope {
    feed: Arc<Feed>,
    producer: Producer,
}

impl Scope {
    /// The keys that `producer` sets in `feed`.
    pub fn new(feed: Arc<Feed>, producer: Producer) -> Self {
        Self { feed, producer }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.feed.remove_owned(&self.producer);
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
