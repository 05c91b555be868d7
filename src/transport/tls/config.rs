//! `[transport.tls]`: certificates, from files.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// `[transport.tls]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Whether the listener speaks TLS, and then only TLS.
    pub enabled: bool,
    /// PEM file with the certificate chain, leaf first.
    pub cert_file: PathBuf,
    /// PEM file with the private key of the leaf.
    pub key_file: PathBuf,
    /// PEM file with the authorities that sign the certificates of clients; empty: clients show none.
    pub client_ca_file: PathBuf,
    /// Whether a client may do without a certificate.
    pub client_cert: ClientCert,
    /// Which name in its certificate a client is known by.
    pub client_name: ClientName,
    /// Oldest version spoken.
    pub min_version: MinVersion,
    /// How often the files are looked at for a change; 0 s: only at the start.
    #[serde(with = "humantime_serde")]
    pub reload_interval: Duration,
}

/// Whether a client may do without a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCert {
    /// Without one, no handshake.
    #[default]
    Required,
    /// One that is shown has to be good.
    Optional,
}

/// Which subject alternative name a client is known by. It must be the only one of its kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientName {
    /// A URI that is a SPIFFE id.
    #[default]
    Spiffe,
    /// Any URI.
    Uri,
    /// A DNS name.
    Dns,
    /// An email address.
    Email,
}

/// Oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MinVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[default]
    #[serde(rename = "1.3")]
    Tls13,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            client_ca_file: PathBuf::new(),
            client_cert: ClientCert::default(),
            client_name: ClientName::default(),
            min_version: MinVersion::default(),
            reload_interval: Duration::from_secs(5),
        }
    }
}

impl TlsConfig {
    /// Whether clients are asked for a certificate.
    pub fn wants_client_certificates(&self) -> bool {
        self.enabled && !self.client_ca_file.as_os_str().is_empty()
    }

    /// What is wrong with the values, one sentence each; its first word is the key inside `[transport]`.
    pub(in crate::transport) fn problems(&self) -> impl Iterator<Item = String> {
        let files = [("tls.cert_file", &self.cert_file), ("tls.key_file", &self.key_file)];
        let missing = files.into_iter().filter(|(_, file)| self.enabled && file.as_os_str().is_empty());
        let missing = missing.map(|(key, _)| format!("{key} must name a PEM file when tls.enabled is true"));
        let idle = !self.enabled && !self.client_ca_file.as_os_str().is_empty();
        let idle = idle.then(|| {
            "tls.client_ca_file names a file, but tls.enabled is false: nobody would be asked for a certificate"
                .to_owned()
        });
        missing.chain(idle)
    }
}
