//! The table: medians of the rounds, and the ratio taken pair by pair.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use crate::{
    talker::PAYLOAD,
    work::{Clock, Sample},
};

/// The table, a line for each kind of work. The first of the contenders is compared with each of the others.
pub struct Table {
    contenders: Vec<&'static str>,
}

impl Table {
    /// Says what the table is, and begins it.
    pub fn begin(contenders: Vec<&'static str>, clock: &Clock, rounds: usize) -> Self {
        println!(
            "Server on one core, generator on another; {PAYLOAD} B payload; {rounds} rounds of {:?} each, in turns, after \
             {:?} of warm-up.\nCPU is the server's own time per message (for fan-out: per delivery), median of the rounds; a \
             ratio is {}'s to another's\nin the same round, median (least to most). Every answer was there, once and in \
             order, or this would have stopped.\n",
            clock.length, clock.warm_up, contenders[0]
        );
        let each = |what: &str| contenders.iter().map(|name| format!("{name} {what}")).collect::<Vec<_>>();
        let to = contenders[1..].iter().map(|name| format!("to {name}")).collect();
        let last = vec!["generator µs".to_owned(), format!("wait p50 µs, {}", contenders.join(" / "))];
        let columns = [vec!["work".to_owned()], each("µs"), to, each("/s"), last].concat();
        println!("| {} |", columns.join(" | "));
        println!("|{}", "---|".repeat(columns.len()));
        Self { contenders }
    }

    /// All samples of one kind of work: of each contender, in the order they were taken.
    pub fn line(&self, name: &str, samples: &[Vec<Sample>]) {
        assert_eq!(samples.len(), self.contenders.len());
        let (first, others) = samples.split_first().expect("contenders");
        let costs = samples.iter().map(|all| format!("{:.2}", median(all.iter().map(cost)))).collect();
        let rates = samples.iter().map(|all| format!("{:.0}", median(all.iter().map(rate)))).collect();
        let generator = median(first.iter().map(|s| s.generator.as_secs_f64() * 1e6 / s.messages as f64));
        let waits = samples.iter().map(|all| wait(all)).collect::<Vec<_>>().join(" / ");
        let ratios = others.iter().map(|other| ratio(first, other)).collect();
        let cells = [vec![name.to_owned()], costs, ratios, rates, vec![format!("{generator:.2}"), waits]].concat();
        println!("| {} |", cells.join(" | "));
    }
}

/// Round by round.
fn ratio(first: &[Sample], other: &[Sample]) -> String {
    let ratios: Vec<f64> = first.iter().zip(other).map(|(a, b)| cost(a) / cost(b)).collect();
    let (least, most) = ratios.iter().fold((f64::MAX, 0.0_f64), |(low, high), &r| (low.min(r), high.max(r)));
    format!("**{:.2}** ({least:.2} to {most:.2})", median(ratios.into_iter()))
}

/// Microseconds of the server's CPU per message.
fn cost(sample: &Sample) -> f64 {
    sample.server.as_secs_f64() * 1e6 / sample.messages as f64
}

fn rate(sample: &Sample) -> f64 {
    sample.messages as f64 / sample.wall.as_secs_f64()
}

/// Median of all waits; `-` for work that does not wait for each message.
fn wait(samples: &[Sample]) -> String {
    let all: Vec<f64> = samples.iter().flat_map(|sample| sample.waits.iter().copied().map(f64::from)).collect();
    if all.is_empty() { "-".to_owned() } else { format!("{:.0}", median(all.into_iter())) }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
