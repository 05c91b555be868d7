//! An event on its way: what goes out as a message, and what a message that comes in says.
//!
//! The content is the event as clients receive it, without its place ([`proto::encode_content`]): on the way in nothing
//! is decoded, the place is put before it. Beside it, in headers:
//!
//! | header | from | what it says |
//! |---|---|---|
//! | `Nats-Msg-Id` | us | how a repeat is recognised; see [`MessageId`] |
//! | `Nats-Expected-Last-Subject-Sequence` | us | `if_last`, or the place of the session's claim |
//! | `Nats-Expected-Last-Subject-Sequence-Subject` | us | where that claim is; see [`super::fences`] |
//! | `Bowline-Origin` | us | `NUMBER SCOPED CLIENT SESSION`; see [`Origin`]. `SCOPED` is `1` if it is |
//! | `Nats-Sequence`, `Nats-Time-Stamp` | the server | its place |
//! | `Nats-Last-Sequence` | the server, live | the place of the topic's record before it, 0 if none is kept |

use async_nats::{HeaderMap, Message};

use super::{
    api::{header, number},
    names::MessageId,
};
use crate::{
    log::{Arrival, Origin},
    types::{ClientId, NewEvent, Operation, Producer, SessionId, Timestamp},
};

const ORIGIN: &str = "Bowline-Origin";

/// The headers that an event is published with.
pub(super) fn headers(event: &NewEvent, id: &MessageId) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id.as_str());
    if let Some(origin) = origin_of(event) {
        set_origin(&mut headers, &origin);
    }
    headers
}

/// Says which session it is of.
pub(super) fn set_origin(headers: &mut HeaderMap, origin: &Origin) {
    headers.insert(ORIGIN, write_origin(origin));
}

/// It is to be stored only if the newest record of `subject` is the one at `place`; 0: if there is none.
pub(super) fn set_fence(headers: &mut HeaderMap, subject: String, place: u64) {
    headers.insert("Nats-Expected-Last-Subject-Sequence", place.to_string());
    headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", subject);
}

fn origin_of(event: &NewEvent) -> Option<Origin> {
    let numbered = event.dedupe.seq.as_ref();
    let producer = numbered.map(|seq| &seq.producer).or(event.scope.as_ref())?.clone();
    let scoped = event.scope.is_some() && event.operation == Operation::Put;
    Some(Origin { producer, number: numbered.map_or(0, |seq| seq.number), scoped })
}

fn write_origin(origin: &Origin) -> String {
    let Origin { producer, number, scoped } = origin;
    format!("{number} {} {} {}", u8::from(*scoped), producer.client_id(), producer.session_id())
}

fn read_origin(text: &str) -> Option<Origin> {
    let mut parts = text.splitn(4, ' ');
    let (number, scoped) = (parts.next()?.parse().ok()?, parts.next()? == "1");
    let (client, session) = (ClientId::parse(parts.next()?).ok()?, SessionId::parse(parts.next()?).ok()?);
    Some(Origin { producer: Producer::new(client, session), number, scoped })
}

/// A record that was fetched, or that has just been kept. `None` if it says no place.
pub(super) fn arrival(message: &Message) -> Option<Arrival> {
    let time: jiff::Timestamp = header(message, "Nats-Time-Stamp")?.parse().ok()?;
    Some(Arrival {
        offset: number(message, "Nats-Sequence")?,
        time: Timestamp(u64::try_from(time.as_microsecond()).ok()?),
        content: message.payload.clone(),
        id: header(message, "Nats-Msg-Id").and_then(MessageId::read).map(str::to_owned),
        origin: header(message, ORIGIN).and_then(read_origin),
    })
}

/// The place of the record before one that has just been kept.
pub(super) fn previous(message: &Message) -> Option<u64> {
    number(message, "Nats-Last-Sequence")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Dedupe, Seq};

    #[test]
    fn what_goes_out_is_what_comes_back() {
        let producer = Producer::new(ClientId::parse("me@home:1").unwrap(), SessionId::parse("~s/1").unwrap());
        let seq = Some(Seq { producer: producer.clone(), number: 7, through: 6 });
        let event = NewEvent {
            dedupe: Dedupe { id: Some("x".into()), seq },
            scope: Some(producer.clone()),
            payload: "hello".into(),
            ..NewEvent::default()
        };
        let mut headers = headers(&event, &MessageId::of("t", &event));
        headers.insert("Nats-Sequence", "42");
        headers.insert("Nats-Time-Stamp", "2026-01-02T03:04:05.123456789Z");
        headers.insert("Nats-Last-Sequence", "17");
        let message = Message {
            subject: "bowline.out.00.t".into(),
            reply: None,
            payload: "content".into(),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        };
        let arrived = arrival(&message).unwrap();
        assert_eq!(
            (arrived.offset, arrived.time, previous(&message)),
            (42, Timestamp(1_767_323_045_123_456), Some(17))
        );
        let origin = arrived.origin.unwrap();
        assert_eq!((origin.producer, origin.number, origin.scoped), (producer, 7, true));
        assert!(arrived.id.is_some() && arrived.content == "content");
    }

    #[test]
    fn an_origin_that_is_none_is_not_believed() {
        for bad in ["", "1", "1 0 a", "x 0 a b", "1 0 a b c", "1 0  b"] {
            assert!(read_origin(bad).is_none(), "{bad:?}");
        }
    }
}
