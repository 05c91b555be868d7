//! How servers of NATS are told who we are, and how they are believed: what of that can be set together.

use std::path::Path;

use super::Nats;

/// The settings that say who we are, wherever they stand.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct Access<'c> {
    /// A `.creds` file: a user's JWT and its seed.
    pub(in crate::broker) credentials_file: &'c Path,
    /// A file with the seed of a user's nkey.
    pub(in crate::broker) nkey_file: &'c Path,
    /// A file with a token.
    pub(in crate::broker) token_file: &'c Path,
    /// A user's name.
    pub(in crate::broker) user: &'c str,
    /// A file with its password.
    pub(in crate::broker) password_file: &'c Path,
}

impl Access<'_> {
    /// Of what is enough to say who we are, what is set.
    pub(in crate::broker) fn named(&self) -> Vec<&'static str> {
        let all = [
            ("credentials_file", is_set(self.credentials_file)),
            ("nkey_file", is_set(self.nkey_file)),
            ("token_file", is_set(self.token_file)),
            ("user", !self.user.is_empty()),
        ];
        all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
    }

    /// Everything wrong with them, as `(key, sentence)`.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if let [first, second, ..] = self.named()[..] {
            problems.push((first, format!("and {second} exclude each other: one is enough to say who we are")));
        }
        if is_set(self.password_file) == self.user.is_empty() {
            problems.push(("password_file", "and user belong together: set both or neither".into()));
        }
        problems
    }
}

impl Nats {
    /// Who we are to the servers.
    pub(in crate::broker) fn access(&self) -> Access<'_> {
        Access {
            credentials_file: &self.credentials_file,
            nkey_file: &self.nkey_file,
            token_file: &self.token_file,
            user: &self.user,
            password_file: &self.password_file,
        }
    }

    /// Whether nothing is said without TLS. One server that is written so is enough: those that it names are written
    /// without a word about it.
    pub(in crate::broker) fn insists_on_tls(&self) -> bool {
        self.tls || self.servers.iter().any(|server| server.starts_with("tls://"))
    }

    /// Everything wrong with all of this, as `(key, sentence)`.
    pub(super) fn access_problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = self.access().problems();
        let files = [("ca_file", &self.ca_file), ("certificate_file", &self.certificate_file)];
        if !self.insists_on_tls()
            && let Some((key, _)) = files.into_iter().find(|(_, path)| is_set(path))
        {
            let sentence =
                "may go unused: without tls = true, or tls:// in servers, there is TLS only if a server asks for it";
            problems.push((key, sentence.into()));
        }
        if is_set(&self.certificate_file) != is_set(&self.key_file) {
            problems.push(("certificate_file", "and key_file belong together: set both or neither".into()));
        }
        problems
    }
}

/// Whether a file is named.
pub(in crate::broker) fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_excludes_or_needs_each_other_is_said() {
        type Change = fn(&mut Nats);
        let cases: [(&[&str], Change); 9] = [
            (&[], |nats| nats.token_file = "t".into()),
            (&[], |nats| (nats.user, nats.password_file) = ("u".into(), "p".into())),
            (&[], |nats| (nats.ca_file, nats.servers) = ("c".into(), vec!["nats://a".into(), "tls://b".into()])),
            (&["token_file"], |nats| {
                (nats.token_file, nats.user, nats.password_file) = ("t".into(), "u".into(), "p".into());
            }),
            (&["credentials_file"], |nats| (nats.credentials_file, nats.nkey_file) = ("c".into(), "n".into())),
            (&["password_file"], |nats| nats.user = "u".into()),
            (&["password_file"], |nats| nats.password_file = "p".into()),
            (&["ca_file"], |nats| nats.ca_file = "c".into()),
            (&["certificate_file"], |nats| (nats.tls, nats.key_file) = (true, "k".into())),
        ];
        for (keys, change) in cases {
            let mut nats = Nats::default();
            change(&mut nats);
            assert_eq!(nats.access_problems().iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys, "{nats:?}");
        }
    }
}
