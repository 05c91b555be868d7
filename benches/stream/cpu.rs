//! What a process has cost, by the scheduler's own account; and where it runs.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

/// The server runs on this core and nothing of ours besides.
pub const SERVER: &str = "0";
/// The generator runs on this one.
pub const GENERATOR: &str = "1";

/// CPU time of all threads of a process (`self`, or its id), to the nanosecond where the kernel keeps it.
pub fn used_by(process: &str) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let used = threads.filter_map(|thread| {
        let account = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        account.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(used.sum())
}

/// The same of several, by their ids.
pub fn used_by_all(processes: &[u32]) -> Duration {
    processes.iter().map(|process| used_by(&process.to_string())).sum()
}

/// `program`, kept on the server's core.
pub fn on_server_core(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER, program]);
    command
}

/// Keeps this process on the generator's core; false where there is no second core or no `taskset`.
pub fn to_generator_core() -> bool {
    let process = std::process::id().to_string();
    let mut command = Command::new("taskset");
    command.args(["-cp", GENERATOR, &process]).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
