//! What connections and sessions cost to open, and while nothing happens on them.

use std::{io, time::Duration};

use tokio::time::Instant;

use crate::{
    awake::Awake,
    bowline::Bowline,
    contenders::{Server, Who},
    figures::{Figures, figure},
    talker::{Dialect as _, Numbers, Role, Shape, Talker},
    work::{Jobs, stay_awake, until},
};

/// After this a server has done what it does for those who have come.
const SETTLE: Duration = Duration::from_secs(1);
/// How long idle connections are watched: two heartbeats of Bowline's.
const WATCH: Duration = Duration::from_secs(40);
/// Before that: the first heartbeats have spread.
const SPREAD: Duration = Duration::from_secs(5);

/// Resident memory of each of so many connections.
pub async fn connections(server: &Server, count: usize, shape: Shape) -> io::Result<Figures> {
    let before = server.stage.resident_kib();
    let held = open(server, shape, count).await?;
    tokio::time::sleep(SETTLE).await;
    let grown = server.stage.resident_kib().saturating_sub(before);
    drop(held);
    Ok(vec![figure("KiB", grown as f64 / count as f64), figure("before the first, MiB", before as f64 / 1024.0)])
}

/// CPU time of each of so many connections that are opened; and these, for as long as the server is to have them.
pub async fn opening(server: &Server, count: usize) -> io::Result<(Figures, Vec<Talker>)> {
    let mut awake = Jobs::new();
    stay_awake(&mut awake);
    let (begun, used) = (Instant::now(), server.stage.used());
    let opened = open(server, Shape::ONE, count).await?;
    let (used, took) = (server.stage.used() - used, begun.elapsed());
    let figures = vec![
        figure("CPU µs", used.as_secs_f64() * 1e6 / count as f64),
        figure("per second", count as f64 / took.as_secs_f64()),
    ];
    Ok((figures, opened))
}

/// Resident memory of each receiver beyond the first of its connection.
pub async fn sessions(server: &Server, count: usize, more: usize) -> io::Result<Figures> {
    let mut all = Vec::new();
    let mut grown = Vec::new();
    let shape = if server.who == Who::Bowline {
        Shape { sessions: 1 + more, ..Shape::ONE }
    } else {
        Shape { streams: 1 + more, ..Shape::ONE }
    };
    // The first connections of all pay for what all share.
    for shape in [Shape::ONE, Shape::ONE, shape] {
        let before = server.stage.resident_kib();
        all.push(open(server, shape, count).await?);
        tokio::time::sleep(SETTLE).await;
        grown.push(server.stage.resident_kib().saturating_sub(before));
    }
    let [_, plain, loaded] = grown[..] else { unreachable!("three") };
    Ok(vec![figure("KiB", (loaded as f64 - plain as f64) / (count * more) as f64)])
}

/// CPU time that each of so many connections takes a second.
pub async fn quiet(server: &Server, count: usize) -> io::Result<Figures> {
    let mut jobs = Jobs::new();
    stay_awake(&mut jobs);
    let mut core = Awake::begin()?;
    let beats = std::rc::Rc::new(std::cell::Cell::new(0_u64));
    if server.who == Who::Bowline {
        for _ in 0..count {
            let client =
                Bowline::open(server.served.address, Role::Subscriber, "bench.quiet".to_owned(), Shape::ONE).await?;
            jobs.spawn_local(answer(client, beats.clone()));
        }
    } else {
        for mut talker in open(server, Shape::ONE, count).await? {
            jobs.spawn_local(async move { talker.receive().await.map(|_| ()) });
        }
    }
    until(Instant::now() + SPREAD, &mut jobs).await?;
    let (begun, used, already) = (Instant::now(), server.stage.used(), beats.get());
    until(begun + WATCH, &mut jobs).await?;
    let used = server.stage.used() - used;
    core.still()?;
    let beats = (beats.get() - already) as f64 / count as f64;
    if server.who == Who::Bowline && beats < 1.9 {
        return Err(io::Error::other(format!("{beats} heartbeats each, where there should be two")));
    }
    let cost = used.as_secs_f64() * 1e6 / begun.elapsed().as_secs_f64() / count as f64;
    Ok(vec![figure("CPU µs a second", cost), figure("heartbeats each", beats)])
}

/// Answers heartbeats; nothing else may come.
async fn answer(mut client: Bowline, beats: std::rc::Rc<std::cell::Cell<u64>>) -> io::Result<()> {
    let mut numbers = Numbers::new(1);
    loop {
        let before = client.heartbeats;
        while client.take(&mut numbers)? {}
        beats.set(beats.get() + client.heartbeats - before);
        client.socket().read().await?;
    }
}

async fn open(server: &Server, shape: Shape, count: usize) -> io::Result<Vec<Talker>> {
    Talker::open_all(&server.stage, Role::Subscriber, "bench.idle", shape, count).await
}
