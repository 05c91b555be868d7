//! Who holds which session, and what is kept of those nobody holds.
//!
//! The newest attach wins: a client that opens a session again is right, because the usual reason is a connection that
//! is dead without knowing it. Whoever held the session before is told.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::types::{Cursor, Producer};

/// `[session]`: what is kept of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long the place of a session is kept after its connection ended.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(120) }
    }
}

/// Tells a holder that it has lost its session. Called with no lock held; must not block.
pub type Kick = Box<dyn FnOnce() + Send>;

/// Every named session that is held, or was within `ttl`.
#[derive(Debug)]
pub struct Directory {
    config: Config,
    places: Mutex<HashMap<Producer, Place>>,
}

struct Place {
    attach: u64,
    acked: Option<Cursor>,
    holder: Holder,
}

enum Holder {
    Held(Kick),
    Since(Instant),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("attach", &self.attach).field("acked", &self.acked).finish_non_exhaustive()
    }
}

impl Directory {
    /// An empty directory.
    pub fn new(config: Config) -> Self {
        Self { config, places: Mutex::default() }
    }

    /// How long places are kept.
    pub fn ttl(&self) -> Duration {
        self.config.ttl
    }

    /// Takes a session, from whoever holds it. `last_attach` is what the client has seen: numbers go on from there even
    /// if this process has never heard of the session.
    pub fn attach(self: &Arc<Self>, producer: Producer, last_attach: u64, kick: Kick) -> Attachment {
        let mut places = self.places.lock();
        let known = places.remove(&producer);
        let fresh = known.is_none() && last_attach == 0;
        let (attach, acked, holder) = known.map_or((0, None, None), |p| (p.attach, p.acked, Some(p.holder)));
        let attach = attach.max(last_attach) + 1;
        places.insert(producer.clone(), Place { attach, acked, holder: Holder::Held(kick) });
        drop(places);
        if let Some(Holder::Held(kick)) = holder {
            kick();
        }
        Attachment { directory: self.clone(), producer, attach, acked, fresh, keep: true }
    }

    /// Where a session acknowledged last, as far as that is kept: what the next attach will find.
    pub fn acked(&self, producer: &Producer) -> Option<Cursor> {
        self.places.lock().get(producer)?.acked
    }

    /// Forgets what nobody has come back for; to be called about once a second.
    pub fn sweep(&self) {
        let ttl = self.config.ttl;
        self.places.lock().retain(|_, place| match place.holder {
            Holder::Held(_) => true,
            Holder::Since(instant) => instant.elapsed() < ttl,
        });
    }

    /// Sessions held or kept.
    pub fn len(&self) -> usize {
        self.places.lock().len()
    }

    /// True if no session is held or kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Holds a session until dropped. Its place is then kept for `ttl`, unless somebody has taken it over.
#[derive(Debug)]
pub struct Attachment {
    directory: Arc<Directory>,
    producer: Producer,
    attach: u64,
    acked: Option<Cursor>,
    fresh: bool,
    keep: bool,
}

impl Attachment {
    /// The fencing number.
    pub fn attach(&self) -> u64 {
        self.attach
    }

    /// The session's name, with its client's.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// False once a newer attach has taken the session.
    pub fn is_current(&self) -> bool {
        self.directory.places.lock().get(&self.producer).is_some_and(|place| place.attach == self.attach)
    }

    /// Where the session acknowledged last.
    pub fn acked(&self) -> Option<Cursor> {
        self.acked
    }

    /// True if nobody has heard of the session before.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Everything up to `cursor` is processed. Only forward, inside an epoch.
    pub fn ack(&mut self, cursor: Cursor) {
        let behind = |acked: Cursor| acked.epoch == cursor.epoch && acked.offset >= cursor.offset;
        if !self.acked.is_some_and(behind) {
            self.acked = Some(cursor);
        }
    }

    /// Keeps nothing of the session when it is let go.
    pub fn forget(&mut self) {
        self.keep = false;
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut places = self.directory.places.lock();
        let Some(place) = places.get_mut(&self.producer) else { return };
        if place.attach != self.attach {
            return;
        }
        if self.keep {
            place.acked = self.acked;
            place.holder = Holder::Since(Instant::now());
        } else {
            places.remove(&self.producer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::types::{ClientId, SessionId};

    fn producer() -> Producer {
        Producer::new(ClientId::parse("c").unwrap(), SessionId::parse("s").unwrap())
    }

    fn nobody() -> Kick {
        Box::new(|| {})
    }

    fn directory() -> Arc<Directory> {
        Arc::new(Directory::new(Config::default()))
    }

    #[test]
    fn the_newest_attach_wins_and_the_older_holder_is_told() {
        let (directory, kicked) = (directory(), Arc::new(AtomicBool::new(false)));
        let tell = kicked.clone();
        let first = directory.attach(producer(), 0, Box::new(move || tell.store(true, Ordering::SeqCst)));
        let second = directory.attach(producer(), 0, nobody());
        assert!(kicked.load(Ordering::SeqCst));
        assert!(second.attach() > first.attach());
        drop(first);
        assert_eq!(directory.attach(producer(), 0, nobody()).attach(), second.attach() + 1);
    }

    #[test]
    fn attach_goes_on_from_what_the_client_has_seen() {
        let attachment = directory().attach(producer(), 41, nobody());
        assert_eq!((attachment.attach(), attachment.is_fresh()), (42, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_kept_for_its_time_and_then_forgotten() {
        let directory = directory();
        let cursor = |offset| Cursor { epoch: 1, offset, ..Cursor::default() };
        let mut attachment = directory.attach(producer(), 0, nobody());
        assert!(attachment.is_fresh());
        attachment.ack(cursor(7));
        attachment.ack(cursor(5));
        drop(attachment);

        tokio::time::advance(Duration::from_secs(119)).await;
        directory.sweep();
        let attachment = directory.attach(producer(), 0, nobody());
        assert_eq!((attachment.acked(), attachment.is_fresh()), (Some(cursor(7)), false));
        drop(attachment);
        tokio::time::advance(Duration::from_secs(121)).await;
        directory.sweep();
        assert!(directory.is_empty());
    }

    #[test]
    fn a_forgotten_session_leaves_nothing() {
        let directory = directory();
        let mut attachment = directory.attach(producer(), 0, nobody());
        attachment.forget();
        drop(attachment);
        assert!(directory.is_empty());
    }
}
