//! `--rate`: publishing on an absolute schedule; and the most that `--max-rate` wants.

use std::{str::FromStr, time::Duration};

use tokio::time::Instant;

/// How far behind its schedule a publisher may be and still catch up. More is forgiven: an input that paused for an
/// hour, or a server that was away, is not followed by an hour's burst.
const CATCH_UP: Duration = Duration::from_secs(1);

/// So many per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate(f64);

impl Rate {
    /// As a number.
    pub(super) fn per_second(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
        let seconds = match unit {
            "s" | "sec" | "second" => 1.0,
            "m" | "min" | "minute" => 60.0,
            "h" | "hour" => 3600.0,
            _ => return Err(format!("{unit:?} is no unit; write N/s, N/m or N/h")),
        };
        match number.parse::<f64>() {
            Ok(n) if n.is_finite() && n > 0.0 && (1e-6..=1e9).contains(&(n / seconds)) => Ok(Self(n / seconds)),
            _ => Err("must be a number above 0, such as 100/s or 30/m".to_owned()),
        }
    }
}

/// `--max-rate`: so many per second, in whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hertz(pub(super) u32);

impl FromStr for Hertz {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix("/s").unwrap_or(text);
        let number = number.parse().ok().filter(|&number| number > 0);
        number.map(Self).ok_or_else(|| "must be a whole number above 0, such as 5/s".to_owned())
    }
}

/// The schedule of a rate. The moment of the n-th event is computed from the start and not from the event before it,
/// so that lateness does not add up.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    origin: Instant,
    sent: u64,
}

impl Pace {
    /// Begins now.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, origin: Instant::now(), sent: 0 }
    }

    /// When the next event is due; counts it as sent.
    pub(super) fn next(&mut self) -> Instant {
        let now = Instant::now();
        let due = self.origin + Duration::from_secs_f64(self.sent as f64 / self.rate.0);
        if now.saturating_duration_since(due) > CATCH_UP {
            self.origin = now;
            self.sent = 1;
            return now;
        }
        self.sent += 1;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_unit_or_means_seconds() {
        for (text, per_second) in [("100/s", 100.0), ("100", 100.0), ("30/m", 0.5), ("0.5/s", 0.5), ("36/h", 0.01)] {
            assert_eq!(text.parse(), Ok(Rate(per_second)), "{text}");
        }
        for bad in ["", "0", "-1/s", "x/s", "5/day", "inf", "NaN/s", "/s", "1e300"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_maximum_is_whole() {
        assert_eq!(("5/s".parse(), "20".parse()), (Ok(Hertz(5)), Ok(Hertz(20))));
        for bad in ["", "0", "0.5/s", "5/m", "-1/s"] {
            assert!(bad.parse::<Hertz>().is_err(), "{bad:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lateness_does_not_add_up() {
        let start = Instant::now();
        let mut pace = Pace::new("10/s".parse().unwrap());
        assert_eq!(pace.next(), start);
        tokio::time::advance(Duration::from_millis(350)).await;
        assert_eq!(pace.next(), start + Duration::from_millis(100));
        assert_eq!(pace.next(), start + Duration::from_millis(200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_pause_is_not_followed_by_a_burst() {
        let mut pace = Pace::new("10/s".parse().unwrap());
        pace.next();
        tokio::time::advance(Duration::from_secs(60)).await;
        let resumed = Instant::now();
        assert_eq!(pace.next(), resumed);
        assert_eq!(pace.next(), resumed + Duration::from_millis(100));
    }
}
