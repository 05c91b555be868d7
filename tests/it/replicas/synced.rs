//! Topics whose events are on disk before they are confirmed: on servers that do so, which is looked at; nowhere else.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use bowline::proto::v1::{Durability, OpenSession};
use tokio::time::{Duration, Instant, sleep};

use super::{connect, replica_with, settings};
use crate::{
    cli::doctor::examined,
    nats::{NatsServer, SYSTEM_PASSWORD, accounts},
    support::{LIMIT, Settings, TestServer, earliest, named, payloads, publish},
};

/// Topics that begin with `paid.` are to be on disk.
const RULES: (&str, &str) = ("topics.rules", r#"[{ pattern = "paid.>", durability = "synced" }, { pattern = ">" }]"#);

/// What a replica is told, besides where the server is.
fn told(nats: &NatsServer, tag: &str) -> Vec<(&'static str, String)> {
    let (user, password_file) = nats.system_user();
    let password_file = password_file.to_str().unwrap().to_owned();
    vec![
        (RULES.0, RULES.1.to_owned()),
        ("broker.nats.synced.tag", tag.to_owned()),
        ("broker.nats.synced.user", user),
        ("broker.nats.synced.password_file", password_file),
    ]
}

fn as_settings<'t>(told: &'t [(&'static str, String)]) -> Vec<(&'static str, &'t str)> {
    told.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

/// The start is refused with a sentence that says all this, and never the password.
async fn is_refused(nats: &NatsServer, own: Settings<'_>, says: &[&str]) {
    let shared = settings(nats);
    let all = [&as_settings(&shared)[..], own].concat();
    let said = TestServer::refused_start(&all).await;
    assert!(says.iter().all(|part| said.contains(part)), "{says:?} in {said}");
    assert!(!said.contains(SYSTEM_PASSWORD), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_names_synced_where_a_rule_asks_for_it_and_only_there() {
    let Some(nats) = NatsServer::start_syncing().await else { return };
    let told = told(&nats, "disk");
    let own = as_settings(&told);
    let (one, two) = (replica_with(&nats, &own).await, replica_with(&nats, &own).await);
    let mut alice = connect(&one, "alice").await;
    alice.open(named(1, "paid.orders", "desk")).await;
    alice.open(named(2, "talk", "desk-2")).await;
    for (session, durability) in [(1, Durability::Synced), (2, Durability::Accepted)] {
        let answer = alice.publish(publish(session, 1, "x")).await;
        assert_eq!((answer.failure.as_ref(), answer.durability()), (None, durability));
    }
    let again = alice.publish(publish(1, 1, "x")).await;
    assert_eq!((again.duplicate, again.durability()), (true, Durability::Synced));
    assert_eq!(two.store("paid.orders", &["y"]).await[0].durability(), Durability::Synced);
    let mut bob = connect(&two, "bob").await;
    bob.open(OpenSession { start: earliest(), ..named(1, "paid.orders", "reader") }).await;
    assert_eq!(payloads(&bob.events(1, 2).await), ["x", "y"]);
    let (text, code) = examined(&nats, &own).await;
    assert!(code == 0 && text.contains("1 servers have the tag \"disk\" and confirm after the disk"), "{text}");
    assert!(text.contains("6 are as they have to be"), "{text}");
    one.leave().await;
    two.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_seen_to_be_on_disk_is_not_promised() {
    let Some(nats) = NatsServer::start_syncing().await else { return };
    let told = told(&nats, "disk");
    let own = as_settings(&told);
    // Of what a replica is told, without some.
    let without = |keys: &[&str]| own.iter().filter(|(key, _)| !keys.contains(key)).copied().collect::<Vec<_>>();
    let memory = [&own[..], &[("broker.kind", "memory")]].concat();
    is_refused(&nats, &memory, &["topics.rules[0].durability is \"synced\"", "set it to \"nats\""]).await;
    let untagged = without(&["broker.nats.synced.tag"]);
    is_refused(&nats, &untagged, &["set broker.nats.synced.tag", "sync_interval: always"]).await;
    let unasked = without(&["broker.nats.synced.user", "broker.nats.synced.password_file"]);
    is_refused(&nats, &unasked, &["topics.rules[0].durability", "of broker.nats.synced", "system account"]).await;

    let folder = tempfile::tempdir().unwrap();
    let password = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (wrong, app) = (password("wrong", "canary"), password("app", "app"));
    let as_user = |user, path| {
        [&own[..], &[("broker.nats.synced.user", user), ("broker.nats.synced.password_file", path)]].concat()
    };
    let says = ["does not let us in with broker.nats.synced.user \"sys\"", "broker.nats.synced.password_file", &wrong];
    is_refused(&nats, &as_user("sys", &wrong), &says).await;
    is_refused(&nats, &as_user("app", &app), &["broker.nats.synced needs a user of the system account"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_confirms_before_the_disk_keeps_nothing_that_is_to_be_on_it() {
    let Some(lazy) = NatsServer::start_with(&accounts(false, &[])).await else { return };
    let told = told(&lazy, "disk");
    let own = as_settings(&told);
    is_refused(&lazy, &own, &["keeps bowline-S0", "confirms before the disk", "set sync_interval: always"]).await;
    let (text, code) = examined(&lazy, &own).await;
    assert!(code == 1 && text.contains("keeps bowline-S0") && text.contains("does not start so"), "{text}");
    // Whoever asks for nothing of the kind is told how it is.
    let (text, code) = examined(&lazy, &own[1..]).await;
    assert!(code == 0 && text.contains("confirm before the disk -> a power cut"), "{text}");
}

/// Servers that keep streams together: three that confirm after the disk, and one that does not.
async fn cluster() -> Option<Vec<NatsServer>> {
    // Each has to know of all to begin with.
    let held: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<_> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    drop(held);
    let routes: Vec<_> = ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let (routes, mut servers) = (routes.join(", "), Vec::new());
    for (n, port) in ports.into_iter().enumerate() {
        let tags: &[&str] = if n < 3 { &["disk", "all"] } else { &["all"] };
        let cluster = format!("cluster {{ name: it, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}");
        let settings = format!("server_name: nats-{n}\n{cluster}\n{}", accounts(n < 3, tags));
        servers.push(NatsServer::start_with(&settings).await?);
    }
    let begun = Instant::now();
    let client = async_nats::connect(servers[0].url()).await.unwrap();
    loop {
        let answer = client.request("$JS.API.INFO", "".into()).await;
        if answer.is_ok_and(|answer| !String::from_utf8_lossy(&answer.payload).contains("\"error\"")) {
            return Some(servers);
        }
        assert!(begun.elapsed() < LIMIT, "nobody leads:\n{}", servers[0].log());
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_cluster_those_with_the_tag_keep_what_is_to_be_on_disk() {
    let Some(servers) = cluster().await else { return };
    let nats = &servers[0];
    let (told_disk, told_all, told_none) = (told(nats, "disk"), told(nats, "all"), told(nats, "none"));
    let three = |told, prefix| [&as_settings(told)[..], &[("broker.nats.replicas", "3"), prefix]].concat();
    let own = three(&told_disk, ("broker.nats.prefix", "good"));
    let server = replica_with(nats, &own).await;
    assert_eq!(server.store("paid.orders", &["x"]).await[0].durability(), Durability::Synced);
    assert_eq!(server.store("talk", &["x"]).await[0].durability(), Durability::Replicated);
    server.leave().await;
    let (text, code) = examined(nats, &own).await;
    assert!(code == 0 && text.contains("3 servers have the tag \"disk\" and confirm after the disk"), "{text}");

    let all = three(&told_all, ("broker.nats.prefix", "lazy"));
    is_refused(nats, &all, &["the NATS server nats-3", "confirms before the disk", "\"all\""]).await;
    let mut none = three(&told_none, ("broker.nats.prefix", "none"));
    none.push(("broker.nats.start_timeout", "2s"));
    is_refused(nats, &none, &["none-S0", "3 servers with the tag \"none\"", "of which there are too few"]).await;
}
