//! `bowline check`.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args as ClapArgs;

use super::{
    exit::{Exit, Stop},
    output::Output,
};
use crate::checker::{
    self, Floor, Options, Report,
    history::{self, Record},
};

const EXAMPLES: &str = "\
Examples:
  bowline check run.jsonl
  bowline check a.jsonl b.jsonl --min-faults 10     each is a run of its own
  bowline check ann.jsonl ben.jsonl --together      what several saw of one run
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
    /// The files are of one run: their records are put in the order of their times.
    #[arg(long)]
    together: bool,
    /// The longest that a session which could be served may wait for an event, while nothing was made to go wrong. Without
    /// it waiting is not judged: it takes one clock for clients and server.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    max_wait: Option<Duration>,
    /// Offsets have holes, as those of several replicas on NATS do.
    #[arg(long)]
    sparse: bool,
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
    let patience = args.max_wait.map(|wait| u64::try_from(wait.as_micros()).unwrap_or(u64::MAX));
    let options = Options { patience, sparse: args.sparse, ..Options::default() };
    let (mut whole, mut run) = (Report::default(), Vec::new());
    for path in &args.files {
        run.extend(read(path)?);
        if !args.together {
            whole.add(checker::check(&run, options.clone()));
            run.clear();
        }
    }
    if args.together {
        // Stable: what one program saw at one time stays in its order.
        run.sort_by_key(|record| record.at);
        whole = checker::check(&run, options);
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
    match (whole.broken.values().sum::<u64>(), missing.is_empty()) {
        (0, true) => Ok(()),
        (0, false) => Err(Stop::new(Exit::Failure, format!("this proves nothing: {}", missing.join("; ")))),
        (broken, _) => Err(Stop::new(Exit::Failure, format!("{broken} times a promise was broken"))),
    }
}

fn read(path: &Path) -> Result<Vec<Record>, Stop> {
    let records = File::open(path).and_then(|file| history::read(BufReader::new(file)));
    records.map_err(|error| Stop::failure(format!("{}: {error}", path.display())))
}
