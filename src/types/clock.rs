//! Time as the house uses it: wall-clock microseconds for records, a coarse monotonic clock for liveness.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The wall clock, now. Not monotonic: whoever needs order keeps the greater of two.
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
    }

    /// This moment less `duration`; never before the epoch.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// A coarse clock: milliseconds since it was made, advanced by whoever owns it.
///
/// Reading the time on every frame costs fifty nanoseconds, a relaxed load three. Liveness needs no more than the
/// resolution of the sweep that judges it, so the sweep advances this clock and everybody else only reads it.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origin: tokio::time::Instant,
    millis: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        // Starts at 1 so that 0 can mean "never" wherever a reading is stored.
        Self(Arc::new(Inner { origin: tokio::time::Instant::now(), millis: AtomicU64::new(1) }))
    }
}

impl Clock {
    /// The last reading, milliseconds; never 0.
    pub fn millis(&self) -> u64 {
        self.0.millis.load(Ordering::Relaxed)
    }

    /// Reads the real clock and makes it everybody's; returns it.
    pub fn advance(&self) -> u64 {
        let elapsed = u64::try_from(self.0.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now = elapsed.saturating_add(1);
        self.0.millis.store(now, Ordering::Relaxed);
        now
    }
}
