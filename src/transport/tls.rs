//! TLS from files: one certificate chain, one key, HTTP/2 only.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::Acceptor,
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{Config, TlsConfig, coalesce::Socket, meter::End};

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or has no PEM of the kind in it.
    #[error("no {what} can be read from {}: {problem}", path.display())]
    File {
        /// Certificate or private key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
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
}

/// Turns accepted sockets into TLS streams.
#[derive(Debug)]
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    /// Handshakes being computed. Who only waits for a ClientHello holds no permit, so silent peers keep nobody out.
    permits: Semaphore,
    clock: Duration,
}

impl Tls {
    /// Reads the files of `[transport.tls]`; `None` when it is off.
    pub(super) fn from_config(config: &Config) -> Result<Option<Self>, TlsError> {
        if !config.tls.enabled {
            return Ok(None);
        }
        let permits = Semaphore::new(config.max_tls_handshakes);
        Ok(Some(Self { config: Arc::new(load(&config.tls)?), permits, clock: config.tls_timeout }))
    }

    /// The handshake, on its clock.
    pub(super) async fn accept(&self, socket: Box<dyn Socket>) -> Result<TlsStream<Box<dyn Socket>>, End> {
        let handshake = async {
            let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
            let _permit = self.permits.acquire().await.map_err(std::io::Error::other)?;
            hello.into_stream(self.config.clone()).await
        };
        match timeout(self.clock, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "tls handshake failed");
                Err(End::TlsFailed)
            }
            Err(_) => Err(End::TlsTimeout),
        }
    }
}

fn load(files: &TlsConfig) -> Result<ServerConfig, TlsError> {
    let chain = chain(&files.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&files.key_file)
        .map_err(|error| unreadable("private key", &files.key_file, error))?;
    let pair = |source| TlsError::Pair { cert: files.cert_file.clone(), key: files.key_file.clone(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match chain {
        Ok(chain) if chain.is_empty() => Err(unreadable("certificate", path, pem::Error::NoItemsFound)),
        Ok(chain) => Ok(chain),
        Err(error) => Err(unreadable("certificate", path, error)),
    }
}

fn unreadable(what: &'static str, path: &Path, error: pem::Error) -> TlsError {
    let problem = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "it has no such PEM section".to_owned(),
        other => other.to_string(),
    };
    TlsError::File { what, path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn bad_files_are_named_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let config = TlsConfig { enabled: true, cert_file: cert_file.clone(), key_file: key_file.clone() };
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (one, other) = (made(), made());
        let (cert, key) = (one.cert.pem(), one.signing_key.serialize_pem());

        let missing = load(&config).unwrap_err().to_string();
        assert!(missing.contains("certificate") && missing.contains("cert.pem: No such file"), "{missing}");
        for (cert, key, words) in [
            ("", &key, ["certificate", "cert.pem", "no such PEM section"]),
            (&cert, &cert, ["private key", "key.pem", "no such PEM section"]),
            (&cert, &other.signing_key.serialize_pem(), ["key.pem", "cert.pem", "cannot be used with"]),
        ] {
            fs::write(&cert_file, cert).unwrap();
            fs::write(&key_file, key).unwrap();
            let sentence = load(&config).unwrap_err().to_string();
            assert!(words.iter().all(|word| sentence.contains(word)), "{sentence}");
        }
        fs::write(&key_file, &key).unwrap();
        assert!(load(&config).is_ok());
    }
}
