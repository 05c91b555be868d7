//! A token as it comes: a signed JWT in its compact form (RFC 7515, RFC 7519, with the advice of RFC 8725).
//!
//! Of the header only `alg` and `kid` have a say, and only in which of the issuer's own keys are tried. Where a header
//! brings a key or an address of one (`jwk`, `jku`, `x5c`, `x5u`), nobody looks; what it calls critical is not known here,
//! so such a token is refused.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, Key};

/// Largest token, bytes.
pub(super) const MAX_TOKEN: usize = 8 * 1024;
/// Most keys that a token is held against.
const MAX_TRIES: usize = 8;

/// Why a token is not believed, for our log. Whoever sent it is told nothing of this.
pub(super) type Why = &'static str;

/// A token that is well formed, and no more: nothing in it may be believed before [`Token::is_signed`].
#[derive(Debug)]
pub(super) struct Token<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    message: &'t [u8],
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl<'t> Token<'t> {
    pub(super) fn parse(text: &'t str) -> Result<Self, Why> {
        if text.len() > MAX_TOKEN {
            return Err("it is too long");
        }
        let (message, signature) = text.rsplit_once('.').ok_or("it has no signature")?;
        let (header, claims) = message.split_once('.').ok_or("it has no claims")?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "a part of it is not base64url");
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| "its header cannot be read")?;
        if header.crit.is_some() {
            return Err("its header has critical extensions");
        }
        let kind = header.typ.as_deref().unwrap_or("JWT");
        if !["jwt", "at+jwt", "application/at+jwt"].iter().any(|known| kind.eq_ignore_ascii_case(known)) {
            return Err("it is of another type");
        }
        let algorithm = Algorithm::parse(&header.alg).ok_or("its algorithm is not one of ours")?;
        let claims = serde_json::from_slice(&decode(claims)?).map_err(|_| "its claims cannot be read")?;
        let signature = decode(signature)?;
        Ok(Self { algorithm, key_id: header.kid, claims, message: message.as_bytes(), signature })
    }

    /// A claim that is text, signed or not.
    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// True if one of the keys could have been meant: its algorithm is the token's, and its name, if both have one.
    pub(super) fn means(&self, key: &Key) -> bool {
        let named = |id: &String| self.key_id.as_ref().is_none_or(|wanted| wanted == id);
        key.algorithm == self.algorithm && key.id.as_ref().is_none_or(named)
    }

    /// True if one of the keys has signed it.
    pub(super) fn is_signed<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> bool {
        keys.filter(|key| self.means(key)).take(MAX_TRIES).any(|key| key.signed(self.message, &self.signature))
    }
}
