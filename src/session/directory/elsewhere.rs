//! Sessions that come from another replica, or go to one.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::{Directory, Place};
use crate::{
    broker::{Claimed, Holder, Legacy, Matter, STAYS, Taking},
    error::{Failure, Reason},
    hub::Hub,
    session::Estate,
    types::{Claim, Producer, Topic},
};

/// How long a replica that takes a session over is kept waiting for what is under way here.
const SETTLED_WITHIN: Duration = Duration::from_secs(2);

impl Directory {
    /// Lets sessions go that other replicas say they have taken.
    pub fn serve(self: &Arc<Self>) {
        let directory = Arc::downgrade(self);
        let release = move |content: Bytes| {
            let (directory, taking) = (directory.upgrade(), Taking::read(&content));
            let work = async move {
                let (Some(directory), Some(taking)) = (directory, taking) else { return 0 };
                let Some((estate, stays)) = directory.hand_away(&taking) else { return 0 };
                timeout(SETTLED_WITHIN, estate.settled()).await.ok();
                if stays { STAYS } else { 1 }
            };
            work.boxed()
        };
        self.fleet.serve(Matter::Release, Arc::new(release));
        let holder: Weak<Self> = Arc::downgrade(self);
        self.fleet.hold(holder);
    }

    /// Takes a session before all other replicas, to be [attached](Self::attach) to next; none if there are no others.
    /// `presence`: what is said of it in the topic's presence, if it is to be there. SESSION_LIMIT, BROKER. If it is
    /// dropped before it is done, the session stays with whoever has it, or nobody has it.
    pub async fn claim(
        self: &Arc<Self>,
        producer: &Producer,
        topic: &Topic,
        last_attach: u64,
        presence: Option<&Bytes>,
    ) -> Result<Option<Taken>, Failure> {
        if !self.fleet.is_shared() {
            return Ok(None);
        }
        let attach = {
            let state = self.state.lock();
            // What can be refused is refused before the name is taken.
            state.check_limit(producer, self.config.max_per_client)?;
            state.places.get(producer).map_or(0, |place| place.attach).max(last_attach)
        };
        let watch = Watch::keep(self, producer);
        let taking = Taking { producer: producer.clone(), topic: topic.clone(), attach, presence: presence.cloned() };
        Ok(self.fleet.claim(&taking).await?.map(|claimed| Taken { claimed, watch }))
    }

    /// The session is held at another replica: whoever holds it here is told. What it has here, if that is all there is of
    /// it, and whether it stays a member of its presence as it is.
    pub(super) fn hand_away(&self, taking: &Taking) -> Option<(Arc<Estate>, bool)> {
        let mut state = self.state.lock();
        if let Some((_, newest)) = state.taking.get_mut(&taking.producer) {
            *newest = taking.attach.max(*newest);
        }
        let place = state.places.get(&taking.producer).filter(|place| place.attach < taking.attach)?;
        // What is not seen to here is to be seen to there.
        let is_in_debt = place.estate.is_in_debt();
        let place = state.remove(&taking.producer)?;
        let stays = place.estate.hand_away(&taking.topic, taking.presence.as_ref());
        drop(state);
        // Outside of the lock: it takes that of a connection.
        if let Some(kick) = place.holder {
            kick(Failure::taken_over());
        }
        (!is_in_debt).then_some((place.estate, stays))
    }
}

/// A session that was taken before all other replicas.
#[derive(Debug)]
pub struct Taken {
    pub(super) claimed: Claimed,
    pub(super) watch: Watch,
}

impl Taken {
    pub(super) fn open(self) -> (Claimed, Watch) {
        (self.claimed, self.watch)
    }
}

/// Hears, for as long as a session is being taken, which other replica has taken it since: it has no place here yet that
/// could be taken away.
#[derive(Debug)]
pub(super) struct Watch {
    directory: Arc<Directory>,
    producer: Producer,
}

impl Watch {
    pub(super) fn keep(directory: &Arc<Directory>, producer: &Producer) -> Self {
        directory.state.lock().taking.entry(producer.clone()).or_default().0 += 1;
        Self { directory: directory.clone(), producer: producer.clone() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.directory.state.lock();
        let Some((watches, _)) = state.taking.get_mut(&self.producer) else { return };
        *watches -= 1;
        if *watches == 0 {
            state.taking.remove(&self.producer);
        }
    }
}

impl Holder for Directory {
    fn held(&self) -> Vec<Claim> {
        self.state.lock().places.values().filter_map(|place| place.claim).collect()
    }

    /// Whoever has such a session now, or has undone it, has seen to its keys and its presence.
    fn lost(&self, claims: &[Claim]) {
        let lost: HashSet<u64> = claims.iter().map(|claim| claim.order).collect();
        let mut state = self.state.lock();
        let void = |place: &Place| place.claim.is_some_and(|claim| lost.contains(&claim.order));
        let names: Vec<_> =
            state.places.iter().filter(|(_, place)| void(place)).map(|(producer, _)| producer.clone()).collect();
        let places: Vec<_> = names.iter().filter_map(|producer| state.remove(producer)).collect();
        for place in &places {
            place.estate.hand_away(place.estate.topic(), Some(&Bytes::new()));
        }
        drop(state);
        let failure = || {
            let message =
                "this server was out of reach of the others, and what the session stood for was undone; open it anew";
            Failure::new(Reason::Broker, message).retry_after(Duration::from_secs(1))
        };
        places.into_iter().filter_map(|place| place.holder).for_each(|kick| kick(failure()));
    }
}

/// Undoes what replicas that are lost have left of their sessions, unless they have gone on elsewhere; for as long as it is
/// polled. `grace` is what their connections had to come back.
pub async fn see_to_lost(hub: Arc<Hub>, grace: Duration) {
    let fleet = hub.fleet();
    loop {
        let mut lost = fleet.lost(grace).await;
        for Legacy { producer, previous, claim, is_kept } in std::mem::take(&mut lost.sessions) {
            let undone = async {
                hub.undo(&producer, &previous.topic, claim).await?;
                if previous.present { hub.undo(&producer, &previous.topic.presence()?, claim).await } else { Ok(()) }
            };
            if let Err(failure) = undone.await {
                tracing::warn!(topic = %previous.topic, %failure, "what a lost replica has left is not undone");
            }
            if !is_kept {
                fleet.give_back(vec![claim]);
            }
        }
        fleet.buried(lost).await;
    }
}
