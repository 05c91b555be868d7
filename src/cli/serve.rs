//! `bowline serve`.

use clap::Args as ClapArgs;

use super::exit::Stop;

/// Serve.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {}

/// Runs it.
pub(super) fn run(_args: Args) -> Result<(), Stop> {
    Err(Stop::failure("not built yet"))
}
