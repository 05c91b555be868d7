//! Bridges: messages of NATS core that become events, and events that become messages.
//!
//! What comes in is heard by one replica of all (a queue group), and given to whoever publishes it ([`Hearing`]). What
//! goes out is sent by the replica that a client published to, once it is stored. Core NATS delivers at most once, and so
//! does a bridge, both ways: nothing is sent again, and what finds no room is dropped and counted.
//!
//! A message that goes out says whose it is, and is not taken in again; an event that came in does not go out.

mod headers;
mod route;

use std::sync::Arc;

use async_nats::{Client, HeaderMap, PublishErrorKind, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{super::config, Unusable, entry::Entry};
use crate::{
    lifecycle::Tasks,
    telemetry::metrics::{
        Metrics,
        words::{BridgeIn, BridgeOut},
    },
    types::{Cursor, NewEvent, Topic},
};

/// Messages that may wait to be sent; what comes on top is dropped.
const WAITING: usize = 4096;
/// Bytes of them; a message that is larger than all of it may be alone.
const WAITING_BYTES: usize = 16 << 20;
/// How long the last messages may take to leave when the process stops.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// One bridge, as the way in.
#[derive(Debug)]
pub struct Inlet {
    bridge: config::Bridge,
    client: Client,
    prefix: String,
}

/// What is heard on the subjects of an [`Inlet`].
#[derive(Debug)]
pub struct Hearing {
    messages: Subscriber,
    heard: u64,
    bridge: config::Bridge,
    prefix: String,
}

/// The ways in that are configured; `client` is the connection they come on.
pub(super) fn inlets(config: &config::Nats, client: &Client) -> Vec<Inlet> {
    let ways = config.bridges.iter().filter(|bridge| bridge.direction.is_in());
    ways.map(|bridge| Inlet { bridge: bridge.clone(), client: client.clone(), prefix: config.prefix.clone() }).collect()
}

impl Inlet {
    /// Its subjects, as configured.
    pub fn subject(&self) -> &str {
        &self.bridge.subject
    }

    /// Listens from now on. Of the replicas that do, each message reaches one.
    pub async fn hear(self) -> Result<Hearing, Unusable> {
        let Self { bridge, client, prefix } = self;
        let group = format!("{prefix}-bridge");
        let messages = client.queue_subscribe(bridge.subject.clone(), group).await;
        let messages = messages.map_err(|error| Unusable(error.to_string()))?;
        Ok(Hearing { messages, heard: 0, bridge, prefix })
    }
}

impl Hearing {
    /// The next message as the event that it is to be and its topic, or why it is none; nothing more once it has come to its
    /// end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<(Topic, NewEvent), BridgeIn>> {
        let message = self.messages.next().await?;
        self.heard += 1;
        let topic = route::translate(&self.bridge.subject, self.bridge.topics.as_str(), &message.subject);
        let topic = topic.and_then(|topic| Topic::parse(&topic).ok());
        Some(headers::event(message, &self.prefix).and_then(|event| Ok((topic.ok_or(BridgeIn::Unfit)?, event))))
    }

    /// How many messages have been heard so far.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Comes to its end after so many messages more, and one; from then on they go to other replicas. Nothing is lost if no
    /// more than so many are on their way here now: the servers count them as we do (UNSUB with a maximum). The library's
    /// way of leaving at once forgets us before the servers do, and what they send meanwhile is lost.
    pub async fn stop_after(&mut self, on_the_wire: u64) {
        if let Err(error) = self.messages.unsubscribe_after(self.heard + on_the_wire + 1).await {
            tracing::warn!(%error, "a bridge could not be left in order");
        }
    }

    /// Hears no more, but for what is here already. Meant for where hardly anything is said.
    pub async fn stop(&mut self) {
        if let Err(error) = self.messages.drain().await {
            tracing::warn!(%error, "a bridge could not be left in order");
        }
    }
}

/// The way out.
#[derive(Debug)]
pub(super) struct Outlet {
    queue: mpsc::Sender<Parcel>,
    room: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// A message that waits to be sent.
#[derive(Debug)]
struct Parcel {
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Outlet {
    /// A way out over `client`.
    pub(super) fn open(client: Client, metrics: Arc<Metrics>, tasks: &Tasks) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        drop(tasks.spawn("bridge out", carry(client, waiting, metrics.clone(), tasks.stop().clone())));
        Self { queue, room: Arc::new(Semaphore::new(WAITING_BYTES)), metrics }
    }

    /// Sends a stored event to the subjects of its topic. Does not wait.
    pub(super) fn send(&self, entry: &Entry, event: &NewEvent, cursor: Cursor) {
        for subject in &entry.outward {
            let headers = headers::of(event, &entry.topic, cursor, &entry.engine.config.prefix);
            let size = event.payload.len() + headers::size(&headers);
            let size = u32::try_from(size.min(WAITING_BYTES)).unwrap_or(u32::MAX);
            let sent = self.room.clone().try_acquire_many_owned(size).ok().and_then(|room| {
                let (subject, payload) = (subject.clone(), event.payload.clone());
                self.queue.try_send(Parcel { subject, headers, payload, _room: room }).ok()
            });
            if sent.is_none() {
                self.metrics.bridge_out(BridgeOut::Overflow);
            }
        }
    }
}

/// The subjects that events of a topic go out to. None for topics of the server's own.
pub(super) fn outward(config: &config::Nats, topic: &str) -> Vec<String> {
    let is_of_clients = Topic::parse(topic).is_ok_and(|topic| topic.presence_of().is_none());
    let ways = config.bridges.iter().filter(|bridge| is_of_clients && bridge.direction.is_out());
    ways.filter_map(|bridge| route::translate(bridge.topics.as_str(), &bridge.subject, topic)).collect()
}

/// Sends what waits, in its order.
async fn carry(client: Client, mut waiting: mpsc::Receiver<Parcel>, metrics: Arc<Metrics>, stop: CancellationToken) {
    let send = async |parcel: Parcel| {
        let Parcel { subject, headers, payload, _room } = parcel;
        let outcome = match client.publish_with_headers(subject, headers, payload).await {
            Ok(()) => BridgeOut::Sent,
            Err(error) => {
                tracing::warn!(%error, "an event did not leave by its bridge");
                match error.kind() {
                    PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::InvalidSubject => BridgeOut::Unfit,
                    PublishErrorKind::Send => BridgeOut::Failed,
                }
            }
        };
        metrics.bridge_out(outcome);
    };
    while let Some(Some(parcel)) = stop.run_until_cancelled(waiting.recv()).await {
        // Without a connection, the library holds some and then waits, and what comes meanwhile overflows here.
        if stop.run_until_cancelled(send(parcel)).await.is_none() {
            break;
        }
    }
    waiting.close();
    let rest = async {
        while let Some(parcel) = waiting.recv().await {
            send(parcel).await;
        }
        client.flush().await.ok();
    };
    timeout(LAST_WORDS, rest).await.ok();
}
