//! More peers than there are descriptors.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::Verdict;
use crate::{
    admin::Admin,
    arena::{Arena, Kind, address},
    frames::{PREFACE, settings},
    wire::Wire,
};

const PEERS: u16 = 400;
/// Of those, how many have one address.
const OF_ADDRESS: u16 = 100;
/// Peers of one address, where nobody else attacks.
const CROWD: u16 = 300;
/// `transport.max_transports_per_address`.
const OF_ONE: usize = 256;
/// How long the shortage is looked at.
const LOOK: Duration = Duration::from_secs(3);
/// Most of a core that it may take.
const MOST: f64 = 0.10;
/// How long after it a new client may have to wait.
const AFTER: Duration = Duration::from_secs(2);

/// Peers that come at once, greet, and stay; whoever finds no place even before the door stays away.
async fn come(arena: &Arena, count: u16, of_address: u16) -> Vec<Wire> {
    let mut coming = JoinSet::new();
    for number in 0..count {
        let (to, from) = (arena.server.address, address(1 + number / of_address));
        coming.spawn(async move {
            let mut wire = Wire::try_dial(to, from).await.ok()?;
            wire.send(&[PREFACE, &settings(&[])].concat()).await;
            Some(wire)
        });
    }
    let peers = coming.join_all().await.into_iter().flatten().collect();
    sleep(Duration::from_secs(1)).await;
    peers
}

fn held(peers: &[Wire]) -> usize {
    peers.iter().filter(|peer| !peer.seen(|seen| seen.closed)).count()
}

/// All from one address: some have to go, and others still get in.
pub async fn crowd(arena: &Arena) -> Verdict {
    let peers = come(arena, CROWD, CROWD).await;
    let (held, newcomer) = (held(&peers), arena.newcomer(AFTER).await);
    let entry = newcomer.map_or("not in", |_| "in");
    Verdict::new(held == OF_ONE && newcomer.is_some(), format!("{held} held, a new client from elsewhere {entry}"))
}

/// They come, they greet, they stay; and then they go.
pub async fn exhausted(arena: &Arena) -> Verdict {
    let peers = come(arena, PEERS, OF_ADDRESS).await;
    let (cpu, begun) = (arena.cpu_seconds(), Instant::now());
    sleep(LOOK).await;
    let share = (arena.cpu_seconds() - cpu) / begun.elapsed().as_secs_f64();
    let held = held(&peers);
    // Where there is a port for it; on a thread of its own, for it may hang.
    let health = match arena.kind {
        Kind::Stock => true,
        Kind::Bowline => {
            let admin = Admin::of(&arena.server);
            let asked = tokio::task::spawn_blocking(move || admin.try_get("/livez"));
            let answer = tokio::time::timeout(Duration::from_secs(2), asked).await;
            answer.is_ok_and(|answer| answer.is_ok_and(|text| text.is_some_and(|text| text.starts_with("ok"))))
        }
    };
    drop(peers);
    let newcomer = arena.newcomer(AFTER).await;
    let measured = format!(
        "{:.0} % of a core, {held} of {PEERS} held, health {}, a new client {}",
        share * 100.0,
        if health { "answers" } else { "does not answer" },
        newcomer.map_or_else(|| "not in".to_owned(), |wait| format!("in after {} ms", wait.as_millis())),
    );
    // Where all of them found a place there was no shortage, and nothing was seen.
    let short = held < usize::from(PEERS);
    Verdict::new(short && share <= MOST && health && newcomer.is_some(), measured)
}
