//! The keys of an issuer: from files, and from a key set (RFC 7517) in a file or behind a URL.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    signature::RsaPublicKeyComponents,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::Deserialize;

use super::{
    algorithm::{Algorithm, Family, Key, MIN_SECRET},
    config::Issuer,
};

/// Most keys of a set that are looked at.
const MAX_KEYS: usize = 64;
/// Largest file with keys, rules or names.
const MAX_FILE: u64 = 4 << 20;

/// Why a file of `[auth]` cannot be used. It never quotes the file.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {} {problem}", path.display())]
pub struct FileError {
    /// The setting that names it.
    pub key: String,
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: String,
}

impl FileError {
    pub(super) fn new(key: impl Into<String>, path: &Path, problem: impl Into<String>) -> Self {
        Self { key: key.into(), path: path.to_owned(), problem: problem.into() }
    }
}

/// Reads a file. One with a secret in it must not be open to everybody on the machine.
pub(super) fn read(key: &str, path: &Path, secret: bool) -> Result<Vec<u8>, FileError> {
    let failed = |error: io::Error| FileError::new(key, path, format!("cannot be read: {error}"));
    let metadata = fs::metadata(path).map_err(failed)?;
    let mode = metadata.permissions().mode();
    if secret && mode & 0o007 != 0 {
        let problem = format!(
            "holds a secret and is open to everybody (mode {:04o}); take that away with `chmod o-rwx`, or, where \
             Kubernetes mounts it, with defaultMode: 0440",
            mode & 0o7777
        );
        return Err(FileError::new(key, path, problem));
    }
    if mode & 0o002 != 0 {
        return Err(FileError::new(key, path, "can be written by everybody; take that away with `chmod o-w`"));
    }
    if metadata.len() > MAX_FILE {
        return Err(FileError::new(key, path, format!("is larger than {MAX_FILE} bytes")));
    }
    fs::read(path).map_err(failed)
}

/// As [`read`], of a file that is text.
pub(super) fn read_text(key: &str, path: &Path, secret: bool) -> Result<String, FileError> {
    String::from_utf8(read(key, path, secret)?).map_err(|_| FileError::new(key, path, "is not UTF-8"))
}

/// Every key of an issuer that stands in a file.
pub(super) fn from_files(issuer: &Issuer) -> Result<Vec<Key>, FileError> {
    let mut keys = Vec::new();
    for path in &issuer.secret_files {
        let text = read("auth.issuers.secret_files", path, true)?;
        let secret = text.trim_ascii_end();
        if secret.len() < MIN_SECRET {
            let problem = format!("holds a secret of less than {MIN_SECRET} bytes, which can be guessed");
            return Err(FileError::new("auth.issuers.secret_files", path, problem));
        }
        keys.extend(issuer.algorithms.iter().filter_map(|algorithm| Key::secret(*algorithm, secret)));
    }
    for path in &issuer.public_key_files {
        let key = "auth.issuers.public_key_files";
        let pem = read(key, path, false)?;
        let der = SubjectPublicKeyInfoDer::from_pem_slice(&pem)
            .map_err(|_| FileError::new(key, path, "holds no PEM of a public key (-----BEGIN PUBLIC KEY-----)"))?;
        let before = keys.len();
        let of = |algorithm: &Algorithm| Key::public(None, *algorithm, der.as_ref());
        keys.extend(issuer.algorithms.iter().filter_map(of));
        if keys.len() == before {
            let words: Vec<_> = issuer.algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
            let problem = format!("holds a key that none of {} takes", words.join(", "));
            return Err(FileError::new(key, path, problem));
        }
    }
    if !issuer.jwks_file.as_os_str().is_empty() {
        let (key, path) = ("auth.issuers.jwks_file", &issuer.jwks_file);
        let set = from_set(&read(key, path, false)?, &issuer.algorithms);
        keys.extend(set.map_err(|problem| FileError::new(key, path, problem))?);
    }
    Ok(keys)
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// A key as sets have it. What else is in it is nothing to us.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a set that the algorithms take; others are passed over, shared secrets among them. Fails if it is no set,
/// or has no key of use.
pub(super) fn from_set(json: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    let set: Set = serde_json::from_slice(json).map_err(|_| "is no JSON key set".to_owned())?;
    let jwks = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let keys: Vec<Key> = jwks.flat_map(|jwk| usable(&jwk, algorithms)).collect();
    if keys.is_empty() { Err("has no key that the issuer's algorithms take".to_owned()) } else { Ok(keys) }
}

fn usable(jwk: &Jwk, algorithms: &[Algorithm]) -> Vec<Key> {
    if jwk.used_for.as_deref().is_some_and(|used_for| used_for != "sig") {
        return Vec::new();
    }
    let Some((family, bytes)) = material(jwk) else { return Vec::new() };
    let fits = |algorithm: &&Algorithm| {
        algorithm.family() == family && jwk.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str())
    };
    let wanted = algorithms.iter().filter(fits);
    wanted.filter_map(|algorithm| Key::public(jwk.kid.clone(), *algorithm, &bytes)).collect()
}

/// A key's family and its bytes as [`Key::public`] takes them.
fn material(jwk: &Jwk) -> Option<(Family, Vec<u8>)> {
    let bytes = |field: &Option<String>| URL_SAFE_NO_PAD.decode(field.as_deref()?).ok();
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let components = RsaPublicKeyComponents { n: bytes(&jwk.n)?, e: bytes(&jwk.e)? };
            let der: PublicKeyX509Der<'_> = components.as_der().ok()?;
            Some((Family::Rsa, der.as_ref().to_vec()))
        }
        ("EC", Some(curve)) => {
            let (family, size) = match curve {
                "P-256" => (Family::P256, 32),
                "P-384" => (Family::P384, 48),
                _ => return None,
            };
            let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
            // An uncompressed point.
            ((x.len(), y.len()) == (size, size)).then(|| (family, [&[4][..], &x, &y].concat()))
        }
        ("OKP", Some("Ed25519")) => Some((Family::Ed25519, bytes(&jwk.x).filter(|x| x.len() == 32)?)),
        _ => None,
    }
}
