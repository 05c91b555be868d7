use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};

use self::tokens::{Signer, claims, key_set, later};
use super::*;
use crate::types::Topic;

#[path = "../../tests/support/tokens.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with tests that use more of it")]
mod tokens;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const RULES: &str = r#"rules = [
    { topics = ["chat.>"], allow = ["read"] },
    { claim = "role=editor", topics = ["chat.>"], allow = ["publish"] },
    { topics = ["own.{client}.>"], allow = ["publish", "read"] },
]
"#;

fn write(folder: &Path, name: &str, text: &str, mode: u32) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn auth(toml: &str) -> Result<Auth, FileError> {
    let config: Config = toml::from_str(toml).unwrap();
    assert_eq!(config.problems(), []);
    Auth::new(config, Arc::new(Metrics::default()))
}

/// Tokens of HS256, with the secrets of `folder`.
fn shared(folder: &Path, more: &str) -> Result<Auth, FileError> {
    let secret = folder.join("secret");
    auth(&format!(
        "mode = \"jwt\"\n{RULES}{more}\n[[issuers]]\nissuer = \"https://id.test\"\naudiences = [\"bowline\", \"b2\"]\n\
         algorithms = [\"HS256\"]\nsecret_files = [{secret:?}]\nrights_claim = \"rights\"\n"
    ))
}

/// Tokens of public keys, which are in a key set.
fn public(folder: &Path, algorithm: &str, keys: &str) -> Result<Auth, FileError> {
    auth(&format!(
        "mode = \"jwt\"\n{RULES}\n[[issuers]]\nissuer = \"https://id.test\"\naudiences = [\"bowline\"]\n\
         algorithms = [{algorithm:?}]\n{keys}\n# {folder:?}\n"
    ))
}

/// A transport without a certificate.
fn plain() -> TransportHandle {
    TransportHandle::new(
        ([127, 0, 0, 1], 9).into(),
        tokio_util::sync::CancellationToken::new(),
        std::time::Duration::ZERO,
    )
}

/// A transport with a certificate of this name, which runs out so many seconds from now.
fn certified(name: Result<&str, crate::types::Nameless>, seconds: i64) -> TransportHandle {
    let not_after = Timestamp(u64::try_from(later(seconds) * 1_000_000).unwrap());
    let certificate = PeerIdentity { name: name.map(Into::into), not_after, serial: "0aff".into() };
    plain().identified(Some(Arc::new(certificate)))
}

impl Auth {
    fn bear(&self, token: &str) -> Result<Caller, Failure> {
        self.admit_by(token, &plain())
    }
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

#[test]
fn every_algorithm_is_checked_with_a_key_of_its_own_from_pem_and_from_a_set() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        let (signer, stranger) = (Signer::new(algorithm, Some("a")), Signer::new(algorithm, Some("a")));
        let pem = write(folder.path(), "key.pem", &signer.public_pem(), 0o644);
        let set = write(folder.path(), "set.json", &key_set(&[&stranger, &signer]), 0o644);
        let by_pem = public(folder.path(), algorithm, &format!("public_key_files = [{pem:?}]")).unwrap();
        let by_set = public(folder.path(), algorithm, &format!("jwks_file = {set:?}")).unwrap();
        let token = signer.sign(&claims("alice", json!({})));
        for auth in [&by_pem, &by_set] {
            let caller = auth.bear(&token).unwrap();
            assert_eq!(caller.identity().client().unwrap().as_str(), "alice", "{algorithm}");
        }
        let forged = by_pem.bear(&stranger.sign(&claims("alice", json!({})))).unwrap_err();
        assert_eq!(forged.reason, Reason::TokenInvalid, "{algorithm}");
    }
}

