//! `make cluster`: what it runs starts three replicas over three NATS servers, which talk, and ends all of them.

use std::{net::TcpListener, path::Path, process::Stdio};

use bowline::proto::v1::{Durability, OpenSession};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::{Duration, timeout},
};

use crate::{
    nats,
    support::{TestClient, earliest, hello, named, payloads, publish},
};

/// Ports that the script takes.
const PORTS: [u16; 12] = [4222, 4223, 4224, 6222, 6223, 6224, 9090, 9091, 9092, 50051, 50052, 50053];
/// Longer than any start or end takes.
const PATIENCE: Duration = Duration::from_secs(150);

/// A process that is told to end when this is dropped, also by a test that fails.
struct Running(u32);

impl Drop for Running {
    fn drop(&mut self) {
        std::process::Command::new("kill").args(["-TERM", &self.0.to_string()]).status().ok();
    }
}

fn is_free(offset: u16) -> bool {
    PORTS.iter().all(|port| TcpListener::bind(("127.0.0.1", port + offset)).is_ok())
}

async fn client(offset: u16, replica: u16, name: &str) -> TestClient {
    let address = format!("127.0.0.1:{}", 50051 + replica + offset).parse().unwrap();
    let mut client = TestClient::call(address, &[]).await.unwrap().of_shared_topics();
    client.send(hello(name)).await;
    client.welcomed().await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_serves_and_all_of_it_ends_with_its_script() {
    let Some(server) = nats::find() else { return };
    // So that they are none of those which the system gives to whoever asks for any.
    let offset = (0..1000).map(|_| fastrand::u16(110..150) * 100).find(|offset| is_free(*offset)).expect("free ports");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/cluster/run");
    let mut cluster = Command::new(script)
        .args(["--set", "broker.nats.partitions=2"])
        .env("CLUSTER_OFFSET", offset.to_string())
        .env("BOWLINE", env!("CARGO_BIN_EXE_bowline"))
        .env("NATS_SERVER", server)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let running = Running(cluster.id().unwrap());
    let mut said = BufReader::new(cluster.stdout.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = said.next_line().await.unwrap() {
            if line == "ready" {
                return true;
            }
        }
        false
    };
    assert!(timeout(PATIENCE, ready).await.expect("it takes too long"), "it ended");

    let mut alice = client(offset, 0, "alice").await;
    alice.open(named(1, "chat.room", "desk")).await;
    let answer = alice.publish(publish(1, 1, "hello")).await;
    assert_eq!((answer.failure.as_ref(), answer.durability()), (None, Durability::Replicated));
    for replica in [1, 2] {
        let mut reader = client(offset, replica, "bob").await;
        let session = named(1, "chat.room", &format!("at-{replica}"));
        reader.open(OpenSession { start: earliest(), ..session }).await;
        assert_eq!(payloads(&reader.events(1, 1).await), ["hello"]);
    }
    alice.half_close();

    drop(running);
    // It says to the end what it does: a pipe that nobody reads would end it before it has.
    let end = async {
        while said.next_line().await.unwrap().is_some() {}
        cluster.wait().await.unwrap()
    };
    assert_eq!(timeout(PATIENCE, end).await.expect("it takes too long").code(), Some(0));
    assert!(is_free(offset), "nothing of it is left");
}
