//! What a session has that outlives its connection, and is undone when nobody comes back for it.

mod things;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use self::things::{Things, UnderWay};
use crate::{
    broker::{Previous, Publishing},
    error::{Failure, Reason},
    hub::{Feed, Hold, Hub, Scope},
    types::{Claim, Cursor, NewEvent, Producer, Topic},
};

/// Of one session on one topic. Whoever attaches to the session next takes it over as it is. When the session is given
/// up, what it stands for is undone: keys are removed, members leave, publishers no longer wait.
///
/// It is the fence as well: everything done in the session's name is done under its lock and under the number of the
/// newest attach. Whoever held the session before may not know yet that it is lost, and can do nothing more. The lock is
/// not held while the broker is waited for: what was begun under it is counted until its outcome is known, and a newer
/// holder can wait for that ([`settled`](Self::settled)).
///
/// Keys and members are told apart by the session's name alone. So the estate of a named session must have been undone
/// before the name can get another one: the directory sees to that under its lock. What is under way just then is
/// undone when it is over: it would otherwise outlive its undoing.
#[derive(Debug)]
pub struct Estate {
    topic: Topic,
    things: Mutex<Things>,
    /// Told when nothing is under way any more.
    settled: Notify,
}

impl Estate {
    /// Nothing yet, for the holder under this number, and under this claim, who is to see to what others have left.
    pub fn new(topic: Topic, attach: u64, claim: Option<Claim>, owed: Vec<Previous>) -> Arc<Self> {
        let things = Things {
            attach: Some(attach),
            claim,
            acked: None,
            keys: None,
            presence: None,
            hold: None,
            under_way: 0,
            released: false,
            owed,
        };
        Arc::new(Self { topic, things: Mutex::new(things), settled: Notify::new() })
    }

    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// A newer holder: from now on older ones can do nothing. What one of them has begun may still be under way.
    pub(super) fn hand_over(&self, attach: u64, claim: Option<Claim>, owed: Option<Previous>) {
        let mut things = self.things.lock();
        things.owed.extend(owed);
        (things.attach, things.claim) = (Some(attach), claim);
        if let Some(keys) = &mut things.keys {
            keys.renew(claim);
        }
        things.released = false;
    }

    /// The session is held at another replica from now on, which sees to its keys if it is on the same topic still, and to
    /// its presence if it is there to stay. True if it stays there with the same `info`: nobody need hear of it.
    pub(super) fn hand_away(&self, topic: &Topic, info: Option<&Bytes>) -> bool {
        let mut things = self.things.lock();
        things.attach = None;
        things.owed.clear();
        let same_topic = *topic == self.topic;
        if let Some(keys) = things.keys.take_if(|_| same_topic) {
            keys.forget();
        }
        let mut stays = false;
        if let Some(presence) = things.presence.take_if(|_| same_topic && info.is_some()) {
            stays = presence.info.as_ref() == info;
            presence.scope.forget();
        }
        let given_up = (things.release(), things.hold.take());
        drop(things);
        drop(given_up);
        stays
    }

    /// What other replicas have left of the session and is to be seen to, under which claim.
    pub fn owed(&self, attach: u64) -> Result<Option<(Vec<Previous>, Claim)>, Failure> {
        let things = self.held(attach)?;
        Ok(things.claim.filter(|_| !things.owed.is_empty()).map(|claim| (things.owed.clone(), claim)))
    }

    /// All of that is seen to.
    pub fn settle_debts(&self, attach: u64) -> Result<(), Failure> {
        self.held(attach)?.owed.clear();
        Ok(())
    }

    /// True if what other replicas have left is not seen to yet.
    pub(super) fn is_in_debt(&self) -> bool {
        !self.things.lock().owed.is_empty()
    }

    /// The session is a member of its topic's presence already, as another replica says that had it.
    pub fn stay(&self, attach: u64, feed: Arc<Feed>, producer: &Producer, info: &Bytes) -> Result<(), Failure> {
        self.held(attach)?.enter(feed, producer, Some(Bytes::copy_from_slice(info)));
        Ok(())
    }

