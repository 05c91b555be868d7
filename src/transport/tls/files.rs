//! The files of `[transport.tls]`: read, checked, and made into what rustls serves with.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs as provider},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version,
};
use zeroize::Zeroizing;

use super::{
    ClientCert, MinVersion, TlsConfig,
    certificate::{self, Facts},
};
use crate::types::Timestamp;

/// Permissions that let everybody on the machine read or replace a file.
const OPEN_TO_ALL: u32 = 0o006;
/// Largest file that is taken for a certificate or a key, bytes.
const MAX_FILE: u64 = 1 << 20;

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or has no PEM of the kind in it.
    #[error("no {what} can be read from {}: {problem}", path.display())]
    File {
        /// Certificate, private key or certificate of an authority.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A key that is no secret.
    #[error(
        "everybody on this machine may read or replace the private key in {}: its mode is {mode:04o}; chmod it to 0600, \
         or to 0640 if a group needs it", path.display()
    )]
    Open {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The two do not fit together.
    #[error("the private key in {} cannot be used with the certificate in {}: {source}", key.display(), cert.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// An authority that rustls cannot use.
    #[error("the authorities in {} cannot be used: {problem}", path.display())]
    Authorities {
        /// Their file.
        path: PathBuf,
        /// What rustls says.
        problem: String,
    },
    /// A certificate that is over before it is served.
    #[error("the certificate in {} ended already", path.display())]
    Ended {
        /// The certificate's file.
        path: PathBuf,
    },
}

/// What the files hold at one moment.
pub(super) struct Contents {
    cert: io::Result<Vec<u8>>,
    key: io::Result<Zeroizing<Vec<u8>>>,
    key_mode: u32,
    /// None if clients show no certificate.
    authorities: Option<io::Result<Vec<u8>>>,
}

/// Tells contents from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

/// What can be served with.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) fingerprint: Fingerprint,
    pub(super) config: Arc<ServerConfig>,
    pub(super) server: Facts,
    /// When the first of the authorities for clients ends.
    pub(super) authorities_end: Option<Timestamp>,
}

impl Contents {
    /// Reads the files. Blocks.
    pub(super) fn read(files: &TlsConfig) -> Self {
        let authorities = files.wants_client_certificates().then(|| read(&files.client_ca_file));
        let key_mode = fs::metadata(&files.key_file).map_or(0, |metadata| metadata.permissions().mode() & 0o7777);
        let key = read(&files.key_file).map(Zeroizing::new);
        Self { cert: read(&files.cert_file), key, key_mode, authorities }
    }

    /// A fingerprint of all that [`load`](Self::load) looks at.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut add = |content: Result<&[u8], &io::Error>| match content {
            Ok(bytes) => {
                // With their length, or what moves from one file into the next would not be seen.
                context.update(&(bytes.len() as u64).to_be_bytes());
                context.update(bytes);
            }
            Err(error) => {
                context.update(&[u8::MAX; 8]);
                context.update(error.to_string().as_bytes());
            }
        };
        add(self.cert.as_deref());
        add(self.key.as_ref().map(|key| &key[..]));
        self.authorities.iter().for_each(|content| add(content.as_deref()));
        context.update(&self.key_mode.to_be_bytes());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        Fingerprint(fingerprint)
    }

    /// Checks them, and makes of them what can be served with.
    pub(super) fn load(&self, files: &TlsConfig) -> Result<Loaded, TlsError> {
        let chain = certificates("certificate", &files.cert_file, &self.cert)?;
        let server = chain.first().and_then(|leaf| certificate::facts(leaf).ok());
        let server = server.ok_or_else(|| {
            let problem = certificate::Unreadable.to_string();
            TlsError::File { what: "certificate", path: files.cert_file.clone(), problem }
        })?;
        let key = self.key(files)?;
        let (verifier, authorities_end) = match &self.authorities {
            None => (WebPkiClientVerifier::no_client_auth(), None),
            Some(content) => verifier(files, content)?,
        };
        let pair = |source| TlsError::Pair { cert: files.cert_file.clone(), key: files.key_file.clone(), source };
        let versions: &[_] = match files.min_version {
            MinVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            MinVersion::Tls13 => &[&version::TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(crypto())
            .with_protocol_versions(versions)
            .map_err(pair)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(pair)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        if files.wants_client_certificates() {
            // Whoever resumes is not asked for a certificate again, and so would outlive the authority that signed it.
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Ok(Loaded { fingerprint: self.fingerprint(), config: Arc::new(config), server, authorities_end })
    }

    fn key(&self, files: &TlsConfig) -> Result<PrivateKeyDer<'static>, TlsError> {
        let path = &files.key_file;
        let pem = self.key.as_ref().map_err(|error| unreadable("private key", path, error))?;
        if self.key_mode & OPEN_TO_ALL != 0 {
            return Err(TlsError::Open { path: path.clone(), mode: self.key_mode });
        }
        PrivateKeyDer::from_pem_slice(pem).map_err(|error| not_pem("private key", path, &error))
    }
}

fn crypto() -> Arc<CryptoProvider> {
    Arc::new(provider::default_provider())
}

/// Who vouches for clients, and when the first of the authorities ends.
fn verifier(
    files: &TlsConfig,
    content: &io::Result<Vec<u8>>,
) -> Result<(Arc<dyn ClientCertVerifier>, Option<Timestamp>), TlsError> {
    let path = &files.client_ca_file;
    let unusable = |problem: String| TlsError::Authorities { path: path.clone(), problem };
    let authorities = certificates("certificate of an authority", path, content)?;
    let ends: Result<Vec<_>, _> = authorities.iter().map(certificate::facts).collect();
    let first_end = ends.map_err(|error| unusable(error.to_string()))?.iter().map(|facts| facts.not_after).min();
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| unusable(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto());
    let verifier = match files.client_cert {
        ClientCert::Required => verifier,
        ClientCert::Optional => verifier.allow_unauthenticated(),
    };
    Ok((verifier.build().map_err(|error| unusable(error.to_string()))?, first_end))
}

fn certificates(
    what: &'static str,
    path: &Path,
    content: &io::Result<Vec<u8>>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = content.as_ref().map_err(|error| unreadable(what, path, error))?;
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(chain) if chain.is_empty() => Err(not_pem(what, path, &pem::Error::NoItemsFound)),
        Ok(chain) => Ok(chain),
        Err(error) => Err(not_pem(what, path, &error)),
    }
}

/// A file of a size that makes sense: the path may lead to something endless.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(fs::File::open(path)?, MAX_FILE + 1), &mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(content)
}

fn unreadable(what: &'static str, path: &Path, error: &io::Error) -> TlsError {
    TlsError::File { what, path: path.to_owned(), problem: error.to_string() }
}

/// What is wrong with a text that should be PEM. Nothing of the text is repeated: it may be a key.
fn not_pem(what: &'static str, path: &Path, error: &pem::Error) -> TlsError {
    let problem = match error {
        pem::Error::NoItemsFound => "it has no such PEM section",
        _ => "it is damaged, or no PEM",
    };
    TlsError::File { what, path: path.to_owned(), problem: problem.to_owned() }
}
