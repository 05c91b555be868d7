//! Clients under load, each with a session or several; everything they see is written down.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bowline::{
    checker::history::{Op, Record},
    client::{Builder, Client, Item, NewEvent, Open, Publisher, Reader, Start, Status},
    lifecycle::{Lifecycle, Tasks},
    witness,
};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Sessions of one room; one of them publishes.
const ROOM: usize = 10;
/// How many events are published in a second, by all of them: each comes to the whole of a room, and all the clients are
/// in this one process.
const EVENTS_PER_SECOND: f64 = 80.0;
/// Quiet for so long after the last publish, everything has come.
const QUIET: Duration = Duration::from_secs(3);
/// How many connect at once.
const AT_ONCE: usize = 20;

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

    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.0.lock())
    }

    /// How many records there are so far of which that is true.
    #[allow(dead_code, reason = "a rollout looks in the end")]
    pub fn count(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.0.lock().iter().filter(|record| wanted(record)).count()
    }
}

/// Who is in a fleet.
#[derive(Clone)]
pub struct Shape {
    /// What the names of its clients and of their rooms begin with.
    pub name: String,
    /// How many sessions there are.
    pub sessions: usize,
    /// How many of them a client has.
    pub each: usize,
}

impl Shape {
    /// Those who are in a room are with different clients.
    fn rooms(&self) -> usize {
        self.sessions.div_ceil(ROOM)
    }

    pub fn topics(&self) -> Vec<String> {
        (0..self.rooms()).map(|room| format!("{}.{room}", self.name)).collect()
    }
}

pub struct Fleet {
    clients: Vec<Member>,
    /// True once nobody is to publish any more.
    over: watch::Sender<bool>,
    tasks: Lifecycle,
}

struct Member {
    client: Client,
    /// Times it was without any connection.
    lost: Arc<Mutex<Vec<String>>>,
}

impl Fleet {
    pub async fn connect(address: SocketAddr, shape: &Shape, history: &History) -> Self {
        let (over, tasks) = (watch::Sender::new(false), Lifecycle::default());
        let join = |n: usize| {
            let (over, tasks, history) = (over.subscribe(), tasks.tasks().clone(), history.clone());
            async move { Member::join(address, n, shape, over, &tasks, history).await }
        };
        let clients = 0..shape.sessions.div_ceil(shape.each);
        let clients = stream::iter(clients.map(join)).buffer_unordered(AT_ONCE).collect().await;
        Self { clients, over, tasks }
    }

    /// How many clients each server has.
    pub fn whereabouts(&self) -> BTreeMap<String, usize> {
        let mut nodes = BTreeMap::new();
        for member in &self.clients {
            let node = match &*member.client.status().borrow() {
                Status::Connected(welcome) => welcome.node.clone(),
                other => format!("{other:?}"),
            };
            *nodes.entry(node).or_default() += 1;
        }
        nodes
    }

    /// Why clients were without a connection, each time that one was.
    pub fn losses(&self) -> Vec<String> {
        self.clients.iter().flat_map(|member| member.lost.lock().clone()).collect()
    }

    /// Ends the load, waits until everything has come, and closes.
    pub async fn end(self) {
        self.over.send_replace(true);
        self.tasks.ended().await;
        stream::iter(self.clients).for_each_concurrent(AT_ONCE, async |member| member.client.close().await).await;
    }
}

impl Member {
    async fn join(
        address: SocketAddr,
        n: usize,
        shape: &Shape,
        over: watch::Receiver<bool>,
        tasks: &Tasks,
        history: History,
    ) -> Self {
        let name = format!("{}-{n}", shape.name);
        let client = admitted(Client::builder(format!("http://{address}")).client_id(name)).await;
        let lost = Arc::default();
        drop(tasks.spawn("losses", watch_losses(client.status(), Arc::clone(&lost), over.clone())));
        let every = Duration::from_secs_f64(shape.rooms() as f64 / EVENTS_PER_SECOND);
        for seat in (n * shape.each..shape.sessions).take(shape.each) {
            let topic = format!("{}.{}", shape.name, seat % shape.rooms()).into();
            let taken = Seat { client: format!("seat-{seat}").into(), topic, history: history.clone() };
            let open = Open::topic(&*taken.topic).session_id(&*taken.client).start(Start::Earliest);
            let (publisher, reader) = client.open(open).await.unwrap().split();
            if seat < shape.rooms() {
                drop(tasks.spawn("publisher", taken.clone().publish(publisher, every, over.clone())));
            }
            drop(tasks.spawn("reader", taken.read(reader, over.clone())));
        }
        Self { client, lost }
    }
}

/// Connected, if not at once: a server lets no more come in a second than it is told to.
async fn admitted(builder: Builder) -> Client {
    loop {
        match builder.clone().connect().await {
            Ok(client) => return client,
            Err(error) => sleep(error.retry_after().unwrap_or_else(|| panic!("{error:?}"))).await,
        }
    }
}

async fn watch_losses(
    mut status: watch::Receiver<Status>,
    lost: Arc<Mutex<Vec<String>>>,
    mut over: watch::Receiver<bool>,
) {
    loop {
        if let Status::Waiting { error, .. } = &*status.borrow_and_update() {
            lost.lock().push(error.to_string());
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            _ = over.changed() => return,
        }
    }
}

/// A place in a room: one session, written down as that of a client of its name.
#[derive(Clone)]
struct Seat {
    client: Arc<str>,
    topic: Arc<str>,
    history: History,
}

impl Seat {
    async fn publish(self, publisher: Publisher, every: Duration, over: watch::Receiver<bool>) {
        let answers = Lifecycle::default();
        for number in 1_u64.. {
            sleep(every.mul_f64(0.5 + fastrand::f64())).await;
            // Not after that: readers that hear nothing for a while take it that all has come.
            if *over.borrow() {
                break;
            }
            let id: Arc<str> = format!("{}/{number}", self.client).into();
            let (session, topic) = (self.client.clone(), self.topic.clone());
            self.history.note(&self.client, Op::Publish { session, topic, id: id.clone(), request: 0 });
            let receipt = publisher.publish(NewEvent { payload: id.to_string().into(), ..NewEvent::default() }).await;
            let this = self.clone();
            drop(answers.tasks().spawn("answer", async move {
                let answer = match receipt {
                    Ok(receipt) => receipt.await,
                    Err(error) => Err(error),
                };
                let (session, topic, outcome) = (this.client.clone(), this.topic.clone(), witness::outcome(answer));
                this.history.note(&this.client, Op::Answered { session, topic, id, outcome });
            }));
        }
        answers.ended().await;
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
