//! Frames in as few words as a test can stand.

use bowline::proto::v1::{
    Acked, CloseSession, Credit, Cursor, Earliest, Event, Flow, Heartbeat, Hello, LastN, NewEvent, OpenSession,
    Operation, Publish, Since, Snapshot, StartPosition, start_position::Position,
};

pub(crate) fn hello(client_id: &str) -> Hello {
    Hello { version_min: 1, version_max: 1, client_id: client_id.to_owned(), ..Hello::default() }
}

/// A nameless session, live, both ways.
pub(crate) fn open(session: u32, topic: &str) -> OpenSession {
    OpenSession { session, topic: topic.to_owned(), ..OpenSession::default() }
}

fn start(position: Position) -> Option<StartPosition> {
    Some(StartPosition { position: Some(position) })
}

pub(crate) fn earliest() -> Option<StartPosition> {
    start(Position::Earliest(Earliest {}))
}

pub(crate) fn after(cursor: Cursor) -> Option<StartPosition> {
    start(Position::Cursor(cursor))
}

pub(crate) fn acked() -> Option<StartPosition> {
    start(Position::Acked(Acked {}))
}

pub(crate) fn last(count: u64) -> Option<StartPosition> {
    start(Position::LastN(LastN { count }))
}

pub(crate) fn since(time_us: u64) -> Option<StartPosition> {
    start(Position::Since(Since { time_us }))
}

pub(crate) fn snapshot() -> Option<StartPosition> {
    start(Position::Snapshot(Snapshot {}))
}

pub(crate) fn credit(events: u64, bytes: u64) -> Option<Credit> {
    Some(Credit { events, bytes })
}

pub(crate) fn event(payload: impl AsRef<[u8]>) -> NewEvent {
    NewEvent { payload: payload.as_ref().to_vec().into(), ..NewEvent::default() }
}

pub(crate) fn publish(session: u32, seq: u64, payload: impl AsRef<[u8]>) -> Publish {
    Publish { session, seq, event: Some(event(payload)) }
}

pub(crate) fn flow(session: u32) -> Flow {
    Flow { session, ..Flow::default() }
}

pub(crate) fn close(session: u32) -> CloseSession {
    CloseSession { session, keep: false }
}

pub(crate) fn heartbeat(nonce: u64) -> Heartbeat {
    Heartbeat { nonce, reply_requested: true, marks: Vec::new() }
}

/// An event with a key.
pub(crate) fn keyed(key: &str, payload: &str) -> NewEvent {
    NewEvent { key: key.to_owned().into(), ..event(payload) }
}

/// The removal of a key.
pub(crate) fn removal(key: &str) -> NewEvent {
    NewEvent { operation: Operation::Delete as i32, ..keyed(key, "") }
}

/// Key and payload, as text; a removed key has a `-` before it.
pub(crate) fn pair(event: &Event) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let sign = if event.operation() == Operation::Delete { "-" } else { "" };
    (format!("{sign}{}", text(&event.key)), text(&event.payload))
}

/// The payloads, as text.
pub(crate) fn payloads(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8(event.payload.to_vec()).unwrap()).collect()
}
