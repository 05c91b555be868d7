//! The program, told by signals.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::{
    served::Served,
    signals,
    support::{TestClient, eventually, hello},
};

fn served(grace: &str) -> Served {
    let program = std::process::Command::new(env!("CARGO_BIN_EXE_bowline"));
    Served::bowline(program, &[("BOWLINE__DRAIN__GRACE", grace)])
}

fn signal(served: &Served, name: &str) {
    signals::send(served.child.id(), name);
}

async fn exit_code(served: &mut Served) -> i32 {
    let mut status = None;
    eventually("the program has ended", || {
        status = served.child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    status.and_then(|status| status.code()).expect("not killed")
}

async fn connected(served: &Served) -> TestClient {
    let mut client = TestClient::call(served.address, &[]).await.unwrap();
    client.send(hello("alice")).await;
    client.welcomed().await;
    client
}

#[tokio::test]
async fn a_signal_to_stop_drains_the_program_and_it_exits_with_zero() {
    for name in ["-TERM", "-INT"] {
        let mut server = served("20s");
        let mut client = connected(&server).await;
        signal(&server, name);
        client.drain().await;
        client.half_close();
        client.ended_well().await;
        assert_eq!(exit_code(&mut server).await, 0, "{name}");
    }
}

#[tokio::test]
async fn a_program_nobody_is_connected_to_exits_at_once() {
    let mut server = served("20s");
    let begun = Instant::now();
    signal(&server, "-TERM");
    assert_eq!(exit_code(&mut server).await, 0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_stays_is_closed_when_its_time_is_over() {
    let mut server = served("300ms");
    let mut client = connected(&server).await;
    signal(&server, "-TERM");
    client.ended_with(Code::Unavailable, "DRAINING").await;
    assert_eq!(exit_code(&mut server).await, 0);
}

#[tokio::test]
async fn a_second_signal_skips_the_waiting() {
    let mut server = served("20s");
    let mut client = connected(&server).await;
    signal(&server, "-TERM");
    client.drain().await;
    signal(&server, "-TERM");
    client.ended_with(Code::Unavailable, "DRAINING").await;
    assert_eq!(exit_code(&mut server).await, 0);
}
