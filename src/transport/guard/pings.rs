//! Whether a peer pings too often, judged as grpc-go judges it.

use std::time::Duration;

use tokio::time::Instant;

/// Strikes a peer may have; one more ends the transport.
const STRIKES: u8 = 2;

/// The rule: a PING within `interval` of the one before is a strike. But clients also ping to measure a bandwidth, right
/// after we sent something; so a PING after HEADERS or DATA of ours is not judged, and clears the strikes.
///
/// A client that is told `too_many_pings` doubles its own interval, which is why the judgement has to be the same
/// everywhere.
#[derive(Debug, Default)]
pub(super) struct Pings {
    last: Option<Instant>,
    strikes: u8,
    /// We have sent HEADERS or DATA since.
    spoke: bool,
}

impl Pings {
    /// We sent HEADERS or DATA.
    pub(super) fn spoke(&mut self) {
        self.spoke = true;
    }

    /// The peer sent a PING; false if that was one too many.
    pub(super) fn allows(&mut self, interval: Duration, now: Instant) -> bool {
        let last = self.last.replace(now);
        if std::mem::take(&mut self.spoke) {
            self.strikes = 0;
        } else if last.is_some_and(|last| now.duration_since(last) < interval) {
            self.strikes = self.strikes.saturating_add(1);
        }
        self.strikes <= STRIKES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    /// Which PING ends it, of those at these seconds; `'d'` before one: we sent DATA.
    fn ended_by(course: &[(bool, u64)]) -> Option<usize> {
        let (begin, mut pings) = (Instant::now(), Pings::default());
        course.iter().position(|(spoke, at)| {
            if *spoke {
                pings.spoke();
            }
            !pings.allows(INTERVAL, begin + Duration::from_secs(*at))
        })
    }

    #[test]
    fn the_third_strike_is_the_fourth_of_pings_in_a_row() {
        assert_eq!(ended_by(&[0, 1, 2, 3, 4].map(|at| (false, at))), Some(3));
        assert_eq!(ended_by(&[0, 15, 30, 45, 60].map(|at| (false, at))), None);
    }

    #[test]
    fn strikes_stay_until_we_send_something() {
        let (no, yes) = (false, true);
        assert_eq!(ended_by(&[(no, 0), (no, 1), (no, 2), (no, 60), (no, 61)]), Some(4));
        assert_eq!(ended_by(&[(no, 0), (no, 1), (no, 2), (yes, 3), (no, 4), (no, 5), (no, 6)]), Some(6));
    }

    #[test]
    fn a_probe_after_each_answer_is_never_a_strike() {
        assert_eq!(ended_by(&[(true, 0); 1000]), None);
        // Every second one follows nothing: a strike at most, cleared by the next.
        let course: Vec<_> = (0..1000).map(|n| (n % 2 == 0, 0)).collect();
        assert_eq!(ended_by(&course), None);
    }
}
