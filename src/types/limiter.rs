//! How often each of very many may do something in a second, in a memory that does not grow with them.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::ClientId;

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 16;
/// Sets of a part.
const SETS: usize = 1 << 12;
/// Places of a set.
const WAYS: usize = 4;
const SECOND: u64 = 1_000_000_000;

/// Who pays for something: a client, or an address. Only told apart from others; nobody can be found by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Party(u64);

impl Party {
    /// A client that somebody vouches for.
    pub fn client(client: &ClientId) -> Self {
        Self(hash(&(0_u8, client)))
    }

    /// An address; of IPv6 the network, because whoever has one address there has 2⁶⁴.
    pub fn address(address: IpAddr) -> Self {
        Self(hash(&(1_u8, network(address))))
    }

    /// Whoever publishes by a bridge on these subjects.
    pub fn bridge(subject: &str) -> Self {
        Self(hash(&(2_u8, subject)))
    }
}

/// An IPv4 address, or the /64 that one subscriber has of IPv6. The two do not meet: no /64 that is given to anybody
/// begins with 32 zeros.
pub fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A bucket for each party, as [`Rate`](super::Rate) is one: it holds what there may be in a second, and fills again at
/// that rate. There is room for a quarter of a million parties, 4 MiB. Where more come, the fullest bucket of a set gives
/// way: that of somebody who has done the least, and loses the least by having it full again. So whoever is being held
/// back stays so, however many others come.
#[derive(Debug)]
pub struct Limiter {
    per_second: u64,
    origin: Instant,
    /// So that nobody can choose whom it shares a set with.
    seed: u64,
    shards: Vec<Mutex<Shard>>,
}

/// Places in two arrays, so that the memory of those that nobody uses is never touched.
#[derive(Debug)]
struct Shard {
    parties: Vec<u64>,
    /// When each bucket will be full, nanoseconds since the origin.
    full_at: Vec<u64>,
}

impl Limiter {
    /// Everybody's bucket is full; `per_second` 0 for no limit, and no memory.
    pub fn new(per_second: u64) -> Self {
        let shard = || Shard { parties: vec![0; SETS * WAYS], full_at: vec![0; SETS * WAYS] };
        // Without a limit nothing is drawn either: the seeds of the simulation go on meaning what they mean.
        let (shards, seed) = if per_second == 0 { (0, 0) } else { (SHARDS, fastrand::u64(..)) };
        let shards = (0..shards).map(|_| Mutex::new(shard())).collect();
        Self { per_second, origin: Instant::now(), seed, shards }
    }

    /// True if there is no limit.
    pub fn is_off(&self) -> bool {
        self.per_second == 0
    }

    /// Takes `amount` out of a party's bucket; how long to wait if it is not in there. What is more than a bucket ever
    /// holds goes when it is full, and is owed.
    pub fn take(&self, party: Party, amount: u64, now: Instant) -> Result<(), Duration> {
        if self.is_off() {
            return Ok(());
        }
        let now = u64::try_from(now.duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX) + SECOND;
        let cost = u128::from(amount) * u128::from(SECOND) / u128::from(self.per_second);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let spread = hash(&(self.seed, party));
        let shard = &self.shards[(spread as usize) % SHARDS];
        let mut shard = shard.lock();
        let place = shard.place(party, (spread >> 32) as usize % SETS);
        let before = shard.full_at[place].max(now);
        let after = before.saturating_add(cost);
        let over = after.saturating_sub(now + SECOND);
        if over == 0 || before == now {
            shard.parties[place] = party.0;
            shard.full_at[place] = after;
            return Ok(());
        }
        Err(Duration::from_nanos(over.min(before - now)))
    }
}

impl Shard {
    /// A party's place, or the one it is to have: that of the fullest bucket of its set.
    fn place(&mut self, party: Party, set: usize) -> usize {
        let places = set * WAYS..(set + 1) * WAYS;
        let known = places.clone().find(|place| self.parties[*place] == party.0);
        known.unwrap_or_else(|| {
            let fullest = places.min_by_key(|place| self.full_at[*place]).unwrap_or_default();
            self.full_at[fullest] = 0;
            fullest
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> Party {
        Party::address(Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn a_burst_of_a_second_is_let_in_and_then_the_rate_and_the_wait_is_told() {
        let (limiter, begin) = (Limiter::new(100), Instant::now());
        let taken = |at: u64| {
            let now = begin + Duration::from_millis(at);
            (0..1000).take_while(|_| limiter.take(address(1), 1, now).is_ok()).count()
        };
        assert_eq!([taken(0), taken(0), taken(100), taken(5000)], [100, 0, 10, 100]);
        let now = begin + Duration::from_secs(5);
        let wait = limiter.take(address(1), 1, now).unwrap_err();
        assert!(wait <= Duration::from_millis(10), "{wait:?}");
        assert!(limiter.take(address(1), 1, now + wait).is_ok());
        assert!(limiter.take(address(2), 1, now).is_ok(), "others have buckets of their own");
    }

    #[test]
    fn what_is_larger_than_a_bucket_goes_when_it_is_full_and_is_owed() {
        let (limiter, begin) = (Limiter::new(1000), Instant::now());
        assert!(limiter.take(address(1), 5000, begin).is_ok());
        let wait = limiter.take(address(1), 1, begin).unwrap_err();
        assert!(wait > Duration::from_secs(3) && wait < Duration::from_secs(5), "{wait:?}");
        assert!(limiter.take(address(1), 1, begin + wait + Duration::from_millis(1)).is_ok());
    }

    #[test]
    fn a_million_others_do_not_set_free_whoever_is_held_back() {
        let (limiter, now) = (Limiter::new(10), Instant::now());
        let victim = address(u32::MAX);
        while limiter.take(victim, 1, now).is_ok() {}
        for number in 0..1_000_000 {
            limiter.take(address(number), 1, now).unwrap();
        }
        assert!(limiter.take(victim, 1, now).is_err());
        let places: usize = limiter.shards.iter().map(|shard| shard.lock().parties.len()).sum();
        assert!(places * 16 <= 32 << 20, "{places} places of 16 bytes");
    }

    #[test]
    fn an_ipv6_network_is_one_party() {
        let party = |text: &str| Party::address(text.parse().unwrap());
        assert_eq!(party("2001:db8::1"), party("2001:db8::2"));
        assert_ne!(party("2001:db8::1"), party("2001:db8:0:1::1"));
        assert_eq!(party("::ffff:10.0.0.1"), party("10.0.0.1"));
    }
}
