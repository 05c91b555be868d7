//! What a session has that outlives its connection, and is undone when nobody comes back for it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    error::{Failure, Reason},
    hub::{Feed, Hold, Hub, Scope},
    types::{Cursor, NewEvent, Producer, Published, Topic},
};

/// Of one session on one topic. Whoever attaches to the session next takes it over as it is. When the session is given
/// up, what it stands for is undone: keys are removed, members leave, publishers no longer wait.
///
/// It is the fence as well: everything done in the session's name is done under its lock and under the number of the
/// newest attach. Whoever held the session before may not know yet that it is lost, and can do nothing more.
///
/// Keys and members are told apart by the session's name alone. So the estate of a named session must have been undone
/// before the name can get another one: the directory sees to that under its lock.
#[derive(Debug)]
pub struct Estate {
    topic: Topic,
    things: Mutex<Things>,
}

#[derive(Debug)]
struct Things {
    /// The newest attach; none once the session was given up.
    attach: Option<u64>,
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
    /// Nothing yet, for the holder under this number.
    pub fn new(topic: Topic, attach: u64) -> Arc<Self> {
        let things = Things { attach: Some(attach), acked: None, keys: None, presence: None, hold: None };
        Arc::new(Self { topic, things: Mutex::new(things) })
    }

    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// A newer holder: from now on older ones can do nothing. Waits for what one of them is just doing.
    pub(super) fn hand_over(&self, attach: u64) {
        self.things.lock().attach = Some(attach);
    }

    fn held(&self, attach: u64) -> Result<MutexGuard<'_, Things>, Failure> {
        let things = self.things.lock();
        if things.attach == Some(attach) {
            return Ok(things);
        }
        Err(Failure::new(Reason::TakenOver, "a newer connection of this client has opened the session"))
    }

    /// Where the session acknowledged last; where it began to read, until it has.
    pub fn acked(&self) -> Option<Cursor> {
        self.things.lock().acked
    }

    /// The session begins to read after `cursor`.
    pub fn begin(&self, attach: u64, cursor: Cursor) -> Result<(), Failure> {
        self.held(attach)?.acked.get_or_insert(cursor);
        Ok(())
    }

    /// Everything up to `cursor` is processed. Only forward, inside an epoch.
    pub fn ack(&self, attach: u64, cursor: Cursor) -> Result<(), Failure> {
        let mut things = self.held(attach)?;
        let behind = |acked: Cursor| acked.epoch == cursor.epoch && acked.offset >= cursor.offset;
        if !things.acked.is_some_and(behind) {
            things.acked = Some(cursor);
            if let Some(hold) = &things.hold {
                hold.advance(cursor.offset);
            }
        }
        Ok(())
    }

    /// Publishes in the session's name. A key in its scope is bound before it is there: however the session ends, that
    /// is undone.
    pub fn publish(&self, attach: u64, feed: &Arc<Feed>, event: NewEvent) -> Result<Published, Failure> {
        let mut things = self.held(attach)?;
        if let Some(owner) = &event.scope {
            things.keys.get_or_insert_with(|| Scope::new(feed.clone(), owner.clone()));
        }
        feed.publish(event)
    }

    /// Fails as [`Estate::hold`] would for want of room at this moment; `estate` is what the session has already.
    pub fn check_hold(estate: Option<&Self>, feed: &Feed) -> Result<(), Failure> {
        let holds = estate.is_some_and(|estate| estate.things.lock().hold.is_some());
        if holds || feed.log().has_room_to_hold() { Ok(()) } else { Err(too_many_holds()) }
    }

    /// Has publishers to the topic wait for the session, from `offset` on. SESSION_LIMIT if too many sessions are
    /// waited for already.
    pub fn hold(&self, attach: u64, feed: &Arc<Feed>, offset: u64) -> Result<(), Failure> {
        let mut things = self.held(attach)?;
        if things.hold.is_none() {
            things.hold = Some(Hold::new(feed.clone(), offset).ok_or_else(too_many_holds)?);
        }
        Ok(())
    }

    /// Publishers do not wait for the session any more.
    pub fn release_hold(&self, attach: u64) -> Result<(), Failure> {
        let hold = self.held(attach)?.hold.take();
        drop(hold);
        Ok(())
    }

    /// Makes the session a member of its topic's presence. Nobody hears of one that is there already with this `info`.
    pub fn enter(&self, attach: u64, hub: &Hub, producer: &Producer, info: &Bytes) -> Result<(), Failure> {
        let mut things = self.held(attach)?;
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
    pub fn leave_presence(&self, attach: u64) -> Result<(), Failure> {
        let left = self.held(attach)?.presence.take();
        drop(left);
        Ok(())
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
        let mut things = self.things.lock();
        things.attach = None;
        let given_up = (things.keys.take(), things.presence.take(), things.hold.take());
        drop(things);
        drop(given_up);
    }

    pub(super) fn has_keys(&self) -> bool {
        let things = self.things.lock();
        things.keys.is_some() || things.presence.is_some()
    }
}

fn too_many_holds() -> Failure {
    Failure::new(Reason::SessionLimit, "too many sessions of this topic are waited for")
}
