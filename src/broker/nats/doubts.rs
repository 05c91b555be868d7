//! Keys that were to die with their session, and of which nobody knows whether they were stored: the session may be over
//! before they are.

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use crate::types::Producer;

/// Most of one topic that are remembered; the oldest goes first.
const MOST: usize = 1000;
/// For how long: a message that is still on its way after that has been lost.
const TIME: Duration = Duration::from_secs(180);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<Vec<Doubt>>);

#[derive(Debug)]
struct Doubt {
    id: String,
    owner: Producer,
    /// The session is over.
    ended: bool,
    until: Instant,
}

impl Doubts {
    /// It is not known whether the message of this id is stored, which sets a key of that session.
    pub(super) fn add(&self, id: &str, owner: &Producer) {
        let mut doubts = self.0.lock();
        let now = Instant::now();
        doubts.retain(|doubt| doubt.until > now);
        if doubts.len() == MOST {
            doubts.remove(0);
        }
        doubts.push(Doubt { id: id.to_owned(), owner: owner.clone(), ended: false, until: now + TIME });
    }

    /// The session is over.
    pub(super) fn end(&self, owner: &Producer) {
        self.0.lock().iter_mut().filter(|doubt| doubt.owner == *owner).for_each(|doubt| doubt.ended = true);
    }

    /// The message is stored: there is no doubt any more. If its session is over, whose it was.
    pub(super) fn settle(&self, id: &str) -> Option<Producer> {
        let mut doubts = self.0.lock();
        let index = doubts.iter().position(|doubt| doubt.id == id)?;
        let doubt = doubts.remove(index);
        doubt.ended.then_some(doubt.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClientId, SessionId};

    #[tokio::test(start_paused = true)]
    async fn what_is_stored_after_its_session_is_told_apart() {
        let producer = |session: &str| Producer::new(ClientId::parse("c").unwrap(), SessionId::parse(session).unwrap());
        let doubts = Doubts::default();
        for (id, session) in [("1", "s"), ("2", "s"), ("3", "t"), ("4", "s")] {
            doubts.add(id, &producer(session));
        }
        assert_eq!(doubts.settle("1"), None, "the session is still there");
        doubts.end(&producer("s"));
        assert_eq!((doubts.settle("2"), doubts.settle("2")), (Some(producer("s")), None));
        assert_eq!((doubts.settle("3"), doubts.settle("never")), (None, None));
        tokio::time::advance(TIME).await;
        doubts.add("5", &producer("s"));
        assert_eq!(doubts.settle("4"), None, "it is too long ago");
    }
}
