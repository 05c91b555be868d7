//! What a call shows of who its caller is.

use http::HeaderMap;

use crate::{
    error::{Failure, Reason},
    types::ClientId,
};

/// The metadata key by which a client names itself.
const CLIENT_ID: &str = "x-client-id";
/// The metadata key of a token.
const TOKEN: &str = "authorization";
/// The metadata key of an API key.
const API_KEY: &str = "x-api-key";

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown<'h> {
    Nothing,
    Token(&'h str),
    ApiKey(&'h [u8]),
}

/// Reads the metadata. Of two credentials none is believed: whoever put the second there may not be who put the first.
pub(super) fn shown(headers: &HeaderMap) -> Result<Shown<'_>, Failure> {
    let invalid = || refused("more than one credential, or one that cannot be read");
    let mut tokens = headers.get_all(TOKEN).iter();
    let mut keys = headers.get_all(API_KEY).iter();
    let shown = match (tokens.next(), keys.next()) {
        (None, None) => Shown::Nothing,
        (Some(token), None) => {
            let text = token.to_str().map_err(|_| invalid())?;
            let (scheme, token) = text.split_once(' ').ok_or_else(invalid)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(invalid());
            }
            Shown::Token(token.trim())
        }
        (None, Some(key)) => Shown::ApiKey(key.as_bytes()),
        (Some(_), Some(_)) => return Err(invalid()),
    };
    if tokens.next().is_some() || keys.next().is_some() { Err(invalid()) } else { Ok(shown) }
}

/// The one answer to every credential that is not believed. Why it is not stands in the log.
pub(super) fn refused(why: &str) -> Failure {
    tracing::debug!(why, "a credential was refused");
    Failure::new(Reason::TokenInvalid, "the credentials were not accepted")
}

/// The client a call's metadata names, if it names one. PROTOCOL if it names two, or none that can be.
pub(super) fn client_id(headers: &HeaderMap) -> Result<Option<ClientId>, Failure> {
    let wrong = |problem: String| Failure::new(Reason::Protocol, format!("metadata {CLIENT_ID}: {problem}"));
    let mut named = headers.get_all(CLIENT_ID).iter();
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

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_call_names_one_client_or_none() {
        let named = |values: &[&'static str]| {
            client_id(&headers(&values.iter().map(|value| (CLIENT_ID, *value)).collect::<Vec<_>>()))
        };
        assert_eq!(named(&[]).unwrap(), None);
        assert_eq!(named(&["alice"]).unwrap(), Some(ClientId::parse("alice").unwrap()));
        for bad in [&["alice", "bob"][..], &["two words"], &[""]] {
            assert_eq!(named(bad).unwrap_err().reason, Reason::Protocol, "{bad:?}");
        }
    }

    #[test]
    fn a_call_shows_one_credential_or_none() {
        assert_eq!(shown(&headers(&[])).unwrap(), Shown::Nothing);
        assert_eq!(shown(&headers(&[(TOKEN, "bearer  a.b.c ")])).unwrap(), Shown::Token("a.b.c"));
        assert_eq!(shown(&headers(&[(API_KEY, "k")])).unwrap(), Shown::ApiKey(b"k"));
        for bad in [
            &[(TOKEN, "Bearer a"), (TOKEN, "Bearer a")][..],
            &[(TOKEN, "Bearer a"), (API_KEY, "k")],
            &[(API_KEY, "k"), (API_KEY, "k")],
            &[(TOKEN, "Basic a")],
            &[(TOKEN, "a")],
        ] {
            assert_eq!(shown(&headers(bad)).unwrap_err().reason, Reason::TokenInvalid, "{bad:?}");
        }
    }
}
