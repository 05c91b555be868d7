//! `[broker]`: where events are kept, and how.

mod access;
mod bridge;
mod synced;

#[cfg(feature = "nats")]
pub(super) use access::{Access, is_set};
pub use bridge::{Bridge, Direction};
pub use synced::Synced;

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// Most partitions: each is a stream, and streams of a cluster are not for free.
const MAX_PARTITIONS: u16 = 256;
/// Most replicas that a server keeps of a stream.
const MAX_REPLICAS: u8 = 5;
/// History is kept for at least so many checks: what ran out before it was missed could not be missed any more.
const CHECKS_KEPT: u32 = 10;
/// Shorter, and a replica would be lost for a pause of its servers.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// `[broker]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which engine.
    pub kind: Kind,
    /// What concerns the engine `nats` only.
    pub nats: Nats,
}

/// Where events are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// In this process.
    #[default]
    Memory,
    /// In NATS JetStream.
    Nats,
}

/// `[broker.nats]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// Where the servers are; one that answers is enough.
    pub servers: Vec<String>,
    /// A `.creds` file; empty for none.
    pub credentials_file: PathBuf,
    /// A user's name; empty for none.
    pub user: String,
    /// A file with the user's password.
    pub password_file: PathBuf,
    /// A file with a token; empty for none.
    pub token_file: PathBuf,
    /// A file with the seed of a user's nkey; empty for none.
    pub nkey_file: PathBuf,
    /// Whether TLS is insisted on, whatever the servers say.
    pub tls: bool,
    /// A PEM file of the authorities to trust in place of the system's; empty for those.
    pub ca_file: PathBuf,
    /// A PEM file with a certificate to show; empty for none.
    pub certificate_file: PathBuf,
    /// A PEM file with its key.
    pub key_file: PathBuf,
    /// What the names of streams and subjects begin with.
    pub prefix: String,
    /// How many streams the topics are spread over. Fixed once there is one.
    pub partitions: u16,
    /// How many servers keep each event.
    pub replicas: u8,
    /// What they keep it in.
    pub storage: Storage,
    /// For how long they keep it.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// Most bytes of one stream; 0 for no limit but its age.
    pub max_bytes: ByteSize,
    /// How long the start may wait for servers that answer.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// How long a publish is tried for.
    #[serde(with = "humantime_serde")]
    pub publish_timeout: Duration,
    /// How often it is looked whether something was missed.
    #[serde(with = "humantime_serde")]
    pub check_interval: Duration,
    /// How long a replica may be cut off before its clients are told to move; 0 leaves them where they are.
    #[serde(with = "humantime_serde")]
    pub max_cut_off: Duration,
    /// After how long without a sign of life a replica is lost to the others.
    #[serde(with = "humantime_serde")]
    pub replica_timeout: Duration,
    /// Topics whose events are on disk before they are confirmed.
    pub synced: Synced,
    /// Subjects that lead into topics, and topics that lead out to subjects.
    pub bridges: Vec<Bridge>,
}

/// What events are kept in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// In files.
    #[default]
    File,
    /// In memory.
    Memory,
}

impl Storage {
    /// The word, here and for the servers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
        }
    }
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            credentials_file: PathBuf::new(),
            user: String::new(),
            password_file: PathBuf::new(),
            token_file: PathBuf::new(),
            nkey_file: PathBuf::new(),
            tls: false,
            ca_file: PathBuf::new(),
            certificate_file: PathBuf::new(),
            key_file: PathBuf::new(),
            prefix: "bowline".to_owned(),
            partitions: 16,
            replicas: 3,
            storage: Storage::File,
            max_age: Duration::from_secs(24 * 3600),
            max_bytes: ByteSize::b(0),
            start_timeout: Duration::from_secs(30),
            publish_timeout: Duration::from_secs(10),
            check_interval: Duration::from_secs(5),
            max_cut_off: Duration::from_secs(10),
            replica_timeout: Duration::from_secs(10),
            synced: Synced::default(),
            bridges: Vec::new(),
        }
    }
}

impl Config {
    /// How long a server may be cut off from its broker before its clients are told to move; none where there is nowhere
    /// else to go, or if they are to stay.
    pub fn max_cut_off(&self) -> Option<Duration> {
        (self.kind == Kind::Nats && !self.nats.max_cut_off.is_zero()).then_some(self.nats.max_cut_off)
    }

