//! What all logs of a process hold together, and how much that may be.
//!
//! Each log says what it holds whenever that changes: one atomic addition for a publish. Nothing is decided here. Below
//! the mark nothing happens; above it whoever keeps the logs is told to make room; at the limit publishes are refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::error::{Failure, Reason};

/// How long a publisher that was refused is to wait: by then room was made, if it can be.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Total(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    /// 0 for none.
    limit: u64,
    crowded: Notify,
}

impl Total {
    /// At most `limit` bytes; 0 for any number.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Shared { limit, ..Shared::default() }))
    }

    /// Bytes of memory that the logs hold: events, the latest of each key, and what is remembered of publishes.
    pub fn bytes(&self) -> u64 {
        // A log that grows and one that shrinks may be seen in either order.
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Where making room begins, and how much may be held when it was made.
    fn marks(&self) -> (u64, u64) {
        let limit = self.0.limit;
        (limit - limit / 16, limit - limit / 8)
    }

    /// Fails with HISTORY_LIMIT if nothing more may be stored.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let limit = self.0.limit;
        if limit == 0 || self.bytes() < limit {
            return Ok(());
        }
        let message = format!("all histories together hold as much as they may, {limit} bytes");
        Err(Failure::new(Reason::HistoryLimit, message).with("limit", limit).retry_after(PAUSE))
    }

    /// A log holds `after` bytes, and no longer `before`.
    pub(super) fn changed(&self, before: u64, after: u64) {
        if after < before {
            self.0.bytes.fetch_sub(before - after, Ordering::Relaxed);
        } else if after > before {
            let held = self.0.bytes.fetch_add(after - before, Ordering::Relaxed);
            let (mark, _) = self.marks();
            if (held..held + (after - before)).contains(&mark) && self.0.limit > 0 {
                self.0.crowded.notify_one();
            }
        }
    }

    /// Bytes to make room for; 0 below the mark.
    pub fn surplus(&self) -> u64 {
        let (held, (mark, goal)) = (self.bytes(), self.marks());
        if self.0.limit == 0 || held <= mark { 0 } else { held - goal }
    }

    /// Completes when the mark was passed since it completed last. Cancel-safe.
    pub async fn crowded(&self) {
        self.0.crowded.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_asked_for_once_above_the_mark_and_refused_is_at_the_limit() {
        let total = Total::new(1600);
        let asked = async || tokio::time::timeout(Duration::ZERO, total.crowded()).await.is_ok();
        total.changed(0, 1499);
        assert!(!asked().await && total.surplus() == 0);
        total.changed(1499, 1501);
        assert!(asked().await && total.surplus() == 101);
        total.changed(0, 98);
        assert!(!asked().await, "it was told");
        assert!(total.check().is_ok());
        total.changed(98, 99);
        assert_eq!(total.check().unwrap_err().reason, Reason::HistoryLimit);
        total.changed(1501, 0);
        assert_eq!((total.bytes(), total.surplus()), (99, 0));
        total.changed(0, 1500);
        assert!(asked().await, "it is above again");
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_ask_for() {
        let total = Total::default();
        total.changed(0, u64::MAX / 2);
        assert!(total.check().is_ok() && total.surplus() == 0);
    }
}
