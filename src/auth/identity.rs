//! Who a caller is, once it is believed.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use crate::types::{ClientId, PeerIdentity, Timestamp, TopicPattern};

/// See the module. What it is made of does not change; that its time runs out, or that it is revoked, is judged anew.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// None of a caller that may name itself and has not yet.
    pub(super) client: Option<ClientId>,
    /// Who vouches for it; empty if nobody does.
    pub(super) issuer: Arc<str>,
    /// Its name with the issuer.
    pub(super) subject: Arc<str>,
    /// Of the token that named it.
    pub(super) token_id: Option<Arc<str>>,
    /// Of the certificate that was shown.
    pub(super) serial: Option<Arc<str>>,
    /// The token's claims, as JSON: read when the rules have changed, which is seldom.
    pub(super) claims: Box<str>,
    pub(super) brought: Vec<(TopicPattern, u8)>,
    pub(super) expires: Option<Timestamp>,
    /// When it was last shown that it is who it is.
    pub(super) shown: Timestamp,
}

impl Identity {
    /// A caller that names itself, if it does.
    pub(crate) fn anonymous(client: Option<ClientId>) -> Self {
        Self { client, ..Self::default() }
    }

    /// Whom a certificate names; why it names nobody, for our log.
    pub(super) fn certified(certificate: &PeerIdentity, now: Timestamp) -> Result<Self, String> {
        let name = certificate.name.clone().map_err(|nameless| nameless.to_string())?;
        let client = ClientId::parse(&name).map_err(|invalid| format!("the name in the certificate: {invalid}"))?;
        let (issuer, serial) = ("certificate".into(), Some(certificate.serial.clone()));
        let (expires, shown) = (Some(certificate.not_after), now);
        Ok(Self { client: Some(client), issuer, subject: name, serial, expires, shown, ..Self::default() })
    }

    /// The same, over a transport with this certificate: whichever runs out first, and whichever is revoked.
    pub(super) fn over(mut self, certificate: &PeerIdentity) -> Self {
        self.serial = Some(certificate.serial.clone());
        self.expires = Some(self.expires.map_or(certificate.not_after, |expires| expires.min(certificate.not_after)));
        self
    }

    /// The client; none of a caller that may name itself and has not yet.
    pub fn client(&self) -> Option<&ClientId> {
        self.client.as_ref()
    }

    /// When its token, or its certificate, runs out.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// True if somebody vouches for it.
    pub fn is_vouched_for(&self) -> bool {
        !self.issuer.is_empty()
    }

    pub(super) fn claims(&self) -> Value {
        serde_json::from_str(&self.claims).unwrap_or_default()
    }

    pub(super) fn brought(&self) -> &[(TopicPattern, u8)] {
        &self.brought
    }

    /// True if both are one and the same, by what vouches for them.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.client, &self.issuer, &self.subject) == (&other.client, &other.issuer, &other.subject)
    }

    /// Until when a connection of it lives. A token that was believed although it had just run out, because clocks differ,
    /// has its time from then on.
    pub(super) fn deadline(&self, grace: Duration) -> Option<Timestamp> {
        Some(self.expires?.max(self.shown).plus(grace))
    }
}
