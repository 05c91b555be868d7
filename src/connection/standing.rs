//! Whom a connection serves and what that client may do, now. The inbound half asks; the registry's review changes it.

use parking_lot::Mutex;

use super::{Shared, lane::Lane, outbox::Outbox};
use crate::{
    auth::{Ask, Caller},
    error::{Failure, Reason},
    types::{Party, Timestamp, TransportHandle},
};

/// See the module. Nobody, until Hello was answered.
#[derive(Debug)]
pub(super) struct Standing {
    transport: TransportHandle,
    caller: Mutex<Option<Caller>>,
}

impl Standing {
    pub(super) fn new(transport: TransportHandle) -> Self {
        Self { transport, caller: Mutex::new(None) }
    }

    /// What it came over.
    pub(super) fn transport(&self) -> &TransportHandle {
        &self.transport
    }

    /// From now on the connection serves this caller; later, the same with another token.
    pub(super) fn set(&self, caller: Caller) {
        *self.caller.lock() = Some(caller);
    }

    pub(super) fn caller(&self) -> Result<Caller, Failure> {
        let nobody = || Failure::new(Reason::Internal, "the connection serves nobody yet");
        self.caller.lock().clone().ok_or_else(nobody)
    }

    /// Who pays for what comes over the connection.
    pub(super) fn party(&self) -> Result<Party, Failure> {
        Ok(self.caller()?.party(&self.transport))
    }

    /// Looks whether the client is still who it was, and may still do what it does. Ends the connection, or the sessions
    /// of it, where that is not so.
    pub(super) fn review(&self, shared: &Shared, outbox: &Outbox) {
        let mut standing = self.caller.lock();
        let Some(caller) = &*standing else { return };
        match shared.auth.review(caller, Timestamp::now()) {
            Ok(None) => {}
            Ok(Some(next)) => {
                *standing = Some(next.clone());
                drop(standing);
                apply(&next, outbox);
            }
            Err(failure) => {
                drop(standing);
                outbox.close(failure);
            }
        }
    }

    /// Holds the sessions to what the caller may do now.
    pub(super) fn apply(&self, outbox: &Outbox) {
        if let Ok(caller) = self.caller() {
            apply(&caller, outbox);
        }
    }

    /// The caller has another token: its sessions are held to what that allows.
    pub(super) fn replace(&self, next: &Caller, outbox: &Outbox) {
        self.set(next.clone());
        apply(next, outbox);
    }
}

/// Ends the sessions whose client may not have them any more, and has those that stay do only what it may.
fn apply(caller: &Caller, outbox: &Outbox) {
    let mut absent = Vec::new();
    outbox.review(|lane| {
        let topic = lane.feed.topic().clone();
        if !caller.may(Ask::Presence(&topic)) {
            absent.push((lane.estate.clone(), lane.attach));
        }
        lane.permitted = caller.may(Ask::Publish(&topic));
        may_have(caller, lane).err()
    });
    // Outside of the outbox's lock: others are told. Of a session that has been taken over, its new holder decides.
    for (estate, attach) in absent {
        estate.leave_presence(attach).ok();
    }
}

fn may_have(caller: &Caller, lane: &Lane) -> Result<(), Failure> {
    let topic = lane.feed.topic();
    match lane.reading {
        Some(_) => caller.check(Ask::Read(topic)),
        None => caller.check(Ask::Publish(topic)),
    }
}
