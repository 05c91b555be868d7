//! The table: medians of the rounds, and the ratio taken pair by pair.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use crate::{
    talker::PAYLOAD,
    work::{Clock, Sample},
};

/// All samples of one kind of work, in the order they were taken.
#[derive(Default)]
pub struct Row {
    /// Bowline's.
    pub bowline: Vec<Sample>,
    /// The peer's.
    pub peer: Vec<Sample>,
}

/// Says what the table is, and begins it.
pub fn heading(clock: &Clock, rounds: usize) {
    println!(
        "Server on one core, generator on another; {PAYLOAD} B payload; {rounds} rounds of {:?} each, in turns, after {:?} \
         of warm-up.\nCPU is the server's own time per message (for fan-out: per delivery), median of the rounds; the ratio \
         is Bowline's to raw tonic's\nin the same round, median (least to most). Every answer was there, once and in order, or \
         this would have stopped.\n",
        clock.length, clock.warm_up
    );
    println!(
        "| work | Bowline µs | tonic µs | ratio | Bowline /s | tonic /s | generator µs | wait p50 µs, Bowline / tonic |"
    );
    println!("|---|---|---|---|---|---|---|---|");
}

/// One kind of work.
pub fn line(name: &str, row: &Row) {
    let ratios: Vec<f64> = row.bowline.iter().zip(&row.peer).map(|(a, b)| cost(a) / cost(b)).collect();
    let (least, most) = ratios.iter().fold((f64::MAX, 0.0_f64), |(low, high), &r| (low.min(r), high.max(r)));
    println!(
        "| {name} | {:.2} | {:.2} | **{:.2}** ({least:.2} to {most:.2}) | {:.0} | {:.0} | {:.2} | {} / {} |",
        median(row.bowline.iter().map(cost)),
        median(row.peer.iter().map(cost)),
        median(ratios.iter().copied()),
        median(row.bowline.iter().map(rate)),
        median(row.peer.iter().map(rate)),
        median(row.bowline.iter().map(|s| s.generator.as_secs_f64() * 1e6 / s.messages as f64)),
        wait(&row.bowline),
        wait(&row.peer),
    );
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
