//! Who holds which session, and what is kept of those nobody holds.
//!
//! The newest attach wins: a client that opens a session again is right, because the usual reason is a connection that
//! is dead without knowing it. Whoever held the session before is told.
//!
//! Bounded: by `max_per_client` for one client, by `max_kept` for all sessions that nobody holds, by `ttl` for each.

mod elsewhere;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::elsewhere::Taken;
pub use self::elsewhere::see_to_lost;
use super::Estate;
use crate::{
    broker::{Claimed, Fleet, Legacy, Previous},
    error::{Failure, Reason},
    planted::{self, Bug},
    types::{ByProducer, Claim, ClientId, Producer, Topic},
};

/// `[session]`: what is kept of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long the place of a session is kept after its connection ended.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// How long the keys and the presence of a session outlive its connection; no longer than its place is kept.
    #[serde(with = "humantime_serde")]
    pub key_grace: Duration,
    /// Most named sessions of one client, held or kept.
    pub max_per_client: usize,
    /// Most sessions kept that nobody holds.
    pub max_kept: usize,
}

impl Default for Config {
    fn default() -> Self {
        let (ttl, key_grace) = (Duration::from_secs(120), Duration::from_secs(15));
        Self { ttl, key_grace, max_per_client: 1000, max_kept: 100_000 }
    }
}

impl Config {
    /// Everything wrong with the section, as `(key, sentence)`.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if self.max_per_client == 0 {
            problems.push(("max_per_client".into(), "must be at least 1".into()));
        }
        if self.max_kept == 0 {
            problems.push((
                "max_kept".into(),
                "must be at least 1, or no session could be resumed by what it acked".into(),
            ));
        }
        problems
    }
}

/// How many places the sweep looks at under one lock.
const SWEEP_CHUNK: usize = 256;

/// Tells a holder that it has lost its session, and why. Called with no lock held; must not block.
pub type Kick = Box<dyn FnOnce(Failure) + Send>;

/// Every named session that is held, or was within `ttl`.
#[derive(Debug)]
pub struct Directory {
    config: Config,
    fleet: Fleet,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    places: ByProducer<Place>,
    /// How many of them nobody holds.
    kept: usize,
    per_client: HashMap<ClientId, usize>,
    /// Places nobody holds, longest first; one that was taken since, as its attach tells, is stale.
    let_go: VecDeque<LetGo>,
    /// Those of them whose keys live on for the grace.
    keyed: VecDeque<LetGo>,
    /// Sessions that are being taken from other replicas: by how many, and the newest attach that another replica has told
    /// of since.
    taking: ByProducer<(usize, u64)>,
}

struct Place {
    attach: u64,
    /// Under which it is held here, where there are other replicas.
    claim: Option<Claim>,
    estate: Arc<Estate>,
    /// Who holds it, to be told; nobody, if nobody does.
    holder: Option<Kick>,
}

#[derive(Debug, Clone)]
struct LetGo {
    since: Instant,
    producer: Producer,
    attach: u64,
}

/// Whose time to come back is over: for its keys alone, or for all of it.
struct GivenUp {
    producer: Producer,
    owed: Vec<Previous>,
    claim: Option<Claim>,
    is_kept: bool,
}

impl LetGo {
    /// False if somebody has taken the place since.
    fn is_of(&self, place: &Place) -> bool {
        self.attach == place.attach
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("attach", &self.attach).field("estate", &self.estate).finish_non_exhaustive()
    }
}

impl State {
    fn remove(&mut self, producer: &Producer) -> Option<Place> {
        let place = self.places.remove(producer)?;
        self.kept -= usize::from(place.holder.is_none());
        if let Some(count) = self.per_client.get_mut(producer.client_id()) {
            *count -= 1;
            if *count == 0 {
                self.per_client.remove(producer.client_id());
            }
        }
        Some(place)
    }

    fn insert(&mut self, producer: Producer, place: Place) {
        *self.per_client.entry(producer.client_id().clone()).or_default() += 1;
        self.places.insert(producer, place);
    }

    /// Drops what is stale once it is the larger part: a client may take a session and let it go as often as it likes.
    fn compact(&mut self) {
        let limit = 2 * self.kept + SWEEP_CHUNK;
        let places = &self.places;
        for queue in [&mut self.let_go, &mut self.keyed].into_iter().filter(|queue| queue.len() > limit) {
            queue.retain(|let_go| places.get(&let_go.producer).is_some_and(|place| let_go.is_of(place)));
        }
    }