#[test]
fn a_public_key_is_no_secret_and_no_key_comes_with_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new("ES256", Some("a"));
    let pem = signer.public_pem();
    let file = write(folder.path(), "key.pem", &pem, 0o644);
    let auth = public(folder.path(), "ES256", &format!("public_key_files = [{file:?}]")).unwrap();
    let claims = claims("alice", json!({}));
    let confused = Signer::secret(&pem).sign(&claims);
    let own = Signer::new("ES256", Some("b"));
    let embedded = own.sign_as(&json!({"alg": "ES256", "jwk": own.jwk()}), &claims);
    let led = own.sign_as(&json!({"alg": "ES256", "kid": "b", "jku": "https://evil.test/keys"}), &claims);
    let critical = signer.sign_as(&json!({"alg": "ES256", "crit": ["exp"]}), &claims);
    let other = signer.sign_as(&json!({"alg": "ES256", "typ": "secevent+jwt"}), &claims);
    let unsigned = signer.sign_as(&json!({"alg": "none"}), &claims);
    let bare = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    for token in [confused, embedded, led, critical, other, unsigned, bare, "a.b.c".into(), "..".into(), "x".into()] {
        let failure = auth.bear(&token).unwrap_err();
        let said = (failure.reason, &*failure.message);
        assert_eq!(said, (Reason::TokenInvalid, "the credentials were not accepted"), "{token}");
    }
    assert!(auth.bear(&signer.sign_as(&json!({"alg": "ES256", "jku": "https://x.test/"}), &claims)).is_ok());
}

/// Claims over the usual ones, and what comes of them.
fn claim_sets() -> Vec<(&'static str, Value, Option<Reason>)> {
    use Reason::{TokenExpired as Expired, TokenInvalid as Invalid};
    vec![
        ("as usual", json!({}), None),
        ("one of several audiences", json!({"aud": ["other", "b2"]}), None),
        ("run out within the skew", json!({"exp": later(-55)}), None),
        ("run out beyond the skew", json!({"exp": later(-65)}), Some(Expired)),
        ("a time with a fraction", json!({"exp": later(100) as f64 + 0.5}), None),
        ("no end", json!({"exp": null}), Some(Invalid)),
        ("an end in words", json!({"exp": "tomorrow"}), Some(Invalid)),
        ("an end before all time", json!({"exp": -1}), Some(Invalid)),
        ("an end after all time", json!({"exp": 1e300}), Some(Invalid)),
        ("begun within the skew", json!({"nbf": later(55)}), None),
        ("not begun", json!({"nbf": later(65)}), Some(Invalid)),
        ("a beginning in words", json!({"nbf": "now"}), Some(Invalid)),
        ("made within the skew", json!({"iat": later(55)}), None),
        ("made in the future", json!({"iat": later(65)}), Some(Invalid)),
        ("no issuer", json!({"iss": null}), Some(Invalid)),
        ("another issuer", json!({"iss": "https://id.test/"}), Some(Invalid)),
        ("an issuer that is no text", json!({"iss": ["https://id.test"]}), Some(Invalid)),
        ("no audience", json!({"aud": null}), Some(Invalid)),
        ("another audience", json!({"aud": "bowline2"}), Some(Invalid)),
        ("no audience of several", json!({"aud": []}), Some(Invalid)),
        ("an audience that is no text", json!({"aud": {"bowline": true}}), Some(Invalid)),
        ("no subject", json!({"sub": null}), Some(Invalid)),
        ("an empty subject", json!({"sub": ""}), Some(Invalid)),
        ("a subject that is a number", json!({"sub": 7}), Some(Invalid)),
        ("a subject no client can have", json!({"sub": "two words"}), Some(Invalid)),
        ("a subject that is too long", json!({"sub": "x".repeat(129)}), Some(Invalid)),
        ("a token too long", json!({"filler": "x".repeat(7000)}), Some(Invalid)),
        ("a token just short enough", json!({"filler": "x".repeat(5500)}), None),
    ]
}

#[test]
fn claims_are_held_to_what_the_issuer_signs_for_us() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "secret", SECRET, 0o600);
    let auth = shared(folder.path(), "").unwrap();
    let signer = Signer::secret(SECRET);
    for (what, more, expected) in claim_sets() {
        let admitted = auth.bear(&signer.sign(&claims("alice", more)));
        assert_eq!(admitted.err().map(|failure| failure.reason), expected, "{what}");
    }
}

