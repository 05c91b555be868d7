//! What a client has been told in each of its sessions, and that whatever it is told next goes on from there.

use std::collections::{HashMap, HashSet};

use bowline::proto::v1::{
    Cursor, Delivery, DeliveryPolicy, Event, Gap, GapReason, Mark, Operation, SessionOpened, StreamDataRequest,
    TopicClass, start_position::Position, stream_data_request::Frame as Sent, stream_data_response::Frame,
};
use bytes::Bytes;

/// The chains of a connection's sessions, by alias.
#[derive(Default)]
pub(super) struct Chains {
    open: HashMap<u32, Chain>,
    /// Sessions that are to begin with a snapshot.
    snapshots_asked: HashSet<u32>,
    /// The broker is one whose offsets are those of a stream that holds many topics.
    pub(super) sparse: bool,
}

impl Chains {
    /// Notes what was asked for.
    pub(super) fn said(&mut self, request: &StreamDataRequest) {
        let Some(Sent::OpenSession(open)) = &request.frame else { return };
        match open.start.as_ref().and_then(|start| start.position.as_ref()) {
            Some(Position::Snapshot(_)) => self.snapshots_asked.insert(open.session),
            _ => self.snapshots_asked.remove(&open.session),
        };
    }

    /// Fails the test if the frame breaks a chain.
    pub(super) fn heard(&mut self, frame: &Frame) {
        match frame {
            Frame::SessionOpened(opened) => {
                let chain = Chain::begin(opened, self.snapshots_asked.contains(&opened.session), self.sparse);
                let earlier = self.open.insert(opened.session, chain);
                assert!(earlier.is_none(), "session {} was opened twice", opened.session);
            }
            Frame::Delivery(delivery) => self.chain(delivery.session).deliver(delivery),
            Frame::Gap(gap) => self.chain(gap.session).skip(gap),
            Frame::Heartbeat(heartbeat) => {
                heartbeat.marks.iter().for_each(|mark| self.chain(mark.session).mark(mark));
            }
            Frame::SessionClosed(closed) => {
                self.open.remove(&closed.session);
            }
            _ => {}
        }
    }

    fn chain(&mut self, session: u32) -> &mut Chain {
        self.open.get_mut(&session).unwrap_or_else(|| panic!("session {session} is not open"))
    }

    pub(super) fn cursor(&self, session: u32) -> Cursor {
        self.open[&session].cursor
    }
}

struct Chain {
    cursor: Cursor,
    sparse: bool,
    keyed: bool,
    conflates: bool,
    /// While a snapshot is coming: what has come of it.
    snapshot: Option<Pieces>,
}

/// The part of a snapshot that has come.
#[derive(Default)]
struct Pieces {
    last: u64,
    keys: HashSet<Bytes>,
}

impl Chain {
    fn begin(opened: &SessionOpened, snapshot_asked: bool, sparse: bool) -> Self {
        let keyed = opened.topic_class() == TopicClass::State;
        Self {
            cursor: opened.start.expect("a start"),
            sparse,
            keyed,
            conflates: opened.delivery_policy() == DeliveryPolicy::Conflate,
            snapshot: (keyed && snapshot_asked).then(Pieces::default),
        }
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let Delivery { session, prev, events, .. } = delivery;
        assert_eq!(*prev, self.cursor.offset, "the chain of session {session} is broken");
        match &mut self.snapshot {
            Some(pieces) => {
                assert!(delivery.snapshot, "a change came before the snapshot of session {session} had ended");
                assert_eq!(delivery.skipped, 0, "a snapshot skips nothing");
                events.iter().for_each(|event| pieces.take(event, *prev));
                if events.is_empty() {
                    self.snapshot = None;
                }
            }
            None => {
                assert!(!delivery.snapshot, "nobody asked for a snapshot in session {session}");
                self.follow(delivery);
            }
        }
    }

    fn follow(&mut self, delivery: &Delivery) {
        let Delivery { prev, skipped, events, .. } = delivery;
        let mut keys = HashSet::new();
        for event in events {
            assert!(event.offset > self.cursor.offset && event.time_us > self.cursor.time_us, "offsets and times rise");
            assert!(!self.keyed || !event.key.is_empty(), "an event of a keyed topic has a key");
            assert!(keys.insert(&event.key) || !self.conflates, "a key came twice in one conflated delivery");
            self.cursor = Cursor { offset: event.offset, time_us: event.time_us, ..self.cursor };
        }
        assert!(!events.is_empty() && (self.conflates || *skipped == 0), "{delivery:?}");
        let (covered, accounted) = (self.cursor.offset - prev, skipped + events.len() as u64);
        assert!(covered >= accounted, "more is accounted for than there is room for");
        assert!(self.sparse || covered == accounted, "offsets of a memory topic are dense: none is unaccounted for");
    }

    fn skip(&mut self, gap: &Gap) {
        let (from, to) = (gap.from.expect("from"), gap.to.expect("to"));
        assert_eq!((from.epoch, from.offset), (self.cursor.epoch, self.cursor.offset), "a gap beside the chain");
        assert_eq!(from.epoch != to.epoch, gap.reason() == GapReason::Epoch, "{gap:?}");
        if matches!(gap.reason(), GapReason::Retention | GapReason::Slow) {
            let counted = self.sparse || gap.count == to.offset - from.offset;
            assert!(to.offset > from.offset && counted && !gap.possible, "{gap:?}");
        }
        self.cursor = to;
        self.snapshot = self.keyed.then(Pieces::default);
    }

    /// Of the memory broker no position is passed over in silence: a mark only says that nothing has come since.
    fn mark(&self, mark: &Mark) {
        assert!(self.snapshot.is_none(), "a mark before the snapshot of session {} had ended", mark.session);
        assert_eq!(mark.offset, self.cursor.offset, "a mark away from the cursor of session {}", mark.session);
        assert!([0, mark.time_us].contains(&self.cursor.time_us), "a mark with another time than its event");
    }
}

impl Pieces {
    /// In order, none above what the snapshot is of, each key once, and only what is there.
    fn take(&mut self, event: &Event, of: u64) {
        assert!(event.offset > self.last && event.offset <= of, "offset {} in a snapshot of {of}", event.offset);
        assert_eq!(event.operation(), Operation::Put, "a removed key is in a snapshot");
        assert!(self.keys.insert(event.key.clone()), "a key came twice in a snapshot");
        self.last = event.offset;
    }
}
