//! Encoding that shares: an event is encoded once, when it is stored, in the form every delivery embeds it.
//!
//! A `Delivery` on the wire is a gRPC prefix, a few bytes that differ by receiver ([`DeliveryHead`]), then the events
//! exactly as [`encode_event`] made them. Protobuf allows that because an embedded message is its bytes.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, decode_key, decode_varint, encoded_len_varint, hash_map, string},
};

use super::{brief::Brief, v1};
use crate::types::{ClientId, NewEvent, Operation, Timestamp};

/// Field number of `StreamDataResponse.delivery`.
const RESPONSE_DELIVERY: u8 = 3;
/// Field numbers of `Delivery`.
const DELIVERY_SESSION: u8 = 1;
const DELIVERY_PREV: u8 = 2;
const DELIVERY_SKIPPED: u8 = 3;
const DELIVERY_SNAPSHOT: u8 = 4;
const DELIVERY_EVENTS: u8 = 5;

/// Field numbers of `Event`.
const EVENT_OFFSET: u8 = 1;
const EVENT_TIME: u8 = 2;
const EVENT_KEY: u8 = 3;
const EVENT_OPERATION: u8 = 4;
const EVENT_PAYLOAD: u8 = 5;
const EVENT_PUBLISHER: u8 = 6;
const EVENT_HEADERS: u8 = 7;
const EVENT_TRACEPARENT: u8 = 8;
const EVENT_TRACESTATE: u8 = 9;

/// Most bytes of an event's offset and time, with their keys.
const PLACE_LEN: usize = 22;
/// Most bytes that come before a text or a message.
const MAX_LENGTH: usize = 11;

/// Length of the gRPC message prefix: a flag and a big-endian length.
pub(super) const PREFIX_LEN: usize = 5;

/// Encodes a stored event as one element of `Delivery.events`, tag and length included. By hand, field by field: the
/// generated message would have to own what is only borrowed here.
pub fn encode_event(event: &NewEvent, offset: u64, time: Timestamp) -> Bytes {
    let mut out = element(content_len(event), offset, time);
    put_content(&mut out, event);
    out.freeze()
}

/// The head of an element, up to the event's content.
fn element(content_len: usize, offset: u64, time: Timestamp) -> BytesMut {
    let mut place = Brief::<PLACE_LEN>::new();
    place.number(EVENT_OFFSET, offset);
    place.number(EVENT_TIME, time.0);
    let len = content_len + place.as_slice().len();
    let mut head = Brief::<{ MAX_LENGTH + PLACE_LEN }>::new();
    head.length(DELIVERY_EVENTS, len);
    let mut out = BytesMut::with_capacity(head.as_slice().len() + len);
    out.put_slice(head.as_slice());
    out.put_slice(place.as_slice());
    out
}

/// Encodes an event whose place is not known yet: an `Event` without the two fields that say it. That is the form in
/// which a broker elsewhere keeps it: coming back, it becomes what [`encode_event`] makes by what is put before it.
pub fn encode_content(event: &NewEvent) -> Bytes {
    let mut out = BytesMut::with_capacity(content_len(event));
    put_content(&mut out, event);
    out.freeze()
}

fn put_content(out: &mut BytesMut, event: &NewEvent) {
    let publisher = event.publisher.as_ref().map_or("", ClientId::as_str).as_bytes();
    put_text(out, EVENT_KEY, &event.key);
    let mut kind = Brief::<2>::new();
    kind.number(EVENT_OPERATION, operation(event) as u64);
    out.put_slice(kind.as_slice());
    put_text(out, EVENT_PAYLOAD, &event.payload);
    put_text(out, EVENT_PUBLISHER, publisher);
    let (key, value) = (string::encode, string::encode);
    hash_map::encode(key, string::encoded_len, value, string::encoded_len, EVENT_HEADERS.into(), &event.headers, out);
    put_text(out, EVENT_TRACEPARENT, event.traceparent.as_bytes());
    put_text(out, EVENT_TRACESTATE, event.tracestate.as_bytes());
}

/// An event that has been given its place, and what a log has to know of it.
#[derive(Debug, Clone)]
pub struct Placed {
    /// As [`encode_event`] makes it.
    pub encoded: Bytes,
    /// Its key, a piece of what it was made from.
    pub key: Bytes,
    /// What it does to the key.
    pub operation: Operation,
    /// Length of its payload, bytes.
    pub payload_len: usize,
}

