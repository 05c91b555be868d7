//! Where a connection's frames wait for HTTP/2 to take them, and how its end is agreed on.
//!
//! Two kinds of frames, two kinds of bound. Control frames (answers, heartbeats, notices) are encoded when they are
//! queued and go first, always. Their queue is bounded by `queue_size`: the reader waits for room before it takes the
//! next request, so a client that does not take its answers stops being read; heartbeats beyond the bound are not
//! queued; notices of an end are, because each can come only once. Deliveries have no queue at all: a session is a
//! cursor, and its events are taken from the log when HTTP/2 asks for more.
//!
//! One short lock; nothing is awaited under it. Under it are taken, each for a moment and never the other way round: a
//! log's (to read), the ready set's, and, when a session ends, those its guards undo things under.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    Shared,
    alarm::Alarm,
    lane::{Batch, Lane},
    lanes::{Lanes, closed},
    pacing::Pacing,
    signal::{CLOSING, ENDED, Signal},
};
use crate::{
    error::{Failure, Reason},
    hub::ReadySet,
    proto::{self, v1, v1::stream_data_response::Frame},
    registry::{Backlog, Entry, SessionStatus},
    telemetry::metrics::words::SessionEnd,
    types::Published,
};

/// Most bytes given to HTTP/2 at once.
const MAX_CHUNK: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Outbox {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    state: Mutex<State>,
    ready: Arc<ReadySet>,
    room: Notify,
    signal: Signal,
}

#[derive(Debug)]
struct State {
    control: BytesMut,
    control_frames: usize,
    chunks: VecDeque<Bytes>,
    lanes: Lanes,
    pacing: Option<Pacing>,
    alarm: Alarm,
    end: End,
}

/// How far the end has come. Only ever moves down.
#[derive(Debug)]
enum End {
    Open,
    /// The client is done: what is due goes out, then OK.
    Finishing,
    /// What is queued goes out, then this.
    Closing(Failure),
    /// The body has ended or is gone.
    Ended,
}

/// What the body is to do next.
#[derive(Debug)]
pub(super) enum Next {
    Chunk(Bytes),
    /// The last frame: OK, or a failure.
    Trailers(Option<Failure>),
}

impl Outbox {
    pub(super) fn new(shared: Arc<Shared>, entry: Arc<Entry>) -> Arc<Self> {
        let state = State {
            control: BytesMut::new(),
            control_frames: 0,
            chunks: VecDeque::new(),
            lanes: Lanes::default(),
            pacing: Pacing::new(shared.config.max_send_rate.as_u64()),
            alarm: Alarm::default(),
            end: End::Open,
        };
        let ready = Arc::new(ReadySet::of(entry.peer_addr()));
        Arc::new(Self {
            shared,
            entry,
            state: Mutex::new(state),
            ready,
            room: Notify::new(),
            signal: Signal::default(),
        })
    }

    /// The connection in the registry.
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Whom the connection's readers report to.
    pub(super) fn ready(&self) -> &Arc<ReadySet> {
        &self.ready
    }

    /// Queues a control frame, over the bound if need be.
    pub(super) fn send(&self, frame: Frame) {
        self.state.lock().queue(frame);
        self.ready.wake();
    }

    /// Queues the answer to a publish that is stored, likewise.
    pub(super) fn send_stored(&self, request_id: u64, through_seq: u64, published: &Published) {
        self.state.lock().put(|out| proto::stored(out, request_id, through_seq, published));
        self.ready.wake();
    }

    /// Queues a heartbeat, with the marks that are due, unless the queue is full.
    pub(super) fn heartbeat(&self, reply_requested: bool) -> bool {
        let mut state = self.state.lock();
        let has_room = state.control_frames < self.shared.config.queue_size;
        if has_room {
            // Under one lock, so that nothing of a session comes between its mark and the frame that carries it.
            let marks = state.lanes.marks(&self.shared.metrics);
            let heartbeat = v1::Heartbeat { nonce: fastrand::u64(..), reply_requested, marks };
            state.queue(Frame::Heartbeat(heartbeat));
            self.ready.wake();
        }
        has_room
    }

    /// Waits until the control queue has room. Cancel-safe.
    pub(super) async fn room(&self) {
        // Nearly always: without a place among those who wait.
        while !self.has_room() {
            let notified = self.room.notified();
            if !self.has_room() {
                notified.await;
            }
        }
    }

