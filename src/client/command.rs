//! What handles ask of the worker.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    Error, NewEvent, Open, Published,
    shared::{SessionKey, Shared},
};
use crate::types::Secret;

/// Answers one command.
pub(super) type Done<T = ()> = oneshot::Sender<Result<T, Error>>;

/// Gives the answer to whoever waits for it; one who no longer does has dropped the future, and that is fine.
pub(super) fn answer<T>(done: Done<T>, result: Result<T, Error>) {
    done.send(result).ok();
}

/// One request of a handle.
#[derive(Debug)]
pub(super) enum Command {
    Open {
        open: Box<Open>,
        shared: Arc<Shared>,
        done: Done,
    },
    Publish {
        session: SessionKey,
        event: Box<NewEvent>,
        /// Bounds what the worker holds for the session; freed with the answer.
        permit: OwnedSemaphorePermit,
        done: Done<Published>,
    },
    Pause {
        session: SessionKey,
        paused: bool,
        done: Done,
    },
    Close {
        session: SessionKey,
        keep: bool,
        done: Done,
    },
    Authenticate {
        token: Secret,
        done: Done,
    },
    Shutdown,
}
