//! Those who call one method at a time: a back end that publishes, an operator who disconnects, and the last look.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout};

use tonic::transport::Channel;

use super::world::{Kind, World, kind};
use crate::checker::history::{Op, Outcome};
use crate::proto::v1::{
    self, connection_service_client::ConnectionServiceClient, disconnect_request::Target,
    topic_service_client::TopicServiceClient,
};
use crate::witness;

/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(2);

/// A back end: publishes under ids of its own, again and again until it is told that the event is stored.
pub(super) async fn publish(world: World, mut rng: Rng) {
    let writer = world.history.writer("back-end");
    let (mut number, mut channel) = (0, None);
    while Instant::now() < world.publish_until {
        sleep(Duration::from_millis(rng.u64(50..1500))).await;
        number += 1;
        let topic = world.log(&mut rng);
        let id: Arc<str> = format!("back-end/{number}").into();
        let payload = world.payload(&id, &mut rng);
        for attempt in 0..4 {
            let op = Op::Publish { session: "".into(), topic: topic.clone(), id: id.clone(), request: attempt };
            writer.record(op);
            let outcome = timeout(LIMIT, publish_once(&world, &mut channel, &topic, &id, &payload)).await;
            let outcome = outcome.unwrap_or(Outcome::Unknown);
            if matches!(outcome, Outcome::Unknown) {
                channel = None;
            }
            let again = matches!(outcome, Outcome::Unknown) || rng.u8(..8) == 0;
            let op = Op::Answered { session: "".into(), topic: topic.clone(), id: id.clone(), outcome };
            writer.record(op);
            if !again {
                break;
            }
        }
    }
}

async fn publish_once(world: &World, channel: &mut Option<Channel>, topic: &str, id: &str, payload: &str) -> Outcome {
    if channel.is_none() {
        *channel = world.network.channel("back-end", LIMIT).await.ok();
    }
    let Some(channel) = channel.clone() else { return Outcome::Unknown };
    let event =
        v1::NewEvent { payload: payload.to_owned().into(), dedupe_id: id.to_owned(), ..v1::NewEvent::default() };
    let request = v1::PublishRequest { topic: topic.to_owned(), event: Some(event) };
    match TopicServiceClient::new(channel).publish(request).await {
        Ok(response) => {
            let v1::PublishResponse { cursor, duplicate, .. } = response.into_inner();
            let cursor = cursor.unwrap_or_default();
            Outcome::Stored { place: (cursor.epoch, cursor.offset), duplicate }
        }
        Err(_) => Outcome::Unknown,
    }
}

/// Ends the connections of a client; how many there were.
pub(super) async fn disconnect(world: &World, client: &str) -> usize {
    let call = async {
        let channel = world.network.channel("operator", LIMIT).await.ok()?;
        let request = v1::DisconnectRequest { target: Some(Target::ClientId(client.to_owned())) };
        let response = ConnectionServiceClient::new(channel).disconnect(request).await.ok()?;
        usize::try_from(response.into_inner().disconnected_count).ok()
    };
    timeout(LIMIT, call).await.ok().flatten().unwrap_or_default()
}

/// What the logs hold when all is over.
pub(super) async fn look(world: &World) {
    let writer = world.history.writer("operator");
    let mut service =
        TopicServiceClient::new(world.network.channel("operator", LIMIT).await.expect("the network is whole again"));
    let presence = world.topics().iter().map(|topic| format!("~presence.{topic}").into());
    for topic in world.topics().iter().cloned().chain(presence).filter(|topic| kind(topic) != Kind::Signal) {
        let (mut events, mut after) = (Vec::new(), None);
        let head = loop {
            let request = v1::ReadHistoryRequest { topic: topic.to_string(), after, last: 0, limit: 1000 };
            let page = service.read_history(request).await.expect("the server answers").into_inner();
            events.extend(page.events.iter().map(witness::event));
            let head = page.head.unwrap_or_default();
            if page.next == page.head {
                break head;
            }
            after = page.next;
        };
        writer.record(Op::Head { topic: topic.clone(), head: (head.epoch, head.offset) });
        writer.record(Op::Stored { topic: topic.clone(), epoch: head.epoch, events });
    }
}
