//! How many transports the process has descriptors for.
//!
//! A process that runs out of descriptors cannot even accept a peer to turn it away; its accept loops fail all at once,
//! those of health checks and operators among them. So transports leave some to the others: whoever is one too many is
//! accepted and closed, which costs a descriptor for a moment and no waiting.

use std::fs;

use rlimit::Resource;

/// Descriptors that transports leave to the rest: the admin port, the exporter, files being read, whoever is being turned
/// away.
const RESERVE: u64 = 64;

/// As many transports as are wanted, or fewer if there are not enough descriptors; at least one. Says so in the log.
pub(super) fn at_most(wanted: usize) -> usize {
    let Ok((limit, _)) = rlimit::getrlimit(Resource::NOFILE) else { return wanted };
    let open = fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64);
    let room = room(limit, open);
    if room < wanted {
        tracing::warn!(
            limit,
            wanted,
            transports = room,
            "fewer descriptors than transport.max_transports needs; raise the hard limit"
        );
    }
    room.min(wanted)
}

fn room(limit: u64, open: u64) -> usize {
    usize::try_from(limit.saturating_sub(open).saturating_sub(RESERVE)).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_leave_a_reserve() {
        assert_eq!(room(256, 20), 172);
        assert_eq!(room(1_048_576, 20), 1_048_492);
        assert_eq!(room(64, 20), 1, "the server serves, if only one");
        assert_eq!(room(u64::MAX, 20), usize::MAX - 84);
        assert_eq!(at_most(1), 1);
    }
}
