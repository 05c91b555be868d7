//! Who is calling. So far a client says so itself; tokens and certificates come with rights.
//!
//! Believing clients is safe only where nobody else can call, so by default it is allowed on loopback alone, and on any
//! other address it has to be chosen in words.

use serde::{Deserialize, Serialize};
use tonic::metadata::MetadataMap;

use crate::{
    error::{Failure, Reason},
    types::ClientId,
};

/// The metadata key by which a client names itself.
const CLIENT_ID: &str = "x-client-id";

/// `[auth]`: who may call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How callers are told apart.
    pub mode: Mode,
}

/// How callers are told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Clients name themselves, and the server starts only if every listener is on loopback.
    #[default]
    Loopback,
    /// Clients name themselves, on whatever address.
    Anonymous,
}

/// The client a call's metadata names, if it names one. PROTOCOL if it names two, or none that can be.
pub fn client_id(metadata: &MetadataMap) -> Result<Option<ClientId>, Failure> {
    let wrong = |problem: String| Failure::new(Reason::Protocol, format!("metadata {CLIENT_ID}: {problem}"));
    let mut named = metadata.get_all(CLIENT_ID).iter();
    let (first, second) = (named.next(), named.next());
    match (first, second) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(wrong("given twice".to_owned())),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| wrong("not visible ASCII".to_owned()))?;
            ClientId::parse(text).map(Some).map_err(|invalid| wrong(invalid.problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(values: &[&str]) -> Result<Option<ClientId>, Failure> {
        let mut metadata = MetadataMap::new();
        for value in values {
            metadata.append(CLIENT_ID, value.parse().unwrap());
        }
        client_id(&metadata)
    }

    #[test]
    fn a_call_names_one_client_or_none() {
        assert_eq!(named(&[]).unwrap(), None);
        assert_eq!(named(&["alice"]).unwrap(), Some(ClientId::parse("alice").unwrap()));
        for bad in [&["alice", "bob"][..], &["two words"], &[""]] {
            assert_eq!(named(bad).unwrap_err().reason, Reason::Protocol, "{bad:?}");
        }
    }
}
