//! What the peers and the topics that the settings allow can make the process hold, at worst.
//!
//! An upper bound of what can be asked of the memory, not what a server needs: nearly all of it is there for peers that
//! send without end and read nothing. It says which limit is worth lowering, and `server.memory_limit` holds the settings
//! to it.

use std::{cmp::Reverse, fmt, fs};

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Config;
use crate::hub::Class;

/// What the process takes with nobody there: the program, the stacks of its threads, spans that wait for the exporter.
const BASE: u64 = 64 << 20;
/// A place of a session that nobody holds, with its estate.
const KEPT_SESSION: u64 = 2048;
/// A topic, whatever it holds: its name, its log, its entries in maps.
const TOPIC: u64 = 2048;

/// `server.memory_limit`: what the worst case is held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Nothing.
    #[default]
    None,
    /// What the container may use, if it is limited.
    Auto,
    /// So much.
    Bytes(ByteSize),
}

impl MemoryLimit {
    /// Bytes, if there is a limit.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Auto => of_container(),
            Self::Bytes(size) => Some(size.as_u64()),
        }
    }
}

/// The limit that the kernel holds this process to, by either version of control groups.
fn of_container() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    files.iter().find_map(|file| limit_in(&fs::read_to_string(file).ok()?))
}

/// The number in such a file. "max", and a number beyond any machine, are none.
fn limit_in(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Auto => f.write_str("auto"),
            Self::Bytes(size) => size.fmt(f),
        }
    }
}

impl Serialize for MemoryLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = MemoryLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"auto\", or a size such as \"2GiB\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<MemoryLimit, E> {
                match text.trim() {
                    "none" => Ok(MemoryLimit::None),
                    "auto" => Ok(MemoryLimit::Auto),
                    size => size
                        .parse()
                        .map(MemoryLimit::Bytes)
                        .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<MemoryLimit, E> {
                Ok(MemoryLimit::Bytes(ByteSize::b(bytes)))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<MemoryLimit, E> {
                u64::try_from(bytes)
                    .map(|bytes| MemoryLimit::Bytes(ByteSize::b(bytes)))
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

/// One kind of thing that there can be many of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// What it is.
    pub what: &'static str,
    /// How many there can be.
    pub count: u64,
    /// What each can take, bytes.
    pub each_bytes: u64,
    /// What all of them can take, bytes.
    pub bytes: u64,
    /// The settings that bound it; the first says how many there can be.
    pub settings: &'static [&'static str],
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, each) = (ByteSize::b(self.bytes), ByteSize::b(self.each_bytes));
        write!(f, "{all} for {}", self.what)?;
        if self.count > 1 {
            write!(f, ", {} of {each}", self.count)?;
        }
        if self.settings.is_empty() { Ok(()) } else { write!(f, " ({})", self.settings.join(", ")) }
    }
}

fn share(what: &'static str, count: usize, each_bytes: u64, settings: &'static [&'static str]) -> Share {
    let count = count as u64;
    Share { what, count, each_bytes, bytes: count.saturating_mul(each_bytes), settings }
}

/// All that can be held at worst.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorstCase {
    /// Of everything together, bytes.
    pub bytes: u64,
    /// What it is held to, bytes; absent if to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// What it is made of, the largest first.
    pub shares: Vec<Share>,
}

impl WorstCase {
    /// What is wrong, if it is more than it may be.
    pub(super) fn problem(&self) -> Option<String> {
        let limit = self.limit_bytes.filter(|limit| self.bytes > *limit)?;
        let largest: Vec<_> = self.shares.iter().take(3).map(Share::to_string).collect();
        Some(format!(
            "is {}, but the limits allow peers and topics to take {}: {}; lower some of these (for all of it: bowline config \
             --memory --set server.memory_limit=none)",
            ByteSize::b(limit),
            ByteSize::b(self.bytes),
            largest.join("; ")
        ))
    }
}

impl fmt::Display for WorstCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for share in &self.shares {
            writeln!(f, "{share}")?;
        }
        writeln!(f, "{} at worst", ByteSize::b(self.bytes))?;
        match self.limit_bytes {
            Some(limit) => writeln!(f, "{} is the limit (server.memory_limit)", ByteSize::b(limit)),
            None => writeln!(f, "no limit (server.memory_limit)"),
        }
    }
}

