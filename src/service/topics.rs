//! `TopicService`: topics for back ends, one call at a time.

mod presence;

use std::sync::Arc;

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{caller, page};
use crate::{
    auth::{Ask, Caller},
    connection::{Shared, class_frame},
    error::{Failure, Reason},
    hub::{Class, Hub},
    log::{Log, Position, Record},
    proto::v1::{self, topic_service_server::TopicService},
    telemetry::{Publishing, Span, Traces, metrics::Metrics},
    types::{Cursor, Invalid, NewEvent, Party, Published, Topic, TransportHandle},
};

/// Most events of one `PublishBatch`.
const MAX_BATCH: usize = 1000;
/// Most encoded bytes of one `ReadHistory` answer; one event always fits.
const MAX_HISTORY_BYTES: usize = 1 << 20;

/// The service.
#[derive(Debug)]
pub(super) struct Topics {
    hub: Arc<Hub>,
    max_payload: usize,
    metrics: Arc<Metrics>,
    traces: Traces,
}

impl Topics {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            hub: shared.hub.clone(),
            max_payload: shared.config.max_payload(),
            metrics: shared.metrics.clone(),
            traces: shared.traces.clone(),
        }
    }

    async fn publish(&self, topic: &Topic, event: v1::NewEvent, call: &Origin) -> Result<v1::PublishResponse, Failure> {
        let size = event.payload.len();
        let published = if size > self.max_payload {
            let message = format!("the payload is {size} bytes, the limit {}", self.max_payload);
            Err(Failure::new(Reason::TooLarge, message).with("limit", self.max_payload))
        } else if event.session_scoped {
            let failure = Failure::new(Reason::InvalidField, "only a session can have keys that die with it");
            Err(failure.with("field", "event.session_scoped"))
        } else {
            // A name that nobody vouches for is no publisher's.
            let publisher = call.caller.identity().client().filter(|_| call.caller.identity().is_vouched_for());
            let event = event.into_event(publisher.cloned());
            match event.check() {
                Ok(()) => self.store(topic, event, call).await,
                Err(invalid) => Err(invalid.into()),
            }
        };
        let Published { cursor, duplicate, durability } =
            published.inspect_err(|failure| self.metrics.publish_failed(failure.reason))?;
        let durability = v1::Durability::from(durability) as i32;
        Ok(v1::PublishResponse { cursor: Some(cursor.into()), duplicate, durability })
    }

    async fn store(&self, topic: &Topic, mut event: NewEvent, from: &Origin) -> Result<Published, Failure> {
        from.caller.check(Ask::Publish(topic))?;
        self.hub.meter(from.party, event.payload.len())?;
        let call = from.span.context();
        let publishing = Publishing { topic: topic.as_str(), session: None, call: call.as_ref() };
        let span = self.traces.publish(publishing, &mut event);
        let published = span.around(self.hub.publish(topic, event, from.party)).await;
        span.published(published.as_ref());
        published
    }

    /// One after the other: an event is not to be stored if the one before it was not.
    async fn publish_all(
        &self,
        request: v1::PublishBatchRequest,
        call: &Origin,
    ) -> Result<v1::PublishBatchResponse, Failure> {
        let topic = Topic::parse(&request.topic)?;
        if !(1..=MAX_BATCH).contains(&request.events.len()) {
            let problem = format!("has {} events; 1 to {MAX_BATCH} are allowed", request.events.len());
            return Err(Invalid::new("events", problem).into());
        }
        let mut answer = v1::PublishBatchResponse::default();
        for event in request.events {
            match self.publish(&topic, event, call).await {
                Ok(stored) => answer.stored.push(stored),
                Err(failure) => {
                    answer.failure = Some(failure.into());
                    break;
                }
            }
        }
        Ok(answer)
    }

    async fn history(
        &self,
        request: &v1::ReadHistoryRequest,
        from: &Origin,
    ) -> Result<v1::ReadHistoryResponse, Failure> {
        let topic = Topic::parse(&request.topic)?;
        from.caller.check(Ask::History(&topic))?;
        let Some(line) = self.hub.history(&topic, from.party).await? else {
            // Nothing was published yet: no events, no epoch, and the client's place, if it has one, is gone.
            return Ok(v1::ReadHistoryResponse { gap: request.after.is_some(), ..v1::ReadHistoryResponse::default() });
        };
        if let Some(after) = request.after {
            line.reaches(after.into()).await?;
        }
        let log = line.log().read();
        let (from, gap) = history_start(&log, request);
        let (mut events, mut bytes, mut next) = (Vec::new(), 0, from);
        for record in log.after(from.offset).take(page::size(request.limit)) {
            bytes += record.encoded.len();
            if bytes > MAX_HISTORY_BYTES && !events.is_empty() {
                break;
            }
            events.push(stored(record)?);
            next = Cursor { offset: record.offset, time: record.time, ..from };
        }
        if log.after(next.offset).next().is_none() {
            // Where offsets are sparse, a topic may end behind its last event: before it had any, say.
            next = log.head();
        }
        Ok(v1::ReadHistoryResponse { events, next: Some(next.into()), head: Some(log.head().into()), gap })
    }
}

