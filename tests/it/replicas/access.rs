//! Who a replica is to NATS, and whom it believes: what is right lets it in, and what is wrong stops the start with a sentence
//! that names the setting, and never the secret.

use std::{fs, os::unix::fs::PermissionsExt as _};

use bowline::proto::v1::Durability;
use rcgen::SanType;

use super::{replica_with, settings};
use crate::{
    cli::doctor::examined,
    nats::NatsServer,
    nkeys::{Nkey, Whose, operated},
    pki::{Authority, Volume},
    support::{Settings, TestServer},
};

/// A secret that would be recognised anywhere.
const SECRET: &str = "canary-of-nats-5d11";
/// One that is wrong.
const WRONG: &str = "canary-of-nats-9e27";

/// A replica with these settings serves, and so it does for `bowline doctor`.
async fn is_let_in(nats: &NatsServer, own: Settings<'_>) {
    let server = replica_with(nats, own).await;
    let stored = server.store("t", &["x"]).await;
    assert_eq!(stored[0].durability(), Durability::Accepted);
    server.leave().await;
    let (text, code) = examined(nats, own).await;
    assert!(code == 0 && text.contains("ok       jetstream"), "{text}");
}

/// Two settings and their values.
fn both<'v>(keys: [&'static str; 2], one: &'v str, other: &'v str) -> [(&'static str, &'v str); 2] {
    [(keys[0], one), (keys[1], other)]
}

