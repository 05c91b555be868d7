//! Signals to processes, as whoever operates them sends them.

use std::{fs, process::Command, thread, time::Duration};

use tokio::time::Instant;

/// Longer than a process takes to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a process a signal, by its name: `-STOP`, `-CONT`, `-TERM`. One that is to stop has stopped once this returns: `kill`
/// says that it was told, and its threads go on until each of them is met.
pub fn send(process: u32, name: &str) {
    let sent = Command::new("kill").args([name, &process.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill {name}");
    if name == "-STOP" {
        let begun = Instant::now();
        while !has_stopped(process) {
            assert!(begun.elapsed() < PATIENCE, "{process} does not stop");
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Whether all of its threads have: the state stands behind the name, which is in parentheses and may be anything.
fn has_stopped(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let mut stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}
