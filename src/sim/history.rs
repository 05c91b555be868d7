//! Where everybody in a run writes down what they see and do.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::checker::history::{Op, Record};

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(super) struct History {
    began: Instant,
    records: Arc<Mutex<Vec<Record>>>,
}

/// Who writes.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) history: History,
    /// Its name as a client.
    pub(super) client: Arc<str>,
    /// Its own: two may call themselves by one name.
    pub(super) program: Arc<str>,
    /// On which of its connections; 0 where that is hidden from it.
    pub(super) connection: u64,
}

impl History {
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), records: Arc::default() }
    }

    /// A writer whose name as a client is also its own.
    pub(super) fn writer(&self, name: &str) -> Writer {
        Writer { history: self.clone(), client: name.into(), program: name.into(), connection: 0 }
    }

    pub(super) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.records.lock())
    }
}

impl Writer {
    pub(super) fn record(&self, op: Op) {
        let at = u64::try_from(self.history.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (client, program, connection) = (self.client.clone(), self.program.clone(), self.connection);
        self.history.records.lock().push(Record { at, client, program, connection, op });
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