#[test]
fn a_connection_outlives_its_token_by_25_seconds_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "secret", SECRET, 0o600);
    let auth = shared(folder.path(), "").unwrap();
    let exp = later(100);
    let caller = auth.bear(&Signer::secret(SECRET).sign(&claims("alice", json!({"exp": exp})))).unwrap();
    let at = |seconds: i64| Timestamp(u64::try_from((exp + seconds) * 1_000_000).unwrap());
    assert_eq!(caller.identity().expires(), Some(at(0)));
    for seconds in [-100, 0, 24] {
        assert!(auth.review(&caller, at(seconds)).unwrap().is_none(), "{seconds}");
    }
    assert_eq!(auth.review(&caller, at(25)).unwrap_err().reason, Reason::TokenExpired);
    // One that had just run out, as far as we can tell, has its grace from then on.
    let late = auth.bear(&Signer::secret(SECRET).sign(&claims("alice", json!({"exp": later(-30)})))).unwrap();
    assert!(auth.review(&late, Timestamp::now().plus(Duration::from_secs(20))).is_ok());
    assert!(auth.review(&late, Timestamp::now().plus(Duration::from_secs(26))).is_err());
}

#[test]
fn a_refresh_never_changes_the_subject() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "secret", SECRET, 0o600);
    let auth = shared(folder.path(), "").unwrap();
    let sign = |subject: &str| Signer::secret(SECRET).sign(&claims(subject, json!({"exp": later(7200)})));
    let caller = auth.bear(&sign("alice")).unwrap();
    assert!(
        auth.refresh(&caller, &sign("alice"), &plain()).unwrap().identity().expires() >= caller.identity().expires()
    );
    assert_eq!(auth.refresh(&caller, &sign("bob"), &plain()).unwrap_err().reason, Reason::Denied);
    assert_eq!(auth.refresh(&caller, "x", &plain()).unwrap_err().reason, Reason::TokenInvalid);
}

#[test]
fn rights_are_what_rules_and_the_token_allow_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "secret", SECRET, 0o600);
    let auth = shared(folder.path(), "").unwrap();
    let caller = |subject: &str, more: Value| auth.bear(&Signer::secret(SECRET).sign(&claims(subject, more))).unwrap();
    let (reader, editor) = (caller("alice", json!({})), caller("bob", json!({"role": ["viewer", "editor"]})));
    let (chat, other) = (topic("chat.a"), topic("other"));
    assert!(reader.may(Ask::Read(&chat)) && !reader.may(Ask::Publish(&chat)) && editor.may(Ask::Publish(&chat)));
    assert!(!reader.may(Ask::History(&chat)) && !reader.may(Ask::Read(&other)) && !editor.may(Ask::Operate));
    assert!(!reader.may(Ask::Read(&topic("~presence.chat.a"))), "that is presence");
    assert!(reader.may(Ask::Publish(&topic("own.alice.x"))) && !reader.may(Ask::Publish(&topic("own.bob.x"))));
    // Names that are no segment, or would be more than one.
    for subject in ["*", ">", "a.b", "{client}"] {
        let odd = caller(subject, json!({}));
        assert!(!odd.may(Ask::Read(&topic("own.bob.x"))) && !odd.may(Ask::Read(&topic("own.a.b"))), "{subject}");
    }
    let brings =
        caller("carol", json!({"rights": {"read": ["other", "a..b", 7], "presence": [">"], "operate": [">"]}}));
    assert!(brings.may(Ask::Read(&other)) && !brings.may(Ask::Publish(&other)) && !brings.may(Ask::Operate));
    assert!(brings.may(Ask::Presence(&chat)) && brings.may(Ask::Read(&topic("~presence.chat.a"))));
}

