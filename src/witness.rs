//! What a client sees of its sessions, as the records that `bowline check` reads.
//!
//! For programs that use the client library and want to be held to account: `examples/witness.rs` is one. The events
//! they publish have to be told apart by their payload, which is taken for the event's id up to the first `|`.

use std::sync::Arc;

use crate::{
    checker::history::{Event, Op, Outcome, Place},
    client::{self, Cursor, Error, ErrorKind, Item, Operation, Published, Received},
};

/// What a reader of `session` was told; none where the next item says it all. `conflates` if the session's policy is
/// CONFLATE.
pub fn seen(session: Arc<str>, topic: Arc<str>, conflates: bool, item: Item) -> Option<Op> {
    Some(match item {
        Item::SnapshotBegin(_) => return None,
        Item::Opened(opened) => Op::Opened {
            session,
            topic,
            attach: opened.attach,
            start: place(opened.start),
            head: place(opened.head),
            recovery: opened.recovery.as_str_name().into(),
            published_seq: opened.published_seq,
        },
        Item::Event(received) => delivered(session, topic, conflates, received),
        Item::SnapshotEnd(cursor) => {
            Op::Deliver { session, topic, prev: cursor.offset, skipped: 0, snapshot: true, events: Vec::new() }
        }
        Item::Gap(gap) => Op::Gap {
            session,
            topic,
            from: place(gap.from),
            to: place(gap.to),
            reason: gap.reason.as_str_name().into(),
        },
        Item::Broken(broken) => Op::Broken { session, text: format!("{broken:?}") },
        Item::Closed(error) => Op::Closed { session, reason: error.map(|error| error.to_string()) },
    })
}

fn delivered(session: Arc<str>, topic: Arc<str>, conflates: bool, received: Received) -> Op {
    let Received { prev, skipped, snapshot, event, cursor, .. } = received;
    // The library counts what a run leaves out with the first event of the run.
    let skipped = if conflates && !snapshot { event.offset - prev - 1 } else { skipped };
    let prev = if snapshot { cursor.offset } else { prev };
    Op::Deliver { session, topic, prev, skipped, snapshot, events: vec![self::event(&event)] }
}

/// What became of a publish.
pub fn outcome(answer: Result<Published, Error>) -> Outcome {
    let error = match answer {
        Ok(published) => {
            return Outcome::Stored { place: place(published.cursor), duplicate: published.duplicate };
        }
        Err(error) => error,
    };
    match (error.kind(), error.reason()) {
        (ErrorKind::UnknownOutcome, _) | (_, Some("FORGOTTEN_SEQ")) => Outcome::Unknown,
        (kind, reason) => Outcome::Refused(reason.map_or_else(|| format!("{kind:?}"), str::to_owned)),
    }
}

/// A cursor as it is recorded.
pub fn place(cursor: Cursor) -> Place {
    (cursor.epoch, cursor.offset)
}

/// An event as it is recorded.
pub fn event(event: &client::Event) -> Event {
    let text = String::from_utf8_lossy(&event.payload);
    Event {
        offset: event.offset,
        time: event.time_us,
        id: text.split('|').next().unwrap_or_default().into(),
        key: String::from_utf8_lossy(&event.key).into(),
        removes: event.operation() == Operation::Delete,
        length: event.payload.len(),
    }
}