    fn has_room(&self) -> bool {
        self.state.lock().control_frames < self.shared.config.queue_size
    }

    /// Adds a session, and the frame that says so before anything of it. An alias that is in use is a protocol error.
    pub(super) fn open(&self, alias: u32, lane: Lane, opened: Frame) {
        let reader = lane.reading.as_ref().map(|reading| reading.reader.reader().clone());
        let mut state = self.state.lock();
        state.queue(opened);
        state.lanes.insert(alias, lane);
        self.entry.vitals().set_sessions(state.lanes.len());
        drop(state);
        // Not before the lane is there to be found. There may be history to send, so it is woken at once.
        match reader {
            Some(reader) => {
                reader.rearm();
                reader.wake();
            }
            None => self.ready.wake(),
        }
    }

    /// Works on a session under the lock; `None` if there is none of that alias. The lane must not be kept.
    pub(super) fn with_lane<T>(&self, alias: u32, work: impl FnOnce(&mut Lane) -> T) -> Option<T> {
        self.state.lock().lanes.get_mut(alias).map(work)
    }

    /// True if the alias is in use; and how many sessions are open.
    pub(super) fn occupancy(&self, alias: u32) -> (bool, usize) {
        let mut state = self.state.lock();
        (state.lanes.get_mut(alias).is_some(), state.lanes.len())
    }

    /// Ends a session if `wanted` says that it is the right one; tells the client. False if there is none.
    pub(super) fn close_session(
        &self,
        alias: u32,
        failure: Option<Failure>,
        wanted: impl FnOnce(&mut Lane) -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        let found = state.lanes.get_mut(alias).is_some_and(wanted);
        let lane = if found { state.lanes.remove(alias) } else { None };
        if found {
            state.queue(closed(alias, failure, &self.shared.metrics));
            self.entry.vitals().set_sessions(state.lanes.len());
        }
        drop(state);
        // Its guards take other locks: outside of ours.
        drop(lane);
        self.ready.wake();
        found
    }

    /// Ends the sessions of which `judge` says why they cannot stay; tells the client.
    pub(super) fn review(&self, judge: impl FnMut(&mut Lane) -> Option<Failure>) {
        let mut state = self.state.lock();
        let ended = state.lanes.take_if(judge);
        for (alias, _, failure) in &ended {
            state.queue(closed(*alias, Some(failure.clone()), &self.shared.metrics));
        }
        self.entry.vitals().set_sessions(state.lanes.len());
        drop(state);
        // Their guards take other locks: outside of ours.
        drop(ended);
        self.ready.wake();
    }

