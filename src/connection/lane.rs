//! One session of a connection: its reading side, its numbers and its hold on its name.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::Shared;
use crate::{
    error::Failure,
    hub::{Feed, ReaderGuard},
    log::Log,
    proto::{self, DeliveryHead, v1::stream_data_response::Frame},
    registry::{Backlog, SessionStatus},
    session::{Attachment, Estate, Event, Gap, GapReason, Numbering, Run, Session, Step},
    telemetry::{
        Delivering,
        metrics::{Metrics, words},
    },
    types::{Cursor, Producer, Timestamp},
};

/// Events from this size on are not copied next to others but handed on as they are.
const SHARE_FROM: usize = 4096;

/// A session on this connection. Ephemeral ones have no attachment, publish-only ones no reading.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) feed: Arc<Feed>,
    pub(super) producer: Producer,
    pub(super) numbering: Numbering,
    /// Its mode and its topic are for publishing.
    pub(super) may_publish: bool,
    /// Its client may publish there.
    pub(super) permitted: bool,
    /// The fencing number; 1 for an ephemeral session.
    pub(super) attach: u64,
    pub(super) attachment: Option<Attachment>,
    /// The attachment's; that of an ephemeral session is its lane's alone, and ends with it.
    pub(super) estate: Arc<Estate>,
    pub(super) reading: Option<Reading>,
    /// Counts it as open.
    pub(super) _active: Active,
}

/// Counts a session as open until dropped.
#[derive(Debug)]
pub(super) struct Active(Arc<Metrics>);

impl Active {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        metrics.sessions_active.inc();
        Self(metrics)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.sessions_active.dec();
    }
}

/// The reading side.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) session: Session,
    pub(super) reader: ReaderGuard,
    /// Bytes the lane may still send in this round; below zero after an event larger than that.
    pub(super) deficit: isize,
    /// It could send nothing although there was something: held until a Flow allows more.
    pub(super) blocked: bool,
    /// It is in the round.
    pub(super) has_turn: bool,
    /// Held until then.
    pub(super) later: Option<Instant>,
    /// What it is sent next has waited for something of its client: for credit, the end of a pause, its rate.
    waited: bool,
    /// Nothing was sent since the last heartbeat.
    pub(super) quiet: bool,
}

/// Chunks of a response body being put together: small pieces are copied into one, large ones stand alone.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) chunks: std::collections::VecDeque<Bytes>,
    pub(super) open: BytesMut,
    pub(super) frames: u64,
    pub(super) events: u64,
}

impl Batch {
    pub(super) fn frame(&mut self, frame: Frame) {
        proto::frame(&mut self.open, frame);
        self.frames += 1;
    }

    fn run(&mut self, alias: u32, run: Run<'_>) {
        let head = DeliveryHead { session: alias, prev: run.prev, skipped: run.skipped, snapshot: run.snapshot };
        // Room for exactly that: a single run then needs no more than one allocation.
        head.put(&mut self.open, run.encoded_len, run.encoded_len.min(SHARE_FROM));
        for record in run.records {
            if record.encoded.len() < SHARE_FROM {
                self.open.extend_from_slice(&record.encoded);
            } else {
                self.close();
                self.chunks.push_back(record.encoded.clone());
            }
        }
        self.frames += 1;
    }

    /// Makes a chunk of what has been copied so far.
    pub(super) fn close(&mut self) {
        if !self.open.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.open).freeze());
        }
    }
}

/// Whose turn it is, and when.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) alias: u32,
    pub(super) producer: &'a Producer,
    pub(super) now: Instant,
    pub(super) shared: &'a Shared,
}

/// Why a turn was over.
#[derive(Debug)]
pub(super) enum TurnEnd {
    /// Nothing more to send, or nothing allowed: growth or a Flow will wake the lane.
    Quiet,
    /// Nothing before that moment.
    Later(Instant),
    /// The deficit is used up.
    Spent,
    /// The session has ended.
    Ended(Option<Failure>),
}

impl Reading {
    pub(super) fn new(session: Session, reader: ReaderGuard) -> Self {
        Self { session, reader, deficit: 0, blocked: false, has_turn: false, later: None, waited: false, quiet: false }
    }

