//! One connection in the registry.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use serde::Serialize;

use super::{Registry, Vitals, leaving};
use crate::{
    error::Failure,
    telemetry::metrics::words::ConnectionEnd,
    types::{ClientId, ConnectionId, Timestamp},
};

/// What the registry can ask of a connection. Implemented by the connection itself; none of these blocks.
pub trait Peer: Send + Sync {
    /// Queues a heartbeat ahead of all data; false if even that has no room.
    fn heartbeat(&self, reply_requested: bool) -> bool;
    /// Tells the client to move.
    fn drain(&self, notice: DrainNotice);
    /// Ends the connection. The first failure is the call's status.
    fn close(&self, failure: Failure);
    /// Its sessions, ordered by id.
    fn sessions(&self) -> Vec<SessionStatus>;
    /// What of all its sessions waits.
    fn backlog(&self) -> Backlog;
    /// Looks whether its client still may do what it does.
    fn review(&self) {}
}

/// What a client is told when the server leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainNotice {
    /// For people.
    pub reason: Arc<str>,
    /// How long to wait before connecting elsewhere.
    pub reconnect_delay: Duration,
    /// When the connection will be ended; none if it will not, because the server may yet be able to go on.
    pub deadline: Option<Duration>,
}

/// A session as operators see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SessionStatus {
    /// Its name.
    pub session_id: String,
    /// Its topic.
    pub topic: String,
    /// The last offset sent.
    pub cursor: u64,
    /// Events between that and the head.
    pub lag: u64,
    /// It does not keep up: more waits than its topic's `queue_size` and its credit together (ADR 7).
    pub slow: bool,
    /// Paused by the client.
    pub paused: bool,
    /// Its fencing number.
    pub attach: u64,
    /// Events sent on this connection.
    pub delivered: u64,
}

/// What of a connection's sessions waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Sessions that do not keep up.
    pub slow: u32,
    /// Events that wait for its sessions, together.
    pub lag: u64,
    /// Sessions that their client has paused.
    pub paused: u32,
}

/// One live connection.
pub struct Entry {
    number: u64,
    id: ConnectionId,
    peer_addr: SocketAddr,
    opened: Timestamp,
    vitals: Vitals,
    client: OnceLock<(ClientId, Box<str>)>,
    peer: OnceLock<Weak<dyn Peer>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("id", &self.id).field("client", &self.client.get()).finish_non_exhaustive()
    }
}

impl Entry {
    pub(super) fn new(number: u64, peer_addr: SocketAddr, vitals: Vitals) -> Self {
        Self {
            number,
            id: ConnectionId::generate(),
            peer_addr,
            opened: Timestamp::now(),
            vitals,
            client: OnceLock::new(),
            peer: OnceLock::new(),
        }
    }

    /// Its place in the order of admission.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its id.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The remote end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// When it was admitted.
    pub fn opened(&self) -> Timestamp {
        self.opened
    }

    /// How it is doing.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Whom it serves, once that is known.
    pub fn client_id(&self) -> Option<&ClientId> {
        self.client.get().map(|(client, _)| client)
    }

    /// What the client calls its software.
    pub fn agent(&self) -> &str {
        self.client.get().map_or("", |(_, agent)| agent)
    }

    fn peer(&self) -> Option<Arc<dyn Peer>> {
        self.peer.get()?.upgrade()
    }

    /// Its sessions.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        self.peer().map(|peer| peer.sessions()).unwrap_or_default()
    }

    /// See [`Peer::backlog`].
    pub fn backlog(&self) -> Backlog {
        self.peer().map(|peer| peer.backlog()).unwrap_or_default()
    }

    /// See [`Peer::close`].
    pub fn close(&self, failure: Failure) {
        if let Some(peer) = self.peer() {
            peer.close(failure);
        }
    }

    /// Tells the client to move, and closes one that is not welcomed yet: nothing may come before its Welcome. False if
    /// there is nobody to tell any more.
    pub fn drain(&self, notice: DrainNotice) -> bool {
        let Some(peer) = self.peer() else { return false };
        if self.client_id().is_some() {
            peer.drain(notice);
        } else {
            peer.close(leaving());
        }
        true
    }

    /// See [`Peer::review`].
    pub fn review(&self) {
        if let Some(peer) = self.peer() {
            peer.review();
        }
    }

    pub(super) fn heartbeat(&self, reply_requested: bool) -> bool {
        self.peer().is_some_and(|peer| peer.heartbeat(reply_requested))
    }
}

/// Keeps a connection in the registry until dropped.
#[derive(Debug)]
pub struct Admission {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
    end: ConnectionEnd,
}

impl Admission {
    pub(super) fn new(registry: Arc<Registry>, entry: Arc<Entry>) -> Self {
        Self { registry, entry, end: ConnectionEnd::Gone }
    }

    /// The entry.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Who is to be asked; once.
    pub fn bind(&self, peer: Weak<dyn Peer>) {
        let bound = self.entry.peer.set(peer);
        debug_assert!(bound.is_ok(), "a connection is bound once");
    }

    /// Whom the connection serves; once, after the handshake. MAX_CONNECTIONS or OPEN_RATE, each with a time to wait, if
    /// that client has or opens too many.
    pub fn identify(&self, client: ClientId, agent: &str) -> Result<(), Failure> {
        // The registry first: a client that is refused has no entry there, and none that could be taken out of it.
        self.registry.identified(&self.entry, &client)?;
        let identified = self.entry.client.set((client, agent.into()));
        debug_assert!(identified.is_ok(), "a connection is identified once");
        Ok(())
    }

    /// How it ends, for the metric.
    pub fn set_end(&mut self, end: ConnectionEnd) {
        self.end = end;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.registry.remove(&self.entry, self.end);
    }
}