/// Gives its place to what [`encode_content`] made. `None` if it is anything else: what is passed on to clients must be
/// an event, and must not say by itself where it lies.
pub fn place_event(content: &Bytes, offset: u64, time: Timestamp) -> Option<Placed> {
    let (mut key, mut operation, mut payload_len) = (Bytes::new(), Operation::Put, 0);
    let mut rest = &content[..];
    while !rest.is_empty() {
        let (field, wire_type) = decode_key(&mut rest).ok()?;
        // None of ours is that large.
        let field = u8::try_from(field).unwrap_or(u8::MAX);
        match wire_type {
            WireType::Varint => {
                let number = decode_varint(&mut rest).ok()?;
                if field == EVENT_OPERATION && number == v1::Operation::Delete as u64 {
                    operation = Operation::Delete;
                }
            }
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                let (value, after) = rest.split_at_checked(len)?;
                rest = after;
                match field {
                    EVENT_KEY => key = content.slice_ref(value),
                    EVENT_PAYLOAD => payload_len = len,
                    _ => {}
                }
            }
            _ => return None,
        }
        if matches!(field, EVENT_OFFSET | EVENT_TIME) {
            return None;
        }
    }
    let mut out = element(content.len(), offset, time);
    out.put_slice(content);
    Some(Placed { encoded: out.freeze(), key, operation, payload_len })
}

/// About what [`encode_event`] will make of an event: no less.
pub fn encoded_event_len(event: &NewEvent) -> usize {
    const PLACE: usize = 40;
    content_len(event) + PLACE
}

/// Length of what does not depend on the event's place.
fn content_len(event: &NewEvent) -> usize {
    let publisher = event.publisher.as_ref().map_or("", ClientId::as_str).as_bytes();
    text_len(&event.key)
        + number_len(operation(event) as u64)
        + text_len(&event.payload)
        + text_len(publisher)
        + hash_map::encoded_len(string::encoded_len, string::encoded_len, EVENT_HEADERS.into(), &event.headers)
        + text_len(event.traceparent.as_bytes())
        + text_len(event.tracestate.as_bytes())
}

fn operation(event: &NewEvent) -> v1::Operation {
    match event.operation {
        Operation::Put => v1::Operation::Put,
        Operation::Delete => v1::Operation::Delete,
    }
}

/// Length of a number and its key.
fn number_len(number: u64) -> usize {
    1 + encoded_len_varint(number)
}

/// An empty text is what a missing one reads as, so it is not written.
fn text_len(text: &[u8]) -> usize {
    if text.is_empty() { 0 } else { number_len(text.len() as u64) + text.len() }
}

fn put_text(out: &mut BytesMut, field: u8, text: &[u8]) {
    if !text.is_empty() {
        let mut head = Brief::<MAX_LENGTH>::new();
        head.length(field, text.len());
        out.put_slice(head.as_slice());
        out.put_slice(text);
    }
}

/// What a framed `Delivery` says before its events.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeliveryHead {
    /// The session's alias.
    pub session: u32,
    /// The offset before the first event.
    pub prev: u64,
    /// Events left out by a conflating policy.
    pub skipped: u64,
    /// Part of a snapshot.
    pub snapshot: bool,
}

impl DeliveryHead {
    /// Most bytes of its fields: four keys, and numbers of 5, 10, 10 and 1.
    const MAX_LEN: usize = 30;

    /// Writes all of a framed `Delivery` that comes before its events, whose encoded length is `events_len`, and makes room
    /// for `room` bytes of them.
    pub fn put(&self, out: &mut BytesMut, events_len: usize, room: usize) {
        let mut fields = Brief::<{ Self::MAX_LEN }>::new();
        fields.number(DELIVERY_SESSION, u64::from(self.session));
        fields.number(DELIVERY_PREV, self.prev);
        fields.number(DELIVERY_SKIPPED, self.skipped);
        fields.number(DELIVERY_SNAPSHOT, u64::from(self.snapshot));
        let mut head = Brief::<MAX_LENGTH>::new();
        head.length(RESPONSE_DELIVERY, fields.as_slice().len() + events_len);
        let len = head.as_slice().len() + fields.as_slice().len();
        out.reserve(PREFIX_LEN + len + room);
        put_prefix(out, len + events_len);
        out.put_slice(head.as_slice());
        out.put_slice(fields.as_slice());
    }
}