    /// Sends what the deficit allows. The bytes used, and why it stopped.
    pub(super) fn turn(&mut self, turn: &Turn<'_>, batch: &mut Batch) -> (usize, TurnEnd) {
        let Turn { alias, now, .. } = *turn;
        let feed = self.reader.feed().clone();
        let mut used = 0;
        let end = loop {
            let log = feed.log();
            let seen = log.head();
            let budget = usize::try_from(self.deficit).unwrap_or(0);
            let live = !self.waited && !self.session.reads_history();
            let step = self.session.on(Event::Turn { log: &log, budget, now });
            match step {
                Step::Blocked | Step::Later(_) => self.waited = true,
                Step::Idle => self.waited = false,
                _ => {}
            }
            match step {
                Step::Run(run) => {
                    used += run.encoded_len;
                    self.quiet = false;
                    self.deficit -= isize::try_from(run.encoded_len).unwrap_or(isize::MAX);
                    batch.events += run.count as u64;
                    turn.count(&feed, &run, seen.epoch, live);
                    batch.run(alias, run);
                    if self.deficit <= 0 {
                        return (used, TurnEnd::Spent);
                    }
                }
                Step::Gap(gap) => announce(alias, &gap, batch, &turn.shared.metrics),
                Step::Blocked if !self.session.policy().watches_growth() => {
                    // Stays held: until a Flow allows more, growth would wake the connection for nothing.
                    self.blocked = true;
                    break TurnEnd::Quiet;
                }
                Step::Idle | Step::Blocked => {
                    drop(log);
                    if !self.has_grown(seen) {
                        break TurnEnd::Quiet;
                    }
                }
                Step::Later(at) => {
                    self.later = Some(at);
                    break TurnEnd::Later(at);
                }
                Step::End(failure) => break TurnEnd::Ended(failure),
            }
        };
        self.deficit = 0;
        (used, end)
    }

    /// Has growth wake the lane from now on, and looks once more: true if the topic has grown since, and the lane goes
    /// on at once.
    fn has_grown(&self, seen: Cursor) -> bool {
        self.reader.reader().rearm();
        let grown = self.reader.feed().log().head() != seen;
        grown && self.reader.reader().hold()
    }
}

fn announce(alias: u32, gap: &Gap, batch: &mut Batch, metrics: &Metrics) {
    metrics.gap(gap.reason.into());
    if gap.reason == GapReason::Slow {
        metrics.slow_session(words::SlowAction::DropOldest);
    }
    batch.frame(Frame::Gap(gap_frame(alias, gap)));
}

impl Turn<'_> {
    /// `live`: what is sent has waited for nothing but us.
    fn count(&self, feed: &Feed, run: &Run<'_>, epoch: u64, live: bool) {
        let metrics = &self.shared.metrics;
        metrics.events_delivered.inc_by(run.count as u64);
        metrics.events_delivered_bytes.inc_by(run.payload_len);
        metrics.events_skipped.inc_by(run.skipped);
        // What is in a snapshot was not published for this delivery.
        let Some(oldest) = run.records.clone().next().filter(|_| !run.snapshot) else { return };
        if live {
            let waited = Timestamp::now().0.saturating_sub(oldest.time.0);
            metrics.delivery_latency.observe_traced(Duration::from_micros(waited), oldest.trace.as_deref());
        }
        for record in run.records.clone() {
            if let Some(publish) = &record.trace {
                self.shared.traces.delivered(Delivering {
                    publish,
                    topic: feed.topic().as_str(),
                    session: (self.producer.client_id().as_str(), self.producer.session_id().as_str()),
                    epoch,
                    offset: record.offset,
                    stored: record.time,
                });
            }
        }
    }
}

fn gap_frame(alias: u32, gap: &Gap) -> proto::v1::Gap {
    proto::v1::Gap {
        session: alias,
        from: Some(gap.from.into()),
        to: Some(gap.to.into()),
        reason: match gap.reason {
            GapReason::Retention => proto::v1::GapReason::Retention,
            GapReason::Slow => proto::v1::GapReason::Slow,
            GapReason::Epoch => proto::v1::GapReason::Epoch,
            GapReason::Diverged => proto::v1::GapReason::Diverged,
        } as i32,
        count: gap.count,
        possible: gap.reason == GapReason::Diverged,
    }
}

impl Lane {
    /// As operators see it. An ephemeral session has the name that was made up for it.
    pub(super) fn status(&self) -> SessionStatus {
        let session = self.reading.as_ref().map(|reading| &reading.session);
        let log = self.feed.log();
        let (lag, slow) = self.waiting(&log);
        SessionStatus {
            session_id: self.producer.session_id().to_string(),
            topic: self.feed.topic().to_string(),
            cursor: session.map_or(log.head().offset, |session| session.cursor().offset),
            lag,
            slow,
            paused: session.is_some_and(Session::is_paused),
            attach: self.attach,
            delivered: session.map_or(0, Session::sent_events),
        }
    }

    /// Counts what waits for it.
    pub(super) fn add_to(&self, all: &mut Backlog) {
        let (lag, slow) = self.waiting(&self.feed.log());
        all.lag = all.lag.saturating_add(lag);
        all.slow += u32::from(slow);
        all.paused += u32::from(self.reading.as_ref().is_some_and(|reading| reading.session.is_paused()));
    }

    /// Events that wait for it, and whether that is more than should.
    fn waiting(&self, log: &Log) -> (u64, bool) {
        let Some(Reading { session, .. }) = &self.reading else { return (0, false) };
        (session.lag(log), session.is_overdue(self.feed.delivery().queue_size, log))
    }
}