#[test]
fn a_file_that_cannot_be_used_stops_the_start_with_a_sentence_that_does_not_quote_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let refused = |more: &str| shared(path, more).unwrap_err().to_string();
    assert!(refused("").contains("secret cannot be read"), "{}", refused(""));
    write(path, "secret", SECRET, 0o644);
    assert!(refused("").contains("open to everybody (mode 0644)"), "{}", refused(""));
    write(path, "secret", "hunter2", 0o600);
    assert!(refused("").contains("less than 32 bytes") && !refused("").contains("hunter2"));
    write(path, "secret", SECRET, 0o640);
    shared(path, "").unwrap();
    for (key, text, expected) in [
        ("revoked_file", "sub alice\nwhat is this", "line 2"),
        ("api_key_file", "backend sha256:xyz", "line 1"),
        ("api_key_file", "two words sha256:00", "line 1"),
    ] {
        let file = write(path, "list", text, 0o600);
        let said = refused(&format!("{key} = {file:?}"));
        assert!(said.contains(expected) && !said.contains("what is this"), "{said}");
    }
    let keys = write(path, "keys", "", 0o604);
    assert!(refused(&format!("api_key_file = {keys:?}")).contains("open to everybody"));
    let open = write(path, "revoked", "", 0o666);
    assert!(refused(&format!("revoked_file = {open:?}")).contains("can be written by everybody"));
}