    /// Fails with SESSION_LIMIT if it is one more than its client may have.
    fn check_limit(&self, producer: &Producer, limit: usize) -> Result<(), Failure> {
        let is_full = self.per_client.get(producer.client_id()).is_some_and(|count| *count >= limit);
        if is_full && !self.places.contains_key(producer) {
            let message = format!("a client may have {limit} sessions");
            return Err(Failure::new(Reason::SessionLimit, message).with("limit", limit));
        }
        Ok(())
    }

    /// The place, if it is still as it was when it was let go.
    fn still(&self, let_go: &LetGo) -> Option<&Place> {
        self.places.get(&let_go.producer).filter(|place| let_go.is_of(place))
    }
}

impl Directory {
    /// An empty directory, of a replica of this fleet.
    pub fn new(config: Config, fleet: Fleet) -> Self {
        Self { config, fleet, state: Mutex::default() }
    }

    /// The section.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes a session on a topic, from whoever holds it. `last_attach` is what the client has seen: numbers go on from
    /// there even if this process has never heard of the session. `taken` says that it was taken before all other
    /// replicas, where there are any. SESSION_LIMIT if the client has too many, TAKEN_OVER if somebody was quicker.
    pub fn attach(
        self: &Arc<Self>,
        producer: Producer,
        topic: &Topic,
        last_attach: u64,
        taken: Option<Taken>,
        kick: Kick,
    ) -> Result<Attachment, Failure> {
        // Until its place is here.
        let (claimed, _watch) = taken.map(Taken::open).unzip();
        let mut state = self.state.lock();
        let known_attach = state.places.get(&producer).map_or(0, |place| place.attach);
        let newest = state.taking.get(&producer).map_or(known_attach, |(_, told)| known_attach.max(*told));
        // Of two that came at once, the other was first here, or told so, and is the newer one everywhere.
        let is_late = claimed.as_ref().is_some_and(|claimed: &Claimed| claimed.attach <= newest);
        let refused = state.check_limit(&producer, self.config.max_per_client).err();
        if let Some(refused) = refused.or_else(|| is_late.then(Failure::taken_over)) {
            drop(state);
            if let Some(Claimed { previous, claim, .. }) = claimed {
                self.fleet.abandon(producer, previous.into_iter().collect(), claim);
            }
            return Err(refused);
        }
        let attach = claimed.as_ref().map_or(known_attach.max(last_attach) + 1, |claimed| claimed.attach);
        let (claim, previous) = claimed.map(|claimed| (claimed.claim, claimed.previous)).unzip();
        let previous = previous.flatten();
        let known = state.remove(&producer);
        let fresh = known.is_none() && last_attach == 0 && claim.is_none_or(|claim| claim.first);
        let estate = match &known {
            Some(place) if place.estate.topic() == topic => {
                place.estate.hand_over(attach, claim, previous.filter(|previous| !previous.is_own));
                place.estate.clone()
            }
            Some(place) => {
                let mut owed = place.estate.give_up();
                owed.extend(previous.filter(|previous| !previous.is_own));
                Estate::new(topic.clone(), attach, claim, owed)
            }
            None => Estate::new(topic.clone(), attach, claim, previous.into_iter().collect()),
        };
        state.insert(producer.clone(), Place { attach, claim, estate: estate.clone(), holder: Some(kick) });
        drop(state);
        // Outside of the lock: it takes that of a connection.
        match known.and_then(|place| place.holder) {
            Some(_) if planted::active(Bug::SkipsTheFence) => {}
            Some(kick) if planted::active(Bug::FencesLate) => planted::later(|| kick(Failure::taken_over())),
            Some(kick) => kick(Failure::taken_over()),
            None => {}
        }
        Ok(Attachment { directory: self.clone(), producer, attach, estate, fresh, keep: true })
    }

    /// What a session has in a topic, as far as its place is kept: what the next attach on the topic will find.
    pub fn estate(&self, producer: &Producer, topic: &Topic) -> Option<Arc<Estate>> {
        let state = self.state.lock();
        let place = state.places.get(producer).filter(|place| place.estate.topic() == topic)?;
        Some(place.estate.clone())
    }

