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
    /// The wall clock, now. Not monotonic: it jumps when the system's clock is set, so whoever needs order keeps the
    /// greater of two.
    ///
    /// Not counted on from when the process began, although that would be monotonic: a clock that was wrong then would
    /// be believed for ever, and a machine that slept would be late for ever.
    pub fn now() -> Self {
        #[cfg(test)]
        if let Some(simulated) = simulated::now() {
            return simulated;
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
    }

    /// This moment and `duration`.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `earlier` to this moment; nothing if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// This moment less `duration`; never before the epoch.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Sleeps until then; without a time, for ever. Cancel-safe.
pub async fn sleep_until_or_forever(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A wall clock that follows tokio's clock, which a test can pause; a simulation must not see the real one.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::Timestamp;

    thread_local! {
        static ORIGIN: Cell<Option<(Timestamp, Instant)>> = const { Cell::new(None) };
    }

    /// From now on, until dropped, the wall clock of this thread began at `origin` and advances with tokio's clock.
    #[must_use]
    pub(crate) fn begin(origin: Timestamp) -> Simulated {
        ORIGIN.set(Some((origin, Instant::now())));
        Simulated
    }

    /// See [`begin`].
    pub(crate) struct Simulated;

    impl Drop for Simulated {
        fn drop(&mut self) {
            ORIGIN.set(None);
        }
    }

    pub(super) fn now() -> Option<Timestamp> {
        let (origin, began) = ORIGIN.get()?;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Some(Timestamp(origin.0.saturating_add(micros)))
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
