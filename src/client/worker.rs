//! The one task that owns the client's state.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Builder, Status, command::Command, shared::Attention};

pub(super) fn spawn(_: Builder, _: mpsc::Receiver<Command>, _: Arc<Attention>, _: watch::Sender<Status>) {
    // Under construction.
}
