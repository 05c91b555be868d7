//! `bowline doctor`: whether the broker is as a server would need it, and what to change if not.

use clap::Args as ClapArgs;
use serde_json::json;

use super::{config::Selection, exit::Stop, output::Output};
use crate::{
    broker::{self, Finding, Needs, Verdict},
    types::Durability,
};

const EXAMPLES: &str = "\
Examples:
  bowline doctor --config bowline.toml          with the configuration that `bowline serve` is given
  bowline doctor --set broker.kind=nats --set broker.nats.prefix=chat
  bowline doctor --config bowline.toml --json

A line for each thing that was looked at: ok, warning or problem, and what to change. Nothing is changed. Exit code 1 if
there is a problem.";

/// Examine the NATS servers that a server with this configuration would use; changes nothing.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

/// Examines it.
pub(super) async fn run(args: Args) -> Result<(), Stop> {
    let config = args.selection.load()?.config;
    let max_message = config.connection.max_message_size.as_u64();
    let synced = config.topics.asks_for(Durability::Synced);
    let needs = Needs { dedupe_window: config.topics.dedupe_window, synced, max_message };
    let found = broker::examine(&config.broker, needs).await;
    let problems = found.iter().filter(|finding| finding.verdict == Verdict::Problem).count();
    let text = if args.json {
        format!("{}\n", json!({ "problems": problems, "findings": found }))
    } else {
        found.iter().map(line).collect()
    };
    Output::stdout().and_then(|mut output| output.write(text.as_bytes())).map_err(|error| Stop::stdout(&error))?;
    match problems {
        0 => Ok(()),
        1 => Err(Stop::failure("there is a problem")),
        _ => Err(Stop::failure(format!("there are {problems} problems"))),
    }
}

fn line(finding: &Finding) -> String {
    let Finding { check, verdict, says, advice } = finding;
    let advice = if advice.is_empty() { String::new() } else { format!(" -> {advice}") };
    format!("{:<7}  {check:<11}  {says}{advice}\n", verdict.as_str())
}
