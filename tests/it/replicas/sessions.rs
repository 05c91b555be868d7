//! A session that comes to another replica while an older connection still holds it, or did not long ago.

use std::{collections::HashSet, time::Duration};

use bowline::proto::v1::{OpenSession, Recovery};
use tokio::time::sleep;
use tonic::Code;

use super::{connect, replica, replica_with};
use crate::{
    nats::NatsServer,
    support::{
        Settings, TestClient, TestServer, assert_failure, changes, close, earliest, eventually, named, open, payloads,
        present, publish, scoped, snapshot, with,
    },
};

/// Keys and members go soon after their session's connection.
const SOON: Settings<'_> = &[
    ("session.key_grace", "500ms"),
    ("topics.rules", "[{ pattern = \"state.>\", class = \"state\" }, { pattern = \">\" }]"),
];

/// Hears of what becomes of the keys of a topic from now on.
pub(super) async fn observer(server: &TestServer, topic: &str) -> TestClient {
    let mut observer = connect(server, "observer").await;
    observer.open(OpenSession { start: snapshot(), ..open(1, topic) }).await;
    observer.snapshot(1).await;
    observer
}

pub(super) async fn next(observer: &mut TestClient) -> String {
    changes(&observer.events(1, 1).await).remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_connection_has_the_session_whichever_replica_it_is_at() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two) = (replica(&nats).await, replica(&nats).await);
    let mut older = connect(&one, "alice").await;
    let opened = older.open(named(1, "chat.room", "desk")).await;
    assert_eq!(opened.attach, 1);
    assert!(older.publish(publish(1, 1, "a")).await.failure.is_none());
    older.settled().await;

    let mut newer = connect(&two, "alice").await;
    let opened = newer.open(named(1, "chat.room", "desk")).await;
    assert_eq!((opened.attach, opened.published_seq, opened.recovery()), (2, 1, Recovery::Fresh));
    let closed = older.closed().await;
    assert_eq!(closed.session, 1);
    assert_failure(closed.failure.as_ref(), Code::Aborted, "TAKEN_OVER");
    assert_failure(older.publish(publish(1, 2, "late")).await.failure.as_ref(), Code::NotFound, "UNKNOWN_SESSION");
    assert!(newer.publish(publish(1, 2, "b")).await.failure.is_none());
    newer.settled().await;

    // And back, and again at the same.
    let opened = older.open(named(2, "chat.room", "desk")).await;
    assert_eq!((opened.attach, opened.published_seq), (3, 2));
    assert_failure(newer.closed().await.failure.as_ref(), Code::Aborted, "TAKEN_OVER");
    assert!(older.publish(publish(2, 3, "c")).await.failure.is_none());
    older.settled().await;
    let mut again = connect(&one, "alice").await;
    let opened = again.open(named(1, "chat.room", "desk")).await;
    assert_eq!((opened.attach, opened.published_seq), (4, 3));
    assert_failure(older.closed().await.failure.as_ref(), Code::Aborted, "TAKEN_OVER");
    let mut reader = connect(&two, "reader").await;
    reader.open(OpenSession { start: earliest(), ..open(1, "chat.room") }).await;
    assert_eq!(payloads(&reader.events(1, 3).await), ["a", "b", "c"]);
    reader.sever();
    eventually("one session is left", || (one.sessions(), two.sessions()) == (1, 0)).await;
    one.leave().await;
    two.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_nobody_knows_any_more_is_a_new_one() {
    let Some(nats) = NatsServer::start().await else { return };
    let settings = [("session.ttl", "200ms"), ("session.key_grace", "100ms")];
    let (one, two) = (replica_with(&nats, &settings).await, replica_with(&nats, &settings).await);
    let mut client = connect(&one, "alice").await;
    client.open(named(1, "chat.room", "desk")).await;
    client.open(named(2, "chat.room", "other")).await;
    client.send(close(2)).await;
    let mut elsewhere = connect(&two, "alice").await;
    // It was closed for good, and begins anew once that is known.
    let mut alias = 0;
    loop {
        alias += 1;
        if elsewhere.open(named(alias, "chat.room", "other")).await.attach == 1 {
            break;
        }
        elsewhere.send(close(alias)).await;
    }
    client.sever();
    eventually("it has expired", || one.sample("bowline_sessions_expired_total") > 0.0).await;
    loop {
        alias += 1;
        if elsewhere.open(named(alias, "chat.room", "desk")).await.attach == 1 {
            break;
        }
        elsewhere.send(close(alias)).await;
    }
    one.leave().await;
    two.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hears_of_a_member_that_goes_on_at_another_replica() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two) = (replica_with(&nats, SOON).await, replica_with(&nats, SOON).await);
    let mut members = observer(&two, "~presence.room").await;
    let member = |info| OpenSession { presence: present(info), ..named(1, "room", "desk") };
    let mut alice = connect(&one, "alice").await;
    alice.open(member("busy")).await;
    assert_eq!(next(&mut members).await, "alice desk=busy");
    for (from, to) in [(&one, &two), (&two, &one)] {
        // Its connection is lost, or is still there when it comes back.
        if std::ptr::eq(from, &one) {
            alice.sever();
        }
        alice = connect(to, "alice").await;
        alice.open(member("busy")).await;
    }
    // Somebody else who is lost later shows when the time is over.
    let mut witness = connect(&two, "witness").await;
    witness.open(member("late")).await;
    witness.sever();
    let heard = changes(&members.events(1, 2).await);
    assert_eq!(heard, ["witness desk=late", "-witness desk"]);
    // It is heard of if it says something else, and when it goes, from where it is now.
    let mut elsewhere = connect(&two, "alice").await;
    elsewhere.open(member("away")).await;
    assert_eq!(next(&mut members).await, "alice desk=away");
    let mut again = connect(&one, "alice").await;
    again.open(named(1, "room", "desk")).await;
    assert_eq!(next(&mut members).await, "-alice desk");
    one.leave().await;
    two.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_go_along_with_their_session_and_die_with_it_where_it_is() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two) = (replica_with(&nats, SOON).await, replica_with(&nats, SOON).await);
    let mut observer = observer(&one, "state.a").await;
    let mut alice = connect(&one, "alice").await;
    alice.open(named(1, "state.a", "desk")).await;
    alice.publish(with(1, 1, scoped("mine", "x"))).await;
    assert_eq!(next(&mut observer).await, "mine=x");
    alice.sever();
    let mut alice = connect(&two, "alice").await;
    alice.open(named(1, "state.a", "desk")).await;
    let mut witness = connect(&one, "witness").await;
    witness.open(named(1, "state.a", "desk")).await;
    witness.publish(with(1, 1, scoped("other", "y"))).await;
    witness.sever();
    assert_eq!([next(&mut observer).await, next(&mut observer).await], ["other=y", "-other"]);
    alice.sever();
    assert_eq!(next(&mut observer).await, "-mine");
    one.leave().await;
    two.leave().await;
}

