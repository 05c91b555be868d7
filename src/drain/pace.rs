//! Who is told when.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Drain, Order};
use crate::{registry::DrainNotice, types::Timestamp};

/// Time between two rounds. Those told in one are spread over it by the delay they are given.
pub(super) const ROUND: Duration = Duration::from_millis(50);

impl Drain {
    /// Tells every connection, in random order, at the pace of the configuration and the order.
    pub(super) async fn tell_all(&self) {
        let mut waiting = self.registry.entries();
        fastrand::shuffle(&mut waiting);
        let (total, begun) = (waiting.len(), Instant::now());
        let mut ticks = interval(ROUND);
        // After a stall, those who were due are late; they do not all become due at once.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !waiting.is_empty() {
            ticks.tick().await;
            let order = self.progress.borrow().order.clone();
            let span = self.span(total, &order);
            let left = span.saturating_sub(begun.elapsed()).saturating_add(self.grace(&order));
            let due = due(total, begun.elapsed(), span).saturating_sub(total - waiting.len());
            let round = waiting.split_off(waiting.len() - due.min(waiting.len()));
            let (told, missed): (Vec<_>, Vec<_>) =
                round.into_iter().partition(|entry| entry.drain(notice(&order.reason, Some(left), due)));
            self.progress.send_modify(|progress| {
                progress.told += told.len();
                progress.deadline = Some(Timestamp::now().plus(left));
            });
            // Gone, or only just admitted and not there yet to be told.
            waiting.extend(missed.into_iter().filter(|entry| self.registry.get(entry.id()).is_some()));
        }
    }

    /// How long the telling takes in all.
    fn span(&self, total: usize, order: &Order) -> Duration {
        let spread = order.spread.map_or(self.config.spread, |spread| spread.min(self.config.spread));
        match self.config.max_reconnects_per_second {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(total as f64 / f64::from(rate)).min(spread),
        }
    }
}

/// For one of those who are told `together`.
pub(super) fn notice(reason: &Arc<str>, deadline: Option<Duration>, together: usize) -> DrainNotice {
    // One alone has nobody to make room for.
    let delay = if together > 1 { ROUND.mul_f64(fastrand::f64()) } else { Duration::ZERO };
    DrainNotice { reason: reason.clone(), reconnect_delay: delay, deadline }
}

/// How many of `total` are to have been told when `elapsed` of `span` is over: the first at once, the last at its end.
pub(super) fn due(total: usize, elapsed: Duration, span: Duration) -> usize {
    if elapsed >= span {
        return total;
    }
    let share = elapsed.as_secs_f64() / span.as_secs_f64();
    total.min((total as f64 * share) as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_the_last_at_the_end_and_the_others_evenly_between() {
        let span = Duration::from_secs(10);
        let at = |millis| due(100, Duration::from_millis(millis), span);
        assert_eq!([at(0), at(99), at(100), at(5000), at(9999), at(10_000)], [1, 1, 2, 51, 100, 100]);
        assert_eq!(due(7, Duration::ZERO, Duration::ZERO), 7);
    }
}
