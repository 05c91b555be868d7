//! Opens that were left without their answers, on connections that the session went away from.
//!
//! A server that waits for its broker may carry such an open out after the one that followed it elsewhere, and then the
//! older takes the session from the newer. What was left once can do so once.

use std::time::Duration;

use tokio::time::Instant;

/// How long a server may take for an open after its connection is gone: it waits for its broker, and for whoever held the
/// session.
const LATE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(in crate::client::worker) struct Left(Vec<Open>);

#[derive(Debug)]
struct Open {
    /// On which link.
    link: u64,
    /// Since when that is gone; none while it is there.
    gone: Option<Instant>,
}

impl Left {
    /// One is left.
    pub(super) fn push(&mut self, link: u64) {
        self.0.push(Open { link, gone: None });
    }

    /// Those of that link are answered: they do nothing more.
    pub(in crate::client::worker) fn answered(&mut self, link: u64) {
        self.0.retain(|open| open.link != link);
    }

    /// The link is gone, and what it left may be carried out for so much longer.
    pub(in crate::client::worker) fn gone(&mut self, link: u64, now: Instant) {
        for open in self.0.iter_mut().filter(|open| open.link == link) {
            open.gone.get_or_insert(now);
        }
        self.forget(now);
    }

    /// Takes one out that may have been carried out just now; false if there is none.
    pub(in crate::client::worker) fn take(&mut self, now: Instant) -> bool {
        self.forget(now);
        if self.0.is_empty() {
            return false;
        }
        self.0.remove(0);
        true
    }

    fn forget(&mut self, now: Instant) {
        self.0.retain(|open| open.gone.is_none_or(|gone| now < gone + LATE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_open_that_was_left_counts_once_and_not_for_ever() {
        let (mut left, now) = (Left::default(), Instant::now());
        assert!(!left.take(now));
        left.push(1);
        left.push(2);
        left.gone(1, now);
        assert!(left.take(now + LATE / 2));
        assert!(left.take(now + 2 * LATE), "its link is still there");
        assert!(!left.take(now));
        left.push(3);
        left.gone(3, now);
        assert!(!left.take(now + LATE));
        left.push(4);
        left.answered(4);
        assert!(!left.take(now));
    }
}