/// Whom a request comes from, and in which call.
struct Origin {
    caller: Caller,
    party: Party,
    span: Span,
}

impl Origin {
    fn of<T>(request: &Request<T>) -> Result<Self, Failure> {
        let caller = caller::of(request)?;
        let missing = || Failure::new(Reason::Internal, "the call came without its transport");
        let party = caller.party(request.extensions().get::<TransportHandle>().ok_or_else(missing)?);
        Ok(Self { caller, party, span: request.extensions().get::<Span>().cloned().unwrap_or_default() })
    }
}

/// The event that a record holds: the record is an element of `Delivery.events`, so a delivery reads it back.
fn stored(record: &Record) -> Result<v1::Event, Failure> {
    let broken = || Failure::new(Reason::Internal, "a stored event could not be read");
    let delivery = v1::Delivery::decode(record.encoded.clone()).ok();
    delivery.and_then(|mut delivery| delivery.events.pop()).ok_or_else(broken)
}

/// Where to read from, and whether something before that is gone.
fn history_start(log: &Log, request: &v1::ReadHistoryRequest) -> (Cursor, bool) {
    match request.after {
        _ if request.last > 0 => (log.before_last(u64::from(request.last)), false),
        None => (log.floor(), false),
        Some(after) => match log.position(after.into()) {
            Position::Kept => (log.at(after.offset), false),
            Position::Trimmed | Position::OtherEpoch | Position::Diverged => (log.floor(), true),
        },
    }
}

fn topic_row((topic, line, class, readers): (Topic, crate::broker::Line, Class, usize)) -> v1::Topic {
    let log = line.log().read();
    let (event_count, byte_count) = log.size();
    v1::Topic {
        name: topic.to_string(),
        class: class_frame(class) as i32,
        head: Some(log.head().into()),
        first_offset: log.after(0).next().map_or(0, |record| record.offset),
        event_count,
        byte_count,
        reader_count: u32::try_from(readers).unwrap_or(u32::MAX),
    }
}

#[tonic::async_trait]
impl TopicService for Topics {
    async fn publish(&self, request: Request<v1::PublishRequest>) -> Result<Response<v1::PublishResponse>, Status> {
        let (call, request) = (Origin::of(&request)?, request.into_inner());
        let topic = Topic::parse(&request.topic).map_err(Failure::from)?;
        Ok(Response::new(self.publish(&topic, request.event.unwrap_or_default(), &call).await?))
    }

    async fn publish_batch(
        &self,
        request: Request<v1::PublishBatchRequest>,
    ) -> Result<Response<v1::PublishBatchResponse>, Status> {
        let call = Origin::of(&request)?;
        Ok(Response::new(self.publish_all(request.into_inner(), &call).await?))
    }

    async fn read_history(
        &self,
        request: Request<v1::ReadHistoryRequest>,
    ) -> Result<Response<v1::ReadHistoryResponse>, Status> {
        let from = Origin::of(&request)?;
        Ok(Response::new(self.history(request.get_ref(), &from).await?))
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let caller = caller::of(&request)?;
        let request = request.into_inner();
        let size = page::size(request.page_size);
        let may_see = |topic: &Topic| caller.may(Ask::Read(topic)) || caller.may(Ask::History(topic));
        let (mut topics, mut after) = (Vec::new(), request.page_token);
        // What the caller may not see is not there: no page is shorter for it, and none ends with its name.
        while topics.len() <= size {
            let listed = self.hub.list(&request.prefix, &after, size + 1);
            let more = listed.len() > size;
            let Some((last, ..)) = listed.last() else { break };
            after = last.to_string();
            topics.extend(listed.into_iter().filter(|(topic, ..)| may_see(topic)).map(topic_row));
            if !more {
                break;
            }
            // Whoever may see little has us look at much.
            tokio::task::yield_now().await;
        }
        topics.truncate(size + 1);
        let next_page_token = page::cut(&mut topics, size, |topic| topic.name.clone());
        Ok(Response::new(v1::ListTopicsResponse { topics, next_page_token }))
    }

    async fn get_presence(
        &self,
        request: Request<v1::GetPresenceRequest>,
    ) -> Result<Response<v1::GetPresenceResponse>, Status> {
        let Origin { caller, party, .. } = Origin::of(&request)?;
        caller.check(Ask::Presence(&Topic::parse(&request.get_ref().topic).map_err(Failure::from)?))?;
        Ok(Response::new(presence::members(&self.hub, request.get_ref(), party).await?))
    }
}
