//! Which of a connection's readers have something to read.

use std::{net::SocketAddr, task::Waker};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// The set of one connection's readers that are to be looked at, and the waker of whoever looks.
///
/// A publish costs a connection one push and one wake, however many of its sessions read the topic and however far
/// behind they are. Bounded by the connection's sessions: a reader is in the set once at most.
#[derive(Debug, Default)]
pub struct ReadySet {
    /// The remote end of what carries the connection, if anything does.
    transport: Option<SocketAddr>,
    aliases: Mutex<Vec<u32>>,
    waker: AtomicWaker,
}

impl ReadySet {
    /// That of a connection whose transport has this remote end.
    pub fn of(transport: SocketAddr) -> Self {
        Self { transport: Some(transport), ..Self::default() }
    }

    /// What tells transports apart.
    pub(super) fn transport(&self) -> Option<SocketAddr> {
        self.transport
    }

    /// Adds a reader and wakes. The caller makes sure that it is not in the set.
    pub(super) fn push(&self, alias: u32) {
        self.aliases.lock().push(alias);
        self.waker.wake();
    }

    /// Wakes without adding anything: there is something else to do.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Whom to wake from now on. Register first, look afterwards: then nothing is missed.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Empties the set, telling `take` of each.
    pub fn drain(&self, take: impl FnMut(u32)) {
        let mut aliases = self.aliases.lock();
        aliases.drain(..).for_each(take);
    }
}
