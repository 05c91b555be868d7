//! The way in of bridges: what is heard on subjects of NATS core is published to topics, by whichever replica heard it.
//!
//! Messages of one topic are stored in the order in which this replica heard them, one after the other, and those of
//! different topics side by side. Several replicas hear what one back end says, so their order among each other is not
//! kept. What cannot be stored is dropped and counted: who sent it does not wait for an answer, and core NATS keeps nothing.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    broker::nats::{Hearing, Inlet},
    error::{Failure, Reason},
    hub::Hub,
    lifecycle::{Lifecycle, Phase},
    telemetry::metrics::{Metrics, words::BridgeIn},
    types::{NewEvent, Party, Published, Topic},
};

/// Messages of one bridge that may wait to be stored, those under way included; what comes on top is dropped.
const WAITING: usize = 4096;
/// Bytes of their payloads.
const WAITING_BYTES: usize = 16 << 20;

/// Longer than a message is on the wire. How many come in that time is taken for how many may be under way to us when the
/// servers learn that we leave.
const ON_THE_WIRE: Duration = Duration::from_millis(200);

/// The ways in, while they are open.
#[derive(Debug)]
pub struct Bridges(Vec<JoinHandle<()>>);

impl Bridges {
    /// Waits until each has ended, which it does by itself once clients are told to leave and what it has heard is stored.
    pub async fn ended(self) {
        join_all(self.0).await;
    }
}

/// Opens every bridge that leads in. Each hears until clients are told to leave, then ends with what it has heard.
pub fn open(hub: &Arc<Hub>, max_payload: usize, lifecycle: &Lifecycle, metrics: &Arc<Metrics>) -> Bridges {
    let inlets = hub.inlets().into_iter().map(|inlet| {
        let party = Party::bridge(inlet.subject());
        let intake = Intake {
            hub: hub.clone(),
            metrics: metrics.clone(),
            party,
            max_payload,
            topics: HashMap::new(),
            under_way: FuturesUnordered::new(),
            waiting: (0, 0),
        };
        lifecycle.tasks().spawn("bridge in", intake.run(inlet, lifecycle.clone()))
    });
    Bridges(inlets.collect())
}

/// A publish that is over: its topic, the size of its payload, and what came of it.
type Over = (Topic, usize, Result<Published, Failure>);

/// One bridge.
struct Intake {
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    /// On whose account topics come to be.
    party: Party,
    max_payload: usize,
    /// Topics with a publish under way, and what waits behind it.
    topics: HashMap<Topic, VecDeque<NewEvent>>,
    under_way: FuturesUnordered<BoxFuture<'static, Over>>,
    /// How many messages wait or are under way, and their bytes.
    waiting: (usize, usize),
}

impl Intake {
    async fn run(mut self, inlet: Inlet, lifecycle: Lifecycle) {
        let subject = inlet.subject().to_owned();
        let mut hearing = match inlet.hear().await {
            Ok(hearing) => hearing,
            Err(error) => return tracing::error!(subject, %error, "a bridge cannot listen"),
        };
        tracing::info!(subject, "a bridge listens");
        let stop = lifecycle.tasks().stop().clone();
        if stop.run_until_cancelled(self.serve(&mut hearing, &lifecycle)).await.is_none() && self.waiting.0 > 0 {
            tracing::warn!(subject, messages = self.waiting.0, "a bridge ends before what it has heard is stored");
        }
    }

    async fn serve(&mut self, hearing: &mut Hearing, lifecycle: &Lifecycle) {
        let mut phase = lifecycle.watch();
        let leaving = async move { drop(phase.wait_for(|phase| *phase >= Phase::Draining).await) };
        self.store(hearing, leaving).await;
        let before = hearing.heard();
        self.store(hearing, sleep(ON_THE_WIRE)).await;
        hearing.stop_after(hearing.heard() - before).await;
        self.store(hearing, sleep(2 * ON_THE_WIRE)).await;
        hearing.stop().await;
        self.store(hearing, std::future::pending()).await;
        while let Some(over) = self.under_way.next().await {
            self.stored(over);
        }
    }

    /// Stores what is heard until that comes to its end, or `until` does.
    async fn store(&mut self, hearing: &mut Hearing, until: impl Future<Output = ()>) {
        let mut until = pin!(until);
        loop {
            tokio::select! {
                biased;
                Some(over) = self.under_way.next() => self.stored(over),
                () = &mut until => return,
                heard = hearing.next() => match heard {
                    Some(Ok((topic, event))) => self.take(topic, event),
                    Some(Err(outcome)) => self.metrics.bridge_in(outcome),
                    None => return,
                },
            }
        }
    }

    fn take(&mut self, topic: Topic, event: NewEvent) {
        let size = event.payload.len();
        if size > self.max_payload {
            return self.metrics.bridge_in(BridgeIn::Unfit);
        }
        // One that is larger than all that may wait may be alone.
        let (messages, bytes) = self.waiting;
        if messages >= WAITING || (bytes > 0 && bytes + size > WAITING_BYTES) {
            return self.metrics.bridge_in(BridgeIn::Overflow);
        }
        self.waiting = (messages + 1, bytes + size);
        match self.topics.get_mut(&topic) {
            Some(behind) => behind.push_back(event),
            None => {
                self.topics.insert(topic.clone(), VecDeque::new());
                self.publish(topic, event);
            }
        }
    }

    fn publish(&self, topic: Topic, event: NewEvent) {
        let (hub, party, size) = (self.hub.clone(), self.party, event.payload.len());
        let publish = async move {
            let published = hub.publish(&topic, event, party).await;
            (topic, size, published)
        };
        self.under_way.push(publish.boxed());
    }

    fn stored(&mut self, (topic, size, published): Over) {
        self.waiting = (self.waiting.0 - 1, self.waiting.1 - size);
        self.metrics.bridge_in(match &published {
            Ok(published) if published.duplicate => BridgeIn::Repeat,
            Ok(_) => BridgeIn::Stored,
            Err(failure) => {
                self.metrics.publish_failed(failure.reason);
                tracing::debug!(%topic, %failure, "a message of a bridge was not stored");
                match failure.reason {
                    Reason::Broker | Reason::UnknownOutcome => BridgeIn::Failed,
                    _ => BridgeIn::Refused,
                }
            }
        });
        match self.topics.get_mut(&topic).and_then(VecDeque::pop_front) {
            Some(next) => self.publish(topic, next),
            None => drop(self.topics.remove(&topic)),
        }
    }
}
