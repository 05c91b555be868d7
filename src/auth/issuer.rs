//! Whom a token names, as its issuer vouches for it.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use super::{
    algorithm::Key,
    config,
    identity::Identity,
    rights,
    token::{Token, Why},
};
use crate::types::{ClientId, Timestamp};

/// Largest `exp` that is believed, seconds: what lies beyond, for microseconds, is no time.
const MAX_SECONDS: f64 = 1e11;

/// Why a token does not make a caller known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It is not what its issuer signs for us.
    Bad(Why),
    /// It was that, once.
    Expired,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Issuer {
    config: config::Issuer,
    from_files: RwLock<Arc<Vec<Key>>>,
    fetched: RwLock<Arc<Vec<Key>>>,
}

impl Issuer {
    pub(super) fn new(config: config::Issuer, keys: Vec<Key>) -> Self {
        Self { config, from_files: RwLock::new(Arc::new(keys)), fetched: RwLock::default() }
    }

    pub(super) fn config(&self) -> &config::Issuer {
        &self.config
    }

    pub(super) fn set_keys_of_files(&self, keys: Vec<Key>) {
        *self.from_files.write() = Arc::new(keys);
    }

    pub(super) fn set_fetched_keys(&self, keys: Vec<Key>) {
        *self.fetched.write() = Arc::new(keys);
    }

    /// False if only a key that is not here can have signed it.
    pub(super) fn has_key_for(&self, token: &Token<'_>) -> bool {
        [&self.from_files, &self.fetched].into_iter().any(|keys| keys.read().iter().any(|key| token.means(key)))
    }

    /// Whom the token names. `skew` in microseconds.
    pub(super) fn identify(&self, token: &Token<'_>, now: Timestamp, skew: u64) -> Result<Identity, Doubt> {
        if !self.config.algorithms.contains(&token.algorithm) {
            return Err(Doubt::Bad("its algorithm is not one of its issuer's"));
        }
        let (files, fetched) = (self.from_files.read().clone(), self.fetched.read().clone());
        let keys = || files.iter().chain(fetched.iter());
        if !token.is_signed(keys()) {
            return Err(Doubt::Bad("its signature is not its issuer's"));
        }
        self.claimed(token, now, skew)
    }

    /// From here on every claim is the issuer's word.
    fn claimed(&self, token: &Token<'_>, now: Timestamp, skew: u64) -> Result<Identity, Doubt> {
        let time = |claim: &str| match token.claims.get(claim).map(Value::as_f64) {
            None => Ok(None),
            Some(Some(seconds)) if (0.0..MAX_SECONDS).contains(&seconds) => Ok(Some(Timestamp((seconds * 1e6) as u64))),
            Some(_) => Err(Doubt::Bad("one of its times is none")),
        };
        let is_for_us =
            |audience: &Value| audience.as_str().is_some_and(|name| self.config.audiences.iter().any(|a| a == name));
        let for_us = match token.claims.get("aud") {
            Some(Value::Array(audiences)) => audiences.iter().any(is_for_us),
            Some(audience) => is_for_us(audience),
            None => false,
        };
        if !for_us {
            return Err(Doubt::Bad("it is for somebody else"));
        }
        let subject = token.text("sub").filter(|subject| !subject.is_empty()).ok_or(Doubt::Bad("it names nobody"))?;
        let named =
            token.text(&self.config.client_claim).ok_or(Doubt::Bad("the claim with the client's name is missing"))?;
        let name = format!("{}{named}", self.config.client_prefix);
        let client =
            ClientId::parse(&name).map_err(|_| Doubt::Bad("the client's name is none that a client may have"))?;
        if time("nbf")?.is_some_and(|begin| now.0.saturating_add(skew) < begin.0) {
            return Err(Doubt::Bad("its time has not come"));
        }
        if time("iat")?.is_some_and(|made| now.0.saturating_add(skew) < made.0) {
            return Err(Doubt::Bad("it was made in the future"));
        }
        let expires = time("exp")?.ok_or(Doubt::Bad("it never runs out"))?;
        if now.0 >= expires.0.saturating_add(skew) {
            return Err(Doubt::Expired);
        }
        let brings = token.claims.get(&self.config.rights_claim).filter(|_| !self.config.rights_claim.is_empty());
        Ok(Identity {
            client: Some(client),
            issuer: self.config.issuer.as_str().into(),
            subject: subject.into(),
            token_id: token.text("jti").map(Into::into),
            serial: None,
            claims: serde_json::to_string(&token.claims).unwrap_or_default().into(),
            brought: brings.map(rights::brought).unwrap_or_default(),
            expires: Some(expires),
            shown: now,
        })
    }
}
