//! The command line: everything but `serve`, `config` and `doctor` stands on the client library alone.

mod bench;
mod chat;
mod check;
mod config;
mod csv;
mod doctor;
mod exit;
mod history;
mod interrupt;
mod json;
mod line;
mod output;
mod pages;
mod people;
mod presence;
mod printer;
mod probe;
mod progress;
mod publish;
mod rate;
mod serve;
mod server;
mod start;
mod state;
mod subscribe;
mod tally;
mod topics;

use std::{ffi::OsString, future::Future, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tokio::runtime;

use exit::{Exit, Stop};
use output::Output;
use probe::Health;

/// Threads for the client library. The commands themselves run on the main thread.
const WORKER_THREADS: usize = 2;

const VERSION: &str = if env!("BOWLINE_GIT_REVISION").is_empty() {
    env!("CARGO_PKG_VERSION")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("BOWLINE_GIT_REVISION"), ")")
};

const EXAMPLES: &str = "\
Examples:
  bowline serve                                   a server, on 127.0.0.1:50051
  bowline sub prices                              in another terminal: follow a topic
  bowline pub prices --file examples/data/stocks.csv
  bowline chat chat.lobby --as alice
  source <(bowline completions bash)              let Tab complete all this";

/// Live, two-way conversations over gRPC: resumable sessions on topics with history.
#[derive(Debug, Parser)]
#[command(name = "bowline", version = VERSION, after_help = format!("{EXAMPLES}\n\n{}", exit::TABLE))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::Args),
    /// Print or check the configuration.
    Config(config::Args),
    Pub(publish::Args),
    Sub(subscribe::Args),
    Chat(chat::Args),
    History(history::Args),
    Topics(topics::Args),
    Presence(presence::Args),
    Probe(probe::Args),
    Check(check::Args),
    Bench(bench::Args),
    Doctor(doctor::Args),
    /// Print a completion script for a shell.
    #[command(after_help = "Example: bowline completions bash > ~/.local/share/bash-completion/completions/bowline")]
    Completions {
        /// For which shell.
        shell: Shell,
    },
}

/// Runs the command line of this process. Its exit codes are those of `--help`, and of `grpc_health_probe` for `probe`.
pub fn run() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and versions come this way too. That nobody may be reading them is no failure.
            error.print().ok();
            return match words.get(1) {
                _ if !error.use_stderr() => Exit::Ok.into(),
                Some(word) if word == "probe" => Health::Arguments.into(),
                _ => Exit::Usage.into(),
            };
        }
    };
    match cli.command {
        Command::Serve(args) => end(serve::run(args)),
        Command::Config(args) => end(config::run(args)),
        Command::Pub(args) => end(block_on(publish::run(args))),
        Command::Sub(args) => end(block_on(subscribe::run(args))),
        Command::Chat(args) => end(block_on(chat::run(args))),
        Command::History(args) => end(block_on(history::run(args))),
        Command::Topics(args) => end(block_on(topics::run(args))),
        Command::Presence(args) => end(block_on(presence::run(args))),
        Command::Probe(args) => match block_on(async { Ok(probe::run(args).await) }) {
            Ok(health) => health.into(),
            Err(stop) => end(Err(stop)),
        },
        Command::Check(args) => end(check::run(args)),
        Command::Bench(args) => end(block_on(bench::run(args))),
        Command::Doctor(args) => end(block_on(doctor::run(args))),
        Command::Completions { shell } => end(completions(shell)),
    }
}

/// The exit code, after the sentence that explains it.
fn end(result: Result<(), Stop>) -> ExitCode {
    let Err(stop) = result else { return Exit::Ok.into() };
    if !stop.sentence.is_empty() {
        exit::notice(&stop.sentence);
    }
    stop.exit.into()
}

fn block_on<T>(command: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Stop::failure(format!("cannot start: {error}")))?;
    let result = runtime.block_on(Box::pin(command));
    // A thread that waits for input nobody will give must not keep the process.
    runtime.shutdown_background();
    result
}

fn completions(shell: Shell) -> Result<(), Stop> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bowline", &mut script);
    Output::stdout().and_then(|mut output| output.write(&script)).map_err(|error| Stop::stdout(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_the_help_shows_can_be_typed() {
        let mut examples = 0;
        let mut all = Cli::command();
        let helps: Vec<String> = std::iter::once(all.clone())
            .chain(all.get_subcommands_mut().map(|command| command.clone()))
            .filter_map(|command| Some(command.get_after_help()?.to_string()))
            .collect();
        for line in helps.iter().flat_map(|help| help.lines()) {
            let Some(start) = line.find("bowline ").filter(|_| line.starts_with("  ") && !line.contains('`')) else {
                continue;
            };
            // A comment stands after two spaces; a redirection is the shell's.
            let typed = line[start..].split("  ").next().unwrap().split(['>', ')']).next().unwrap();
            Cli::try_parse_from(typed.split_whitespace()).unwrap_or_else(|error| panic!("{typed}: {error}"));
            examples += 1;
        }
        assert!(examples > 15, "{examples}");
    }
}
