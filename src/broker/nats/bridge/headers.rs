//! An event as a message of NATS core, and such a message as an event. The content is the payload as it is.
//!
//! | header | out | in |
//! |---|---|---|
//! | `Nats-Msg-Id` | `PREFIX-EPOCH:OFFSET` | how a repeat is recognised |
//! | `Bowline-Bridge` | the prefix: whose message it is | ours: it is not taken in |
//! | `Bowline-Topic`, `Bowline-Cursor` | its topic and place | |
//! | `Bowline-Client`, `Bowline-Session` | who published it, where that is known | |
//! | `Bowline-Key`, or `Bowline-Key-Base64` | its key | its key |
//! | `Bowline-Operation` | `delete`, where it removes its key | the same |
//! | `traceparent`, `tracestate` | those of the event | those of the event |
//! | others | the event's own | the event's own |
//!
//! Of the event's own none begins with `Nats-` or `Bowline-`: those speak for the server, or to it.

use std::collections::HashMap;

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;

use crate::{
    telemetry::metrics::words::BridgeIn,
    types::{Cursor, Dedupe, NewEvent, Operation},
};

const ID: &str = "Nats-Msg-Id";
const BRIDGE: &str = "Bowline-Bridge";
const KEY: &str = "Bowline-Key";
const KEY_BASE64: &str = "Bowline-Key-Base64";
const OPERATION: &str = "Bowline-Operation";
const DELETE: &str = "delete";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// What names of headers begin with that are not the event's own, in lower case.
const RESERVED: [&str; 2] = ["nats-", "bowline-"];

/// The headers of a stored event that goes out.
pub(super) fn of(event: &NewEvent, topic: &str, cursor: Cursor, prefix: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // What NATS cannot carry is left out.
    let own = event
        .headers
        .iter()
        .filter(|(name, _)| is_own(name))
        .filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?)));
    own.for_each(|(name, value)| headers.insert(name, value));
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = value.parse::<HeaderValue>() {
            headers.insert(name, value);
        }
    };
    set(ID, &format!("{prefix}-{cursor}"));
    set(BRIDGE, prefix);
    set("Bowline-Topic", topic);
    set("Bowline-Cursor", &cursor.to_string());
    if let Some(client) = &event.publisher {
        set("Bowline-Client", client.as_str());
    }
    if let Some(seq) = &event.dedupe.seq {
        set("Bowline-Session", seq.producer.session_id().as_str());
    }
    match std::str::from_utf8(&event.key).ok().filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic())) {
        Some("") => {}
        Some(key) => set(KEY, key),
        None => set(KEY_BASE64, &BASE64_STANDARD.encode(&event.key)),
    }
    if event.operation == Operation::Delete {
        set(OPERATION, DELETE);
    }
    for (name, value) in [(TRACEPARENT, &event.traceparent), (TRACESTATE, &event.tracestate)] {
        if !value.is_empty() {
            set(name, value);
        }
    }
    headers
}

fn is_own(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !RESERVED.iter().any(|reserved| name.starts_with(reserved)) && name != TRACEPARENT && name != TRACESTATE
}

/// Bytes of headers, about.
pub(super) fn size(headers: &HeaderMap) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    lines.map(|(name, value)| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4).sum()
}

