//! Clients that publish and read, each in a session of its own that goes on wherever its connection goes; everything they
//! see is written down.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bowline::{
    checker::history::{Op, Outcome, Place, Record},
    client::{Backoff, Client, Item, NewEvent, Open, Publisher, Reader, Start, Status},
    lifecycle::{Lifecycle, Tasks},
    witness,
};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Topics, and who is in each.
pub const TOPICS: [&str; 3] = ["prices", "chat.room", "state.board"];
const EACH: usize = 3;
/// How often each of them publishes.
const EVERY: Duration = Duration::from_millis(150);
/// How long everybody may take to have come to where all are, once nothing is in the way: G13.
const CALM: Duration = Duration::from_secs(30);
/// Quiet for so long after the last publish, everything has come.
const QUIET: Duration = Duration::from_secs(4);

/// What everybody saw, in the order in which it was seen.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Vec<Record>>>);

impl History {
    pub fn note(&self, client: &Arc<str>, op: Op) {
        // Under the lock, so that the order of the records is that of their times.
        let mut records = self.0.lock();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        records.push(Record { at, client: client.clone(), program: client.clone(), connection: 0, op });
    }

    pub fn fault(&self, what: &str) {
        println!("{what}");
        self.note(&"test".into(), Op::Fault { what: what.to_owned(), took_hold: true });
    }

    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.0.lock())
    }
}

pub struct Crew {
    members: Vec<Member>,
    /// True once nobody is to publish any more.
    over: watch::Sender<bool>,
    tasks: Lifecycle,
}

struct Member {
    client: Client,
    seat: Seat,
}

/// How far a client has come.
#[derive(Default)]
struct Progress {
    /// Where it stands as a reader.
    read: Option<Place>,
    /// When the newest of its publishes was begun that is stored, and where.
    stored: Option<(Instant, Place)>,
    /// What its last publish came to that was not stored.
    failed: Option<(Instant, Outcome)>,
}

impl Crew {
    pub async fn sign_on(address: SocketAddr, history: &History) -> Self {
        let (over, tasks, mut members) = (watch::Sender::new(false), Lifecycle::default(), Vec::new());
        for n in 0..TOPICS.len() * EACH {
            members.push(Member::join(address, n, &over, tasks.tasks(), history).await);
        }
        Self { members, over, tasks }
    }

    /// Which replica each of them is on.
    pub fn whereabouts(&self) -> Vec<String> {
        let node = |member: &Member| match &*member.client.status().borrow() {
            Status::Connected(welcome) => welcome.node.clone(),
            other => format!("{other:?}"),
        };
        self.members.iter().map(node).collect()
    }

    /// Waits until everybody has published something from now on, and everybody has read all of that. How long it took.
    pub async fn catch_up(&self, after: &str) -> Duration {
        let begun = Instant::now();
        while let Some(behind) = self.members.iter().find_map(|member| self.is_behind(member, begun)) {
            assert!(begun.elapsed() < CALM, "{CALM:?} after the end of {after}, {behind}");
            sleep(Duration::from_millis(20)).await;
        }
        let took = begun.elapsed();
        println!("  everybody had caught up after {took:.1?}");
        took
    }

    /// What one of them lacks.
    fn is_behind(&self, member: &Member, since: Instant) -> Option<String> {
        let Member { client, seat } = member;
        let is_to_read = |fellow: &&Member| fellow.seat.topic == seat.topic;
        let mut newest = Vec::new();
        for Member { client, seat } in self.members.iter().filter(is_to_read) {
            let progress = seat.progress.lock();
            match progress.stored {
                Some((begun, place)) if begun >= since => newest.push(place),
                before => {
                    let last = before
                        .map_or("never anything".into(), |(begun, _)| format!("last {:.1?} ago", begun.elapsed()));
                    let failed = progress.failed.as_ref().map(|(begun, outcome)| (begun.elapsed(), outcome));
                    return Some(format!(
                        "{} has stored nothing, {last}, last failed {failed:?}: {:?}",
                        seat.client,
                        &*client.status().borrow()
                    ));
                }
            }
        }
        let read = seat.progress.lock().read;
        let has = |place: &Place| read.is_some_and(|read| read.0 == place.0 && read.1 >= place.1);
        let lacks = || format!("{} has not read all of it: {:?}", seat.client, &*client.status().borrow());
        if newest.iter().all(has) { None } else { Some(lacks()) }
    }

