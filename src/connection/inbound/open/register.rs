//! What a session has in its topic, once its name is taken.

use std::sync::Arc;

use super::{super::Served, Opening};
use crate::{broker::Previous, error::Failure, hub::Class, session::Estate, types::Claim};

impl Served {
    /// What the session has in its topic besides reading it.
    pub(super) async fn register(&self, opening: &Opening, estate: &Arc<Estate>, attach: u64) -> Result<(), Failure> {
        let Opening { wish, feed, producer, session, .. } = opening;
        if let Some((owed, claim)) = estate.owed(attach)? {
            for previous in &owed {
                self.inherit(opening, previous, estate, attach, claim).await?;
            }
            estate.settle_debts(attach)?;
        }
        match &wish.presence {
            Some(info) => estate.enter(attach, &self.shared.hub, producer, info).await?,
            None => estate.leave_presence(attach)?,
        }
        let onward = session.onward(&feed.log());
        if wish.reads {
            estate.begin(attach, onward)?;
        }
        if wish.required { estate.hold(attach, feed, onward.offset) } else { estate.release_hold(attach) }
    }

    /// Another replica had the session: its keys are this one's to remove. What is not handed over is undone, by that replica
    /// or, if it does not answer, by this one.
    async fn inherit(
        &self,
        opening: &Opening,
        previous: &Previous,
        estate: &Arc<Estate>,
        attach: u64,
        claim: Claim,
    ) -> Result<(), Failure> {
        let Opening { wish, feed, producer, .. } = opening;
        let same_topic = previous.topic == *feed.topic();
        if same_topic && feed.class() == Class::State {
            estate.adopt(attach, feed, producer).await?;
        }
        let hub = &self.shared.hub;
        if let Some(info) = wish.presence.as_ref().filter(|_| previous.stays) {
            estate.stay(attach, hub.join(&previous.topic.presence()?, self.party)?, producer, info)?;
        }
        if previous.answered {
            return Ok(());
        }
        if !same_topic {
            hub.undo(producer, &previous.topic, claim).await?;
        }
        if previous.present && !(same_topic && wish.presence.is_some()) {
            hub.undo(producer, &previous.topic.presence()?, claim).await?;
        }
        Ok(())
    }
}
