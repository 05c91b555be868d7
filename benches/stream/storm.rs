//! Many subscribers lose their connections at once, and come back at once.

use std::{io, ops::Range, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use tokio::time::Instant;

use crate::{
    bowline::{Bowline, Session},
    bystander::Bystander,
    contenders::{Server, Who},
    figures::{Figures, figure},
    talker::{Dialect as _, Numbers, Role, Shape, Talker},
};

const TOPIC: &str = "bench.storm";
/// Published before they leave, and while they are away.
const EVENTS: u64 = 10;
/// How long a bystander is watched before anybody else comes.
const CALM: Duration = Duration::from_secs(1);
/// Until the server has seen that they have gone, and has done what it does then.
const AWAY: Duration = Duration::from_secs(1);
/// On their way at any moment: far less than the backlog of any of the servers (4,096), beyond which the kernel has them wait
/// for a second, or resets them.
const AT_ONCE: usize = 500;
/// How often they leave and come back.
const STORMS: u64 = 8;
/// Longer than all of that may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// So many come back, again and again. Bowline's resume, and each must get what it missed, once and in order; those of others
/// begin anew.
pub async fn measure(server: &Server, count: usize) -> io::Result<Figures> {
    let bystander = Bystander::come(&server.stage);
    let begun = Instant::now();
    tokio::time::sleep(CALM).await;
    let calm = begun..begun + CALM;
    let took = async {
        if matches!(server.who, Who::Bowline | Who::Guided) {
            resume(server, count).await
        } else {
            begin_anew(server, count).await
        }
    };
    let storms = tokio::time::timeout(PATIENCE, took).await??;
    let waits = bystander.go()?;
    let used: Duration = storms.iter().map(|storm| storm.used).sum();
    let times: Vec<Range<Instant>> = storms.into_iter().map(|storm| storm.time).collect();
    let mut of_each: Vec<f64> = times.iter().map(|time| waits.percentile(99.0, time.clone())).collect();
    of_each.sort_by(f64::total_cmp);
    let wall: Duration = times.iter().map(|time| time.end - time.start).sum();
    Ok(vec![
        figure("CPU µs", used.as_secs_f64() * 1e6 / (count * times.len()) as f64),
        figure("all back after, s", wall.as_secs_f64() / times.len() as f64),
        figure("others' p99 meanwhile, ms", of_each[of_each.len() / 2]),
        figure("in the worst, ms", of_each[of_each.len() - 1]),
        figure("and before, ms", waits.percentile(99.0, calm)),
        figure("memory, MiB", server.stage.resident_kib() as f64 / 1024.0),
    ])
}

struct Storm {
    time: Range<Instant>,
    /// CPU time of the server.
    used: Duration,
}

/// Waits until all are back.
async fn storm<T>(server: &Server, back: impl Future<Output = io::Result<T>>) -> io::Result<(Storm, T)> {
    let (begun, used) = (Instant::now(), server.stage.used());
    let back = back.await?;
    Ok((Storm { time: begun..Instant::now(), used: server.stage.used() - used }, back))
}

async fn resume(server: &Server, count: usize) -> io::Result<Vec<Storm>> {
    let mut publisher = Talker::open(&server.stage, Role::Publisher, TOPIC, Shape::ONE).await?;
    let there = at_once((0..count).map(|n| come(server, n, None))).await?;
    publish(&mut publisher).await?;
    let mut there = try_join_all(there.into_iter().map(|client| hear(client, EVENTS))).await?;
    let mut storms = Vec::new();
    for nth in 1..=STORMS {
        let places: Vec<Place> = there.into_iter().map(|(client, numbers)| (client.session(), numbers)).collect();
        tokio::time::sleep(AWAY).await;
        publish(&mut publisher).await?;
        let back = places.into_iter().enumerate().map(|(n, place)| async move {
            let client = come(server, n, Some(place)).await?;
            hear(client, (1 + nth) * EVENTS).await
        });
        let (took, back) = storm(server, at_once(back)).await?;
        storms.push(took);
        there = back;
    }
    Ok(storms)
}

/// The same by clients that have nothing to go on from.
async fn begin_anew(server: &Server, count: usize) -> io::Result<Vec<Storm>> {
    let open = || at_once((0..count).map(|_| Talker::open(&server.stage, Role::Subscriber, TOPIC, Shape::ONE)));
    let mut there = open().await?;
    let mut storms = Vec::new();
    for _ in 0..STORMS {
        drop(there);
        tokio::time::sleep(AWAY).await;
        let (took, back) = storm(server, open()).await?;
        storms.push(took);
        there = back;
    }
    Ok(storms)
}

async fn at_once<T>(all: impl Iterator<Item: Future<Output = io::Result<T>>>) -> io::Result<Vec<T>> {
    stream::iter(all).buffer_unordered(AT_ONCE).try_collect().await
}

/// Where a client was, and what it has.
type Place = (Session, Numbers);
/// One that is there.
type Client = (Bowline, Numbers);

async fn come(server: &Server, n: usize, place: Option<Place>) -> io::Result<Client> {
    let (session, mut numbers) = place.map_or((None, Numbers::new(1)), |(session, numbers)| (Some(session), numbers));
    let name = format!("storm-{n}");
    let client = Bowline::resume(server.served.address, &name, TOPIC, session, &mut numbers).await?;
    Ok((client, numbers))
}

/// Until it has so many events.
async fn hear((mut client, mut numbers): Client, events: u64) -> io::Result<Client> {
    loop {
        while client.take(&mut numbers)? {}
        if numbers.count() >= events {
            return Ok((client, numbers));
        }
        client.socket().read().await?;
    }
}

async fn publish(publisher: &mut Talker) -> io::Result<()> {
    (0..EVENTS).for_each(|_| publisher.send());
    let all = publisher.seen() + EVENTS;
    while publisher.seen() < all {
        publisher.receive().await?;
    }
    Ok(())
}