    /// Ends the load, waits until everything has come, and closes.
    pub async fn end(self) {
        self.over.send_replace(true);
        self.tasks.ended().await;
        for member in self.members {
            member.client.close().await;
        }
    }
}

impl Member {
    async fn join(address: SocketAddr, n: usize, over: &watch::Sender<bool>, tasks: &Tasks, history: &History) -> Self {
        let (name, topic): (Arc<str>, _) = (format!("client-{n}").into(), TOPICS[n % TOPICS.len()]);
        let backoff = Backoff { max: Duration::from_secs(1), ..Backoff::default() };
        let builder = Client::builder(format!("http://{address}")).client_id(&*name).backoff(backoff);
        let builder = builder.connect_timeout(Duration::from_secs(4)).wait_for_server();
        let client = builder.connect().await.unwrap();
        let start = if topic.starts_with("state") { Start::Snapshot } else { Start::Earliest };
        let session = client.open(Open::topic(topic).session_id(&*name).start(start)).await.unwrap();
        let (publisher, reader) = session.split();
        let seat = Seat { client: name, topic: topic.into(), history: history.clone(), progress: Arc::default() };
        drop(tasks.spawn("publisher", seat.clone().publish(publisher, over.subscribe())));
        drop(tasks.spawn("reader", seat.clone().read(reader, over.subscribe())));
        if std::env::var_os("BOWLINE_TEST_LOG").is_some() {
            drop(tasks.spawn("status", follow(seat.client.clone(), client.status(), over.subscribe())));
        }
        Self { client, seat }
    }
}

async fn follow(name: Arc<str>, mut status: watch::Receiver<Status>, mut over: watch::Receiver<bool>) {
    loop {
        println!("  {name}: {:?}", &*status.borrow_and_update());
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            _ = over.changed() => return,
        }
    }
}

/// A client's place in its topic: one session, of the client's name.
#[derive(Clone)]
struct Seat {
    client: Arc<str>,
    topic: Arc<str>,
    history: History,
    progress: Arc<Mutex<Progress>>,
}

impl Seat {
    async fn publish(self, publisher: Publisher, over: watch::Receiver<bool>) {
        let answers = Lifecycle::default();
        for number in 1_u64.. {
            sleep(EVERY.mul_f64(0.5 + fastrand::f64())).await;
            // Not after that: readers that hear nothing for a while take it that all has come.
            if *over.borrow() {
                break;
            }
            let id: Arc<str> = format!("{}/{number}", self.client).into();
            let key = if self.topic.starts_with("state") { format!("key-{}", number % 20) } else { String::new() };
            let (session, topic, begun) = (self.client.clone(), self.topic.clone(), Instant::now());
            self.history.note(&self.client, Op::Publish { session, topic, id: id.clone(), request: 0 });
            let event = NewEvent { key: key.into(), payload: id.to_string().into(), ..NewEvent::default() };
            let receipt = publisher.publish(event).await;
            let this = self.clone();
            drop(answers.tasks().spawn("answer", async move {
                let answer = match receipt {
                    Ok(receipt) => receipt.await,
                    Err(error) => Err(error),
                };
                this.answered(id, begun, witness::outcome(answer));
            }));
        }
        answers.ended().await;
    }

    fn answered(&self, id: Arc<str>, begun: Instant, outcome: Outcome) {
        match &outcome {
            Outcome::Stored { place, .. } => {
                let mut progress = self.progress.lock();
                progress.stored = progress.stored.max(Some((begun, *place)));
            }
            failed => self.progress.lock().failed = Some((begun, failed.clone())),
        }
        let (session, topic) = (self.client.clone(), self.topic.clone());
        self.history.note(&self.client, Op::Answered { session, topic, id, outcome });
    }

    /// Reads until nothing comes any more after the load is over.
    async fn read(self, mut reader: Reader, over: watch::Receiver<bool>) {
        loop {
            match timeout(QUIET, reader.next()).await {
                Ok(Some(item)) => {
                    let last = matches!(item, Item::Closed(_));
                    if let Some(op) = witness::seen(self.client.clone(), self.topic.clone(), false, item) {
                        self.history.note(&self.client, op);
                    }
                    self.progress.lock().read = reader.cursor().map(witness::place);
                    if last {
                        return;
                    }
                }
                Ok(None) => return,
                Err(_) if *over.borrow() => break,
                Err(_) => {}
            }
        }
        let (session, topic) = (self.client.clone(), self.topic.clone());
        let place = reader.cursor().map(witness::place);
        self.history.note(&self.client, Op::Stands { session, topic, place });
    }
}
