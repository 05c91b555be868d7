//! What the admin port is shown of the server.

use std::sync::Arc;

use anyhow::Context as _;

use crate::{
    admin::{self, Connections, Parts, Row, TopicRow, Topics, Wanted},
    broker::Line,
    config::Loaded,
    connection::Shared,
    drain::Drain,
    error::{Failure, Reason},
    health::Health,
    hub::{Class, Hub},
    lifecycle::Lifecycle,
    registry::{Backlog, Entry, Registry, SessionStatus},
    types::{ClientId, ConnectionId, Timestamp, Topic},
};

/// Opens the admin port.
pub(super) fn open(
    config: &admin::Config,
    loaded: &Loaded,
    lifecycle: &Lifecycle,
    health: &Health,
    drain: &Drain,
    shared: &Shared,
) -> anyhow::Result<admin::Admin> {
    let parts = Parts {
        health: health.clone(),
        drain: drain.clone(),
        node: shared.node.clone(),
        started: Timestamp::now(),
        lifecycle: lifecycle.clone(),
        metrics: shared.metrics.clone(),
        connections: Box::new(Listing(shared.registry.clone())),
        topics: Box::new(Kept(shared.hub.clone())),
        config: loaded.to_json(),
        memory: serde_json::to_value(loaded.config.worst_case()).unwrap_or_default(),
    };
    admin::open(config, parts, lifecycle.tasks().stop().clone()).context("cannot serve operators")
}

/// Entries that are looked at under one lock of the registry.
const CHUNK: usize = 256;

struct Listing(Arc<Registry>);

impl Listing {
    fn row(&self, entry: &Entry, backlog: Backlog) -> Row {
        let vitals = entry.vitals();
        let ((received, sent), (received_bytes, sent_bytes)) = (vitals.frames(), vitals.bytes());
        Row {
            place: entry.number(),
            connection_id: entry.id().to_string(),
            client_id: entry.client_id().map(ToString::to_string).unwrap_or_default(),
            peer: entry.peer_addr().to_string(),
            state: vitals.state().as_str(),
            opened_us: entry.opened().0,
            idle_ms: vitals.idle_millis(self.0.clock().millis()),
            sessions: vitals.sessions(),
            slow: backlog.slow,
            paused: backlog.paused,
            lag: backlog.lag,
            received,
            received_bytes,
            sent,
            sent_bytes,
            agent: entry.agent().to_owned(),
        }
    }

    fn entry(&self, id: &str) -> Option<Arc<Entry>> {
        self.0.get(ConnectionId::parse(id).ok()?)
    }

    /// Those that fit, from behind a place, at most a chunk of them, with what waits; and the place looked at last, none
    /// if there are no more.
    fn chunk(&self, wanted: &Wanted, after: u64) -> (Vec<(Arc<Entry>, Backlog)>, Option<u64>) {
        let client = match wanted.client_id.as_deref().map(ClientId::parse).transpose() {
            Ok(client) => client,
            // No client can have such a name.
            Err(_) => return (Vec::new(), None),
        };
        let entries = self.0.page(client.as_ref(), after, CHUNK);
        let last = entries.last().filter(|_| entries.len() == CHUNK).map(|entry| entry.number());
        let fits = |entry: &Entry, backlog: Backlog| {
            wanted.state.as_ref().is_none_or(|state| entry.vitals().state().as_str() == state)
                && wanted.slow.is_none_or(|slow| slow == (backlog.slow > 0))
        };
        let weighed = entries.into_iter().map(|entry| (entry.backlog(), entry));
        let fitting = weighed.filter(|(backlog, entry)| fits(entry, *backlog));
        (fitting.map(|(backlog, entry)| (entry, backlog)).collect(), last)
    }
}

impl Connections for Listing {
    fn page(&self, wanted: &Wanted, after: u64, limit: usize) -> Vec<Row> {
        let (mut rows, mut after) = (Vec::new(), Some(after));
        while let Some(place) = after.filter(|_| rows.len() < limit) {
            let (entries, last) = self.chunk(wanted, place);
            rows.extend(entries.iter().map(|(entry, backlog)| self.row(entry, *backlog)));
            after = last;
        }
        rows.truncate(limit);
        rows
    }

    fn worst(&self, wanted: &Wanted, limit: usize) -> Vec<Row> {
        let (mut all, mut after) = (Vec::new(), Some(0));
        while let Some(place) = after {
            let (entries, last) = self.chunk(wanted, place);
            all.extend(entries);
            // Stable: of equals, the oldest first.
            all.sort_by_key(|(_, backlog)| std::cmp::Reverse((backlog.slow, backlog.lag)));
            all.truncate(limit);
            after = last;
        }
        all.iter().map(|(entry, backlog)| self.row(entry, *backlog)).collect()
    }

    fn get(&self, id: &str) -> Option<(Row, Vec<SessionStatus>)> {
        let entry = self.entry(id)?;
        Some((self.row(&entry, entry.backlog()), entry.sessions()))
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn limit(&self) -> usize {
        self.0.config().max_connections
    }

    fn close(&self, id: &str, why: &str) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        let colon = if why.is_empty() { "" } else { ": " };
        let message = format!("an operator closed the connection{colon}{why}");
        entry.close(Failure::new(Reason::Disconnected, message));
        true
    }
}

struct Kept(Arc<Hub>);

impl Topics for Kept {
    fn page(&self, prefix: &str, after: &str, limit: usize) -> Vec<TopicRow> {
        let row = |(topic, line, class, readers): (Topic, Line, Class, usize)| {
            let log = line.log().read();
            let ((events, bytes), head) = (log.size(), log.head());
            let (epoch, floor, head) = (head.epoch, log.floor().offset, head.offset);
            TopicRow { name: topic.to_string(), class: class.as_str(), epoch, floor, head, events, bytes, readers }
        };
        self.0.list(prefix, after, limit).into_iter().map(row).collect()
    }
}
