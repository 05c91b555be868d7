//! What everybody saw and did, in the order in which it happened: one record a line, as JSON.

use std::{
    io::{self, BufRead, Write},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// A place in a topic: epoch, offset.
pub type Place = (u64, u64);

/// One thing that somebody saw or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When, microseconds; the clock need only be the same for all records of a history.
    pub at: u64,
    /// The client's name.
    pub client: Arc<str>,
    /// Which program that was: two may call themselves by one name.
    pub program: Arc<str>,
    /// On which of its connections; 0 where that is hidden from it.
    pub connection: u64,
    /// What.
    #[serde(flatten)]
    pub op: Op,
}

/// Where a session asked to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Nowhere in particular: live, earliest, so many, since then, what was acknowledged.
    Fresh,
    /// After its own cursor.
    Cursor(Place),
    /// With a snapshot.
    Snapshot,
}

/// What was seen or done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are those of the protocol's frames, by the same names")]
pub enum Op {
    /// A server said Welcome.
    Connected { node: String },
    /// A connection has ended.
    Disconnected { why: String },
    /// OpenSession was sent.
    Open { session: Arc<str>, topic: Arc<str>, start: Asked, credit: Option<(u64, u64)>, request: u64 },
    /// SessionOpened came. `attach` is 0 for an ephemeral session.
    Opened {
        session: Arc<str>,
        topic: Arc<str>,
        attach: u64,
        start: Place,
        head: Place,
        recovery: Arc<str>,
        published_seq: u64,
    },
    /// An event was handed over to be published, perhaps not for the first time.
    Publish { session: Arc<str>, topic: Arc<str>, id: Arc<str>, request: u64 },
    /// What became of it is known, as far as it ever will be.
    Answered { session: Arc<str>, topic: Arc<str>, id: Arc<str>, outcome: Outcome },
    /// A Delivery came.
    Deliver { session: Arc<str>, topic: Arc<str>, prev: u64, skipped: u64, snapshot: bool, events: Vec<Event> },
    /// A Gap came.
    Gap { session: Arc<str>, topic: Arc<str>, from: Place, to: Place, reason: Arc<str> },
    /// A mark came with a heartbeat.
    Mark { session: Arc<str>, offset: u64 },
    /// Something came that should not have; the program that records says what.
    Broken { session: Arc<str>, text: String },
    /// Flow was sent.
    Flow { session: Arc<str>, credit: Option<(u64, u64)>, paused: Option<bool>, acked: Option<u64>, request: u64 },
    /// CloseSession was sent.
    Close { session: Arc<str>, keep: bool, request: u64 },
    /// A Reply came.
    Reply { request: u64, failure: Option<String> },
    /// SessionClosed came.
    Closed { session: Arc<str>, reason: Option<String> },
    /// Something was made to go wrong, or was to be.
    Fault { what: String, took_hold: bool },
    /// A server was told to leave, and tells its clients to be gone so many microseconds later.
    Leaving { node: String, deadline: u64 },
    /// Its process has ended.
    Left { node: String },
    /// What a server occupied, and what it may.
    Memory { bytes: u64, limit: u64 },
    /// In the end: where the topic's log ends.
    Head { topic: Arc<str>, head: Place },
    /// In the end: what the topic's log holds.
    Stored { topic: Arc<str>, epoch: u64, events: Vec<Event> },
    /// In the end: where a session stands that is open and wants everything.
    Stands { session: Arc<str>, topic: Arc<str>, place: Option<Place> },
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are those of the protocol's Reply")]
pub enum Outcome {
    /// It is stored there.
    Stored { place: Place, duplicate: bool },
    /// It was refused, and is stored nowhere.
    Refused(String),
    /// It may be stored or not.
    Unknown,
}

/// An event as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its offset.
    pub offset: u64,
    /// When the server stored it.
    pub time: u64,
    /// What tells it from every other event that was published; empty for what the server writes by itself.
    pub id: Arc<str>,
    /// Its key.
    pub key: Arc<str>,
    /// It removes the key.
    pub removes: bool,
    /// Bytes of its payload.
    pub length: usize,
}

/// Writes a history, a line a record. Cheap to clone; all clones write to one place.
///
/// It holds nothing back, so it needs no bound: a program that is killed has written down what it has seen, and one that
/// cannot write has to wait.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Output>>);

struct Output {
    out: Box<dyn Write + Send>,
    begun: bool,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recorder")
    }
}

impl Recorder {
    /// Writes to `out`, each record at once: the program may be killed at any time.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Output { out: Box::new(out), begun: false })))
    }

    /// Appends a record, as one write.
    pub fn append(&self, record: &Record) -> io::Result<()> {
        let mut output = self.0.lock();
        // Whoever wrote there before may have been killed in the middle of a line.
        let mut line = if std::mem::replace(&mut output.begun, true) { Vec::new() } else { vec![b'\n'] };
        serde_json::to_writer(&mut line, record)?;
        line.push(b'\n');
        output.out.write_all(&line)
    }
}

/// Reads a history. Empty lines, and those that a program was killed over, which break off, are left out; any other bad
/// line is an error that names it.
pub fn read(input: impl BufRead) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for (index, line) in input.split(b'\n').enumerate() {
        match serde_json::from_slice(&line?) {
            Ok(record) => records.push(record),
            Err(error) if error.is_eof() => {}
            Err(error) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {error}", index + 1)));
            }
        }
    }
    Ok(records)
}
