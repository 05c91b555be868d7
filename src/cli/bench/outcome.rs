//! What a load has shown.

use std::{io, time::Duration};

use hdrhistogram::Histogram;

use super::{
    super::{json, output::Output},
    load::Plan,
};
use crate::cli::exit::Stop;

/// Digits of a wait that are kept.
const DIGITS: u8 = 3;
/// What is told of waits.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Counts and waits.
#[derive(Debug)]
pub(super) struct Outcome {
    topic: String,
    seconds: f64,
    size: u32,
    /// Whether each reader has one publisher only: itself.
    echo: bool,
    /// What each publisher has sent, warm-up included.
    sent: Vec<u64>,
    /// Of them, those that are measured.
    published: u64,
    /// The newest number that each reader has of each publisher.
    newest: Vec<Vec<u64>>,
    acknowledged: Waits,
    delivered: Waits,
    /// Numbers that were passed over, and did not come later.
    passed: u64,
    doubled: u64,
    /// Gaps that were announced.
    pub(super) gaps: u64,
    /// Breaks of a chain.
    pub(super) broken: u64,
    /// Events of others.
    pub(super) foreign: u64,
}

impl Outcome {
    /// Of a load that has not begun.
    pub(super) fn new(topic: &str, plan: &Plan, readers: u32, echo: bool) -> Self {
        let publishers = plan.publishers as usize;
        let heard = if echo { 1 } else { publishers };
        Self {
            topic: topic.to_owned(),
            seconds: plan.duration.as_secs_f64(),
            size: plan.size,
            echo,
            sent: vec![0; publishers],
            published: 0,
            newest: vec![vec![0; heard]; readers as usize],
            acknowledged: Waits::new(),
            delivered: Waits::new(),
            passed: 0,
            doubled: 0,
            gaps: 0,
            broken: 0,
            foreign: 0,
        }
    }

    /// A publisher is about to send its next event.
    pub(super) fn sent(&mut self, publisher: u32, counts: bool) {
        self.sent[publisher as usize] += 1;
        self.published += u64::from(counts);
    }

    /// A publish was answered after so long.
    pub(super) fn acknowledged(&mut self, wait: Duration) {
        self.acknowledged.note(wait);
    }

    /// A reader has the event of this number, after so long if that counts.
    pub(super) fn delivered(&mut self, reader: usize, publisher: u32, number: u64, wait: Option<Duration>) {
        let newest = &mut self.newest[reader][publisher as usize];
        if number <= *newest {
            // Twice, or after a later one.
            self.doubled += 1;
            return;
        }
        self.passed += number - *newest - 1;
        *newest = number;
        if let Some(wait) = wait {
            self.delivered.note(wait);
        }
    }

    /// Whether every reader has the newest of all that was sent.
    pub(super) fn complete(&self) -> bool {
        self.behind() == 0
    }

    /// Events that readers have not come to.
    fn behind(&self) -> u64 {
        let behind = |(reader, newest): (usize, &Vec<u64>)| {
            let sent = if self.echo { &self.sent[reader..=reader] } else { &self.sent[..] };
            sent.iter().zip(newest).map(|(sent, newest)| sent - newest).sum::<u64>()
        };
        self.newest.iter().enumerate().map(behind).sum()
    }

    fn lost(&self) -> u64 {
        self.passed + self.behind()
    }

    /// Fails if something was lost, doubled or out of order.
    pub(super) fn judge(&self) -> Result<(), Stop> {
        let (lost, doubled) = (self.lost(), self.doubled);
        if lost == 0 && doubled == 0 && self.broken == 0 {
            return Ok(());
        }
        Err(Stop::failure(format!(
            "{lost} deliveries were lost ({} gaps were announced), {doubled} came twice or too late, and {} breaks of a chain",
            self.gaps, self.broken
        )))
    }

