//! Counting, by valgrind.

use std::{env, process::Command, thread};

use anyhow::{Context as _, Result, bail, ensure};
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
    let few = path.count / if cfg!(debug_assertions) { SLOWER } else { 1 };
    let many = 3 * few;
    let between = |tool: &str, words: &str| -> Result<Vec<f64>> {
        let (less, more) = (said(tool, path, few, words)?, said(tool, path, many, words)?);
        let messages = ((many - few) * path.each) as f64;
        Ok(more.iter().zip(less).map(|(more, less)| (more - less) / messages).collect())
    };
    // Side by side: nothing is timed.
    let (executed, allocated) = thread::scope(|scope| {
        let executed = scope.spawn(|| between("callgrind", "Collected :"));
        let allocated = between("dhat", "Total:");
        (executed.join().expect("it does not panic"), allocated)
    });
    let (executed, allocated) = (executed?, allocated?);
    let (&[instructions], &[bytes, allocations]) = (&executed[..], &allocated[..]) else { bail!("other numbers") };
    Ok(Cost { instructions, allocations, bytes })
}

/// What was built without optimisation walks so much less far.
const SLOWER: u64 = 10;

/// Runs the path under a tool of valgrind's: the numbers that it says at last behind `words`.
fn said(tool: &str, path: &Path, count: u64, words: &str) -> Result<Vec<f64>> {
    let mut command = Command::new("valgrind");
    command.args([&format!("--tool={tool}"), &format!("--{tool}-out-file=/dev/null")]);
    command.arg(env::current_exe()?).args(["--run", path.name, &count.to_string()]);
    let output = command.output().context("valgrind is missing: run .ci/tools hot")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} under {tool}: {text}", path.name);
    let line = text.lines().rev().find_map(|line| Some(line.split_once(words)?.1));
    let line = line.with_context(|| format!("{tool} says nothing of it: {text}"))?;
    Ok(line.split_whitespace().filter_map(|word| word.replace(',', "").parse().ok()).collect())
}
