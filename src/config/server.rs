//! `[server]`: the process as a whole.

use serde::{Deserialize, Serialize};

use super::MemoryLimit;

/// `[server]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of this replica in Welcome frames, traces and logs; empty for the host's name.
    pub node: String,
    /// Threads that serve clients; 0 for one per core.
    pub worker_threads: usize,
    /// What the memory is held to that peers and topics can take at worst: settings that allow more stop the start.
    pub memory_limit: MemoryLimit,
}

impl Config {
    /// The name of this replica.
    pub fn node_name(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let given = (!self.node.is_empty()).then(|| self.node.clone());
        let name = given.or_else(|| std::env::var("HOSTNAME").ok()).or_else(host).unwrap_or_default();
        match name.trim() {
            "" => "bowline".to_owned(),
            name => name.to_owned(),
        }
    }

    /// Everything wrong with the section, as `(key, sentence)`.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if self.worker_threads > 1024 {
            problems.push(("worker_threads".into(), "must be at most 1024".into()));
        }
        if self.node.len() > 128 || self.node.contains(|c: char| !c.is_ascii_graphic()) {
            problems.push(("node".into(), "must be at most 128 visible ASCII characters".into()));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_always_has_a_name() {
        assert!(!Config::default().node_name().is_empty());
        assert_eq!(Config { node: "b-1".into(), ..Config::default() }.node_name(), "b-1");
    }
}
