use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{
    files::{Contents, Loaded},
    reload::{Look, look},
    *,
};

/// A certificate for localhost and its key, as PEM.
fn made() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn ended() -> (String, String) {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Files in a folder of their own.
struct Files {
    dir: tempfile::TempDir,
    config: TlsConfig,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        Self { config: TlsConfig { enabled: true, cert_file, key_file, ..TlsConfig::default() }, dir }
    }

    fn write(&self, cert: &str, key: &str) {
        fs::write(&self.config.cert_file, cert).unwrap();
        secret(&self.config.key_file, key);
    }

    fn with_authorities(mut self, content: &str) -> Self {
        self.config.client_ca_file = self.dir.path().join("ca.pem");
        fs::write(&self.config.client_ca_file, content).unwrap();
        self
    }

    fn load(&self) -> Result<Loaded, TlsError> {
        Contents::read(&self.config).load(&self.config)
    }

    fn refused(&self) -> String {
        self.load().expect_err("it was taken").to_string()
    }
}

fn secret(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn bad_files_are_named_with_what_is_wrong() {
    let files = Files::new();
    let ((cert, key), (_, other_key)) = (made(), made());
    let missing = files.refused();
    assert!(missing.contains("certificate") && missing.contains("cert.pem: No such file"), "{missing}");
    for (cert, key, words) in [
        ("", &*key, ["certificate", "cert.pem", "no such PEM section"]),
        ("-----BEGIN CERTIFICATE-----\nAAAA", &key, ["certificate", "cert.pem", "damaged"]),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key, ["certificate", "cert.pem", "X.509"]),
        (&cert, &cert, ["private key", "key.pem", "no such PEM section"]),
        (&cert, &other_key, ["key.pem", "cert.pem", "cannot be used with"]),
    ] {
        files.write(cert, key);
        let sentence = files.refused();
        assert!(words.iter().all(|word| sentence.contains(word)), "{sentence}");
    }
    files.write(&cert, &key);
    assert!(files.load().is_ok());
}

#[test]
fn nothing_of_a_key_is_repeated_in_an_error() {
    let files = Files::new();
    let (cert, key) = made();
    let line = key.lines().nth(1).unwrap();
    for wrong in [
        key.replace("-----END", "----END"),
        key.replace("-----BEGIN", &format!("-----BEGIN {line}")),
        key.replace(line, &format!("{line}!")),
    ] {
        files.write(&cert, &wrong);
        let sentence = files.refused();
        assert!(!sentence.contains(&line[..12]), "{sentence}");
    }
}

#[test]
fn a_key_that_everybody_can_read_or_replace_is_refused() {
    let files = Files::new();
    let (cert, key) = made();
    files.write(&cert, &key);
    for (mode, good) in [(0o644, false), (0o602, false), (0o604, false), (0o640, true), (0o400, true), (0o440, true)] {
        fs::set_permissions(&files.config.key_file, fs::Permissions::from_mode(mode)).unwrap();
        let loaded = files.load();
        assert_eq!(loaded.is_ok(), good, "{mode:o}");
        if let Err(error) = loaded {
            let sentence = error.to_string();
            assert!(sentence.contains(&format!("its mode is {mode:04o}; chmod it to 0600")), "{sentence}");
        }
    }
}

#[test]
fn authorities_that_are_none_are_named() {
    let (cert, key) = made();
    for (content, words) in
        [("", "no such PEM section"), ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "X.509")]
    {
        let files = Files::new().with_authorities(content);
        files.write(&cert, &key);
        let sentence = files.refused();
        assert!(sentence.contains("ca.pem") && sentence.contains(words), "{sentence}");
    }
    let files = Files::new().with_authorities(&cert);
    files.write(&cert, &key);
    assert!(files.load().unwrap().authorities_end.is_some());
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let mut files = Files::new();
    files.config.cert_file = "/dev/zero".into();
    assert!(files.refused().contains("larger than 1 MiB"));
}

#[test]
fn a_change_is_taken_and_a_bad_one_is_said_once_when_it_stays() {
    let files = Files::new();
    let (old, new) = (made(), made());
    files.write(&old.0, &old.1);
    let served = files.load().unwrap();
    let mut bad = None;
    let mut seen = || look(&files.config, &Contents::read(&files.config), &served, &mut bad);
    assert!(matches!(seen(), Look::Same));

    files.write(&new.0, &old.1);
    assert!(matches!(seen(), Look::Unchanged), "the key may be on its way");
    assert!(matches!(seen(), Look::Refused(TlsError::Pair { .. })));
    assert!(matches!(seen(), Look::Unchanged), "it was said");
    files.write("", &old.1);
    assert!(matches!(seen(), Look::Unchanged));
    assert!(matches!(seen(), Look::Refused(TlsError::File { .. })), "it is another thing that is wrong");
    files.write(&old.0, &old.1);
    assert!(matches!(seen(), Look::Same));

    files.write(&new.0, &new.1);
    fs::set_permissions(&files.config.key_file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(seen(), Look::Unchanged));
    assert!(matches!(seen(), Look::Refused(TlsError::Open { .. })));
    fs::set_permissions(&files.config.key_file, fs::Permissions::from_mode(0o600)).unwrap();
    let Look::Changed(loaded) = seen() else { panic!("a good pair was not taken") };
    assert_ne!(loaded.server, served.server);
}

#[test]
fn a_certificate_that_has_ended_does_not_replace_another() {
    let files = Files::new();
    let (good, over) = (made(), ended());
    files.write(&good.0, &good.1);
    let served = files.load().unwrap();
    files.write(&over.0, &over.1);
    let mut bad = None;
    let mut seen = || look(&files.config, &Contents::read(&files.config), &served, &mut bad);
    assert!(matches!(seen(), Look::Unchanged));
    let Look::Refused(error) = seen() else { panic!("it was taken") };
    assert!(error.to_string().contains("cert.pem ended already"), "{error}");
}
