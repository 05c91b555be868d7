//! `[broker.nats.synced]`: which servers confirm an event once it is on disk, and who asks them whether they do.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, Kind, Nats, Storage, access::Access};
use crate::types::Durability;

/// Longest tag.
const MAX_TAG_LEN: usize = 64;

/// `[broker.nats.synced]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Synced {
    /// The tag of the servers that keep such topics; empty: there are none.
    pub tag: String,
    /// A `.creds` file of a user of the system account; empty for none.
    pub credentials_file: PathBuf,
    /// A file with the seed of such a user's nkey; empty for none.
    pub nkey_file: PathBuf,
    /// The name of such a user; empty for none.
    pub user: String,
    /// A file with its password.
    pub password_file: PathBuf,
}

impl Synced {
    /// Who asks the servers.
    pub(in crate::broker) fn access(&self) -> Access<'_> {
        Access {
            credentials_file: &self.credentials_file,
            nkey_file: &self.nkey_file,
            // A token is of no account that could be told apart.
            token_file: Path::new(""),
            user: &self.user,
            password_file: &self.password_file,
        }
    }

    /// Everything wrong with the section, as `(key, sentence)`.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let of_access = self.access().problems().into_iter();
        let mut problems: Vec<_> = of_access.map(|(key, sentence)| (format!("synced.{key}"), sentence)).collect();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.:".contains(c);
        if self.tag.len() > MAX_TAG_LEN || !self.tag.chars().all(plain) {
            let sentence =
                format!("must be at most {MAX_TAG_LEN} of a-z 0-9 - _ . : (servers have tags in small letters)");
            problems.push(("synced.tag".to_owned(), sentence));
        }
        problems
    }
}

impl Config {
    /// Why publishes cannot be answered at that class, as the end of a sentence that begins with the setting; none if they
    /// can, as far as the settings tell.
    pub fn falls_short(&self, wanted: Durability) -> Option<String> {
        let why = match self.kind {
            _ if wanted == Durability::Accepted => return None,
            Kind::Memory => {
                "broker.kind is \"memory\", which keeps events in this process alone: set it to \"nats\", or leave \
                 durability away"
            }
            Kind::Nats => self.nats.falls_short(wanted)?,
        };
        Some(format!("is {:?}, and {why}", wanted.as_str()))
    }
}

impl Nats {
    fn falls_short(&self, wanted: Durability) -> Option<&'static str> {
        match wanted {
            Durability::Accepted => None,
            Durability::Replicated => (self.replicas == 1)
                .then_some("broker.nats.replicas is 1: one server keeps each event; set it to 3 or 5"),
            Durability::Synced if self.storage == Storage::Memory => {
                Some("broker.nats.storage is \"memory\", which is no disk: set it to \"file\"")
            }
            Durability::Synced if self.synced.tag.is_empty() => Some(
                "it is not said which servers confirm after the disk: give those whose jetstream section has sync_interval: \
                 always a tag (server_tags), and set broker.nats.synced.tag to it",
            ),
            Durability::Synced if self.synced.access().named().is_empty() => Some(
                "it has to be seen that servers confirm after the disk, which they tell the system account alone: set \
                 credentials_file, nkey_file, or user and password_file of broker.nats.synced to those of a user of it",
            ),
            Durability::Synced => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_settings_cannot_reach_is_said_with_what_to_set() {
        type Change = fn(&mut Config);
        let cases: [(Durability, Option<&str>, Change); 8] = [
            (Durability::Accepted, None, |config| config.kind = Kind::Memory),
            (Durability::Replicated, Some("set it to \"nats\""), |config| config.kind = Kind::Memory),
            (Durability::Replicated, None, |_| {}),
            (Durability::Replicated, Some("set it to 3 or 5"), |config| config.nats.replicas = 1),
            (Durability::Synced, None, |config| config.nats.replicas = 1),
            (Durability::Synced, Some("set it to \"file\""), |config| config.nats.storage = Storage::Memory),
            (Durability::Synced, Some("broker.nats.synced.tag"), |config| config.nats.synced.tag.clear()),
            (Durability::Synced, Some("system account"), |config| config.nats.synced.user.clear()),
        ];
        for (wanted, says, change) in cases {
            let synced = Synced { tag: "disk".into(), user: "sys".into(), ..Synced::default() };
            let mut config = Config { kind: Kind::Nats, nats: Nats { synced, ..Nats::default() } };
            change(&mut config);
            let said = config.falls_short(wanted);
            assert_eq!(said.is_some(), says.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().contains(says.unwrap_or_default()));
        }
    }

    #[test]
    fn a_tag_is_written_as_servers_write_it() {
        for (tag, good) in [("", true), ("disk:always", true), ("Disk", false), ("a b", false)] {
            let synced = Synced { tag: tag.into(), ..Synced::default() };
            assert_eq!(synced.problems().is_empty(), good, "{tag}");
        }
    }
}
