//! What is remembered of source addresses: how many transports each has, and what those that ended had used up of their
//! allowances, so that nobody gets a fresh allowance by reconnecting.
//!
//! Of an address that has no transport and owes nothing, nothing is kept. What is owed is over within minutes; those who
//! owe are kept in two generations of bounded size, of which the older is dropped when the younger is full: whoever goes
//! on is always in the younger. So a flood of addresses costs a few megabytes, and does not clear an attacker's score.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Config, guard::Debts};
use crate::types::network;

/// Addresses in a generation. Two of them, and the room that their tables keep, are about 12 MB.
const GENERATION: usize = 1 << 17;

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Most transports of an address; 0: any number.
    most: usize,
    keeps_scores: bool,
    began: Instant,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    live: HashMap<u64, usize>,
    younger: HashMap<u64, Owed>,
    older: HashMap<u64, Owed>,
}

/// When its allowances are whole again, in tenths of a second since the ledger began: which is soon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Owed {
    resets: u32,
    glitches: u32,
}

impl Ledger {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            most: config.max_transports_per_address,
            keeps_scores: config.guard.scores_per_address,
            began: Instant::now(),
            books: Mutex::default(),
        }
    }

    /// A place for one more transport of an address, if there is one.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let key = network(address);
        let mut books = self.books.lock();
        let live = books.live.entry(key).or_default();
        if self.most > 0 && *live >= self.most {
            return None;
        }
        *live += 1;
        Some(Place { ledger: self.clone(), key })
    }

    fn tenths(&self, at: Instant) -> u32 {
        let tenths = at.saturating_duration_since(self.began).as_millis().div_ceil(100);
        u32::try_from(tenths).unwrap_or(u32::MAX)
    }

    fn left(&self, tenths: u32, now: Instant) -> Duration {
        (self.began + Duration::from_millis(u64::from(tenths) * 100)).saturating_duration_since(now)
    }
}

impl Books {
    fn owed(&self, key: u64) -> Owed {
        self.younger.get(&key).or_else(|| self.older.get(&key)).copied().unwrap_or_default()
    }

    fn owe(&mut self, key: u64, owed: Owed) {
        let before = self.owed(key);
        let owed = Owed { resets: owed.resets.max(before.resets), glitches: owed.glitches.max(before.glitches) };
        if self.younger.len() >= GENERATION && !self.younger.contains_key(&key) {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(key, owed);
    }
}

/// One transport's, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    ledger: Arc<Ledger>,
    key: u64,
}

impl Place {
    /// What earlier transports of the address have used up.
    pub(super) fn owed(&self) -> Debts {
        let (owed, now) = (self.ledger.books.lock().owed(self.key), Instant::now());
        Debts { resets: self.ledger.left(owed.resets, now), glitches: self.ledger.left(owed.glitches, now) }
    }

    /// What the transport has used up itself.
    pub(super) fn settle(&self, debts: Debts) {
        if !self.ledger.keeps_scores || debts == Debts::default() {
            return;
        }
        let now = Instant::now();
        let whole = |debt: Duration| self.ledger.tenths(now + debt);
        self.ledger.books.lock().owe(self.key, Owed { resets: whole(debts.resets), glitches: whole(debts.glitches) });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut books = self.ledger.books.lock();
        if let Entry::Occupied(mut live) = books.live.entry(self.key) {
            *live.get_mut() -= 1;
            if *live.get() == 0 {
                live.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(most: usize) -> Arc<Ledger> {
        Arc::new(Ledger::new(&Config { max_transports_per_address: most, ..Config::default() }))
    }

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn resets(seconds: u64) -> Debts {
        Debts { resets: Duration::from_secs(seconds), ..Debts::default() }
    }

    #[test]
    fn each_address_has_so_many_places_and_gets_them_back() {
        let ledger = ledger(2);
        let (first, _second) = (ledger.enter(address(1)).unwrap(), ledger.enter(address(1)).unwrap());
        assert!(ledger.enter(address(1)).is_none());
        let _other = ledger.enter(address(2)).unwrap();
        drop(first);
        let _third = ledger.enter(address(1)).unwrap();
        assert!(ledger.enter(address(1)).is_none());
        let unlimited = super::tests::ledger(0);
        let places: Vec<_> = (0..1000).map(|_| unlimited.enter(address(1)).unwrap()).collect();
        assert_eq!(unlimited.books.lock().live.len(), 1);
        drop(places);
        assert_eq!(unlimited.books.lock().live.len(), 0, "of who has gone nothing is kept");
    }

    #[test]
    fn a_64_is_one_address_and_a_mapped_one_is_itself() {
        let parse = |text: &str| network(text.parse().unwrap());
        assert_eq!(parse("2001:db8:1:2::1"), parse("2001:db8:1:2:ffff::9"));
        assert_ne!(parse("2001:db8:1:2::1"), parse("2001:db8:1:3::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), parse("192.0.2.1"));
        assert_ne!(parse("192.0.2.1"), parse("192.0.2.2"));
    }

    #[tokio::test(start_paused = true)]
    async fn debts_outlive_a_transport_and_run_out() {
        let ledger = ledger(0);
        let place = ledger.enter(address(1)).unwrap();
        assert_eq!(place.owed(), Debts::default());
        place.settle(resets(60));
        ledger.enter(address(1)).unwrap().settle(resets(10));
        drop(place);
        tokio::time::advance(Duration::from_secs(20)).await;
        let left = ledger.enter(address(1)).unwrap().owed();
        assert_eq!(left.resets.as_secs_f64().round(), 40.0, "the longer one counts");
        assert_eq!(ledger.enter(address(2)).unwrap().owed(), Debts::default());
        tokio::time::advance(Duration::from_secs(41)).await;
        assert_eq!(ledger.enter(address(1)).unwrap().owed(), Debts::default());
    }

    #[test]
    fn a_million_addresses_cost_little_and_clear_nobody_who_goes_on() {
        let ledger = ledger(0);
        let offend = |n: u32| ledger.enter(address(n)).unwrap().settle(resets(60));
        for n in 1..=1_000_000 {
            offend(n);
            if n % 50_000 == 0 {
                offend(0);
            }
        }
        assert!(ledger.enter(address(0)).unwrap().owed().resets > Duration::from_secs(30));
        let books = ledger.books.lock();
        // A slot of the table is the pair and one byte, and an eighth of the slots is always free.
        let slot = size_of::<(u64, Owed)>() + 1;
        let bytes = (books.younger.capacity() + books.older.capacity()) * slot * 8 / 7;
        assert!(books.live.is_empty() && bytes <= 32 << 20, "{bytes}");
    }
}