/// Hears of changes until so many keys are gone, whatever else becomes of them.
async fn until_gone(observer: &mut TestClient, count: usize) {
    let mut gone = HashSet::new();
    while gone.len() < count {
        for change in changes(&observer.delivery().await.events) {
            match change.strip_prefix('-') {
                Some(key) => drop(gone.insert(key.to_owned())),
                None => drop(change.split('=').next().map(|key| gone.remove(key))),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_gone_before_a_session_is_taken_over_leaves_nothing_behind() {
    let Some(nats) = NatsServer::start().await else { return };
    let settings = [SOON, &[("broker.nats.replica_timeout", "1s")]].concat();
    let (one, two) = (replica_with(&nats, &settings).await, replica_with(&nats, &settings).await);
    let (mut members, mut keys) = (observer(&one, "~presence.state.a").await, observer(&one, "state.a").await);
    let count = 24;
    let member = || OpenSession { presence: present("here"), ..named(1, "state.a", "desk") };
    let mut older = Vec::new();
    for n in 0..count {
        let mut client = connect(&one, &format!("c{n}")).await;
        client.open(member()).await;
        client.publish(with(1, 1, scoped(&format!("key {n}"), "x"))).await;
        older.push(client);
    }
    // At every moment of it: it takes some milliseconds.
    for n in 0..count {
        let mut client = connect(&two, &format!("c{n}")).await;
        let wish = if n % 2 == 0 { member() } else { named(1, "state.a", "desk") };
        client.send(wish).await;
        sleep(Duration::from_micros(250) * n).await;
        client.sever();
    }
    drop(older);
    until_gone(&mut members, count as usize).await;
    until_gone(&mut keys, count as usize).await;
    one.leave().await;
    two.leave().await;
}

/// Where the claims of sessions are written among the topics, as far as any were.
async fn fences(client: &async_nats::Client) -> Vec<String> {
    let mut found = Vec::new();
    for partition in 0..2 {
        let question = format!("$JS.API.STREAM.INFO.bowline-L{partition:02}");
        let answer = client.request(question, r#"{"subjects_filter":">"}"#.into()).await.unwrap();
        let described: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        let subjects = described["state"]["subjects"].as_object().into_iter().flat_map(|subjects| subjects.keys());
        found.extend(subjects.filter(|subject| subject.contains("$fence")).cloned());
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_taken_by_somebody_who_could_not_tell_ends_with_its_next_publish() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two) = (replica(&nats).await, replica(&nats).await);
    let mut older = connect(&one, "alice").await;
    older.open(named(1, "chat.room", "desk")).await;
    let mut holder = connect(&two, "alice").await;
    holder.open(named(1, "chat.room", "desk")).await;
    assert!(holder.publish(publish(1, 1, "a")).await.failure.is_none());
    holder.settled().await;
    // What whoever takes it writes where it publishes, and nothing else of it.
    let outsider = async_nats::connect(nats.url()).await.unwrap();
    let [fence] = &fences(&outsider).await[..] else { panic!("one session has published under a claim") };
    outsider.request(fence.clone(), u64::MAX.to_string().into()).await.unwrap();
    let answer = holder.publish(publish(1, 2, "b")).await;
    assert_failure(answer.failure.as_ref(), Code::Aborted, "TAKEN_OVER");
    assert_failure(holder.closed().await.failure.as_ref(), Code::Aborted, "TAKEN_OVER");
    // Whoever has not heard of it can take it again.
    assert_eq!(holder.open(named(2, "chat.room", "desk")).await.attach, 3);
    one.leave().await;
    two.leave().await;
}
