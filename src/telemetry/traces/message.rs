//! Spans of messages: a publish, and the first deliveries of its event.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    KeyValue,
    trace::{Link, SpanBuilder, SpanContext, SpanId, SpanKind, TraceFlags, TraceId, TraceState},
};

use super::{Kind, Span, Traces};
use crate::{
    error::Failure,
    telemetry::propagate,
    types::{NewEvent, PublishTrace, Published, Timestamp},
};

const SYSTEM: (&str, &str) = ("messaging.system", "bowline");
const OPERATION: &str = "messaging.operation.name";
const OPERATION_TYPE: &str = "messaging.operation.type";
const TOPIC: &str = "messaging.destination.name";
const CLIENT: &str = "messaging.client.id";
const MESSAGE: &str = "messaging.message.id";
const SIZE: &str = "messaging.message.body.size";
const SESSION: &str = "bowline.session.id";

/// How old an event may be for its sending to be the delivery of a publish, and not a reading of history.
const LIVE: Duration = Duration::from_secs(60);

/// Who publishes, and where.
#[derive(Debug, Clone, Copy)]
pub struct Publishing<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The client and its session; nothing for a back end.
    pub session: Option<(&'a str, &'a str)>,
    /// The span of the call that the publish is all of.
    pub call: Option<&'a SpanContext>,
}

/// Who is sent an event, and which.
#[derive(Debug, Clone, Copy)]
pub struct Delivering<'a> {
    /// The span of its publish.
    pub publish: &'a PublishTrace,
    /// The topic.
    pub topic: &'a str,
    /// The client and its session.
    pub session: (&'a str, &'a str),
    /// Its place in the topic.
    pub epoch: u64,
    /// Its place in the epoch.
    pub offset: u64,
    /// When it was stored.
    pub stored: Timestamp,
}

impl Traces {
    /// The span of a publish, a child of the context in the event or else of its call. The event is told, so that its
    /// deliveries can link to it; and where the publisher gave no context, its readers are, in its place.
    pub fn publish(&self, publishing: Publishing<'_>, event: &mut NewEvent) -> Span {
        let Some(live) = &self.0 else { return Span::default() };
        let own = live.propagate.then(|| propagate::parse(&event.traceparent, &event.tracestate)).flatten();
        let parent = own.or_else(|| publishing.call.cloned());
        let span = live.span(Kind::Message, parent, || {
            let mut attributes = vec![
                KeyValue::new(SYSTEM.0, SYSTEM.1),
                KeyValue::new(OPERATION, "publish"),
                KeyValue::new(OPERATION_TYPE, "send"),
                KeyValue::new(TOPIC, publishing.topic.to_owned()),
                KeyValue::new(SIZE, i64::try_from(event.payload.len()).unwrap_or(i64::MAX)),
            ];
            if let Some((client, session)) = publishing.session {
                attributes.push(KeyValue::new(CLIENT, client.to_owned()));
                attributes.push(KeyValue::new(SESSION, session.to_owned()));
            }
            SpanBuilder::from_name("publish").with_kind(SpanKind::Producer).with_attributes(attributes)
        });
        if let Some(context) = span.context() {
            let (trace_id, span_id) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
            let ids = (u128::from_be_bytes(trace_id), u64::from_be_bytes(span_id));
            event.trace = Some(Arc::new(PublishTrace::new(ids.0, ids.1)));
            if event.traceparent.is_empty() && live.propagate {
                event.traceparent = propagate::traceparent(&context);
            }
        }
        span
    }

    /// Records that an event was handed to HTTP/2 for one of its readers, in a trace of its own that links to the
    /// publish: a publish has many deliveries, and they may come late. Nothing once enough of them are traced.
    pub fn delivered(&self, delivering: Delivering<'_>) -> Option<SpanContext> {
        let Delivering { publish, topic, session: (client, session), epoch, offset, stored } = delivering;
        let live = self.0.as_ref()?;
        let is_live = Timestamp::now() < stored.plus(LIVE);
        if !is_live || !publish.take_delivery() {
            return None;
        }
        let attributes = vec![
            KeyValue::new(SYSTEM.0, SYSTEM.1),
            KeyValue::new(OPERATION, "deliver"),
            KeyValue::new(OPERATION_TYPE, "process"),
            KeyValue::new(TOPIC, topic.to_owned()),
            KeyValue::new(MESSAGE, message_id(epoch, offset)),
            KeyValue::new(CLIENT, client.to_owned()),
            KeyValue::new(SESSION, session.to_owned()),
        ];
        let (trace, span) = (TraceId::from(publish.trace_id), SpanId::from(publish.span_id));
        let context = SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE);
        let builder = SpanBuilder::from_name("deliver")
            .with_kind(SpanKind::Consumer)
            .with_start_time(system_time(stored))
            .with_attributes(attributes)
            .with_links(vec![Link::with_context(context)]);
        live.start(None, builder).context()
    }
}

impl Span {
    /// How the publish that it is of came out.
    pub fn published(&self, outcome: Result<&Published, &Failure>) {
        // Most are of no span, and their ids are not put into words.
        if !self.is_traced() {
            return;
        }
        match outcome {
            Ok(Published { cursor, duplicate, .. }) => {
                self.set(MESSAGE, message_id(cursor.epoch, cursor.offset));
                if *duplicate {
                    self.set("bowline.duplicate", true);
                }
            }
            Err(failure) => self.failed(failure.reason.as_str(), failure.reason.code()),
        }
    }
}

/// A cursor as people write it.
fn message_id(epoch: u64, offset: u64) -> String {
    format!("{epoch:016x}:{offset}")
}

fn system_time(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(time.0)
}
