//! What handles ask of the worker.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    Error, NewEvent, Open, Published,
    shared::{SessionKey, Shared},
};

/// Answers one command.
pub(super) type Done<T = ()> = oneshot::Sender<Result<T, Error>>;

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
        token: String,
        done: Done,
    },
    Shutdown,
}
