//! What a session's reader yields.

use super::{Cursor, DeliveryPolicy, Error, Event, GapReason, Recovery, TopicClass};

/// One thing that happened in a session, in the order it happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Item {
    /// The session was attached to a connection: the first time, and again after every reconnect. Events go on.
    Opened(Opened),
    /// An event: a change, or between `SnapshotBegin` and `SnapshotEnd` a part of the snapshot.
    Event(Received),
    /// A snapshot of a keyed topic begins: what came of one before that has not ended is void. It is asked for with
    /// `Start::Snapshot`, and comes by itself after every gap in a keyed topic. [`Mirror`](super::Mirror) keeps a map
    /// right through all this.
    SnapshotBegin(Cursor),
    /// The snapshot is complete: a key that did not come since it began is not there. What follows are changes, from
    /// this position on. A key that was changed while the snapshot was sent may be missing in it, and comes among them.
    SnapshotEnd(Cursor),
    /// Events that will not come. In a keyed topic a snapshot follows, which makes up for them.
    Gap(Gap),
    /// The server broke the chain. Nothing is lost: the session is being opened again at its own cursor. Worth a bug
    /// report.
    Broken(ChainBreak),
    /// The last item: the session has ended, as asked (`None`), or because of the error.
    Closed(Option<Error>),
}

/// An event, with its place.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its position: store it once the event is processed and go on there later with `Start::After`. In a snapshot it is
    /// that of the snapshot, and no place to go on from before [`Item::SnapshotEnd`].
    pub cursor: Cursor,
    /// The offset of the position before it in this session.
    pub prev: u64,
    /// How many events a conflating policy left out of the run that begins with this one; 0 for the others of the run.
    pub skipped: u64,
    /// True if this is a part of a keyed topic's snapshot and not a change.
    pub snapshot: bool,
    /// The event.
    pub event: Event,
}

/// Events that will not come. See the protocol's `Gap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// After this.
    pub from: Cursor,
    /// Up to and including this: the session's cursor from now on.
    pub to: Cursor,
    /// Why.
    pub reason: GapReason,
    /// How many; 0 if not known.
    pub count: u64,
    /// True if the server cannot prove that something was lost.
    pub possible: bool,
}

/// How a session was attached. See the protocol's `SessionOpened`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Where it begins.
    pub start: Cursor,
    /// The topic's newest position at that moment.
    pub head: Cursor,
    /// How the start relates to what was asked for.
    pub recovery: Recovery,
    /// The fencing number.
    pub attach: u64,
    /// The highest publish seq of this session id known to be stored; 0 if none or not known.
    pub published_seq: u64,
    /// The policy in force.
    pub delivery_policy: DeliveryPolicy,
    /// With the policy CONFLATE: most deliveries a second; 0 otherwise.
    pub max_rate_hz: u32,
    /// The topic's class.
    pub topic_class: TopicClass,
}

/// A frame that did not follow the session's cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainBreak {
    /// The session's cursor: where it goes on.
    pub expected: Cursor,
    /// The position the frame named instead; its epoch is that of `expected` where the frame names none.
    pub found: Cursor,
}
