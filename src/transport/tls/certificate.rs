//! What is read of a certificate: its number, its end, and the name in it.
//!
//! Whether it is to be believed is rustls' business and comes first; of what is read here nothing is trusted before.

use std::{fmt::Write as _, sync::Arc};

use rustls::pki_types::CertificateDer;
use x509_cert::{
    Certificate,
    der::Decode as _,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::ClientName;
use crate::types::{Nameless, PeerIdentity, Timestamp};

/// Longest name, bytes: what SPIFFE allows an id.
const MAX_NAME: usize = 2048;
/// Longest trust domain of a SPIFFE id, bytes.
const MAX_TRUST_DOMAIN: usize = 255;

/// A certificate cannot be read as X.509.
#[derive(Debug, thiserror::Error)]
#[error("a certificate in it cannot be read as X.509")]
pub(super) struct Unreadable;

/// A certificate's number and end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Hexadecimal, two digits a byte.
    pub(super) serial: Arc<str>,
    pub(super) not_after: Timestamp,
}

/// Reads number and end.
pub(super) fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, Unreadable> {
    parse(certificate).map(|parsed| facts_of(&parsed))
}

/// Reads who a client is, of a certificate that was verified.
pub(super) fn identity(certificate: &CertificateDer<'_>, kind: ClientName) -> Result<PeerIdentity, Unreadable> {
    let parsed = parse(certificate)?;
    let Facts { serial, not_after } = facts_of(&parsed);
    let names = parsed.tbs_certificate.get::<SubjectAltName>().map_err(|_| Unreadable)?;
    let name = names.map_or(Err(Nameless::Missing), |(_, names)| only_name(&names, kind));
    Ok(PeerIdentity { name, not_after, serial })
}

fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, Unreadable> {
    Certificate::from_der(certificate).map_err(|_| Unreadable)
}

fn facts_of(parsed: &Certificate) -> Facts {
    let serial = parsed.tbs_certificate.serial_number.as_bytes();
    let digits = serial.iter().skip_while(|byte| **byte == 0);
    let serial = digits.fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        write!(text, "{byte:02x}").ok();
        text
    });
    let seconds = parsed.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
    Facts { serial: serial.into(), not_after: Timestamp(seconds.saturating_mul(1_000_000)) }
}

/// The one name of a kind.
fn only_name(names: &SubjectAltName, kind: ClientName) -> Result<Arc<str>, Nameless> {
    let mut of_kind = names.0.iter().filter_map(|name| match (kind, name) {
        (ClientName::Spiffe | ClientName::Uri, GeneralName::UniformResourceIdentifier(name))
        | (ClientName::Dns, GeneralName::DnsName(name))
        | (ClientName::Email, GeneralName::Rfc822Name(name)) => Some(name.as_str()),
        _ => None,
    });
    match (of_kind.next(), of_kind.next()) {
        (None, _) => Err(Nameless::Missing),
        (Some(_), Some(_)) => Err(Nameless::Several),
        // Of DNS names, capitals are no part.
        (Some(name), None) if is_well_formed(name, kind) && kind == ClientName::Dns => {
            Ok(name.to_ascii_lowercase().into())
        }
        (Some(name), None) if is_well_formed(name, kind) => Ok(name.into()),
        (Some(_), None) => Err(Nameless::Malformed),
    }
}

