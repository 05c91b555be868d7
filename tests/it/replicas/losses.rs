//! Replicas that are lost, and one that comes back: as processes, for only those can be killed and stopped.

use std::{net::SocketAddr, process::Command};

use bowline::proto::v1::OpenSession;
use tonic::Code;

use super::{
    connect, replica_with,
    sessions::{next, observer},
};
use crate::{
    nats::NatsServer,
    served::Served,
    signals,
    support::{
        Settings, TestClient, assert_failure, earliest, hello, named, open, payloads, present, publish, scoped, with,
        within,
    },
};

/// A replica is lost soon, and what it leaves is undone a little later.
const SOON: Settings<'_> = &[("broker.nats.replica_timeout", "1s"), ("session.key_grace", "2s")];

fn process(nats: &NatsServer) -> Served {
    let servers = format!("[\"{}\"]", nats.url());
    let settings = [
        ("BOWLINE__BROKER__KIND", "nats"),
        ("BOWLINE__BROKER__NATS__SERVERS", &*servers),
        ("BOWLINE__BROKER__NATS__REPLICAS", "1"),
        ("BOWLINE__BROKER__NATS__PARTITIONS", "2"),
        ("BOWLINE__BROKER__NATS__REPLICA_TIMEOUT", "1s"),
        ("BOWLINE__SESSION__KEY_GRACE", "2s"),
    ];
    Served::bowline(Command::new(env!("CARGO_BIN_EXE_bowline")), &settings)
}

async fn enter(address: SocketAddr, client_id: &str) -> TestClient {
    let mut client = TestClient::call(address, &[]).await.unwrap().of_shared_topics();
    client.send(hello(client_id)).await;
    client.welcomed().await;
    client
}

fn member(topic: &str, info: &str) -> OpenSession {
    OpenSession { presence: present(info), ..named(1, topic, "desk") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_replica_leaves_is_undone_but_for_those_who_have_come_back() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, two, mut lost) = (replica_with(&nats, SOON).await, replica_with(&nats, SOON).await, process(&nats));
    let (mut members, mut keys) = (observer(&one, "~presence.room").await, observer(&two, "state.a").await);
    let (mut alice, mut bob) = (enter(lost.address, "alice").await, enter(lost.address, "bob").await);
    alice.open(member("room", "busy")).await;
    assert_eq!(next(&mut members).await, "alice desk=busy");
    bob.open(member("room", "here")).await;
    assert_eq!(next(&mut members).await, "bob desk=here");
    let mut sets = [enter(lost.address, "carol").await, enter(lost.address, "dave").await];
    for (client, key) in sets.iter_mut().zip(["carol", "dave"]) {
        client.open(named(1, "state.a", "desk")).await;
        client.publish(with(1, 1, scoped(key, "x"))).await;
        assert_eq!(next(&mut keys).await, format!("{key}=x"));
    }
    lost.child.kill().unwrap();
    let (mut alice, mut carol) = (connect(&two, "alice").await, connect(&one, "carol").await);
    // Nobody can say any more whether others still see it: it is heard of once more, as it is.
    assert_eq!(alice.open(member("room", "busy")).await.attach, 2);
    assert_eq!(next(&mut members).await, "alice desk=busy");
    carol.open(named(1, "state.a", "desk")).await;
    assert_eq!(next(&mut members).await, "-bob desk");
    assert_eq!(next(&mut keys).await, "-dave");
    // Those who came back are there until they go.
    drop((alice, carol));
    assert_eq!(next(&mut members).await, "-alice desk");
    assert_eq!(next(&mut keys).await, "-carol");
    one.leave().await;
    two.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_stopped_finds_that_its_sessions_are_gone_and_stores_nothing_in_their_name() {
    let Some(nats) = NatsServer::start().await else { return };
    let (one, stopped) = (replica_with(&nats, SOON).await, process(&nats));
    let mut members = observer(&one, "~presence.room").await;
    let (mut alice, mut bob) = (enter(stopped.address, "alice").await, enter(stopped.address, "bob").await);
    alice.open(member("room", "busy")).await;
    assert_eq!(next(&mut members).await, "alice desk=busy");
    bob.open(named(1, "chat", "desk")).await;
    bob.publish(publish(1, 1, "one")).await;
    bob.settled().await;

    signals::send(stopped.child.id(), "-STOP");
    // The first may be told to be the repeat of what its client publishes elsewhere, if it comes to that.
    let late = [bob.ask(publish(1, 2, "two")).await, bob.ask(publish(1, 3, "late")).await];
    let mut elsewhere = connect(&one, "bob").await;
    assert_eq!(elsewhere.open(named(1, "chat", "desk")).await.attach, 2);
    assert!(elsewhere.publish(publish(1, 2, "two")).await.failure.is_none());
    assert_eq!(next(&mut members).await, "-alice desk");
    signals::send(stopped.child.id(), "-CONT");

    assert_failure(alice.closed().await.failure.as_ref(), Code::Unavailable, "BROKER");
    // Once it is told who has the session, it refuses the later one at once, while the first may be under way.
    let [_, answer] = bob.answers(late).await;
    assert!(answer.failure.is_some(), "{answer:?}");
    alice.open(OpenSession { session: 2, ..member("room", "back") }).await;
    assert_eq!(next(&mut members).await, "alice desk=back");
    let mut reader = connect(&one, "reader").await;
    reader.open(OpenSession { start: earliest(), ..open(1, "chat") }).await;
    assert_eq!(payloads(&reader.events(1, 2).await), ["one", "two"]);
    assert!(within("an answer", reader.is_quiet()).await);
    one.leave().await;
}
