//! A program that has more peers than descriptors.
#![cfg(target_os = "linux")]

use std::{fs, process::Command};

use tokio::{
    net::TcpStream,
    time::{Duration, Instant, sleep},
};

use crate::{
    served::Served,
    support::{TestClient, get, hello, within},
};

/// Seconds of processor time that a process has used.
fn processor_seconds(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let ticks =
        |n: usize| -> f64 { stat.rsplit_once(')').unwrap().1.split_whitespace().nth(n).unwrap().parse().unwrap() };
    (ticks(11) + ticks(12)) / 100.0
}

/// A transport that says nothing; none if it was turned away.
async fn enter(server: &Served) -> Option<TcpStream> {
    let socket = within("a socket", TcpStream::connect(server.address)).await.ok()?;
    // Turned away is closed at once; let in is our SETTINGS, at once.
    let mut first = [0; 1];
    match within("a word", async { socket.readable().await.and_then(|()| socket.try_read(&mut first)) }).await {
        Ok(1) => Some(socket),
        _ => None,
    }
}

#[tokio::test]
async fn with_more_peers_than_descriptors_operators_are_heard_and_who_comes_later_gets_in() {
    let mut program = Command::new("sh");
    program.args(["-c", "ulimit -n 256 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_bowline")]);
    let server = Served::bowline(program, &[("BOWLINE__TRANSPORT__GREETING_TIMEOUT", "1h")]);
    let admin = server.admin.expect("an admin port");
    let mut inside = Vec::new();
    let mut turned_away = 0;
    for _ in 0..400 {
        match enter(&server).await {
            Some(socket) => inside.push(socket),
            None => turned_away += 1,
        }
    }
    assert!(inside.len() > 100 && inside.len() + turned_away == 400, "{} inside", inside.len());
    assert!(turned_away > 0);

    let before = processor_seconds(server.child.id());
    sleep(Duration::from_secs(1)).await;
    let used = processor_seconds(server.child.id()) - before;
    assert!(used < 0.5, "{used} s of a processor in a second, to do nothing");
    for _ in 0..20 {
        assert_eq!(get(admin, "/readyz", "").await.status, 200);
    }

    inside.truncate(inside.len() - 10);
    let begun = Instant::now();
    let mut late = None;
    while late.is_none() {
        late = TestClient::call(server.address, &[]).await.ok();
        assert!(begun.elapsed() < Duration::from_secs(2), "nobody gets in");
    }
    let mut late = late.expect("a call");
    late.send(hello("late")).await;
    late.welcomed().await;
    drop(inside);
}