/// Appends any other frame, with its gRPC prefix.
pub fn frame(out: &mut BytesMut, frame: v1::stream_data_response::Frame) {
    let message = v1::StreamDataResponse { frame: Some(frame) };
    let len = message.encoded_len();
    out.reserve(PREFIX_LEN + len);
    put_prefix(out, len);
    message.encode_raw(out);
}

pub(super) fn put_prefix(out: &mut BytesMut, len: usize) {
    out.put_u8(0); // Not compressed.
    // A message is bounded by the limits on payloads and runs, far below 4 GiB.
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::stream_data_response::Frame;

    fn event(payload: &'static [u8]) -> NewEvent {
        NewEvent {
            key: "k".into(),
            payload: payload.into(),
            publisher: ClientId::parse("alice").ok(),
            ..NewEvent::default()
        }
    }

    #[test]
    fn an_event_is_the_message_prost_would_have_written() {
        let headers = [("a", "1"), ("empty", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
        let (operation, tracestate) = (Operation::Delete, "vendor=a".to_owned());
        let full = NewEvent { operation, headers: headers.into(), traceparent, tracestate, ..event(b"payload") };
        for (event, offset) in [(full, 1 << 40), (NewEvent::default(), 1)] {
            let encoded = encode_event(&event, offset, Timestamp(9));
            let delivery = v1::Delivery::decode(encoded.clone()).unwrap();
            assert_eq!(delivery.encoded_len(), encoded.len(), "nothing is missing and nothing is twice");
            let read = &delivery.events[0];
            assert_eq!((read.offset, read.time_us, &read.key, &read.payload), (offset, 9, &event.key, &event.payload));
            assert_eq!((&read.headers, &read.traceparent), (&event.headers, &event.traceparent));
            assert_eq!(read.tracestate, event.tracestate);
            assert_eq!(read.publisher, event.publisher.as_ref().map_or("", ClientId::as_str));
            assert_eq!(read.operation() == v1::Operation::Delete, event.operation == Operation::Delete);
        }
    }

    #[test]
    fn an_event_that_is_given_its_place_later_is_the_same() {
        let headers = [("a".to_owned(), "1".to_owned())].into();
        let full = NewEvent { operation: Operation::Delete, headers, traceparent: "00-1".into(), ..event(b"payload") };
        for event in [full, event(b""), NewEvent::default()] {
            let content = encode_content(&event);
            let placed = place_event(&content, 1 << 40, Timestamp(9)).unwrap();
            assert_eq!(placed.encoded, encode_event(&event, 1 << 40, Timestamp(9)));
            assert_eq!((placed.key, placed.operation), (event.key, event.operation));
            assert_eq!(placed.payload_len, event.payload.len());
        }
        let placed = v1::Event { offset: 5, ..v1::Event::default() }.encode_to_vec();
        for bad in [&b"hello"[..], b"\x2a\x05abc", b"\xff\xff\xff", &placed] {
            assert!(place_event(&Bytes::copy_from_slice(bad), 1, Timestamp(1)).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_shared_delivery_is_the_message_prost_would_have_written() {
        let cases: [(u64, u64, bool, &[&[u8]]); 4] = [
            (0, 0, false, &[b"", b"x"]),
            (300, 7, false, &[&[7; 1000]]),
            (1 << 40, 1 << 20, true, &[b"a", b"b", b"c"]),
            (5, 0, true, &[]),
        ];
        for (prev, skipped, snapshot, payloads) in cases {
            let events: Vec<_> = payloads
                .iter()
                .zip(prev + 1..)
                .map(|(p, offset)| encode_event(&event(p), offset, Timestamp(9)))
                .collect();
            let mut out = BytesMut::new();
            let head = DeliveryHead { session: 7, prev, skipped, snapshot };
            head.put(&mut out, events.iter().map(Bytes::len).sum(), 0);
            events.iter().for_each(|event| out.extend_from_slice(event));

            let message = v1::StreamDataResponse::decode(&out[PREFIX_LEN..]).unwrap();
            let mut expected = BytesMut::new();
            frame(&mut expected, message.frame.clone().unwrap());
            assert_eq!(out, expected);
            let Some(Frame::Delivery(delivery)) = message.frame else { panic!("not a delivery") };
            assert_eq!((delivery.session, delivery.prev, delivery.events.len()), (7, prev, payloads.len()));
            assert_eq!((delivery.skipped, delivery.snapshot), (skipped, snapshot));
            assert!(delivery.events.iter().zip(payloads).all(|(event, payload)| event.payload == *payload));
        }
    }
}
