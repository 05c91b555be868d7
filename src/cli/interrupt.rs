//! Ctrl-C and SIGTERM, for commands that have something to put in order first.

use std::{future::Future, time::Duration};

use super::exit::{Exit, Stop};
use crate::lifecycle::Signals;

/// How long something that normally takes no time may still take after a signal.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// The wish of the person or the system to end the command.
#[derive(Debug)]
pub(super) struct Interrupt(Signals);

impl Interrupt {
    /// Takes over both signals.
    pub(super) fn listen() -> Result<Self, Stop> {
        Signals::listen().map(Self).map_err(|error| Stop::failure(format!("cannot listen for signals: {error}")))
    }

    /// Completes at the next signal, with the way the command ends. Cancel-safe.
    pub(super) async fn next(&mut self) -> Stop {
        match self.0.next().await {
            "SIGINT" => Stop::new(Exit::Interrupted, ""),
            _ => Stop::new(Exit::Terminated, ""),
        }
    }

    /// What comes first: the future's end or a signal.
    pub(super) async fn or<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            stop = self.next() => Err(stop),
            done = future => Ok(done),
        }
    }
}
