//! A client that publishes and reads, and writes down everything it sees: `bowline check` holds that to the promises.
//!
//! ```text
//! witness URL CLIENT TOPIC HISTORY SECONDS [EVENTS_A_SECOND]
//! ```
//!
//! Its history is also its memory. Killed and started again with the same arguments it goes on at the cursor of its last
//! record, under the same session id. When the time is over it publishes no more, waits until nothing comes any more, and
//! writes down where it stands.

#![allow(clippy::disallowed_methods, reason = "a program of its own has no lifecycle of ours to spawn through")]

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io::BufReader,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bowline::{
    checker::history::{self, Op, Place, Record, Recorder},
    client::{Backoff, Client, Cursor, Item, NewEvent, Open, Publisher, Reader, Start, Timestamp},
    witness,
};
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

/// Nothing in so many waits in a row: everything has come. Many short ones, not a long one: a process that is stopped finds that
/// its time is over when it goes on, though it has not listened for any of it.
const QUIET_WAITS: u32 = 50;
/// One of them.
const WAIT: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Witness {
    client: Arc<str>,
    session: Arc<str>,
    topic: Arc<str>,
    recorder: Recorder,
    keyed: bool,
}

impl Witness {
    fn record(&self, op: Op) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (at, client) = (u64::try_from(at.as_micros()).unwrap_or(u64::MAX), self.client.clone());
        let record = Record { at, program: client.clone(), client, connection: 0, op };
        // What cannot be written down has not been seen: better no witness than a false one.
        self.recorder.append(&record).expect("the history can be written");
    }

    fn names(&self) -> (Arc<str>, Arc<str>) {
        (self.session.clone(), self.topic.clone())
    }

    /// False if it was the last.
    fn saw(&self, item: Item) -> bool {
        let last = matches!(item, Item::Closed(_));
        let (session, topic) = self.names();
        witness::seen(session, topic, false, item).into_iter().for_each(|op| self.record(op));
        !last
    }

    /// Publishes until the time is over; the answers are written down as they come.
    async fn publish(&self, publisher: &Publisher, until: Instant, rate: f64) {
        let mut number = 0_u64;
        let run = fastrand::u32(..);
        while Instant::now() < until {
            sleep(Duration::from_secs_f64(1.0 / rate)).await;
            number += 1;
            let id: Arc<str> = format!("{}/{run:08x}/{number}", self.client).into();
            let key = if self.keyed { format!("key-{}", fastrand::u8(..20)) } else { String::new() };
            let event = NewEvent { key: key.into(), payload: id.to_string().into(), ..NewEvent::default() };
            let (session, topic) = self.names();
            self.record(Op::Publish { session, topic, id: id.clone(), request: 0 });
            let receipt = publisher.publish(event).await;
            let (this, answered) = (self.clone(), async move { receipt?.await });
            tokio::spawn(async move {
                let outcome = witness::outcome(answered.await);
                let (session, topic) = this.names();
                this.record(Op::Answered { session, topic, id, outcome });
            });
        }
    }

    /// Reads until nothing comes any more after the time is over.
    async fn read(&self, mut reader: Reader, until: Instant) {
        let mut quiet = 0;
        while quiet < QUIET_WAITS {
            match timeout(WAIT, reader.next()).await {
                Ok(Some(item)) => {
                    quiet = 0;
                    if !self.saw(item) {
                        return;
                    }
                }
                Ok(None) => return,
                Err(_) if Instant::now() < until => quiet = 0,
                Err(_) => quiet += 1,
            }
        }
        let (session, topic) = self.names();
        self.record(Op::Stands { session, topic, place: reader.cursor().map(witness::place) });
    }
}

/// Where the last record left the session; nowhere if a snapshot had not ended.
fn remembered(records: &[Record]) -> Option<Place> {
    let mut at = None;
    for record in records {
        match &record.op {
            Op::Opened { start, .. } => at = Some(*start),
            Op::Gap { to, .. } => at = Some(*to),
            Op::Deliver { snapshot: false, events, .. } => {
                at = at.zip(events.last()).map(|((epoch, _), last)| (epoch, last.offset));
            }
            _ => {}
        }
    }
    at
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    let [_, url, client, topic, path, seconds, rest @ ..] = &words[..] else {
        return Err("usage: witness URL CLIENT TOPIC HISTORY SECONDS [EVENTS_A_SECOND]".into());
    };
    let until = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let rate = rest.first().map_or(Ok(20.0), |rate| rate.parse())?;
    let known = File::open(path).and_then(|file| history::read(BufReader::new(file))).unwrap_or_default();
    let keyed = topic.starts_with("state");
    let start = match remembered(&known) {
        // A picture that was lost with the program has to be made anew.
        _ if keyed => Start::Snapshot,
        Some((epoch, offset)) => Start::After(Cursor { epoch, offset, time: Timestamp(0) }),
        None => Start::Earliest,
    };
    let recorder = Recorder::new(OpenOptions::new().create(true).append(true).open(path)?);
    let session = format!("{client}-session");
    let witness = Witness {
        client: client.as_str().into(),
        session: session.as_str().into(),
        topic: topic.as_str().into(),
        recorder,
        keyed,
    };
    let backoff = Backoff { max: Duration::from_secs(1), ..Backoff::default() };
    let connected = Client::builder(url).client_id(client).backoff(backoff).wait_for_server().connect().await?;
    let opened = connected.open(Open::topic(topic).session_id(session).start(start)).await?;
    let (publisher, reader) = opened.split();
    tokio::join!(witness.publish(&publisher, until, rate), witness.read(reader, until));
    connected.close().await;
    Ok(())
}
