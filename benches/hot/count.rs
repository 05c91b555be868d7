//! Counting, by valgrind.

use std::{env, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::paths::Path;

/// What one message takes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cost {
    pub instructions: f64,
    pub allocations: f64,
    /// Allocated, all in all; most of it is given back.
    pub bytes: f64,
}

/// Of one message more: two runs of different length, and what is between them. So the start costs nothing, and what
/// fills up once is full.
pub fn cost(path: &Path) -> Result<Cost> {
    let (few, many) = (path.count, 3 * path.count);
    let between = |count: fn(&Path, u64) -> Result<f64>| -> Result<f64> {
        Ok((count(path, many)? - count(path, few)?) / ((many - few) * path.each) as f64)
    };
    Ok(Cost {
        instructions: between(|path, count| said("callgrind", path, count, "Collected :", 0))?,
        allocations: between(|path, count| said("dhat", path, count, "Total:", 1))?,
        bytes: between(|path, count| said("dhat", path, count, "Total:", 0))?,
    })
}

/// Runs the path under a tool of valgrind's: the number that it says at last behind `words`, or another of that line.
fn said(tool: &str, path: &Path, count: u64, words: &str, place: usize) -> Result<f64> {
    let mut command = Command::new("valgrind");
    command.args([&format!("--tool={tool}"), &format!("--{tool}-out-file=/dev/null")]);
    command.arg(env::current_exe()?).args(["--run", path.name, &count.to_string()]);
    let output = command.output().context("valgrind is missing: run .ci/tools hot")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} under {tool}: {text}", path.name);
    let line = text.lines().rev().find_map(|line| Some(line.split_once(words)?.1));
    let numbers = line.unwrap_or_default().split_whitespace().filter_map(|word| word.replace(',', "").parse().ok());
    numbers.into_iter().nth(place).with_context(|| format!("{tool} says no number: {text}"))
}
