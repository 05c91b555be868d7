//! Clients that use the library, as programs do.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fastrand::Rng;
use futures_util::StreamExt as _;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::{
    history::Writer,
    world::{self, Kind, World, kind},
};
use crate::{
    checker::history::{Op, Outcome},
    client::{Backoff, Client, Cursor, DeliveryPolicy, Item, NewEvent, Open, Publisher, Reader, Receipt, Start},
    witness,
};

/// One program: a client with a few sessions.
pub(super) async fn run(world: World, name: Arc<str>, mut rng: Rng) {
    sleep(Duration::from_millis(rng.u64(..1000))).await;
    let network = world.network.clone();
    let caller = name.clone();
    let backoff = Backoff {
        first: Duration::from_millis(50),
        max: Duration::from_secs(2),
        stable_after: Duration::from_secs(2),
        ..Backoff::default()
    };
    let builder = Client::builder("http://sim")
        .client_id(&*name)
        .network(move || network.dial(&caller))
        .backoff(backoff)
        .connect_timeout(Duration::from_secs(4))
        .wait_for_server();
    let client = builder.connect().await.expect("it goes on trying");
    let mut ends = Vec::new();
    for number in 0..rng.usize(1..=2) {
        let topic = world.topic(&mut rng);
        let kind = kind(&topic);
        let session: Arc<str> = format!("{name}-{number}").into();
        let start = match rng.u8(..4) {
            _ if kind == Kind::State => Start::Snapshot,
            0 => Start::Live,
            1 => Start::Last(rng.u64(1..20)),
            _ => Start::Earliest,
        };
        let policy = match rng.u8(..6) {
            0 => DeliveryPolicy::DropOldest,
            1 => DeliveryPolicy::Disconnect,
            2..4 if kind == Kind::State => DeliveryPolicy::Conflate,
            _ => DeliveryPolicy::Unspecified,
        };
        let conflates = policy == DeliveryPolicy::Conflate;
        let open = Open::topic(&*topic).session_id(&*session).start(start).delivery_policy(policy);
        let open = if rng.bool() { open.credit(rng.u64(2..40), rng.u64(500..20_000)) } else { open };
        let open = if rng.u8(..3) == 0 { open.presence("here") } else { open };
        let required = topic.starts_with("paced") && rng.bool();
        let open = if required { open.required() } else { open };
        let Ok(opened) = client.open(open).await else { continue };
        let seat = Seat {
            world: world.clone(),
            writer: world.history.writer(&name),
            session,
            topic,
            kind,
            conflates,
            required,
        };
        let (publisher, reader) = opened.split();
        ends.push(world.tasks.spawn("publisher", publish(seat.clone(), publisher, rng.fork())));
        ends.push(world.tasks.spawn("reader", read(seat, reader, rng.fork())));
    }
    for end in ends {
        end.await.expect("it does not panic");
    }
    client.close().await;
}

/// Whose records these are.
#[derive(Clone)]
struct Seat {
    world: World,
    writer: Writer,
    session: Arc<str>,
    topic: Arc<str>,
    kind: Kind,
    conflates: bool,
    required: bool,
}

impl Seat {
    fn record(&self, op: impl FnOnce(Arc<str>, Arc<str>) -> Op) {
        self.writer.record(op(self.session.clone(), self.topic.clone()));
    }
}

async fn publish(seat: Seat, publisher: Publisher, mut rng: Rng) {
    let (receipts, waiting) = mpsc::channel::<(Arc<str>, Receipt)>(2048);
    let answers = seat.world.tasks.spawn("answers", answers(seat.clone(), waiting));
    let mut number = 0;
    while Instant::now() < seat.world.publish_until {
        let pause = if rng.u8(..4) == 0 { 0..1 } else { 20..800 };
        sleep(Duration::from_millis(rng.u64(pause))).await;
        number += 1;
        let id: Arc<str> = format!("{}/{number}", seat.session).into();
        let keyed = seat.kind == Kind::State;
        let event = NewEvent {
            key: if keyed { world::key(&id).into() } else { Bytes::new() },
            session_scoped: keyed && rng.u8(..4) == 0,
            payload: seat.world.payload(&id, &mut rng).into(),
            ..NewEvent::default()
        };
        let published = {
            let id = id.clone();
            seat.record(|session, topic| Op::Publish { session, topic, id, request: 0 });
            timeout_at(seat.world.read_until, publisher.publish(event)).await
        };
        match published {
            Ok(Ok(receipt)) => receipts.send((id, receipt)).await.expect("somebody waits for it"),
            // It ended before this one was handed over.
            Ok(Err(_)) | Err(_) => {
                let outcome = Outcome::Refused("NEVER_SENT".into());
                seat.record(|session, topic| Op::Answered { session, topic, id, outcome });
                break;
            }
        }
    }
    drop(receipts);
    answers.await.expect("it does not panic");
}

async fn answers(seat: Seat, mut waiting: mpsc::Receiver<(Arc<str>, Receipt)>) {
    while let Some((id, receipt)) = waiting.recv().await {
        let outcome = witness::outcome(receipt.await);
        seat.record(|session, topic| Op::Answered { session, topic, id, outcome });
    }
}

async fn read(seat: Seat, mut reader: Reader, mut rng: Rng) {
    let hasty = rng.bool();
    let mut last = None;
    loop {
        let item = match timeout_at(seat.world.read_until, reader.next()).await {
            Ok(Some(item)) => item,
            Ok(None) => return,
            Err(_) => break,
        };
        if let Item::Event(received) = &item {
            last = Some(received.cursor);
        }
        if note(&seat, item) {
            return;
        }
        if seat.required {
            last.into_iter().for_each(|cursor| reader.ack(cursor));
        }
        if Instant::now() >= seat.world.publish_until {
            continue;
        }
        dawdle(&reader, last, hasty, &mut rng).await;
    }
    let cursor = reader.cursor().map(witness::place);
    seat.record(|session, topic| Op::Stands { session, topic, place: cursor });
}

/// What an application does between two events.
async fn dawdle(reader: &Reader, last: Option<Cursor>, hasty: bool, rng: &mut Rng) {
    match rng.u8(..40) {
        0 if !hasty => sleep(Duration::from_millis(rng.u64(..1500))).await,
        1 if reader.pause().await.is_ok() => {
            sleep(Duration::from_millis(rng.u64(..800))).await;
            reader.resume().await.ok();
        }
        2..10 => {
            if let Some(cursor) = last {
                reader.ack(cursor);
            }
        }
        _ => {}
    }
}

/// Records what was read; true if it was the last.
fn note(seat: &Seat, item: Item) -> bool {
    let last = matches!(item, Item::Closed(_));
    let op = witness::seen(seat.session.clone(), seat.topic.clone(), seat.conflates, item);
    op.into_iter().for_each(|op| seat.writer.record(op));
    last
}
