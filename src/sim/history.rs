//! What everybody saw, in the order in which it happened.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::proto::v1;

/// A place in a topic: epoch, offset.
pub(super) type Place = (u64, u64);

/// One thing that somebody saw or did.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Since the run began, microseconds.
    pub(super) at: u64,
    /// Who.
    pub(super) client: Arc<str>,
    /// On which of its connections; 0 where that is hidden from it.
    pub(super) connection: u64,
    /// Tells apart two of one name.
    pub(super) instance: u32,
    /// The epoch that a reader is in.
    pub(super) epoch: u64,
    pub(super) op: Op,
}

/// What.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Connected {
        node: String,
    },
    Disconnected {
        why: String,
    },
    Open {
        alias: u32,
        session: Arc<str>,
        topic: Arc<str>,
        start: String,
        wish: String,
        /// It asks to go on at its cursor.
        resumes: bool,
        last_attach: u64,
        credit: Option<(u64, u64)>,
        request: u64,
    },
    Opened {
        session: Arc<str>,
        topic: Arc<str>,
        attach: u64,
        start: Place,
        head: Place,
        recovery: &'static str,
        published_seq: u64,
    },
    Publish {
        session: Arc<str>,
        topic: Arc<str>,
        seq: u64,
        id: Arc<str>,
        dedupe_id: bool,
        request: u64,
    },
    Answered {
        session: Arc<str>,
        topic: Arc<str>,
        id: Arc<str>,
        outcome: Outcome,
    },
    Deliver {
        session: Arc<str>,
        topic: Arc<str>,
        prev: u64,
        skipped: u64,
        snapshot: bool,
        events: Vec<Event>,
    },
    Gap {
        session: Arc<str>,
        topic: Arc<str>,
        from: Place,
        to: Place,
        reason: &'static str,
    },
    Mark {
        session: Arc<str>,
        offset: u64,
    },
    Broken {
        session: Arc<str>,
        text: String,
    },
    Flow {
        session: Arc<str>,
        credit: Option<(u64, u64)>,
        paused: Option<bool>,
        acked: Option<u64>,
        request: u64,
    },
    Close {
        session: Arc<str>,
        keep: bool,
        request: u64,
    },
    Reply {
        request: u64,
        failure: Option<String>,
    },
    Closed {
        session: Arc<str>,
        reason: Option<String>,
    },
    Fault {
        what: String,
        took_hold: bool,
    },
    /// The run is over, and a client is not.
    Stuck,
    /// The run is over: where the topic's log ends.
    Head {
        topic: Arc<str>,
        head: Place,
    },
    /// The run is over: what the log holds.
    Stored {
        topic: Arc<str>,
        epoch: u64,
        events: Vec<Event>,
    },
    /// The run is over: where a session that is still open stands.
    Stands {
        session: Arc<str>,
        topic: Arc<str>,
        place: Option<Place>,
    },
}

/// What became of a publish.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Stored { place: Place, duplicate: bool },
    Refused(String),
    Unknown,
}

/// An event as a reader sees it.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) offset: u64,
    pub(super) time: u64,
    pub(super) id: Arc<str>,
    pub(super) key: Arc<str>,
    pub(super) removes: bool,
    /// Bytes of the payload.
    pub(super) length: usize,
}

impl Event {
    pub(super) fn new(event: &v1::Event) -> Self {
        Self {
            offset: event.offset,
            time: event.time_us,
            id: id(&event.payload),
            key: String::from_utf8_lossy(&event.key).into(),
            removes: event.operation() == v1::Operation::Delete,
            length: event.payload.len(),
        }
    }
}

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(super) struct History {
    began: Instant,
    records: Arc<Mutex<Vec<Record>>>,
}

impl History {
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), records: Arc::default() }
    }

    pub(super) fn push(&self, client: &Arc<str>, op: Op) {
        self.push_from((client, 0, 0), 0, op);
    }

    /// From an instance of a client, on a connection, in an epoch.
    pub(super) fn push_from(&self, (client, instance, connection): (&Arc<str>, u32, u64), epoch: u64, op: Op) {
        let at = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.records.lock().push(Record { at, client: client.clone(), connection, instance, epoch, op });
    }

    pub(super) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.records.lock())
    }
}

/// Of all there is in it.
pub(super) fn hash(records: &[Record]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for record in records {
        format!("{record:?}").hash(&mut hasher);
    }
    hasher.finish()
}

/// The unique part of a payload: what stands before the padding.
fn id(payload: &[u8]) -> Arc<str> {
    let text = String::from_utf8_lossy(payload);
    text.split('|').next().unwrap_or_default().into()
}
