//! `bowline check`.

use std::{fs::File, io::BufReader, path::PathBuf};

use clap::Args as ClapArgs;

use super::{
    exit::{Exit, Stop},
    output::Output,
};
use crate::checker::{self, Floor, Options, Report, history};

const EXAMPLES: &str = "\
Examples:
  bowline check run.jsonl
  bowline check a.jsonl b.jsonl --min-faults 10   each is a run of its own
  bowline check run.jsonl --json

The form of a history is that of `bowline::checker::history`. `--min-…` say what there has to be in all files together for
the check to mean anything. Exit code 1: a promise was broken, or there was too little to say.";

/// Hold recorded histories to the promises that the README makes.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Histories: JSON lines, each record in the order in which it was made.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Frames recorded, at least.
    #[arg(long, default_value_t = 1)]
    min_operations: u64,
    /// Faults that took hold, at least.
    #[arg(long, default_value_t = 0)]
    min_faults: u64,
    /// Sessions that went on at their cursor, at least.
    #[arg(long, default_value_t = 0)]
    min_resumes: u64,
    /// Times that each promise was put to the test, at least.
    #[arg(long, default_value_t = 0)]
    min_exercised: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) fn run(args: Args) -> Result<(), Stop> {
    let mut whole = Report::default();
    for path in &args.files {
        let read = File::open(path).and_then(|file| history::read(BufReader::new(file)));
        let records = read.map_err(|error| Stop::failure(format!("{}: {error}", path.display())))?;
        whole.add(checker::check(&records, Options::default()));
    }
    let text = if args.json {
        let report = serde_json::to_string(&whole).map_err(|error| Stop::failure(error.to_string()))?;
        report + "\n"
    } else {
        whole.to_string()
    };
    Output::stdout().and_then(|mut output| output.write(text.as_bytes())).map_err(|error| Stop::stdout(&error))?;
    let floor = Floor {
        operations: args.min_operations,
        faults: args.min_faults,
        resumes: args.min_resumes,
        exercised: args.min_exercised,
    };
    let missing = whole.vacuity(floor);
    match (whole.violations.len(), missing.is_empty()) {
        (0, true) => Ok(()),
        (0, false) => Err(Stop::new(Exit::Failure, format!("this proves nothing: {}", missing.join("; ")))),
        (broken, _) => Err(Stop::new(Exit::Failure, format!("{broken} times a promise was broken"))),
    }
}
