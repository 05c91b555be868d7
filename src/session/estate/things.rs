//! What an estate consists of, and what is under way in its name.

use std::sync::Arc;

use bytes::Bytes;

use super::Estate;
use crate::{
    broker::{Previous, Publishing},
    hub::{Feed, Hold, Scope},
    types::{Claim, Cursor, Producer},
};

#[derive(Debug)]
pub(super) struct Things {
    /// The newest attach; none once the session was given up.
    pub(super) attach: Option<u64>,
    /// Under which it is held, where sessions have claims.
    pub(super) claim: Option<Claim>,
    pub(super) acked: Option<Cursor>,
    /// The keys of the session's topic that die with it.
    pub(super) keys: Option<Scope>,
    pub(super) presence: Option<Membership>,
    pub(super) hold: Option<Hold>,
    /// Publishes whose outcome is not known.
    pub(super) under_way: usize,
    /// Keys and presence are to go once nothing is under way.
    pub(super) released: bool,
    /// What other replicas have left of it, until its holder has seen to that.
    pub(super) owed: Vec<Previous>,
}

#[derive(Debug)]
pub(super) struct Membership {
    /// What others have been told; none while that is under way, or if it failed.
    pub(super) info: Option<Bytes>,
    pub(super) scope: Scope,
}

impl Things {
    pub(super) fn enter(&mut self, feed: Arc<Feed>, producer: &Producer, info: Option<Bytes>) {
        match &mut self.presence {
            Some(presence) => presence.info = info,
            // Whoever enters again elsewhere sets the key anew, and its older removal means nothing.
            None => self.presence = Some(Membership { info, scope: Scope::new(feed, producer.clone(), None) }),
        }
    }

    /// Takes out what dies with the session, to be dropped with the lock released; nothing yet if a publish is under way.
    pub(super) fn release(&mut self) -> (Option<Scope>, Option<Membership>) {
        self.released = self.under_way > 0;
        if self.released { (None, None) } else { (self.keys.take(), self.presence.take()) }
    }
}

/// A publish in the session's name whose outcome is not known. Holds the estate.
pub(super) struct UnderWay(Arc<Estate>);

impl UnderWay {
    /// Counts one; the outcome is the same.
    pub(super) fn count(estate: &Arc<Estate>, things: &mut Things, publishing: Publishing) -> Publishing {
        let Publishing::Later(outcome) = publishing else { return publishing };
        things.under_way += 1;
        let under_way = Self(estate.clone());
        Publishing::Later(Box::pin(async move {
            let _under_way = under_way;
            outcome.await
        }))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut things = self.0.things.lock();
        things.under_way -= 1;
        let is_settled = things.under_way == 0;
        let released = (is_settled && things.released).then(|| things.release());
        drop(things);
        drop(released);
        if is_settled {
            self.0.settled.notify_waiters();
        }
    }
}
