//! Names of clients, sessions and connections.

use std::{fmt, sync::Arc};

use super::Invalid;

/// Longest client or session id, bytes.
const MAX_ID_LEN: usize = 128;

fn visible_ascii(field: &'static str, text: &str) -> Result<Arc<str>, Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(field, "must not be empty"));
    }
    if text.len() > MAX_ID_LEN {
        return Err(Invalid::new(field, format!("is {} bytes long; the limit is {MAX_ID_LEN}", text.len())));
    }
    match text.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => Err(Invalid::new(field, format!("contains {c:?}; only visible ASCII characters are allowed"))),
        None => Ok(text.into()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Accepts 1 to 128 visible ASCII characters.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                visible_ascii($field, text).map(Self)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

name!(
    /// Who a client is, after authentication.
    ClientId,
    "client_id"
);

name!(
    /// A session's name, unique for its client.
    SessionId,
    "session_id"
);

impl ClientId {
    /// A name for a client that gave none.
    pub fn generate() -> Self {
        Self(format!("anonymous-{:016x}", fastrand::u64(..)).into())
    }
}

impl SessionId {
    /// A name for a session the client does not mean to resume. Starts with `~`; nothing else makes it special.
    pub fn generate() -> Self {
        Self(format!("~{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)).into())
    }
}

/// One `StreamData` call. Random, so that it is unique across replicas and restarts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// A fresh id.
    pub fn generate() -> Self {
        Self(fastrand::u64(1..))
    }

    /// Reads what `Display` writes: sixteen hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digits
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| Invalid::new("connection_id", "must be sixteen hexadecimal digits"))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_visible_ascii_only() {
        assert!(ClientId::parse("alice@example.com").is_ok());
        for bad in ["", "two words", "na\u{ef}ve", "tab\t", &"x".repeat(129)] {
            assert!(SessionId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_connection_id_reads_back_what_it_prints() {
        let id = ConnectionId::generate();
        assert_eq!(ConnectionId::parse(&id.to_string()), Ok(id));
        for bad in ["", "12", "+123456789abcdef", "zzzzzzzzzzzzzzzz"] {
            assert!(ConnectionId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