    /// Sees to the keys that the session has set at another replica, as to its own. From then on that one cannot remove
    /// them: TAKEN_OVER if there is a newer holder, BROKER if it cannot be done now.
    pub async fn adopt(&self, attach: u64, feed: &Arc<Feed>, producer: &Producer) -> Result<(), Failure> {
        let claim = {
            let mut things = self.held(attach)?;
            let claim = things.claim;
            things.keys.get_or_insert_with(|| Scope::new(feed.clone(), producer.clone(), claim));
            claim
        };
        match claim {
            Some(claim) => feed.fence(producer, claim).await,
            None => Ok(()),
        }
    }

    /// Completes once nothing is under way. A holder that is new and has begun nothing itself knows then what has been
    /// done in the session's name on this replica. Cancel-safe.
    pub async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.things.lock().under_way == 0 {
                return;
            }
            settled.await;
        }
    }

    fn held(&self, attach: u64) -> Result<MutexGuard<'_, Things>, Failure> {
        let things = self.things.lock();
        if things.attach == Some(attach) {
            return Ok(things);
        }
        Err(Failure::taken_over())
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
    /// is undone. Dropping the outcome before it is known gives up that claim.
    pub fn publish(
        self: &Arc<Self>,
        attach: u64,
        feed: &Arc<Feed>,
        mut event: NewEvent,
    ) -> Result<Publishing, Failure> {
        let mut things = self.held(attach)?;
        event.claim = things.claim;
        if let Some(owner) = &event.scope {
            let claim = things.claim;
            things.keys.get_or_insert_with(|| Scope::new(feed.clone(), owner.clone(), claim));
        }
        let publishing = feed.publish(event);
        Ok(UnderWay::count(self, &mut things, publishing))
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

    /// Makes the session a member of its topic's presence; waits until the broker has it. Nobody hears of one that is
    /// there already with this `info`.
    pub async fn enter(
        self: &Arc<Self>,
        attach: u64,
        hub: &Hub,
        producer: &Producer,
        info: &Bytes,
    ) -> Result<(), Failure> {
        let Some(announcing) = self.announce(attach, hub, producer, info)? else { return Ok(()) };
        announcing.outcome().await?;
        if let Some(presence) = &mut self.held(attach)?.presence {
            // Copied: what came in is a piece of a much larger read buffer.
            presence.info = Some(Bytes::copy_from_slice(info));
        }
        Ok(())
    }

    /// None if everybody knows already. Like a key, a member is bound before it is there.
    fn announce(
        self: &Arc<Self>,
        attach: u64,
        hub: &Hub,
        producer: &Producer,
        info: &Bytes,
    ) -> Result<Option<Publishing>, Failure> {
        let mut things = self.held(attach)?;
        if things.presence.as_ref().is_some_and(|presence| presence.info.as_ref() == Some(info)) {
            return Ok(None);
        }
        let (feed, publishing) = hub.announce(&self.topic, producer, info)?;
        if !matches!(publishing, Publishing::Done(Err(_))) {
            things.enter(feed, producer, None);
        }
        Ok(Some(UnderWay::count(self, &mut things, publishing)))
    }

    /// The session is no longer a member.
    pub fn leave_presence(&self, attach: u64) -> Result<(), Failure> {
        let left = self.held(attach)?.presence.take();
        drop(left);
        Ok(())
    }

    /// Removes the keys that were to die with the session, and has it leave its topic's presence. What other replicas have
    /// left is not its to undo.
    #[must_use]
    pub(super) fn release_keys(&self) -> Vec<Previous> {
        let mut things = self.things.lock();
        let (released, owed) = (things.release(), std::mem::take(&mut things.owed));
        drop(things);
        drop(released);
        owed
    }

    /// Undoes everything, for good. What other replicas have left is not its to undo.
    #[must_use]
    pub(super) fn give_up(&self) -> Vec<Previous> {
        let mut things = self.things.lock();
        things.attach = None;
        let (given_up, owed) = ((things.release(), things.hold.take()), std::mem::take(&mut things.owed));
        drop(things);
        drop(given_up);
        owed
    }

    pub(super) fn has_keys(&self) -> bool {
        let things = self.things.lock();
        things.keys.is_some() || things.presence.is_some() || !things.owed.is_empty()
    }
}

fn too_many_holds() -> Failure {
    Failure::new(Reason::SessionLimit, "too many sessions of this topic are waited for")
}
