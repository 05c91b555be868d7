//! Frames in as few words as a test can stand.

use bowline::proto::v1::{
    Acked, CloseSession, Credit, Cursor, Earliest, Event, Flow, Heartbeat, Hello, LastN, NewEvent, OpenSession,
    Operation, Presence, Publish, Since, Snapshot, StartPosition, start_position::Position,
};

pub(crate) fn hello(client_id: &str) -> Hello {
    Hello { version_min: 1, version_max: 1, client_id: client_id.to_owned(), ..Hello::default() }
}

/// A nameless session, live, both ways.
pub(crate) fn open(session: u32, topic: &str) -> OpenSession {
    OpenSession { session, topic: topic.to_owned(), ..OpenSession::default() }
}

/// A session with a name.
pub(crate) fn named(session: u32, topic: &str, session_id: &str) -> OpenSession {
    OpenSession { session_id: session_id.to_owned(), ..open(session, topic) }
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

/// In the topic's presence.
pub(crate) fn present(info: &str) -> Option<Presence> {
    Some(Presence { info: info.to_owned().into() })
}

pub(crate) fn credit(events: u64, bytes: u64) -> Option<Credit> {
    Some(Credit { events, bytes })
}

pub(crate) fn event(payload: impl AsRef<[u8]>) -> NewEvent {
    NewEvent { payload: payload.as_ref().to_vec().into(), ..NewEvent::default() }
}

/// Sets a key.
pub(crate) fn put(key: &str, payload: impl AsRef<[u8]>) -> NewEvent {
    NewEvent { key: key.to_owned().into(), ..event(payload) }
}

/// Sets a key that dies with the session.
pub(crate) fn scoped(key: &str, payload: &str) -> NewEvent {
    NewEvent { session_scoped: true, ..put(key, payload) }
}

/// Removes a key.
pub(crate) fn delete(key: &str) -> NewEvent {
    NewEvent { operation: Operation::Delete as i32, ..put(key, "") }
}

pub(crate) fn with(session: u32, seq: u64, event: NewEvent) -> Publish {
    Publish { session, seq, event: Some(event) }
}

pub(crate) fn publish(session: u32, seq: u64, payload: impl AsRef<[u8]>) -> Publish {
    Publish { session, seq, event: Some(event(payload)) }
}

pub(crate) fn flow(session: u32) -> Flow {
    Flow { session, ..Flow::default() }
}

pub(crate) fn paused(session: u32, paused: bool) -> Flow {
    Flow { paused: Some(paused), ..flow(session) }
}

/// So many events in all.
pub(crate) fn grant(session: u32, events: u64) -> Flow {
    Flow { credit: credit(events, 0), ..flow(session) }
}

pub(crate) fn acknowledge(session: u32, offset: u64) -> Flow {
    Flow { acked: Some(offset), ..flow(session) }
}

pub(crate) fn close(session: u32) -> CloseSession {
    CloseSession { session, keep: false }
}

pub(crate) fn heartbeat(nonce: u64) -> Heartbeat {
    Heartbeat { nonce, reply_requested: true, marks: Vec::new() }
}

/// The payloads, as text.
pub(crate) fn payloads(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8(event.payload.to_vec()).unwrap()).collect()
}

/// What events do to keys: `key=payload`, or `-key` where it is removed.
pub(crate) fn changes(events: &[Event]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let change = |event: &Event| match event.operation() {
        Operation::Delete => format!("-{}", text(&event.key)),
        _ => format!("{}={}", text(&event.key), text(&event.payload)),
    };
    events.iter().map(change).collect()
}