fn is_well_formed(name: &str, kind: ClientName) -> bool {
    let visible = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_graphic());
    visible
        && match kind {
            ClientName::Spiffe => is_spiffe_id(name),
            ClientName::Uri => name.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty()),
            // A wildcard is a set of names, and nobody is a set.
            ClientName::Dns => name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
            ClientName::Email => {
                matches!(name.split('@').collect::<Vec<_>>()[..], [who, host] if !who.is_empty() && !host.is_empty())
            }
        }
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The SPIFFE-ID standard, section 2: one spelling for each id, so that they can be compared as texts.
fn is_spiffe_id(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("spiffe://") else { return false };
    let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
    let in_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let segment = |text: &str| !matches!(text, "" | "." | "..") && text.bytes().all(in_path);
    (1..=MAX_TRUST_DOMAIN).contains(&domain.len())
        && domain.bytes().all(in_domain)
        && path.is_none_or(|path| path.split('/').all(segment))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType, SerialNumber};

    use super::*;

    fn made(names: &[SanType]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xbc]));
        params.not_after = rcgen::date_time_ymd(2035, 1, 2);
        params.distinguished_name.push(rcgen::DnType::CommonName, "spiffe://prod.example/common-name");
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().unwrap())
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn email(name: &str) -> SanType {
        SanType::Rfc822Name(name.try_into().unwrap())
    }

    #[test]
    fn number_and_end_are_read() {
        let facts = facts(&made(&[])).unwrap();
        assert_eq!(&*facts.serial, "0abc");
        assert_eq!(facts.not_after, Timestamp(2_051_308_800_000_000));
    }

    #[test]
    fn a_client_is_the_one_name_of_the_kind_and_of_no_other() {
        use ClientName::{Dns, Email, Spiffe, Uri};
        use Nameless::{Malformed, Missing, Several};
        let id = "spiffe://prod.example/ns/chat/sa/web";
        let all = [dns("web.example"), uri(id), email("web@example")];
        let cases: &[(&[SanType], ClientName, Result<&str, Nameless>)] = &[
            (&all, Spiffe, Ok(id)),
            (&all, Uri, Ok(id)),
            (&all, Dns, Ok("web.example")),
            (&all, Email, Ok("web@example")),
            (&[dns("WEB.example")], Dns, Ok("web.example")),
            // The common name says something that would do.
            (&[], Spiffe, Err(Missing)),
            (&[dns("web.example")], Spiffe, Err(Missing)),
            (&[dns("web.example")], Uri, Err(Missing)),
            (&[uri(id)], Dns, Err(Missing)),
            (&[uri(id)], Email, Err(Missing)),
            (&[uri(id), uri(id)], Spiffe, Err(Several)),
            (&[uri(id), uri("https://example/other")], Spiffe, Err(Several)),
            (&[dns("a.example"), dns("b.example")], Dns, Err(Several)),
            (&[uri("https://prod.example/web")], Spiffe, Err(Malformed)),
            (&[uri("https://prod.example/web")], Uri, Ok("https://prod.example/web")),
            (&[uri("no-scheme")], Uri, Err(Malformed)),
            (&[dns("*.example")], Dns, Err(Malformed)),
            (&[email("nobody")], Email, Err(Malformed)),
            (&[email("a@b@c")], Email, Err(Malformed)),
        ];
        for (names, kind, expected) in cases {
            let identity = identity(&made(names), *kind).unwrap();
            assert_eq!(identity.name.as_deref(), expected.as_deref(), "{kind:?} of {names:?}");
        }
    }

    #[test]
    fn a_spiffe_id_has_one_spelling() {
        let good = ["spiffe://a", "spiffe://a.b-c_d/x/Y.z_1-2", "spiffe://10.0.0.1/w"];
        let bad = [
            "spiffe://",
            "spiffe:///x",
            "spiffe://A/x",
            "spiffe://a/",
            "spiffe://a//x",
            "spiffe://a/./x",
            "spiffe://a/../x",
            "spiffe://a/x/",
            "spiffe://a/x?y",
            "spiffe://a/x#y",
            "spiffe://a/%41",
            "spiffe://a:1/x",
            "spiffe://me@a/x",
            "SPIFFE://a/x",
            "spiffe://a/\u{fc}",
        ];
        for name in good {
            assert!(is_well_formed(name, ClientName::Spiffe), "{name}");
        }
        for name in bad {
            assert!(!is_well_formed(name, ClientName::Spiffe), "{name}");
        }
        let long = |length: usize| format!("spiffe://a/{}", "x".repeat(length - 11));
        assert!(is_well_formed(&long(MAX_NAME), ClientName::Spiffe));
        assert!(!is_well_formed(&long(MAX_NAME + 1), ClientName::Spiffe));
        assert!(!is_well_formed(&format!("spiffe://{}/x", "a".repeat(256)), ClientName::Spiffe));
    }

    proptest! {
        #[test]
        fn whatever_bytes_there_are_they_are_read_or_refused(
            place in any::<prop::sample::Index>(),
            byte: u8,
            rest in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut bytes = made(&[uri("spiffe://a/x")]).to_vec();
            let at = place.index(bytes.len());
            bytes[at] = byte;
            for wrong in [bytes.clone(), bytes[..at].to_vec(), [&bytes[..], &rest].concat(), rest] {
                let wrong = CertificateDer::from(wrong);
                if let Ok(identity) = identity(&wrong, ClientName::Spiffe) {
                    prop_assert!(identity.name.is_err() || identity.name.is_ok_and(|name| is_spiffe_id(&name)));
                }
            }
        }
    }
}