impl Config {
    /// What the process can be made to hold.
    pub fn worst_case(&self) -> WorstCase {
        let (call, health) = (self.transport.bytes_of_call(), self.transport.health_calls());
        let mut shares = vec![
            share("the process itself", 1, BASE, &[]),
            share(
                "transports",
                self.transport.max_transports,
                self.transport.bytes_of_transport(),
                &["transport.max_transports"],
            ),
            share(
                "connections",
                self.registry.max_connections,
                call + self.connection.bytes_of_connection(),
                &[
                    "registry.max_connections",
                    "connection.max_message_size",
                    "connection.max_sessions",
                    "connection.queue_size",
                    "transport.stream_window",
                ],
            ),
            share(
                "unary calls",
                self.transport.max_unary_calls,
                call + self.connection.bytes_of_unary_call(),
                &["transport.max_unary_calls", "connection.max_message_size", "transport.stream_window"],
            ),
            share(
                "calls that ask for health",
                health.0,
                health.1,
                &["transport.max_transports", "transport.max_header_list"],
            ),
            share("sessions that nobody holds", self.session.max_kept, KEPT_SESSION, &["session.max_kept"]),
        ];
        shares.extend(self.topics_at_worst());
        shares.sort_by_key(|share| Reverse(share.bytes));
        let bytes = shares.iter().fold(0_u64, |sum, share| sum.saturating_add(share.bytes));
        WorstCase { bytes, limit_bytes: self.server.memory_limit.bytes(), shares }
    }

    fn topics_at_worst(&self) -> Vec<Share> {
        let total = self.topics.max_total_history.as_u64();
        if total > 0 {
            return vec![
                share("topics, whatever they hold", self.topics.max_topics, TOPIC, &["topics.max_topics"]),
                share("all histories", 1, total, &["topics.max_total_history"]),
            ];
        }
        let echoes = self.registry.max_connections.saturating_mul(self.connection.max_sessions);
        let of_class = |echo: bool| self.topics.bytes_of_topic(|class| (class == Class::Echo) == echo);
        let settings = &["topics.max_topics", "topics.max_total_history", "topics.rules"];
        let mut shares = vec![share("topics", self.topics.max_topics, TOPIC + of_class(false), settings)];
        if of_class(true) > 0 {
            let settings = &["connection.max_sessions", "registry.max_connections", "topics.max_total_history"];
            shares.push(share("echo sessions", echoes, of_class(true), settings));
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_in_every_form() {
        let read = |text: &str| toml::from_str::<super::super::ServerConfig>(&format!("memory_limit = {text}"));
        for (text, limit) in [
            ("\"none\"", MemoryLimit::None),
            ("\"auto\"", MemoryLimit::Auto),
            ("\"2GiB\"", MemoryLimit::Bytes(ByteSize::gib(2))),
            ("65535", MemoryLimit::Bytes(ByteSize::b(65535))),
        ] {
            assert_eq!(read(text).unwrap().memory_limit, limit, "{text}");
        }
        for bad in ["\"much\"", "-1", "true"] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("\"none\", \"auto\", or a size"), "{error}");
        }
    }

    #[test]
    fn a_container_without_a_limit_has_none() {
        let cases = [("max\n", None), ("1073741824\n", Some(1 << 30)), ("9223372036854771712\n", None), ("", None)];
        for (text, limit) in cases {
            assert_eq!(limit_in(text), limit, "{text:?}");
        }
    }

    #[test]
    fn the_shares_make_the_whole_and_every_limit_counts() {
        let whole = Config::default().worst_case();
        assert_eq!(whole.bytes, whole.shares.iter().map(|share| share.bytes).sum::<u64>());
        assert!(whole.shares.is_sorted_by_key(|share| Reverse(share.bytes)));
        type Change = fn(&mut Config);
        let lower: [Change; 10] = [
            |config| config.transport.max_transports = 10,
            |config| config.transport.stream_window = ByteSize::b(65_535),
            |config| config.transport.max_unary_calls = 1,
            |config| config.registry.max_connections = 10,
            |config| config.connection.max_message_size = ByteSize::kib(64),
            |config| config.connection.max_sessions = 1,
            |config| config.connection.queue_size = 16,
            |config| config.session.max_kept = 1,
            |config| config.topics.max_topics = 1,
            |config| config.topics.max_total_history = ByteSize::gib(1),
        ];
        for (index, change) in lower.iter().enumerate() {
            let mut config = Config::default();
            change(&mut config);
            assert!(config.worst_case().bytes < whole.bytes, "{index}");
        }
        // Every setting that is named is one.
        let keys = toml::from_str::<toml::Table>(super::super::DEFAULTS).unwrap();
        for key in whole.shares.iter().flat_map(|share| share.settings) {
            let (section, name) = key.split_once('.').unwrap();
            assert!(keys[section].get(name).is_some(), "{key}");
        }
    }

    #[test]
    fn settings_that_allow_more_than_the_limit_are_told_what_takes_it() {
        let mut config = Config::default();
        config.server.memory_limit = MemoryLimit::Bytes(ByteSize::gib(1));
        let problem = config.worst_case().problem().unwrap();
        for words in ["is 1.0 GiB, but", "for connections, 5000 of", "registry.max_connections", "--memory"] {
            assert!(problem.contains(words), "{words} in {problem}");
        }
        config.server.memory_limit = MemoryLimit::Bytes(ByteSize::pib(1));
        assert_eq!(config.worst_case().problem(), None);
    }
}