    /// Everything wrong with the section, as `(key, sentence)`. `dedupe_window` is that of the topics.
    pub fn problems(&self, dedupe_window: Duration) -> Vec<(String, String)> {
        if self.kind == Kind::Memory {
            return Vec::new();
        }
        let problems = self.nats.problems(dedupe_window).into_iter().map(|(key, sentence)| (key.to_owned(), sentence));
        let of_bridges = bridge::problems(&self.nats.bridges, &self.nats.prefix);
        problems
            .chain(self.nats.synced.problems())
            .chain(of_bridges)
            .map(|(key, sentence)| (format!("nats.{key}"), sentence))
            .collect()
    }
}

impl Nats {
    fn problems(&self, dedupe_window: Duration) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |wrong: bool, key: &'static str, sentence: String| {
            if wrong {
                problems.push((key, sentence));
            }
        };
        check(self.servers.is_empty(), "servers", "must name at least one server".into());
        for server in &self.servers {
            let known = ["nats://", "tls://"].iter().any(|scheme| server.starts_with(scheme));
            let secret = server.contains('@');
            check(!known && !secret, "servers", format!("has {server:?}; write nats://HOST:PORT or tls://HOST:PORT"));
            let sentence = "must not hold secrets: use credentials_file, nkey_file, token_file or password_file";
            check(secret, "servers", sentence.into());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let named = !self.prefix.is_empty() && self.prefix.len() <= 32 && self.prefix.chars().all(plain);
        check(!named, "prefix", "must be 1 to 32 of A-Z a-z 0-9 _ -".into());
        let partitions = (1..=MAX_PARTITIONS).contains(&self.partitions);
        check(!partitions, "partitions", format!("must be 1 to {MAX_PARTITIONS}"));
        let replicas = (1..=MAX_REPLICAS).contains(&self.replicas) && self.replicas % 2 == 1;
        check(!replicas, "replicas", "must be 1, 3 or 5: a majority of them has to agree".into());
        let times = [("start_timeout", self.start_timeout), ("publish_timeout", self.publish_timeout)];
        for (key, time) in times.into_iter().chain([("check_interval", self.check_interval)]) {
            check(time < Duration::from_millis(100), key, "must be at least 100ms".into());
        }
        check(self.replica_timeout < LEAST_TIMEOUT, "replica_timeout", "must be at least 1s".into());
        let least = self.check_interval.saturating_mul(CHECKS_KEPT).max(dedupe_window);
        let sentence = format!(
            "must be at least {}: topics.dedupe_window, and {CHECKS_KEPT} times check_interval, so that nothing runs out \
             before it is missed",
            humantime::format_duration(least)
        );
        check(self.max_age < least, "max_age", sentence);
        problems.extend(self.access_problems());
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(180);

    #[test]
    fn what_is_wrong_is_said_only_where_it_matters() {
        let nats = Nats { servers: Vec::new(), ..Nats::default() };
        assert!(Config { kind: Kind::Memory, nats: nats.clone() }.problems(WINDOW).is_empty());
        assert_eq!(Config { kind: Kind::Nats, nats }.problems(WINDOW)[0].0, "nats.servers");
        assert!(Config { kind: Kind::Nats, nats: Nats::default() }.problems(WINDOW).is_empty());
    }

    #[test]
    fn each_wrong_setting_is_named() {
        type Change = fn(&mut Nats);
        let cases: [(&str, Change); 10] = [
            ("servers", |nats| nats.servers = vec!["localhost".into()]),
            ("servers", |nats| nats.servers = vec!["nats://me:secret@localhost".into()]),
            ("servers", |nats| nats.servers = vec!["me:secret@localhost".into()]),
            ("token_file", |nats| {
                (nats.token_file, nats.user) = ("t".into(), "u".into());
                nats.password_file = "p".into();
            }),
            ("prefix", |nats| nats.prefix = "a.b".into()),
            ("partitions", |nats| nats.partitions = 0),
            ("replicas", |nats| nats.replicas = 2),
            ("check_interval", |nats| nats.check_interval = Duration::ZERO),
            ("replica_timeout", |nats| nats.replica_timeout = Duration::from_millis(900)),
            ("max_age", |nats| nats.max_age = Duration::from_secs(60)),
        ];
        for (key, change) in cases {
            let mut nats = Nats::default();
            change(&mut nats);
            let problems = nats.problems(WINDOW);
            assert_eq!(problems.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key]);
            assert!(!problems[0].1.contains("me:secret"));
        }
    }
}
