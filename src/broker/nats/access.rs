//! What servers are shown of us and what they have to show, from files; and, in the words of the settings, why one does not
//! let us in or is not believed. Nothing that is said here quotes a secret.

use std::{fmt, fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions};
use zeroize::Zeroizing;

use super::{
    super::config::{self, Access, is_set},
    api::Problem,
};

/// Permissions of everybody else on the machine.
const OTHERS: u32 = 0o007;
/// What a user's seed begins with, and how long it is.
const SEED: (&str, usize) = ("SU", 58);

/// Whoever connects: the settings that say who it is, and the section in which they stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visitor<'c> {
    pub(super) section: &'static str,
    pub(super) access: Access<'c>,
}

impl Visitor<'_> {
    /// Of a server's own events.
    pub(super) fn own(config: &config::Nats) -> Visitor<'_> {
        Visitor { section: "broker.nats", access: config.access() }
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.section)
    }

    /// Options that say who it is, and hold the servers to TLS as it is configured.
    pub(super) fn options(&self, config: &config::Nats) -> Result<ConnectOptions, Problem> {
        let Access { credentials_file, nkey_file, token_file, user, password_file } = self.access;
        let mut options = ConnectOptions::new().require_tls(config.insists_on_tls());
        if is_set(credentials_file) {
            let (key, text) = self.secret("credentials_file", credentials_file)?;
            let says = "holds no JWT of a user with its seed, as `nsc generate creds` writes them";
            options = options.credentials(&text).map_err(|_| unfit(&key, credentials_file, &says))?;
        }
        if is_set(nkey_file) {
            let (key, text) = self.secret("nkey_file", nkey_file)?;
            let seed = text.trim();
            if !seed.starts_with(SEED.0) || seed.len() != SEED.1 {
                let says = "holds no seed of a user's nkey, which begins with SU, and nothing else";
                return Err(unfit(&key, nkey_file, &says));
            }
            options = options.nkey(seed.to_owned());
        }
        if is_set(token_file) {
            let (_, text) = self.secret("token_file", token_file)?;
            options = options.token(text.trim().to_owned());
        }
        if !user.is_empty() {
            let (_, text) = self.secret("password_file", password_file)?;
            options = options.user_and_password(user.to_owned(), text.trim_end().to_owned());
        }
        if is_set(&config.ca_file) {
            pem("ca_file", &config.ca_file, "CERTIFICATE", open)?;
            options = options.add_root_certificates(config.ca_file.clone());
        }
        if is_set(&config.certificate_file) {
            pem("certificate_file", &config.certificate_file, "CERTIFICATE", open)?;
            pem("key_file", &config.key_file, "PRIVATE KEY", closed)?;
            options = options.add_client_certificate(config.certificate_file.clone(), config.key_file.clone());
        }
        Ok(options)
    }

    /// The setting's full name, and what its file holds.
    fn secret(&self, name: &str, path: &Path) -> Result<(String, Zeroizing<String>), Problem> {
        let key = self.key(name);
        let text = closed(&key, path)?;
        if text.trim().is_empty() { Err(unfit(&key, path, &"is empty")) } else { Ok((key, text)) }
    }

    /// Why there is no connection. What time does not mend is [`Problem::Unfit`].
    pub(super) fn refused(&self, config: &config::Nats, error: &ConnectError) -> Problem {
        let text = error.to_string();
        let shows_certificate = is_set(&config.certificate_file);
        let says = match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                self.unknown(shows_certificate.then_some(&config.certificate_file))
            }
            ConnectErrorKind::Tls => {
                format!("TLS cannot be set up with the files that broker.nats names for it: {text}")
            }
            _ if text.contains("invalid peer certificate") => format!(
                "the NATS server is not believed: {text}; broker.nats.ca_file has to hold the authority that signed its \
                 certificate, and broker.nats.servers a name that this is for"
            ),
            _ if text.contains("received fatal alert") && shows_certificate => format!(
                "the NATS server does not take the certificate in broker.nats.certificate_file ({}): {text}",
                config.certificate_file.display()
            ),
            _ if text.contains("received fatal alert") => format!(
                "the NATS server does not speak TLS with us: {text}; if it wants a certificate, set \
                 broker.nats.certificate_file and broker.nats.key_file"
            ),
            _ if text.contains("received corrupt message") => {
                "broker.nats asks for TLS (tls, or tls:// in servers), and the NATS server speaks none".to_owned()
            }
            _ => return Problem::Unreachable(text),
        };
        Problem::Unfit(says)
    }

    /// The server does not know us, or does not want us.
    fn unknown(&self, certificate: Option<&std::path::PathBuf>) -> String {
        let Access { credentials_file, nkey_file, token_file, user, password_file } = self.access;
        let with = match self.access.named().first().copied() {
            Some(key @ "credentials_file") => format!("{} ({})", self.key(key), credentials_file.display()),
            Some(key @ "nkey_file") => format!("{} ({})", self.key(key), nkey_file.display()),
            Some(key @ "token_file") => format!("{} ({})", self.key(key), token_file.display()),
            Some(key) => {
                let (user_key, key) = (self.key(key), self.key("password_file"));
                format!("{user_key} {user:?} and {key} ({})", password_file.display())
            }
            None if certificate.is_some() => format!(
                "broker.nats.certificate_file ({}) alone",
                certificate.map(|path| path.display().to_string()).unwrap_or_default()
            ),
            None => {
                return format!(
                    "the NATS server wants to know who we are: set credentials_file, nkey_file, token_file, or user and \
                     password_file of {}",
                    self.section
                );
            }
        };
        format!("the NATS server does not let us in with {with}: authorization violation")
    }
}

/// What a file holds that has to be ours alone.
fn closed(key: &str, path: &Path) -> Result<Zeroizing<String>, Problem> {
    let mode = fs::metadata(path).map_err(|error| unreadable(key, path, &error))?.permissions().mode();
    if mode & OTHERS != 0 {
        let says = format!(
            "holds a secret and is open to everybody (mode {:04o}); take that away with `chmod o-rwx`, or, where Kubernetes \
             mounts it, with defaultMode: 0440",
            mode & 0o7777
        );
        return Err(unfit(key, path, &says));
    }
    open(key, path)
}

fn open(key: &str, path: &Path) -> Result<Zeroizing<String>, Problem> {
    fs::read_to_string(path).map(Zeroizing::new).map_err(|error| unreadable(key, path, &error))
}

/// The file can be read, and has PEM of that kind in it.
fn pem(
    name: &str,
    path: &Path,
    kind: &str,
    read: fn(&str, &Path) -> Result<Zeroizing<String>, Problem>,
) -> Result<(), Problem> {
    let key = format!("broker.nats.{name}");
    let text = read(&key, path)?;
    let is_there = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(kind));
    if is_there { Ok(()) } else { Err(unfit(&key, path, &format!("holds no PEM of a {}", kind.to_lowercase()))) }
}

fn unreadable(key: &str, path: &Path, error: &io::Error) -> Problem {
    unfit(key, path, &format!("cannot be read: {error}"))
}

fn unfit(key: &str, path: &Path, says: &dyn fmt::Display) -> Problem {
    Problem::Unfit(format!("{key}: {} {says}", path.display()))
}
