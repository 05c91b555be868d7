//! Sessions that come from another replica, or go to one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::Directory;
use crate::{
    broker::{Claimed, Matter, STAYS, Taking},
    error::{Failure, Reason},
    session::Estate,
    types::{Producer, Topic},
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
    }

    /// Takes a session before all other replicas, to be [attached](Self::attach) to next; none if there are no others.
    /// `presence`: what is said of it in the topic's presence, if it is to be there. SESSION_LIMIT, BROKER.
    pub async fn claim(
        &self,
        producer: &Producer,
        topic: &Topic,
        last_attach: u64,
        presence: Option<&Bytes>,
    ) -> Result<Option<Claimed>, Failure> {
        if !self.fleet.is_shared() {
            return Ok(None);
        }
        let attach = {
            let state = self.state.lock();
            // What can be refused is refused before the name is taken.
            state.check_limit(producer, self.config.max_per_client)?;
            state.places.get(producer).map_or(0, |place| place.attach).max(last_attach)
        };
        self.fleet
            .claim(&Taking { producer: producer.clone(), topic: topic.clone(), attach, presence: presence.cloned() })
            .await
    }

    /// The session is held at another replica: whoever holds it here is told. What it has here, if it was here, and
    /// whether it stays a member of its presence as it is.
    fn hand_away(&self, taking: &Taking) -> Option<(Arc<Estate>, bool)> {
        let mut state = self.state.lock();
        state.places.get(&taking.producer).filter(|place| place.attach < taking.attach)?;
        let place = state.remove(&taking.producer)?;
        let stays = place.estate.hand_away(&taking.topic, taking.presence.as_ref());
        drop(state);
        // Outside of the lock: it takes that of a connection.
        if let Some(kick) = place.holder {
            kick();
        }
        Some((place.estate, stays))
    }
}

pub(super) fn taken_over() -> Failure {
    Failure::new(Reason::TakenOver, "a newer connection of this client has opened the session")
}
