//! `--json`: one JSON object a line.
//!
//! The same event always makes the same bytes: a resumed `sub` recognises by them what was printed already.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use crate::{
    client::{Cursor, Event, Gap, Opened, Operation, Received},
    proto::v1::Member,
};

/// Appends an object and a line end.
pub(super) fn line(text: &mut Vec<u8>, object: &impl Serialize) {
    // Writing to memory does not fail, and the objects here have string keys only.
    serde_json::to_writer(&mut *text, object).ok();
    text.push(b'\n');
}

/// An event at its place.
#[derive(Debug, Serialize)]
pub(super) struct EventLine<'a> {
    cursor: String,
    time_us: u64,
    #[serde(flatten)]
    key: Option<Key<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(flatten)]
    payload: Payload<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    publisher: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    traceparent: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tracestate: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    skipped: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    snapshot: bool,
}

#[derive(Debug, Serialize)]
enum Key<'a> {
    #[serde(rename = "key")]
    Text(&'a str),
    #[serde(rename = "key_base64")]
    Bytes(String),
}

#[derive(Debug, Serialize)]
enum Payload<'a> {
    #[serde(rename = "payload")]
    Text(&'a str),
    #[serde(rename = "payload_base64")]
    Bytes(String),
}

impl<'a> EventLine<'a> {
    /// An event, which is in the epoch of `cursor`.
    pub(super) fn new(cursor: impl ToString, event: &'a Event) -> Self {
        let key = || match std::str::from_utf8(&event.key) {
            Ok(text) => Key::Text(text),
            Err(_) => Key::Bytes(STANDARD.encode(&event.key)),
        };
        let payload = match std::str::from_utf8(&event.payload) {
            Ok(text) => Payload::Text(text),
            Err(_) => Payload::Bytes(STANDARD.encode(&event.payload)),
        };
        Self {
            cursor: cursor.to_string(),
            time_us: event.time_us,
            key: (!event.key.is_empty()).then(key),
            operation: (event.operation() == Operation::Delete).then_some("delete"),
            payload,
            publisher: &event.publisher,
            headers: event.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            traceparent: &event.traceparent,
            tracestate: &event.tracestate,
            skipped: 0,
            snapshot: false,
        }
    }

    /// An event as a session received it.
    pub(super) fn received(received: &'a Received) -> Self {
        let Received { skipped, snapshot, .. } = *received;
        Self { skipped, snapshot, ..Self::new(received.cursor, &received.event) }
    }
}

/// A member of a topic.
#[derive(Debug, Serialize)]
pub(super) struct MemberLine<'a> {
    client_id: &'a str,
    session_id: &'a str,
    since_us: u64,
    #[serde(flatten)]
    info: Option<About<'a>>,
}

#[derive(Debug, Serialize)]
enum About<'a> {
    #[serde(rename = "info")]
    Text(&'a str),
    #[serde(rename = "info_base64")]
    Bytes(String),
}

impl<'a> MemberLine<'a> {
    /// That of a member.
    pub(super) fn new(member: &'a Member) -> Self {
        let about = || match std::str::from_utf8(&member.info) {
            Ok(text) => About::Text(text),
            Err(_) => About::Bytes(STANDARD.encode(&member.info)),
        };
        Self {
            client_id: &member.client_id,
            session_id: &member.session_id,
            since_us: member.since_us,
            info: (!member.info.is_empty()).then(about),
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `{"opened": …}`: a session was attached to a connection.
pub(super) fn opened(text: &mut Vec<u8>, opened: &Opened) {
    let recovery = short(opened.recovery.as_str_name(), "RECOVERY_");
    let object = serde_json::json!({ "opened": {
        "start": opened.start.to_string(), "head": opened.head.to_string(), "recovery": recovery,
    }});
    line(text, &object);
}

/// `{"gap": …}`: events that will not come.
pub(super) fn gap(text: &mut Vec<u8>, gap: &Gap) {
    let reason = short(gap.reason.as_str_name(), "GAP_REASON_");
    let object = serde_json::json!({ "gap": {
        "from": gap.from.to_string(), "to": gap.to.to_string(), "reason": reason,
        "count": gap.count, "possible": gap.possible,
    }});
    line(text, &object);
}

/// `{"snapshot_begin": …}`: a snapshot of a keyed topic begins, and with it the topic anew.
pub(super) fn snapshot_begin(text: &mut Vec<u8>, of: Cursor) {
    line(text, &serde_json::json!({ "snapshot_begin": { "cursor": of.to_string() } }));
}

/// `{"snapshot_end": …}`: it is complete.
pub(super) fn snapshot_end(text: &mut Vec<u8>, of: Cursor) {
    line(text, &serde_json::json!({ "snapshot_end": { "cursor": of.to_string() } }));
}

/// The word of an enum value without the enum's name.
pub(super) fn short<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_event_is_text_where_it_is_text_and_base64_where_it_is_not() {
        let cursor = Cursor { epoch: 1, offset: 2, ..Cursor::default() };
        let mut event = Event { time_us: 5, payload: "say \"hi\"".into(), ..Event::default() };
        let mut text = Vec::new();
        line(&mut text, &EventLine::new(cursor, &event));
        let expected = r#"{"cursor":"0000000000000001:2","time_us":5,"payload":"say \"hi\""}"#;
        assert_eq!(String::from_utf8(text).unwrap(), format!("{expected}\n"));

        event.payload = vec![0xff, 0].into();
        event.key = "k".into();
        event.publisher = "p".into();
        event.set_operation(Operation::Delete);
        let object = serde_json::to_value(EventLine::new(cursor, &event)).unwrap();
        assert_eq!(object["payload_base64"], "/wA=");
        assert_eq!((&object["key"], &object["publisher"]), (&"k".into(), &"p".into()));
        assert_eq!(object["operation"], "delete");
        assert!(object.get("payload").is_none());
    }

    #[test]
    fn a_member_tells_of_itself_what_it_wants_to() {
        let mut member = Member { client_id: "alice".into(), session_id: "s".into(), since_us: 5, ..Member::default() };
        let print = |member: &Member| serde_json::to_string(&MemberLine::new(member)).unwrap();
        assert_eq!(print(&member), r#"{"client_id":"alice","session_id":"s","since_us":5}"#);
        member.info = "here".into();
        assert!(print(&member).ends_with(r#","info":"here"}"#));
        member.info = vec![0xff].into();
        assert!(print(&member).ends_with(r#","info_base64":"/w=="}"#));
    }

    #[test]
    fn the_same_event_always_makes_the_same_bytes() {
        let pairs = || (0..20).map(|n| (format!("name{n}"), format!("value{n}")));
        let print = |headers: HashMap<String, String>| {
            let mut text = Vec::new();
            line(&mut text, &EventLine::new("c", &Event { headers, ..Event::default() }));
            text
        };
        assert_eq!(print(pairs().collect()), print(pairs().rev().collect()));
    }
}
