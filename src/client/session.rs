//! The application's ends of a session.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::oneshot;

use super::{Client, Cursor, Error, ErrorKind, Item, NewEvent, Published, command::Command, shared::Shared};

/// A session: a [`Publisher`] and a [`Reader`] in one. It is also the stream of its [`Item`]s. Dropping it closes it,
/// after what was published has been sent.
#[derive(Debug)]
pub struct Session {
    publisher: Publisher,
    reader: Reader,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, client: Client) -> Self {
        let handle = Arc::new(Handle { shared, client });
        Self { publisher: Publisher { handle: Arc::clone(&handle) }, reader: Reader { handle } }
    }

    /// See [`Publisher::publish`].
    pub async fn publish(&self, event: NewEvent) -> Result<Receipt, Error> {
        self.publisher.publish(event).await
    }

    /// See [`Reader::cursor`].
    pub fn cursor(&self) -> Option<Cursor> {
        self.reader.cursor()
    }

    /// See [`Reader::ack`].
    pub fn ack(&self, place: Cursor) {
        self.reader.ack(place);
    }

    /// See [`Reader::pause`].
    pub async fn pause(&self) -> Result<(), Error> {
        self.reader.pause().await
    }

    /// See [`Reader::resume`].
    pub async fn resume(&self) -> Result<(), Error> {
        self.reader.resume().await
    }

    /// Closes the session for good: waits for the answers to what was published, then for the server to confirm.
    /// Cancel-safe: it goes on.
    pub async fn close(self) -> Result<(), Error> {
        self.reader.handle.close(false).await
    }

    /// Like [`close`](Self::close), but the server keeps the session's acknowledged place for its `session_ttl`.
    pub async fn detach(self) -> Result<(), Error> {
        self.reader.handle.close(true).await
    }

    /// Separates the halves, for different tasks. The session is closed once both, and all clones of the publisher,
    /// are dropped.
    pub fn split(self) -> (Publisher, Reader) {
        (self.publisher, self.reader)
    }
}

impl Stream for Session {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        Pin::new(&mut self.reader).poll_next(cx)
    }
}

/// The publishing half of a session. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    handle: Arc<Handle>,
}

impl Publisher {
    /// Hands an event over to be sent, in the order of the calls. Waits while as many publishes of the session are
    /// unanswered as the server allows, and while that is so also through reconnects.
    ///
    /// The [`Receipt`] resolves once the server has answered; it need not be awaited before the next publish.
    /// Events that are unanswered when the connection breaks are sent again and never stored twice. Cancel-safe:
    /// dropped before it is done, nothing was sent.
    pub async fn publish(&self, event: NewEvent) -> Result<Receipt, Error> {
        let Handle { shared, client } = &*self.handle;
        let permit = shared.permits().acquire_owned().await.map_err(|_| self.handle.ended())?;
        let (done, receipt) = oneshot::channel();
        let command = Command::Publish { session: shared.key(), event: Box::new(event), permit, done };
        client.send(command).await?;
        Ok(Receipt(receipt))
    }
}

/// The answer to a publish, to come. Dropping it does not take the publish back.
#[derive(Debug)]
#[must_use = "whether the event was stored is only known from its receipt"]
pub struct Receipt(oneshot::Receiver<Result<Published, Error>>);

impl Future for Receipt {
    type Output = Result<Published, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| {
            answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::UnknownOutcome, "the client ended before the answer")))
        })
    }
}

/// The reading half of a session: the stream of its [`Item`]s. It ends after [`Item::Closed`].
///
/// What is not taken stays here, at most as much as the session's credit; the rest stays on the server.
#[derive(Debug)]
pub struct Reader {
    handle: Arc<Handle>,
}

impl Reader {
    /// The position up to which everything was received, which may be ahead of what was taken from this stream. A
    /// snapshot counts once it has ended. `None` before the first open, and before the end of a first snapshot.
    pub fn cursor(&self) -> Option<Cursor> {
        self.handle.shared.cursor()
    }

    /// Tells the server that everything up to this place, that of a [`Received`](super::Received), has been processed: a
    /// later process may go on there with `Start::Acked`, and publishers that wait for this reader may go on. Does not
    /// wait; lower offsets than before, and places in a log that the topic no longer has, are ignored.
    pub fn ack(&self, place: Cursor) {
        self.handle.shared.ack(place);
    }

    /// Stops deliveries. Once it returns, nothing more arrives until [`resume`](Self::resume), across reconnects too;
    /// what has already arrived can still be taken. Cancel-safe: it goes on.
    pub async fn pause(&self) -> Result<(), Error> {
        self.handle.pause(true).await
    }

    /// Lets deliveries go on. Cancel-safe: it goes on.
    pub async fn resume(&self) -> Result<(), Error> {
        self.handle.pause(false).await
    }
}

impl Stream for Reader {
    type Item = Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.handle.shared.poll_take(cx)
    }
}

/// What both halves share; its end is the session's.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    client: Client,
}

impl Handle {
    async fn pause(&self, paused: bool) -> Result<(), Error> {
        let (done, applied) = oneshot::channel();
        self.client.send(Command::Pause { session: self.shared.key(), paused, done }).await?;
        applied.await.map_err(|_| self.ended())?
    }

    async fn close(&self, keep: bool) -> Result<(), Error> {
        let (done, closed) = oneshot::channel();
        self.client.send(Command::Close { session: self.shared.key(), keep, done }).await?;
        closed.await.map_err(|_| self.ended())?
    }

    /// Why the session takes nothing more.
    fn ended(&self) -> Error {
        self.shared.end().unwrap_or_else(|| self.client.ended())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}
