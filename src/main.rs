//! The program: everything is in the library.

use std::process::ExitCode;

/// Measured against the system's allocator: less memory for each idle connection, and none kept after a storm.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    bowline::cli::run()
}