    /// The client is done: sends what is due, then OK.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock();
        if matches!(state.end, End::Open) {
            state.end = End::Finishing;
            self.entry.vitals().half_closed();
            state.lanes.stop_at_heads();
        }
        drop(state);
        self.ready.wake();
    }

    /// Ends the connection: sends what is queued, then the failure. The first one counts.
    pub(super) fn close(&self, failure: Failure) {
        let mut state = self.state.lock();
        if matches!(state.end, End::Open | End::Finishing) {
            state.end = End::Closing(failure);
        }
        drop(state);
        self.signal.raise(CLOSING);
        self.ready.wake();
    }

    /// Completes once the connection is being closed, or its body is gone. Cancel-safe; for the actor alone.
    pub(super) async fn closing(&self) {
        self.signal.of(CLOSING | ENDED).await;
    }

    /// Why it is being closed; that the client is gone, if nobody has closed it.
    pub(super) fn failure(&self) -> Failure {
        match &self.state.lock().end {
            End::Closing(failure) => failure.clone(),
            _ => Failure::new(Reason::PeerGone, "the client is gone"),
        }
    }

    /// Completes once the body has ended or is gone. Cancel-safe; for the actor alone.
    pub(super) async fn ended(&self) {
        self.signal.of(ENDED).await;
    }

    /// The body has ended or is gone.
    pub(super) fn body_gone(&self) {
        self.state.lock().end = End::Ended;
        self.release();
        self.signal.raise(ENDED);
    }

    /// Lets all sessions go: their places are kept as those of any lost connection.
    pub(super) fn release(&self) {
        let lanes = self.state.lock().lanes.clear();
        for _lane in lanes {
            self.shared.metrics.session_closed(SessionEnd::Detached);
        }
        self.entry.vitals().set_sessions(0);
    }

    /// The sessions as operators see them, ordered by id.
    pub(super) fn sessions(&self) -> Vec<SessionStatus> {
        let state = self.state.lock();
        let mut sessions: Vec<_> = state.lanes.iter().map(Lane::status).collect();
        drop(state);
        sessions.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        sessions
    }

    /// What of all its sessions waits.
    pub(super) fn backlog(&self) -> Backlog {
        let mut all = Backlog::default();
        self.state.lock().lanes.iter().for_each(|lane| lane.add_to(&mut all));
        all
    }

    /// What HTTP/2 is to send next; pending while there is nothing.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        // Registered before looking, so that nothing that comes meanwhile is missed.
        self.ready.register(cx.waker());
        let mut state = self.state.lock();
        let frames = if state.chunks.is_empty() { ready!(self.poll_fill(&mut state, cx)) } else { 0 };
        match state.next_chunk() {
            Some(chunk) => {
                self.shared.metrics.frames_sent.inc_by(frames);
                self.shared.messages.1.inc_by(frames);
                self.shared.metrics.frames_sent_bytes.inc_by(chunk.len() as u64);
                self.entry.vitals().sending(self.shared.registry.clock().millis(), frames, chunk.len());
                Poll::Ready(Next::Chunk(chunk))
            }
            None => match std::mem::replace(&mut state.end, End::Ended) {
                End::Closing(failure) => Poll::Ready(Next::Trailers(Some(failure))),
                _ => Poll::Ready(Next::Trailers(None)),
            },
        }
    }

    /// Puts the next chunks together. Ready without any only when the connection is to end; then the caller ends it.
    fn poll_fill(&self, state: &mut State, cx: &mut Context<'_>) -> Poll<u64> {
        // What the last chunks were listed in is empty by now, and serves again.
        let (open, chunks) = (std::mem::take(&mut state.control), std::mem::take(&mut state.chunks));
        let mut batch = Batch { frames: state.control_frames as u64, open, chunks, ..Batch::default() };
        if state.control_frames > 0 {
            self.entry.vitals().control_sent(self.shared.registry.clock().millis());
            state.control_frames = 0;
            self.room.notify_waiters();
        }
        loop {
            let mut paced = false;
            if !matches!(state.end, End::Closing(_) | End::Ended) && state.lanes.gather(&self.ready) {
                match state.pacing.as_mut().map_or(Poll::Ready(usize::MAX), |pacing| pacing.poll_allowance(cx)) {
                    Poll::Ready(allowance) => self.deliver(state, &mut batch, allowance),
                    Poll::Pending => paced = true,
                }
            }
            batch.close();
            if !batch.chunks.is_empty() || !(paced || matches!(state.end, End::Open)) {
                state.chunks = batch.chunks;
                return Poll::Ready(batch.frames);
            }
            if state.alarm.poll(state.lanes.next_time(), cx).is_pending() {
                state.chunks = batch.chunks;
                self.entry.vitals().sent_all();
                return Poll::Pending;
            }
        }
    }

    fn deliver(&self, state: &mut State, batch: &mut Batch, allowance: usize) {
        let budget = usize::try_from(self.shared.config.batch_size.as_u64()).unwrap_or(usize::MAX);
        let used = state.lanes.fill(batch, budget.min(allowance), &self.shared);
        self.entry.vitals().delivered(std::mem::take(&mut batch.events));
        if let Some(pacing) = &mut state.pacing {
            pacing.spend(used);
        }
        self.entry.vitals().set_sessions(state.lanes.len());
    }
}

impl State {
    /// The next chunk, or the next piece of a large one: being asked for the next is how progress is seen, and a slow
    /// link must be able to show some before it has taken all of a large event.
    fn next_chunk(&mut self) -> Option<Bytes> {
        let first = self.chunks.front_mut()?;
        if first.len() > MAX_CHUNK { Some(first.split_to(MAX_CHUNK)) } else { self.chunks.pop_front() }
    }

    fn queue(&mut self, frame: Frame) {
        self.put(|out| proto::frame(out, frame));
    }

    fn put(&mut self, frame: impl FnOnce(&mut BytesMut)) {
        // After the end nobody takes anything any more, and nothing is to pile up.
        if !matches!(self.end, End::Ended) {
            frame(&mut self.control);
            self.control_frames += 1;
        }
    }
}
