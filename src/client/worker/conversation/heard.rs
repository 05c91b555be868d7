//! What the server says to a session.

use std::time::Duration;

use tokio::time::Instant;

use super::Conversation;
use crate::{
    client::{
        ChainBreak, Item, Received, Recovery,
        chain::{Chain, Piece},
        link::Link,
        outstanding::Answer,
        wire,
    },
    proto::v1::{self, stream_data_request::Frame},
    types::{Cursor, Timestamp},
};

/// Wait before a publish is sent again, where the server advised a retry and named no time.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

impl Conversation {
    /// The server has opened it.
    pub(in crate::client::worker) fn opened(&mut self, frame: &v1::SessionOpened, link: &mut Link, now: Instant) {
        let opened = wire::opened(frame);
        if self.open.is_publish_only() {
            self.chain = Chain::default();
        }
        if let Err(broken) = self.chain.opened(opened.start, opened.topic_class) {
            return self.broken(broken, link, now);
        }
        if let Some(home) = &mut self.home {
            home.opened = true;
        }
        self.attach = opened.attach;
        self.opened_at = Some(now);
        self.outstanding.attached(opened.published_seq, opened.head.epoch);
        self.put([Item::Opened(opened)]);
        // What was told on a connection that broke may be lost. Where a gap or a snapshot follows, the server takes
        // offsets for those of another position by the time it hears of them.
        let resumed = opened.recovery == Recovery::Full;
        self.acked = if resumed { None } else { self.shared.wishes().acked };
        self.tend(link, now);
        if let Some(done) = self.opening.take()
            && done.send(Ok(())).is_err()
        {
            self.close(false, None);
        }
        self.pump(link, now);
    }

    pub(in crate::client::worker) fn deliver(&mut self, mut frame: v1::Delivery, link: &mut Link, now: Instant) {
        let admitted = self.window.admits(frame.events.iter().map(|event| event.payload.len() as u64));
        let overrun = frame.events.get(admitted).map(|event| event.offset);
        frame.events.truncate(admitted);
        // An empty run has a meaning, which one that was emptied here has not.
        if admitted > 0 || overrun.is_none() {
            let taken = if frame.snapshot { self.piece(frame) } else { self.changes(frame) };
            if let Err(broken) = taken {
                return self.broken(broken, link, now);
            }
        }
        if let Some(offset) = overrun {
            tracing::error!(session = self.shared.key(), offset, "server sent more than it had credit for");
            let expected = self.chain.cursor().unwrap_or_default();
            self.broken(ChainBreak { expected, found: Cursor { offset, ..expected } }, link, now);
        }
    }

    fn changes(&mut self, frame: v1::Delivery) -> Result<(), ChainBreak> {
        let v1::Delivery { prev, mut skipped, events, .. } = frame;
        let before = self.chain.deliver(prev, skipped, &events)?;
        let mut last = before;
        let window = &mut self.window;
        let items = events.into_iter().map(|event| {
            window.receive(event.payload.len() as u64);
            let prev = last.offset;
            last = Cursor { offset: event.offset, time: Timestamp(event.time_us), ..before };
            let skipped = std::mem::take(&mut skipped);
            Item::Event(Received { cursor: last, prev, skipped, snapshot: false, event })
        });
        self.shared.put(self.chain.cursor(), items);
        Ok(())
    }

    fn piece(&mut self, frame: v1::Delivery) -> Result<(), ChainBreak> {
        let Piece { of, begins, ends } = self.chain.piece(frame.prev, &frame.events)?;
        let place = self.place();
        let window = &mut self.window;
        let events = frame.events.into_iter().map(|event| {
            window.receive(event.payload.len() as u64);
            Item::Event(Received { cursor: of, prev: of.offset, skipped: 0, snapshot: true, event })
        });
        let begin = begins.then_some(Item::SnapshotBegin(of));
        let end = ends.then_some(Item::SnapshotEnd(of));
        self.shared.put(place, begin.into_iter().chain(events).chain(end));
        Ok(())
    }

    pub(in crate::client::worker) fn gap(&mut self, frame: &v1::Gap, link: &mut Link, now: Instant) {
        let gap = wire::gap(frame);
        match self.chain.gap(&gap) {
            Ok(()) => self.put([Item::Gap(gap)]),
            Err(broken) => self.broken(broken, link, now),
        }
    }

    pub(in crate::client::worker) fn mark(&mut self, mark: v1::Mark) {
        self.chain.mark(mark.offset, Timestamp(mark.time_us));
        self.put([]);
    }

    /// The server does not follow our cursor: leave this attach, and open anew at the cursor, not too eagerly.
    fn broken(&mut self, broken: ChainBreak, link: &mut Link, now: Instant) {
        let ChainBreak { expected, found } = broken;
        tracing::error!(session = self.shared.key(), %expected, %found, "server broke the chain of a session");
        self.put([Item::Broken(broken)]);
        if let Some(home) = self.home.take() {
            link.aliases.remove(&home.alias);
            link.push(Frame::CloseSession(v1::CloseSession { session: home.alias, keep: true }));
        }
        self.reopen_later(None, now);
    }

    /// The server ended this attach and advises to open it again.
    pub(in crate::client::worker) fn reopen_later(&mut self, advised: Option<Duration>, now: Instant) {
        self.adrift();
        if let Some(opened_at) = self.opened_at.take() {
            self.retry.held(opened_at, now);
        }
        self.reopen_at = Some(now + self.retry.next(advised));
    }

    /// The server ended this attach, and another connection is to be opened: it waits for that.
    pub(in crate::client::worker) fn adrift(&mut self) {
        self.home = None;
        if let Some(closing) = &mut self.closing {
            closing.sent = false;
        }
    }

    /// True before the first open.
    pub(in crate::client::worker) fn is_new(&self) -> bool {
        self.opening.is_some()
    }

    /// A publish was answered. `stale` if not by the connection where the session now lives.
    pub(in crate::client::worker) fn answered(&mut self, request_id: u64, answer: Answer, stale: bool, now: Instant) {
        let outcome = self.outstanding.answer(request_id, answer, stale, now, RETRY_PAUSE);
        outcome.into_iter().for_each(super::complete);
    }
}
