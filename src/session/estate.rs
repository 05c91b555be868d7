//! What a session has that outlives its connection, and is undone when nobody comes back for it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    error::{Failure, Reason},
    hub::{Feed, Hold, Hub, Scope},
    types::{Cursor, Producer, Topic},
};

/// Of one session on one topic. Whoever attaches to the session next takes it over as it is. When the session is given
/// up, what it stands for is undone: keys are removed, members leave, publishers no longer wait.
///
/// Keys and members are told apart by the session's name alone. So the estate of a named session must have been undone
/// before the name can get another one: the directory sees to that under its lock.
#[derive(Debug)]
pub struct Estate {
    topic: Topic,
    things: Mutex<Things>,
}

#[derive(Debug, Default)]
struct Things {
    /// Given up: nothing is bound to the session any more.
    over: bool,
    acked: Option<Cursor>,
    /// The keys of the session's topic that die with it.
    keys: Option<Scope>,
    presence: Option<Membership>,
    hold: Option<Hold>,
}

#[derive(Debug)]
struct Membership {
    info: Bytes,
    _scope: Scope,
}

impl Estate {
    /// Nothing yet.
    pub fn new(topic: Topic) -> Arc<Self> {
        Arc::new(Self { topic, things: Mutex::default() })
    }

    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Where the session acknowledged last.
    pub fn acked(&self) -> Option<Cursor> {
        self.things.lock().acked
    }

    /// Everything up to `cursor` is processed. Only forward, inside an epoch.
    pub fn ack(&self, cursor: Cursor) {
        let mut things = self.things.lock();
        let behind = |acked: Cursor| acked.epoch == cursor.epoch && acked.offset >= cursor.offset;
        if !things.acked.is_some_and(behind) {
            things.acked = Some(cursor);
            if let Some(hold) = &things.hold {
                hold.advance(cursor.offset);
            }
        }
    }

    fn open(&self) -> Result<MutexGuard<'_, Things>, Failure> {
        let things = self.things.lock();
        if things.over { Err(Failure::new(Reason::TakenOver, "the session is another one by now")) } else { Ok(things) }
    }

    /// From now on keys that `producer` sets in its session's scope die with the session. TAKEN_OVER if that is over.
    pub fn scope_keys(&self, feed: &Arc<Feed>, producer: &Producer) -> Result<(), Failure> {
        self.open()?.keys.get_or_insert_with(|| Scope::new(feed.clone(), producer.clone()));
        Ok(())
    }

    /// Has publishers to the topic wait for the session, from `offset` on. SESSION_LIMIT if too many sessions are
    /// waited for already.
    pub fn hold(&self, feed: &Arc<Feed>, offset: u64) -> Result<(), Failure> {
        let mut things = self.open()?;
        if things.hold.is_none() {
            let too_many = || Failure::new(Reason::SessionLimit, "too many sessions of this topic are waited for");
            things.hold = Some(Hold::new(feed.clone(), offset).ok_or_else(too_many)?);
        }
        Ok(())
    }

    /// Publishers do not wait for the session any more.
    pub fn release_hold(&self) {
        let hold = self.things.lock().hold.take();
        drop(hold);
    }

    /// Makes the session a member of its topic's presence. Nobody hears of one that is there already with this `info`.
    pub fn enter(&self, hub: &Hub, producer: &Producer, info: &Bytes) -> Result<(), Failure> {
        let mut things = self.open()?;
        if things.presence.as_ref().is_some_and(|presence| presence.info == info) {
            return Ok(());
        }
        let feed = hub.announce(&self.topic, producer, info)?;
        // Copied: what came in is a piece of a much larger read buffer.
        let info = Bytes::copy_from_slice(info);
        match &mut things.presence {
            Some(presence) => presence.info = info,
            None => things.presence = Some(Membership { info, _scope: Scope::new(feed, producer.clone()) }),
        }
        Ok(())
    }

    /// The session is no longer a member.
    pub fn leave_presence(&self) {
        let left = self.things.lock().presence.take();
        drop(left);
    }

    /// Removes the keys that were to die with the session, and has it leave its topic's presence.
    pub(super) fn release_keys(&self) {
        let mut things = self.things.lock();
        let released = (things.keys.take(), things.presence.take());
        drop(things);
        drop(released);
    }

    /// Undoes everything, for good.
    pub(super) fn give_up(&self) {
        let given_up = std::mem::replace(&mut *self.things.lock(), Things { over: true, ..Things::default() });
        drop(given_up);
    }

    pub(super) fn has_keys(&self) -> bool {
        let things = self.things.lock();
        things.keys.is_some() || things.presence.is_some()
    }
}