/// A message that came in as the event that it is to be, or why it is none.
pub(super) fn event(message: Message, prefix: &str) -> Result<NewEvent, BridgeIn> {
    let headers = message.headers.unwrap_or_default();
    let one = |name: &'static str| headers.get(name).map(HeaderValue::as_str);
    if one(BRIDGE) == Some(prefix) {
        return Err(BridgeIn::Own);
    }
    let operation = match one(OPERATION).map(str::to_ascii_lowercase).as_deref() {
        None | Some("put") => Operation::Put,
        Some(DELETE) => Operation::Delete,
        Some(_) => return Err(BridgeIn::Unfit),
    };
    let key = match (one(KEY), one(KEY_BASE64)) {
        (Some(key), _) => Bytes::copy_from_slice(key.as_bytes()),
        (None, Some(key)) => BASE64_STANDARD.decode(key).map_err(|_| BridgeIn::Unfit)?.into(),
        (None, None) => Bytes::new(),
    };
    let mut event = NewEvent {
        key,
        operation,
        payload: message.payload,
        dedupe: Dedupe { id: one(ID).map(str::to_owned), seq: None },
        is_bridged: true,
        ..NewEvent::default()
    };
    let mut own = HashMap::new();
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        let value = values.iter().map(HeaderValue::as_str).collect::<Vec<_>>().join(", ");
        match name.to_ascii_lowercase().as_str() {
            TRACEPARENT => event.traceparent = value,
            TRACESTATE => event.tracestate = value,
            _ if is_own(name) => drop(own.insert(name.to_owned(), value)),
            _ => {}
        }
    }
    event.headers = own;
    event.check().map_err(|_| BridgeIn::Unfit)?;
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClientId, Producer, Seq, SessionId, Timestamp};

    fn message(headers: HeaderMap) -> Message {
        let (subject, payload) = ("acme.a".into(), "content".into());
        Message { subject, reply: None, payload, headers: Some(headers), status: None, description: None, length: 0 }
    }

    fn published() -> NewEvent {
        let producer = Producer::new(ClientId::parse("alice").unwrap(), SessionId::parse("desk").unwrap());
        NewEvent {
            publisher: Some(producer.client_id().clone()),
            dedupe: Dedupe { id: Some("app".into()), seq: Some(Seq { producer, number: 1, through: 0 }) },
            traceparent: "00-a-b-01".into(),
            ..NewEvent::default()
        }
    }

    const CURSOR: Cursor = Cursor { epoch: 0xfeed, offset: 42, time: Timestamp(1) };

    #[test]
    fn what_goes_out_says_who_and_where_and_nobody_else_can() {
        let own = [
            ("colour", "red"),
            ("bowline-client", "mallory"),
            ("NATS-Rollup", "all"),
            ("a b:", "x"),
            ("n", "1\r\nX: 2"),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let headers = of(&NewEvent { headers: own, ..published() }, "orders.a", CURSOR, "bowline");
        let mut lines: Vec<_> = headers.iter().map(|(name, values)| format!("{name}={}", values[0].as_str())).collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "Bowline-Bridge=bowline",
                "Bowline-Client=alice",
                "Bowline-Cursor=000000000000feed:42",
                "Bowline-Session=desk",
                "Bowline-Topic=orders.a",
                "Nats-Msg-Id=bowline-000000000000feed:42",
                "colour=red",
                "traceparent=00-a-b-01",
            ]
        );
        assert!(size(&headers) > 100);
        assert_eq!(event(message(headers), "bowline").unwrap_err(), BridgeIn::Own);
    }

    #[test]
    fn what_another_installation_sent_is_taken_in() {
        let event = event(message(of(&published(), "orders.a", CURSOR, "other")), "bowline").unwrap();
        assert!(event.is_bridged && event.headers.is_empty() && event.publisher.is_none());
        assert_eq!(event.dedupe.id.as_deref(), Some("other-000000000000feed:42"));
        assert_eq!((event.traceparent.as_str(), &event.payload[..]), ("00-a-b-01", &b"content"[..]));
    }

    #[test]
    fn keys_go_both_ways_whatever_is_in_them() {
        for key in [&b"k"[..], b"two words", b"\xff\x00", b""] {
            let gone = NewEvent { key: Bytes::copy_from_slice(key), operation: Operation::Delete, ..published() };
            let came = event(message(of(&gone, "t", CURSOR, "other")), "bowline").unwrap();
            assert_eq!((&came.key[..], came.operation), (key, Operation::Delete));
        }
    }

    #[test]
    fn what_no_event_can_be_is_not_taken_in() {
        let with = |name: &str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value);
            event(message(headers), "bowline")
        };
        let long = "x".repeat(5000);
        for (name, value) in
            [(OPERATION, "rename"), (KEY_BASE64, "?"), (KEY, &long[..300]), ("note", &long), (ID, &long[..200])]
        {
            assert_eq!(with(name, value).unwrap_err(), BridgeIn::Unfit, "{name}");
        }
        let mut twice = HeaderMap::new();
        twice.append("tag", "a");
        twice.append("tag", "b");
        let event = event(message(twice), "bowline").unwrap();
        assert_eq!(event.headers["tag"], "a, b");
    }
}
