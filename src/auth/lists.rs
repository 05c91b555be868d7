//! Two lists in files, a line for each entry: what is no longer believed, and the keys of the unary services.
//!
//! Empty lines, and what follows a `#` at the beginning of one, say nothing.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    identity::Identity,
    keys::{FileError, read_text},
};
use crate::types::ClientId;

/// Most lines of a text that is told to others: with names of a usual length, far less than a message may have.
const LINES: usize = 1000;

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Tokens and subjects that are no longer believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Revoked {
    tokens: HashSet<String>,
    subjects: HashSet<String>,
    /// Serial numbers of certificates, in small letters.
    serials: HashSet<String>,
}

impl Revoked {
    /// Lines of `jti ID`, `sub NAME` and `serial HEX`.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let text = read_text("auth.revoked_file", path, false)?;
        Self::parse(&text).map_err(|number| {
            let problem = format!("has a line {number} that is none of `sub NAME`, `jti ID` and `serial HEX`");
            FileError::new("auth.revoked_file", path, problem)
        })
    }

    /// The same, of a text; otherwise the number of a line that is none.
    pub(super) fn parse(text: &str) -> Result<Self, usize> {
        let mut revoked = Self::default();
        for (number, line) in lines(text) {
            match line.split_once(char::is_whitespace).map(|(kind, name)| (kind, name.trim().to_owned())) {
                Some(("jti", id)) => revoked.tokens.insert(id),
                Some(("sub", name)) => revoked.subjects.insert(name),
                Some(("serial", number)) => revoked.serials.insert(number.replace(':', "").to_ascii_lowercase()),
                _ => return Err(number),
            };
        }
        Ok(revoked)
    }

    /// Those of its lines that `before` does not have, as texts of the same form, none too long for a message.
    pub(super) fn beyond(&self, before: &Self) -> Vec<String> {
        let kinds = [
            ("jti", &self.tokens, &before.tokens),
            ("sub", &self.subjects, &before.subjects),
            ("serial", &self.serials, &before.serials),
        ];
        let new = kinds.iter().flat_map(|(kind, now, before)| now.difference(before).map(move |name| (kind, name)));
        let lines: Vec<_> = new.map(|(kind, name)| format!("{kind} {name}\n")).collect();
        lines.chunks(LINES).map(<[String]>::concat).collect()
    }

    /// Takes in what others name.
    pub(super) fn join(&mut self, others: Self) {
        self.tokens.extend(others.tokens);
        self.subjects.extend(others.subjects);
        self.serials.extend(others.serials);
    }

    /// Names no longer what others name.
    pub(super) fn remove(&mut self, others: &Self) {
        self.tokens.retain(|id| !others.tokens.contains(id));
        self.subjects.retain(|name| !others.subjects.contains(name));
        self.serials.retain(|serial| !others.serials.contains(serial));
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len() + self.subjects.len() + self.serials.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn names(&self, identity: &Identity) -> bool {
        self.subjects.contains(&*identity.subject)
            || identity.token_id.as_ref().is_some_and(|id| self.tokens.contains(&**id))
            || identity.serial.as_ref().is_some_and(|serial| self.serials.contains(&serial.to_ascii_lowercase()))
    }
}

/// Whose a key is, by the SHA-256 of the key. Keys are random and long, so that a slow hash would hide nothing more, and
/// whoever can choose what is looked up here cannot choose its digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ApiKeys(HashMap<[u8; 32], ClientId>);

impl ApiKeys {
    /// Lines of `NAME sha256:HEX`; a name may have several.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        const KEY: &str = "auth.api_key_file";
        let text = read_text(KEY, path, true)?;
        let mut keys = HashMap::new();
        for (number, line) in lines(&text) {
            let (name, hash) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let hash = hash.trim().strip_prefix("sha256:").and_then(unhex);
            let (Ok(client), Some(hash)) = (ClientId::parse(name), hash) else {
                let problem = format!("has a line {number} that is not `NAME sha256:` and 64 hexadecimal digits");
                return Err(FileError::new(KEY, path, problem));
            };
            if keys.insert(hash, client).is_some() {
                return Err(FileError::new(KEY, path, format!("has a line {number} with a key that was there before")));
            }
        }
        Ok(Self(keys))
    }

    pub(super) fn owner(&self, key: &[u8]) -> Option<&ClientId> {
        let hash: [u8; 32] = digest(&SHA256, key).as_ref().try_into().ok()?;
        self.0.get(&hash)
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}
