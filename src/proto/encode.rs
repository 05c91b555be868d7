//! Encoding that shares: an event is encoded once, when it is stored, in the form every delivery embeds it.
//!
//! A `Delivery` on the wire is a gRPC prefix, a few bytes that differ by receiver ([`delivery_head`]), then the events
//! exactly as [`encode_event`] made them. Protobuf allows that because an embedded message is its bytes.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

use super::v1;
use crate::types::{NewEvent, Operation, Timestamp};

/// Field number of `StreamDataResponse.delivery`.
const RESPONSE_DELIVERY: u32 = 3;
/// Field numbers of `Delivery`.
const DELIVERY_SESSION: u32 = 1;
const DELIVERY_PREV: u32 = 2;
const DELIVERY_EVENTS: u32 = 5;

/// Length of the gRPC message prefix: a flag and a big-endian length.
const PREFIX_LEN: usize = 5;

/// Encodes a stored event as one element of `Delivery.events`, tag and length included.
pub fn encode_event(event: NewEvent, offset: u64, time: Timestamp) -> Bytes {
    let event = v1::Event {
        offset,
        time_us: time.0,
        key: event.key,
        operation: match event.operation {
            Operation::Put => v1::Operation::Put,
            Operation::Delete => v1::Operation::Delete,
        } as i32,
        payload: event.payload,
        publisher: event.publisher,
        headers: event.headers,
        traceparent: event.traceparent,
    };
    let len = event.encoded_len();
    let mut out = BytesMut::with_capacity(key_len(DELIVERY_EVENTS) + encoded_len_varint(len as u64) + len);
    encode_key(DELIVERY_EVENTS, WireType::LengthDelimited, &mut out);
    encode_varint(len as u64, &mut out);
    event.encode_raw(&mut out);
    out.freeze()
}

/// Writes all of a framed `Delivery` that comes before its events, whose encoded length is `events_len`.
pub fn delivery_head(out: &mut BytesMut, session: u32, prev: u64, events_len: usize) {
    let mut delivery_len = key_len(DELIVERY_SESSION) + encoded_len_varint(u64::from(session)) + events_len;
    if prev != 0 {
        delivery_len += key_len(DELIVERY_PREV) + encoded_len_varint(prev);
    }
    let message_len = key_len(RESPONSE_DELIVERY) + encoded_len_varint(delivery_len as u64) + delivery_len;
    put_prefix(out, message_len);
    encode_key(RESPONSE_DELIVERY, WireType::LengthDelimited, out);
    encode_varint(delivery_len as u64, out);
    encode_key(DELIVERY_SESSION, WireType::Varint, out);
    encode_varint(u64::from(session), out);
    if prev != 0 {
        encode_key(DELIVERY_PREV, WireType::Varint, out);
        encode_varint(prev, out);
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

fn put_prefix(out: &mut BytesMut, len: usize) {
    out.put_u8(0); // Not compressed.
    // A message is bounded by the limits on payloads and runs, far below 4 GiB.
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::stream_data_response::Frame;

    fn event(payload: &'static [u8]) -> NewEvent {
        NewEvent { key: "k".into(), payload: payload.into(), publisher: "alice".into(), ..NewEvent::default() }
    }

    #[test]
    fn a_shared_delivery_is_the_message_prost_would_have_written() {
        for (prev, payloads) in
            [(0, &[b"".as_slice(), b"x"][..]), (300, &[&[7; 1000][..]]), (1 << 40, &[b"a", b"b", b"c"])]
        {
            let events: Vec<_> = payloads
                .iter()
                .zip(prev + 1..)
                .map(|(p, offset)| encode_event(event(p), offset, Timestamp(9)))
                .collect();
            let mut out = BytesMut::new();
            delivery_head(&mut out, 7, prev, events.iter().map(Bytes::len).sum());
            events.iter().for_each(|event| out.extend_from_slice(event));

            let message = v1::StreamDataResponse::decode(&out[PREFIX_LEN..]).unwrap();
            let mut expected = BytesMut::new();
            frame(&mut expected, message.frame.clone().unwrap());
            assert_eq!(out, expected);
            let Some(Frame::Delivery(delivery)) = message.frame else { panic!("not a delivery") };
            assert_eq!((delivery.session, delivery.prev, delivery.events.len()), (7, prev, payloads.len()));
            assert!(delivery.events.iter().zip(payloads).all(|(event, payload)| event.payload == *payload));
        }
    }
}
