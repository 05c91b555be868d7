//! `bowline config`.

use clap::Args as ClapArgs;

use super::exit::Stop;

/// Show the configuration.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {}

/// Runs it.
pub(super) fn run(_args: Args) -> Result<(), Stop> {
    Err(Stop::failure("not built yet"))
}
