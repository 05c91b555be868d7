//! Who is calling, and what they may do.
//!
//! A caller names itself, which is believed where nobody else can call or where that was chosen in words; or somebody
//! vouches for it: an issuer by a signed token, an authority by a certificate, the operator by a key for the unary services. What it may do are its
//! [`Rights`]: rules of the configuration, read once when it comes and again when they change. Whatever no rule allows is
//! denied.
//!
//! Auth answers; it holds no connection and closes none. Whoever serves a caller asks [`Auth::review`] now and then
//! whether it is still who it was.

mod algorithm;
mod config;
mod credentials;
mod files;
mod identity;
mod issuer;
mod jwks;
mod keys;
mod lists;
mod revocations;
mod rights;
mod token;

use std::sync::Arc;

use http::HeaderMap;
use parking_lot::RwLock;

use self::{
    credentials::{Shown, refused, shown},
    files::Policy,
    issuer::{Doubt, Issuer},
    jwks::Fetcher,
    token::Token,
};
use crate::{
    error::{Failure, Reason},
    telemetry::metrics::Metrics,
    types::{Party, PeerIdentity, Timestamp, TransportHandle},
};

pub use self::{
    algorithm::Algorithm,
    config::{Config, Issuer as IssuerConfig, Mode},
    identity::Identity,
    keys::FileError,
    revocations::Tell,
    rights::{Ask, Right, Rights, Rule},
};

/// What a call asks for, as far as its path tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `StreamService`: it may show its token with its first frame.
    Stream,
    /// `TopicService`.
    Topics,
    /// `ConnectionService`.
    Operators,
}

/// A caller that is known, and what it may do as of one version of the policy. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    identity: Arc<Identity>,
    rights: Arc<Rights>,
    version: u64,
}

impl Caller {
    /// Who it is.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// See [`Rights::check`].
    pub fn check(&self, ask: Ask<'_>) -> Result<(), Failure> {
        self.rights.check(ask)
    }

    /// See [`Rights::allow`].
    pub fn may(&self, ask: Ask<'_>) -> bool {
        self.rights.allow(ask)
    }

    /// The caller, if it is an operator: DENIED.
    fn operator(self) -> Result<Self, Failure> {
        self.check(Ask::Operate).map(|()| self)
    }

    /// True if both were judged by the same version of the policy.
    pub fn is_of_same_policy(&self, other: &Self) -> bool {
        self.version == other.version
    }

