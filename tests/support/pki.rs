//! Authorities and certificates, made when a test runs; and a folder that holds them as an orchestrator would.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// A certificate with its key.
pub struct Pair {
    pub der: CertificateDer<'static>,
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for localhost.
    pub fn server(&self) -> Pair {
        self.sign(&[SanType::DnsName("localhost".try_into().unwrap())])
    }

    /// A certificate of a workload with a SPIFFE id.
    pub fn workload(&self, path: &str) -> Pair {
        self.sign(&[SanType::URI(format!("spiffe://bowline.test/{path}").try_into().unwrap())])
    }

    /// A certificate with these names.
    pub fn sign(&self, names: &[SanType]) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { der: certificate.der().clone(), cert: certificate.pem(), key: key.serialize_pem() }
    }

    /// What a client of rustls needs that trusts this authority; with a certificate of its own, if it has one.
    pub fn client(&self, own: Option<&Pair>) -> ClientConfig {
        self.client_speaking(rustls::DEFAULT_VERSIONS, own)
    }

    /// The same, for a client that speaks these versions.
    pub fn client_speaking(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => config.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![own.der.clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// Files that are replaced all at once, as the kubelet does it: they are links through a link to the folder of the
/// moment.
pub struct Volume {
    dir: tempfile::TempDir,
    written: u32,
}

impl Volume {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let mut volume = Self { dir: tempfile::tempdir().unwrap(), written: 0 };
        volume.replace(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), volume.path(name)).unwrap();
        }
        volume
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same, as text.
    pub fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// From now on the files hold this.
    pub fn replace(&mut self, files: &[(&str, &str)]) {
        self.written += 1;
        let folder = format!("..{}", self.written);
        fs::create_dir(self.path(&folder)).unwrap();
        for (name, content) in files {
            let path = self.path(&folder).join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        }
        symlink(&folder, self.path("..new")).unwrap();
        fs::rename(self.path("..new"), self.path("..data")).unwrap();
    }
}