#[test]
fn a_policy_file_is_checked_as_the_configuration_is() {
    let folder = tempfile::tempdir().unwrap();
    let policy = |text: &str| {
        let path = write(folder.path(), "policy.toml", text, 0o644);
        auth(&format!("mode = \"anonymous\"\npolicy_file = {path:?}"))
    };
    let caller = policy("[[rules]]\ntopics = [\"a\"]\nallow = [\"read\"]").unwrap();
    let caller = caller.admit(&HeaderMap::new(), &plain(), Service::Stream).unwrap().unwrap();
    assert!(caller.may(Ask::Read(&topic("a"))) && !caller.may(Ask::Read(&topic("b"))));
    for (text, expected) in [
        ("rules = 7", "cannot be read"),
        ("[[rules]]\nallow = [\"fly\"]", "cannot be read"),
        ("[[rules]]\nallow = [\"read\"]", "rules[0].topics must list"),
        ("[[rules]]\nclient = \"bob\"\ntopics = [\"a\"]\nallow = [\"read\"]", "rules[0].client cannot tell"),
        ("[[rules]]\nallow = [\"operate\"]", "rules[0].allow cannot make operators"),
    ] {
        let said = policy(text).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn whoever_names_itself_is_an_operator_only_on_loopback_or_by_an_insecure_setting() {
    let operates = |toml: &str| auth(toml).unwrap().admit(&HeaderMap::new(), &plain(), Service::Operators);
    assert!(operates("mode = \"loopback\"").is_ok());
    assert_eq!(operates("mode = \"anonymous\"").unwrap_err().reason, Reason::Denied);
    assert!(operates("mode = \"anonymous\"\ninsecure_operators = true").is_ok());
    let config: Config = toml::from_str("mode = \"anonymous\"\ninsecure_operators = true").unwrap();
    let metrics = Arc::new(Metrics::default());
    Auth::new(config, metrics.clone()).unwrap();
    assert_eq!(metrics.insecure_settings.get(), 1);
}

#[test]
fn a_certificate_names_the_client_where_the_mode_asks_for_one() {
    use crate::types::Nameless;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "secret", SECRET, 0o600);
    let mode = |mode: &str, issuers: bool, more: &str| {
        let issuer = format!(
            "[[issuers]]\nissuer = \"https://id.test\"\naudiences = [\"bowline\"]\nalgorithms = [\"HS256\"]\n\
             secret_files = [{:?}]\nclient_prefix = \"u:\"",
            folder.path().join("secret")
        );
        auth(&format!("mode = {mode:?}\n{RULES}{more}\n{}", if issuers { &issuer } else { "" })).unwrap()
    };
    let (name, day) = ("spiffe://test/ns/a", 86_400);
    let token = Signer::secret(SECRET).sign(&claims("alice", json!({})));
    let mut bearer = HeaderMap::new();
    bearer.insert("authorization", format!("Bearer {token}").parse().unwrap());
    let nothing = HeaderMap::new();
    let who = |auth: &Auth, headers: &HeaderMap, transport: &TransportHandle| {
        let admitted = auth.admit(headers, transport, Service::Topics).map_err(|failure| failure.reason);
        admitted.map(|caller| caller.unwrap().identity().client().unwrap().to_string())
    };
    let (mtls, either, both) = (mode("mtls", false, ""), mode("jwt_or_mtls", true, ""), mode("jwt_and_mtls", true, ""));
    let certificate = certified(Ok(name), day);
    let invalid = Err(Reason::TokenInvalid);
    for (auth, headers, transport, expected) in [
        (&mtls, &nothing, &certificate, Ok(name.to_owned())),
        (&mtls, &bearer, &certificate, Ok(name.to_owned())),
        (&mtls, &bearer, &plain(), invalid.clone()),
        (&mtls, &nothing, &certified(Err(Nameless::Several), day), invalid.clone()),
        (&mtls, &nothing, &certified(Err(Nameless::Missing), day), invalid.clone()),
        (&mtls, &nothing, &certified(Ok(&"x".repeat(129)), day), invalid.clone()),
        (&mtls, &nothing, &certified(Ok(name), -1), Err(Reason::TokenExpired)),
        (&either, &nothing, &certificate, Ok(name.to_owned())),
        (&either, &bearer, &certificate, Ok("u:alice".to_owned())),
        (&either, &bearer, &plain(), Ok("u:alice".to_owned())),
        (&either, &nothing, &plain(), invalid.clone()),
        (&both, &bearer, &certificate, Ok("u:alice".to_owned())),
        (&both, &nothing, &certificate, invalid.clone()),
        (&both, &bearer, &plain(), invalid.clone()),
    ] {
        assert_eq!(who(auth, headers, transport), expected, "{:?} {headers:?} {transport:?}", auth.config.mode);
    }
    let caller = both.admit(&bearer, &certified(Ok(name), 60), Service::Topics).unwrap().unwrap();
    let end = caller.identity().expires().unwrap();
    assert!(end < Timestamp::now().plus(Duration::from_secs(61)), "whichever runs out first");
    let revoked = write(folder.path(), "revoked", "serial 0A:FF", 0o644);
    let strict = mode("jwt_and_mtls", true, &format!("revoked_file = {revoked:?}"));
    assert_eq!(who(&strict, &bearer, &certificate), invalid);
}

/// A value that a claim may have, right or wrong.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!("https://id.test")),
        Just(json!("bowline")),
        Just(json!(later(1000))),
        "[a-z .*>{}]{0,9}".prop_map(Value::from),
        proptest::collection::vec("[a-z]{0,3}|bowline", 0..3).prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_as_a_token_is_read_or_refused(text in any::<String>(), dotted in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,4}") {
        for text in [text, dotted] {
            drop(Token::parse(&text));
        }
    }

    #[test]
    fn a_signed_token_is_believed_only_with_all_that_is_asked_of_it(
        claims in proptest::collection::hash_map("iss|aud|sub|exp|nbf|iat|jti|rights", any_value(), 0..9)
    ) {
        let config: config::Issuer = toml::from_str(
            "issuer = \"https://id.test\"\naudiences = [\"bowline\"]\nalgorithms = [\"HS256\"]\nrights_claim = \"rights\"",
        ).unwrap();
        let issuer = Issuer::new(config, vec![algorithm::Key::secret(Algorithm::Hs256, SECRET.as_bytes()).unwrap()]);
        let text = Signer::secret(SECRET).sign(&json!(claims));
        let token = Token::parse(&text).unwrap();
        if let Ok(identity) = issuer.identify(&token, Timestamp::now(), 60_000_000) {
            prop_assert_eq!(identity.client().unwrap().as_str(), claims["sub"].as_str().unwrap());
            prop_assert!(claims["exp"].as_f64().unwrap() > later(-61) as f64);
            prop_assert!(claims["aud"] == "bowline" || claims["aud"].as_array().unwrap().contains(&json!("bowline")));
        }
    }
}