    /// Who pays for what it does: the client, if somebody vouches for it, and otherwise its address, because names that
    /// one gives oneself cost nothing.
    pub fn party(&self, transport: &TransportHandle) -> Party {
        match self.identity.client() {
            Some(client) if self.identity.is_vouched_for() => Party::client(client),
            _ => Party::address(transport.peer.ip()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Auth {
    config: Config,
    issuers: Vec<Arc<Issuer>>,
    fetchers: Vec<Arc<Fetcher>>,
    policy: RwLock<Arc<Policy>>,
    /// Where callers name themselves and no rule says anything, each may do everything; the same for all of them.
    open: Option<Arc<Rights>>,
    /// Of the files as they were read at the start.
    fingerprint: u64,
    revocations: revocations::Revocations,
    metrics: Arc<Metrics>,
}

impl Auth {
    /// Reads every file. A file that cannot be used is a reason not to start: whoever is let in by a policy that could
    /// not be read is let in by nobody.
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Result<Self, FileError> {
        let fingerprint = files::fingerprint(&config);
        let mut issuers = Vec::new();
        for issuer in &config.issuers {
            issuers.push(Arc::new(Issuer::new(issuer.clone(), keys::from_files(issuer)?)));
        }
        let fetchers = issuers.iter().map(Fetcher::new).collect::<Result<Vec<_>, _>>()?;
        let policy = RwLock::new(Arc::new(Policy::read(&config, 1)?));
        let constant = config.mode.names_itself() && config.policy_file.as_os_str().is_empty();
        let operates = config.mode == Mode::Loopback || config.insecure_operators;
        let open = (constant && config.rules.is_empty()).then(|| Arc::new(Rights::everything(operates)));
        let insecure = config.insecure();
        metrics.insecure_settings.set(i64::try_from(insecure.len()).unwrap_or(i64::MAX));
        for key in insecure {
            tracing::warn!(key, "an insecure setting is on");
        }
        let fetchers = fetchers.into_iter().flatten().collect();
        let revocations = revocations::Revocations::default();
        Ok(Self { issuers, fetchers, policy, open, fingerprint, revocations, metrics, config })
    }

    /// True if nothing about a caller can change while it is served.
    pub fn is_constant(&self) -> bool {
        self.config.mode.names_itself() && self.config.policy_file.as_os_str().is_empty()
    }

    /// True if callers name themselves.
    pub fn names_itself(&self) -> bool {
        self.config.mode.names_itself()
    }

    /// Completes once the keys have been fetched that the call's token, or `token`, may be signed with; none if they are
    /// here, or cannot be fetched now. Cancel-safe.
    pub fn keys_wanted(&self, headers: &HeaderMap) -> Option<impl Future<Output = ()> + Send + use<>> {
        match shown(headers) {
            Ok(Shown::Token(token)) if self.config.mode.takes_tokens() => self.keys_wanted_by(token),
            _ => None,
        }
    }

    /// As [`keys_wanted`](Self::keys_wanted), of a token that came otherwise.
    pub fn keys_wanted_by(&self, token: &str) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.fetchers.is_empty() {
            return None;
        }
        let token = Token::parse(token).ok()?;
        let issuer = self.issuer(&token)?;
        if issuer.has_key_for(&token) {
            return None;
        }
        self.fetchers.iter().find(|fetcher| Arc::ptr_eq(fetcher.issuer(), issuer))?.want()
    }

    /// Who makes a call; none if that is still to be said in the first frame. TOKEN_INVALID, TOKEN_EXPIRED, DENIED.
    pub fn admit(
        &self,
        headers: &HeaderMap,
        transport: &TransportHandle,
        service: Service,
    ) -> Result<Option<Caller>, Failure> {
        let (mode, policy) = (self.config.mode, self.policy.read().clone());
        if mode.names_itself() {
            let caller = self.caller(&policy, Identity::anonymous(credentials::client_id(headers)?));
            return if service == Service::Operators { caller.operator().map(Some) } else { Ok(Some(caller)) };
        }
        let certificate = self.certificate(transport)?;
        let identity = match (shown(headers)?, service) {
            (Shown::Token(token), _) if mode.takes_tokens() => self.token(token, certificate, &policy)?,
            (Shown::ApiKey(key), Service::Topics | Service::Operators) => self.api_key(key, &policy)?,
            (Shown::ApiKey(_), Service::Stream) => return Err(refused("an API key opens no stream")),
            _ => match (mode, certificate) {
                (Mode::Mtls | Mode::JwtOrMtls, Some(certificate)) => self.certified(certificate, &policy)?,
                _ if mode.takes_tokens() && service == Service::Stream => return Ok(None),
                _ => return Err(refused("none was shown")),
            },
        };
        let caller = self.caller(&policy, identity);
        if service == Service::Operators { caller.operator().map(Some) } else { Ok(Some(caller)) }
    }

    /// Whom a token that came with a frame names. TOKEN_INVALID, TOKEN_EXPIRED.
    pub fn admit_by(&self, token: &str, transport: &TransportHandle) -> Result<Caller, Failure> {
        if token.is_empty() {
            return Err(refused("none was shown"));
        }
        let policy = self.policy.read().clone();
        Ok(self.caller(&policy, self.token(token, self.certificate(transport)?, &policy)?))
    }

    /// True if a call can be followed by a token.
    pub fn takes_tokens(&self) -> bool {
        self.config.mode.takes_tokens()
    }

    /// The caller with a new token in place of its old one. DENIED if that names somebody else: a connection never
    /// changes hands.
    pub fn refresh(&self, caller: &Caller, token: &str, transport: &TransportHandle) -> Result<Caller, Failure> {
        let next = self.admit_by(token, transport)?;
        if next.identity.is_same(&caller.identity) {
            return Ok(next);
        }
        tracing::info!(target: "bowline::auth::audit", client = ?caller.identity.client(), "a refresh named another client");
        Err(Failure::new(Reason::Denied, "the token is another client's"))
    }

    /// Looks whether a caller is still who it was: itself, if nothing has changed, or what it may do from now on.
    /// TOKEN_EXPIRED, TOKEN_INVALID.
    pub fn review(&self, caller: &Caller, now: Timestamp) -> Result<Option<Caller>, Failure> {
        let deadline = caller.identity.deadline(self.config.expiry_grace);
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Failure::new(Reason::TokenExpired, "the token has run out and was not replaced"));
        }
        let policy = self.policy.read().clone();
        if policy.version == caller.version {
            return Ok(None);
        }
        if policy.has_revoked(&caller.identity) {
            return Err(refused("it was revoked"));
        }
        Ok(Some(self.caller_under(&policy, caller.identity.clone())))
    }

    fn issuer(&self, token: &Token<'_>) -> Option<&Arc<Issuer>> {
        let named = token.text("iss")?;
        self.issuers.iter().find(|issuer| issuer.config().issuer == named)
    }

    /// The certificate of the peer, where the mode asks for one: it has to be there where every caller needs it.
    fn certificate<'t>(&self, transport: &'t TransportHandle) -> Result<Option<&'t PeerIdentity>, Failure> {
        let shown = transport.peer_identity.as_deref().filter(|_| self.config.mode.takes_certificates());
        match (self.config.mode, shown) {
            (Mode::Mtls | Mode::JwtAndMtls, None) => Err(refused("there is no certificate")),
            (_, shown) => Ok(shown),
        }
    }

    fn certified(&self, certificate: &PeerIdentity, policy: &Policy) -> Result<Identity, Failure> {
        let now = Timestamp::now();
        let identity = Identity::certified(certificate, now).map_err(|why| refused(&why))?;
        if now >= certificate.not_after {
            return Err(Failure::new(Reason::TokenExpired, "the certificate has run out"));
        }
        policy.admits(identity)
    }

    fn token(&self, text: &str, certificate: Option<&PeerIdentity>, policy: &Policy) -> Result<Identity, Failure> {
        let token = Token::parse(text).map_err(refused)?;
        let issuer = self.issuer(&token).ok_or_else(|| refused("its issuer is not one of ours"))?;
        let skew = u64::try_from(self.config.clock_skew.as_micros()).unwrap_or(u64::MAX);
        let identity = issuer.identify(&token, Timestamp::now(), skew).map_err(|doubt| match doubt {
            Doubt::Bad(why) => refused(why),
            Doubt::Expired => Failure::new(Reason::TokenExpired, "the token has run out"),
        })?;
        let identity = match certificate.filter(|_| self.config.mode == Mode::JwtAndMtls) {
            Some(certificate) => identity.over(certificate),
            None => identity,
        };
        policy.admits(identity)
    }

    fn api_key(&self, key: &[u8], policy: &Policy) -> Result<Identity, Failure> {
        let client = policy.api_keys.owner(key).ok_or_else(|| refused("there is no such API key"))?;
        let (issuer, subject) = ("api key".into(), client.as_str().into());
        let identity = Identity { client: Some(client.clone()), issuer, subject, ..Identity::default() };
        policy.admits(identity)
    }

    fn caller(&self, policy: &Policy, identity: Identity) -> Caller {
        self.caller_under(policy, Arc::new(identity))
    }

    fn caller_under(&self, policy: &Policy, identity: Arc<Identity>) -> Caller {
        let operates = self.config.mode == Mode::Loopback || self.config.insecure_operators;
        let rights = || Arc::new(Rights::of(&identity, &policy.rules, operates));
        let rights = self.open.clone().unwrap_or_else(rights);
        Caller { identity, rights, version: policy.version }
    }
}

#[cfg(test)]
mod tests;