    /// Forgets what nobody has come back for; to be called about once a second. How many sessions have expired.
    pub fn sweep(&self) -> usize {
        let mut expired = 0;
        // In pieces: whoever opens a session meanwhile does not wait for all that is undone.
        while self.sweep_some(&mut expired) {}
        expired
    }

    /// Some of it, under the lock: nobody may come back for a session while its keys are being removed. True if there
    /// may be more.
    fn sweep_some(&self, expired: &mut usize) -> bool {
        let now = Instant::now();
        let over = |let_go: &LetGo, limit: Duration| now.duration_since(let_go.since) >= limit;
        let (mut state, mut given_up) = (self.state.lock(), Vec::new());
        for _ in 0..SWEEP_CHUNK {
            if let Some(oldest) = state.keyed.pop_front_if(|oldest| over(oldest, self.config.key_grace)) {
                if let Some(place) = state.still(&oldest) {
                    let (owed, claim) = (place.estate.release_keys(), place.claim);
                    given_up.push(GivenUp { producer: oldest.producer, owed, claim, is_kept: true });
                }
                continue;
            }
            let too_many = state.kept > self.config.max_kept;
            let Some(oldest) = state.let_go.pop_front_if(|oldest| too_many || over(oldest, self.config.ttl)) else {
                state.compact();
                drop(state);
                self.give_back(given_up);
                return false;
            };
            if state.still(&oldest).is_some()
                && let Some(place) = state.remove(&oldest.producer)
            {
                let (owed, claim) = (place.estate.give_up(), place.claim);
                given_up.push(GivenUp { producer: oldest.producer, owed, claim, is_kept: false });
                *expired += 1;
            }
        }
        drop(state);
        self.give_back(given_up);
        true
    }

    /// Sessions held or kept.
    pub fn len(&self) -> usize {
        self.state.lock().places.len()
    }

    /// True if no session is held or kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nobody has come back for these. What others have left of them, and nobody has seen to, is undone.
    fn give_back(&self, given_up: Vec<GivenUp>) {
        let (mut claims, mut legacies) = (Vec::new(), Vec::new());
        for GivenUp { producer, owed, claim, is_kept } in given_up {
            let Some(claim) = claim else { continue };
            if owed.is_empty() && !is_kept {
                claims.push(claim);
            }
            let legacy = |previous| Legacy { producer: producer.clone(), previous, claim, is_kept };
            legacies.extend(owed.into_iter().map(legacy));
        }
        self.fleet.give_back(claims);
        self.fleet.bequeath(legacies);
    }

    fn let_go(&self, attachment: &Attachment) {
        let mut state = self.state.lock();
        let Some(place) = state.places.get_mut(&attachment.producer) else { return };
        if place.attach != attachment.attach {
            return;
        }
        if !attachment.keep {
            let owed = attachment.estate.give_up();
            let claim = state.remove(&attachment.producer).and_then(|place| place.claim);
            drop(state);
            let producer = attachment.producer.clone();
            return self.give_back(vec![GivenUp { producer, owed, claim, is_kept: false }]);
        }
        // A holder that lets go need not be told of the next one.
        drop(place.holder.take());
        state.kept += 1;
        let (producer, attach) = (attachment.producer.clone(), attachment.attach);
        let let_go = LetGo { since: Instant::now(), producer, attach };
        if attachment.estate.has_keys() {
            state.keyed.push_back(let_go.clone());
        }
        state.let_go.push_back(let_go);
    }
}

/// Holds a session until dropped. Its place is then kept for `ttl`, unless somebody has taken it over.
#[derive(Debug)]
pub struct Attachment {
    directory: Arc<Directory>,
    producer: Producer,
    attach: u64,
    estate: Arc<Estate>,
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

    /// What outlives the connection.
    pub fn estate(&self) -> &Arc<Estate> {
        &self.estate
    }

    /// False once a newer attach has taken the session.
    pub fn is_current(&self) -> bool {
        self.directory.state.lock().places.get(&self.producer).is_some_and(|place| place.attach == self.attach)
    }

    /// True if nobody has heard of the session before.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Keeps nothing of the session when it is let go.
    pub fn forget(&mut self) {
        self.keep = false;
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.directory.clone().let_go(self);
    }
}

#[cfg(test)]
mod tests;
