//! The client library: sessions that survive their connections.
//!
//! One [`Client`] is one connection to a Bowline server, kept alive: it reconnects with back-off, follows a server's
//! `Drain` to another replica before the old one leaves, and resumes every [`Session`] at its cursor. What the
//! application sees is one unbroken chain of events per session; every hole in it is announced as [`Item::Gap`].
//!
//! ```no_run
//! use bowline::client::{Client, Item, NewEvent, Open, Start};
//! use futures_util::StreamExt;
//!
//! # async fn example() -> Result<(), bowline::client::Error> {
//! let client = Client::builder("http://127.0.0.1:50051").client_id("alice").connect().await?;
//! let mut session = client.open(Open::topic("prices").session_id("alice-1").start(Start::Earliest)).await?;
//!
//! // Sent in order, at most `max_inflight_publishes` unanswered; the answer is awaited apart.
//! let receipt = session.publish(NewEvent { payload: "42".into(), ..NewEvent::default() }).await?;
//! println!("stored at {}", receipt.await?.cursor);
//!
//! while let Some(item) = session.next().await {
//!     match item {
//!         Item::Event(received) => println!("{} {:?}", received.cursor, received.event.payload),
//!         Item::Gap(gap) => println!("lost: {} to {} ({:?})", gap.from, gap.to, gap.reason),
//!         Item::Closed(end) => println!("ended: {end:?}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A keyed topic is read with [`Start::Snapshot`] and folded into a [`Mirror`]. Keys that are to go with their session
//! ([`NewEvent::session_scoped`]) outlive a reconnect within the server's `key_grace`, but not a longer absence, and
//! nothing outlives a restart of a server that keeps its history in memory. The library does not put them again: by then
//! another may have a right to the key. A program that reads the topic finds its key [removed](Change::Removed) and
//! decides; one that only publishes hears of every reconnect by [`Item::Opened`].
//!
//! Inside: handles put a [`command`] into a bounded queue, one [`worker`] task owns all state and the [`link`]s to the
//! server. The rules of the protocol stand in files without any I/O: [`chain`], [`window`], [`outstanding`],
//! [`backoff`].

mod backoff;
mod builder;
mod chain;
mod command;
mod error;
mod inbox;
mod item;
mod link;
mod mirror;
#[cfg(test)]
pub(crate) mod network;
mod open;
mod outbox;
mod outstanding;
mod session;
mod shared;
mod window;
mod wire;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

pub use crate::{
    error::Advice,
    proto::v1::{DeliveryPolicy, Event, GapReason, NewEvent, Operation, Recovery, TopicClass, Welcome},
    types::{Cursor, Durability, Published, Timestamp},
};
pub use backoff::Backoff;
pub use builder::Builder;
pub use error::{Error, ErrorKind, Refusal};
pub use item::{ChainBreak, Gap, Item, Opened, Received};
pub use mirror::{Change, Mirror};
pub use open::{Open, Start};
pub use session::{Publisher, Reader, Receipt, Session};

use command::Command;
use shared::{Attention, Shared};

use crate::types::Secret;

/// How the client stands with its server.
#[derive(Debug, Clone)]
pub enum Status {
    /// Dialling.
    Connecting,
    /// Connected; what the server said of itself and its limits.
    Connected(Arc<Welcome>),
    /// Not connected; the next attempt is due in `retry_in`.
    Waiting {
        /// Why the last attempt or connection ended.
        error: Error,
        /// How long until the next attempt, counted from when this status was set.
        retry_in: std::time::Duration,
    },
    /// Ended for good: closed by the application (no error), or for a reason that retrying does not cure.
    Closed(Option<Error>),
}

/// A connection to a server, kept alive. Cheap to clone; all clones are one. When the last of its clones and sessions
/// is dropped, what was published is still sent and the connection is closed.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    attention: Arc<Attention>,
    status: watch::Receiver<Status>,
}

impl Client {
    /// Prepares a client for the server at `url`: `http://host:port` in the clear, `https://host:port` with TLS.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// Opens or resumes a session and waits until it is open. Waits through reconnects.
    ///
    /// Fails with [`ErrorKind::Invalid`] for a malformed name, [`ErrorKind::SessionClosed`] if the server refuses it,
    /// [`ErrorKind::Closed`] if the client ends. Cancel-safe: the session is closed again if the future is dropped.
    pub async fn open(&self, open: Open) -> Result<Session, Error> {
        let open = open.check()?;
        let shared = Shared::new(Arc::clone(&self.attention), open.window);
        let (done, opened) = oneshot::channel();
        self.send(Command::Open { open: Box::new(open), shared: Arc::clone(&shared), done }).await?;
        // From here on dropping `session` closes what the worker may be opening.
        let session = Session::new(shared, self.clone());
        opened.await.map_err(|_| self.ended())??;
        Ok(session)
    }

    /// Replaces the token, in place if connected, and for later connections. Returns once the server has accepted it,
    /// or at once while there is no connection. Cancel-safe.
    pub async fn authenticate(&self, token: impl Into<String>) -> Result<(), Error> {
        let (done, accepted) = oneshot::channel();
        self.send(Command::Authenticate { token: Secret::from(token.into()), done }).await?;
        accepted.await.map_err(|_| self.ended())?
    }

    /// How the client stands with its server, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Ends everything politely: waits for unanswered publishes, closes the sessions, then the connection. Bounded by
    /// a few seconds; what is unanswered then fails with [`ErrorKind::UnknownOutcome`]. Cancel-safe: it goes on.
    pub async fn close(&self) {
        // A worker that has ended already has nothing left to close.
        if self.send(Command::Shutdown).await.is_ok() {
            let mut status = self.status.clone();
            // An error means that the worker is gone, which is what we wait for.
            drop(status.wait_for(|status| matches!(status, Status::Closed(_))).await);
        }
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| self.ended())
    }

    /// What ended the client, for whoever finds its worker gone.
    fn ended(&self) -> Error {
        match &*self.status.borrow() {
            Status::Closed(Some(error)) => error.clone(),
            _ => Error::new(ErrorKind::Closed, "the client is closed"),
        }
    }
}