    /// On stdout, for people or as JSON.
    pub(super) fn print(&self, as_json: bool) -> Result<(), Stop> {
        let mut text = Vec::new();
        if as_json {
            json::line(&mut text, &self.json());
        } else {
            text.extend_from_slice(self.text().as_bytes());
        }
        let print = || -> io::Result<()> { Output::stdout()?.write(&text) };
        print().map_err(|error| Stop::stdout(&error))
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}: {} to {}, {} B, {} s measured\n\n{:<14}{:>10}{:>12}",
            self.topic,
            self.sent.len(),
            self.newest.len(),
            self.size,
            self.seconds,
            "",
            "events",
            "a second"
        );
        for (name, _) in QUANTILES {
            text += &format!("{name:>10}");
        }
        text += &format!("{:>10}\n", "max, µs");
        for (name, waits) in [("acknowledged", &self.acknowledged), ("delivered", &self.delivered)] {
            let count = waits.0.len();
            text += &format!("{name:<14}{count:>10}{:>12.1}", count as f64 / self.seconds);
            for (_, quantile) in QUANTILES {
                text += &format!("{:>10}", waits.0.value_at_quantile(quantile));
            }
            text += &format!("{:>10}\n", waits.0.max());
        }
        let (lost, doubled, gaps, foreign) = (self.lost(), self.doubled, self.gaps, self.foreign);
        text + &format!("\nlost {lost}, doubled or out of order {doubled}, gaps {gaps}, events of others {foreign}\n")
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "topic": self.topic, "publishers": self.sent.len(), "subscribers": self.newest.len(),
            "payload_bytes": self.size, "seconds": self.seconds, "published": self.published,
            "acknowledged": self.acknowledged.json(self.seconds), "delivered": self.delivered.json(self.seconds),
            "lost": self.lost(), "doubled": self.doubled, "gaps": self.gaps, "broken": self.broken,
            "foreign": self.foreign,
        })
    }
}

/// Waits, in microseconds.
#[derive(Debug)]
struct Waits(Histogram<u64>);

impl Waits {
    fn new() -> Self {
        // It is made for so many digits.
        Self(Histogram::new(DIGITS).expect("few digits"))
    }

    fn note(&mut self, wait: Duration) {
        // It grows as it has to, and half a million years fit.
        self.0.record(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)).ok();
    }

    fn json(&self, seconds: f64) -> serde_json::Value {
        let mut object = serde_json::json!({
            "count": self.0.len(), "per_second": self.0.len() as f64 / seconds, "max_us": self.0.max(),
        });
        for (name, quantile) in QUANTILES {
            object[format!("{}_us", name.replace('.', "_"))] = self.0.value_at_quantile(quantile).into();
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(publishers: u32, readers: u32, echo: bool) -> Outcome {
        let (second, rate) = (Duration::from_secs(1), "10/s".parse().unwrap());
        let mut outcome = Outcome::new("t", &Plan::new(rate, publishers, 64, second, second), readers, echo);
        (0..publishers).for_each(|publisher| outcome.sent(publisher, true));
        outcome
    }

    #[test]
    fn what_every_reader_has_once_and_in_order_is_complete() {
        let mut outcome = outcome(2, 2, false);
        assert!(!outcome.complete());
        for (reader, publisher) in [(0, 0), (0, 1), (1, 1), (1, 0)] {
            outcome.delivered(reader, publisher, 1, Some(Duration::from_micros(50)));
        }
        assert!(outcome.complete());
        assert_eq!(outcome.judge(), Ok(()));
        assert_eq!((outcome.delivered.0.len(), outcome.delivered.0.max()), (4, 50));
    }

    #[test]
    fn what_is_missing_passed_over_or_doubled_fails() {
        let mut missing = outcome(1, 1, false);
        assert!(missing.judge().unwrap_err().sentence.starts_with("1 deliveries were lost"));
        missing.sent(0, true);
        missing.delivered(0, 0, 2, None);
        assert!(missing.complete() && missing.lost() == 1, "passed over");
        let mut doubled = outcome(1, 1, true);
        doubled.delivered(0, 0, 1, None);
        doubled.delivered(0, 0, 1, None);
        assert_eq!((doubled.lost(), doubled.doubled), (0, 1));
        assert!(doubled.judge().is_err());
    }
}