/// What the start is refused with, and what `bowline doctor` says.
async fn is_refused(nats: &NatsServer, own: Settings<'_>, secrets: &[&str], says: &[&str]) {
    let shared = settings(nats);
    let shared: Vec<_> = shared.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let start = TestServer::refused_start(&[&shared, own].concat()).await;
    let (doctor, code) = examined(nats, own).await;
    assert_eq!(code, 1, "{doctor}");
    for said in [&start, &doctor] {
        assert!(says.iter().all(|part| said.contains(part)), "{says:?} in {said}");
        assert!(!secrets.iter().any(|secret| said.contains(secret)), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_in_who_has_it() {
    let Some(nats) = NatsServer::start_with(&format!("authorization {{ token: \"{SECRET}\" }}")).await else { return };
    let files = Volume::new(&[("token", &format!("{SECRET}\n")), ("wrong", WRONG), ("empty", "\n")]);
    let (token, wrong, empty) = (files.name("token"), files.name("wrong"), files.name("empty"));
    is_let_in(&nats, &[("broker.nats.token_file", &token)]).await;
    let (secrets, missing) = ([SECRET, WRONG], files.name("missing"));
    for (path, says) in [(&wrong, "does not let us in"), (&empty, "is empty"), (&missing, "cannot be read")] {
        is_refused(&nats, &[("broker.nats.token_file", path)], &secrets, &["broker.nats.token_file", path, says]).await;
    }
    is_refused(&nats, &[], &secrets, &["wants to know who we are: set credentials_file"]).await;
    fs::set_permissions(files.path("token"), fs::Permissions::from_mode(0o644)).unwrap();
    let says = ["broker.nats.token_file", "open to everybody (mode 0644)", "chmod o-rwx"];
    is_refused(&nats, &[("broker.nats.token_file", &token)], &secrets, &says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_lets_in_whose_it_is() {
    // And may do no more than docs/security.md says that it has to.
    let rights = r#"publish: ["bowline.>", "$KV.bowline-epochs.>", "$KV.bowline-fleet.>", "$JS.API.>", "_INBOX.>"],
        subscribe: ["bowline.>", "_INBOX.>"]"#;
    let user = format!("user: bowline, password: \"{SECRET}\", permissions: {{ {rights} }}");
    let users = format!("authorization {{ users: [{{ {user} }}] }}");
    let Some(nats) = NatsServer::start_with(&users).await else { return };
    let files = Volume::new(&[("password", SECRET), ("wrong", WRONG)]);
    let (password, wrong) = (files.name("password"), files.name("wrong"));
    let keys = ["broker.nats.user", "broker.nats.password_file"];
    is_let_in(&nats, &both(keys, "bowline", &password)).await;
    assert!(!nats.log().contains("Violation"), "{}", nats.log());
    for (user, file) in [("bowline", &wrong), ("other", &password)] {
        let says = ["does not let us in with broker.nats.user", user, "broker.nats.password_file", file];
        is_refused(&nats, &both(keys, user, file), &[SECRET, WRONG], &says).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nkey_lets_in_who_has_its_seed() {
    let (user, other) = (Nkey::new(Whose::User), Nkey::new(Whose::User));
    let users = format!("authorization {{ users: [{{ nkey: {} }}] }}", user.public());
    let Some(nats) = NatsServer::start_with(&users).await else { return };
    let account = Nkey::new(Whose::Account).seed();
    let mut broken = user.seed();
    broken.replace_range(20..21, if broken.as_bytes()[20] == b'A' { "B" } else { "A" });
    let (seed, wrong) = (user.seed(), other.seed());
    let files =
        Volume::new(&[("seed", &format!("{seed}\n")), ("wrong", &wrong), ("account", &account), ("broken", &broken)]);
    is_let_in(&nats, &[("broker.nats.nkey_file", &files.name("seed"))]).await;
    for (name, says) in
        [("wrong", "does not let us in"), ("account", "no seed of a user's nkey"), ("broken", "does not let us in")]
    {
        let (path, secrets) = (files.name(name), [&*seed, &wrong, &account, &broken]);
        is_refused(&nats, &[("broker.nats.nkey_file", &path)], &secrets, &["broker.nats.nkey_file", &path, says]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_let_in_a_user_of_an_account_that_is_known() {
    let (account, stranger) = (Nkey::new(Whose::Account), Nkey::new(Whose::Account));
    let Some(nats) = NatsServer::start_with(&operated(&account)).await else { return };
    let user = Nkey::new(Whose::User);
    let (right, wrong) = (account.credentials(&user), stranger.credentials(&user));
    let files = Volume::new(&[("user.creds", &right), ("wrong.creds", &wrong), ("half.creds", &right[..200])]);
    is_let_in(&nats, &[("broker.nats.credentials_file", &files.name("user.creds"))]).await;
    let (seed, jwt) = (user.seed(), right.lines().nth(1).unwrap());
    for (name, says) in [("wrong.creds", "does not let us in"), ("half.creds", "holds no JWT of a user with its seed")]
    {
        let path = files.name(name);
        let says = ["broker.nats.credentials_file", &*path, says];
        is_refused(&nats, &[("broker.nats.credentials_file", &path)], &[&seed, jwt], &says).await;
    }
}

/// A server's settings for TLS, which the files have to be there for before it starts.
fn tls(files: &Volume, more: &str) -> String {
    let (cert, key) = (files.name("server.crt"), files.name("server.key"));
    format!("tls {{ cert_file: \"{cert}\", key_file: \"{key}\", {more} }}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_believed_by_the_authority_that_is_named() {
    let (authority, stranger) = (Authority::new("nats"), Authority::new("other"));
    let pair = authority.server();
    let files = Volume::new(&[
        ("server.crt", &pair.cert),
        ("server.key", &pair.key),
        ("ca.crt", &authority.pem()),
        ("other.crt", &stranger.pem()),
        ("none.crt", "nothing"),
    ]);
    let Some(nats) = NatsServer::start_with(&tls(&files, "")).await else { return };
    let (by_name, port) = (format!("[\"tls://localhost:{}\"]", nats.address().port()), nats.address().port());
    let keys = ["broker.nats.servers", "broker.nats.ca_file"];
    let (ca, other, none) = (files.name("ca.crt"), files.name("other.crt"), files.name("none.crt"));
    is_let_in(&nats, &both(keys, &by_name, &ca)).await;
    is_refused(&nats, &both(keys, &by_name, &other), &[], &["is not believed", "broker.nats.ca_file", "UnknownIssuer"])
        .await;
    is_refused(&nats, &both(keys, &by_name, &none), &[], &["broker.nats.ca_file", &none, "no PEM of a certificate"])
        .await;
    let by_address = format!("[\"tls://127.0.0.1:{port}\"]");
    is_refused(&nats, &both(keys, &by_address, &ca), &[], &["is not believed", "broker.nats.servers"]).await;

    let Some(plain) = NatsServer::start().await else { return };
    is_refused(&plain, &[("broker.nats.tls", "true")], &[], &["broker.nats asks for TLS", "speaks none"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_lets_in_whom_the_servers_authority_has_signed() {
    let (authority, stranger) = (Authority::new("nats"), Authority::new("other"));
    let name = [SanType::DnsName("bowline".try_into().unwrap())];
    let (pair, own, wrong) = (authority.server(), authority.sign(&name), stranger.sign(&name));
    let files = Volume::new(&[
        ("server.crt", &pair.cert),
        ("server.key", &pair.key),
        ("ca.crt", &authority.pem()),
        ("own.crt", &own.cert),
        ("own.key", &own.key),
        ("wrong.crt", &wrong.cert),
        ("wrong.key", &wrong.key),
    ]);
    let ca = files.name("ca.crt");
    let verifies = tls(&files, &format!("ca_file: \"{ca}\", verify: true"));
    let Some(nats) = NatsServer::start_with(&verifies).await else { return };
    let servers = format!("[\"tls://localhost:{}\"]", nats.address().port());
    let believed = [("broker.nats.servers", &*servers), ("broker.nats.ca_file", &*ca)];
    let with = |cert: &str, key: &str| (files.name(cert), files.name(key));
    let secret = |pair: &crate::pki::Pair| pair.key.lines().nth(1).unwrap().to_owned();
    let secrets = [secret(&own), secret(&wrong)];
    let secrets = [&*secrets[0], &secrets[1]];

    let (cert, key) = with("own.crt", "own.key");
    let shows = [("broker.nats.certificate_file", &*cert), ("broker.nats.key_file", &*key)];
    is_let_in(&nats, &[&believed[..], &shows].concat()).await;
    is_refused(&nats, &believed, &secrets, &["if it wants a certificate, set broker.nats.certificate_file"]).await;
    for (cert, key, says) in [
        ("wrong.crt", "wrong.key", "does not take the certificate in broker.nats.certificate_file"),
        ("own.crt", "wrong.key", "TLS cannot be set up with the files that broker.nats names"),
        ("own.crt", "own.crt", "broker.nats.key_file"),
    ] {
        let (cert, key) = with(cert, key);
        let shows = [("broker.nats.certificate_file", &*cert), ("broker.nats.key_file", &*key)];
        is_refused(&nats, &[&believed[..], &shows].concat(), &secrets, &[says]).await;
    }
    fs::set_permissions(files.path("own.key"), fs::Permissions::from_mode(0o444)).unwrap();
    let says = ["broker.nats.key_file", "open to everybody (mode 0444)"];
    is_refused(&nats, &[&believed[..], &shows].concat(), &secrets, &says).await;
}

#[tokio::test]
async fn what_contradicts_itself_is_said_before_anybody_is_asked() {
    let said = TestServer::refused_start(&[
        ("broker.kind", "nats"),
        ("broker.nats.token_file", "/token"),
        ("broker.nats.nkey_file", "/seed"),
        ("broker.nats.user", "bowline"),
        ("broker.nats.certificate_file", "/own.crt"),
        ("broker.nats.servers", "[\"nats://me:hunter2@localhost\"]"),
    ])
    .await;
    for says in [
        "broker.nats.nkey_file and token_file exclude each other",
        "broker.nats.password_file and user belong together",
        "broker.nats.certificate_file may go unused: without tls = true",
        "broker.nats.certificate_file and key_file belong together",
        "broker.nats.servers must not hold secrets: use credentials_file",
    ] {
        assert!(said.contains(says), "{says} in {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}
