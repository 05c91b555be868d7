//! How a connection is doing: numbers written on its hot path and judged by the sweep.

use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::Config;

/// Where a connection stands. A silent one goes down the list; any frame leads back to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Heard from in time.
    Connected,
    /// Silent too long; the probe is still to be queued.
    Suspect,
    /// The probe is out.
    Probed,
    /// Given up.
    Dead,
}

impl State {
    const ALL: [Self; 4] = [Self::Connected, Self::Suspect, Self::Probed, Self::Dead];

    /// The word in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Suspect => "suspect",
            Self::Probed => "probed",
            Self::Dead => "dead",
        }
    }
}

/// What the sweep finds to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    Fine,
    /// A heartbeat is due; with the wish for an answer if the peer has been quiet.
    HeartbeatDue {
        reply_requested: bool,
    },
    /// Probe it, and say whether that worked.
    ProbeDue,
    /// It is dead.
    Dead,
    /// It takes nothing.
    Stalled,
}

/// Times are readings of the registry's coarse clock, milliseconds; 0 means "never" or "not now".
#[derive(Debug)]
pub struct Vitals {
    last_received: AtomicU64,
    /// When something was handed to HTTP/2 that it has not come back from yet.
    sending_since: AtomicU64,
    control_sent: AtomicU64,
    half_closed: AtomicBool,
    received: AtomicU64,
    received_bytes: AtomicU64,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    published: AtomicU64,
    delivered: AtomicU64,
    sessions: AtomicU32,
    // The sweep's own: nobody else writes these.
    state: AtomicU8,
    state_since: AtomicU64,
    heartbeat_due: AtomicU64,
}

impl Vitals {
    pub(super) fn new(now: u64, heartbeat_interval: Duration) -> Self {
        Self {
            last_received: AtomicU64::new(now),
            sending_since: AtomicU64::new(0),
            control_sent: AtomicU64::new(0),
            half_closed: AtomicBool::new(false),
            received: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            published: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            sessions: AtomicU32::new(0),
            state: AtomicU8::new(State::Connected as u8),
            state_since: AtomicU64::new(now),
            heartbeat_due: AtomicU64::new(now.saturating_add(jittered(heartbeat_interval))),
        }
    }

    /// A frame has come.
    pub fn received(&self, now: u64) {
        self.heard(now, 0);
        self.received.fetch_add(1, Relaxed);
    }

    /// Bytes have come, of whatever frame: a large one on a slow link is life too.
    pub fn heard(&self, now: u64, bytes: usize) {
        self.last_received.store(now, Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// The client has said all it will ever say: its silence means nothing any more.
    pub fn half_closed(&self) {
        self.half_closed.store(true, Relaxed);
    }

    /// Control frames, a probe perhaps, were handed to HTTP/2.
    pub fn control_sent(&self, now: u64) {
        self.control_sent.store(now, Relaxed);
    }

    /// Frames, of so many bytes together, were handed to HTTP/2.
    pub fn sending(&self, now: u64, frames: u64, bytes: usize) {
        self.sending_since.store(now, Relaxed);
        self.sent.fetch_add(frames, Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// An event of the client's was stored.
    pub fn published(&self) {
        self.published.fetch_add(1, Relaxed);
    }

    /// Events were handed to HTTP/2.
    pub fn delivered(&self, count: u64) {
        self.delivered.fetch_add(count, Relaxed);
    }

    /// HTTP/2 has taken all it was handed and asks for more.
    pub fn sent_all(&self) {
        self.sending_since.store(0, Relaxed);
    }

    /// Sessions are open.
    pub fn set_sessions(&self, count: usize) {
        self.sessions.store(u32::try_from(count).unwrap_or(u32::MAX), Relaxed);
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Relaxed))]
    }

    /// Milliseconds since the last frame.
    pub fn idle_millis(&self, now: u64) -> u64 {
        now.saturating_sub(self.last_received.load(Relaxed))
    }

    /// Frames received and sent.
    pub fn frames(&self) -> (u64, u64) {
        (self.received.load(Relaxed), self.sent.load(Relaxed))
    }

    /// Bytes received and sent.
    pub fn bytes(&self) -> (u64, u64) {
        (self.received_bytes.load(Relaxed), self.sent_bytes.load(Relaxed))
    }

    /// Events published and delivered.
    pub fn events(&self) -> (u64, u64) {
        (self.published.load(Relaxed), self.delivered.load(Relaxed))
    }

    /// Open sessions.
    pub fn sessions(&self) -> u32 {
        self.sessions.load(Relaxed)
    }

    /// What there is to do at `now`. `silence_limit` is the silence that makes suspect; none if it is not to be judged.
    pub(super) fn examine(&self, now: u64, silence_limit: Option<u64>, config: &Config) -> Finding {
        let sending_since = self.sending_since.load(Relaxed);
        let stalled = sending_since != 0 && now.saturating_sub(sending_since) >= millis(config.send_timeout);
        if stalled && self.state() != State::Dead {
            self.enter(State::Dead, now);
            return Finding::Stalled;
        }
        if self.half_closed.load(Relaxed) {
            return Finding::Fine;
        }
        let idle = self.idle_millis(now);
        let in_state = now.saturating_sub(self.state_since.load(Relaxed));
        match self.state() {
            State::Connected if silence_limit.is_some_and(|limit| idle >= limit) => {
                self.enter(State::Suspect, now);
                Finding::ProbeDue
            }
            State::Connected => self.heartbeat(now, idle, config),
            // Equal is heard too: the clock stands still between two looks, and an answer comes within one.
            State::Suspect | State::Probed if idle <= in_state => {
                self.enter(State::Connected, now);
                self.heartbeat(now, idle, config)
            }
            State::Suspect if in_state >= millis(config.probe_queue_timeout) => self.give_up(now),
            State::Suspect => Finding::ProbeDue,
            State::Probed if self.since_probe(now) >= millis(config.probe_timeout) => self.give_up(now),
            State::Probed | State::Dead => Finding::Fine,
        }
    }

    /// Milliseconds since the probe was handed to HTTP/2; none while it stands behind what is going out before it. A
    /// connection whose way out is stuck altogether is found by that.
    fn since_probe(&self, now: u64) -> u64 {
        let (queued, sent) = (self.state_since.load(Relaxed), self.control_sent.load(Relaxed));
        if sent < queued { 0 } else { now.saturating_sub(sent) }
    }

    fn heartbeat(&self, now: u64, idle: u64, config: &Config) -> Finding {
        if now < self.heartbeat_due.load(Relaxed) {
            return Finding::Fine;
        }
        self.heartbeat_due.store(now.saturating_add(jittered(config.heartbeat_interval)), Relaxed);
        // A client that only listens answers this and so never becomes suspect.
        Finding::HeartbeatDue { reply_requested: idle >= millis(config.heartbeat_interval) / 2 }
    }

    /// The probe was queued.
    pub(super) fn probed(&self, now: u64) {
        self.enter(State::Probed, now);
    }

    fn give_up(&self, now: u64) -> Finding {
        self.enter(State::Dead, now);
        Finding::Dead
    }

    fn enter(&self, state: State, now: u64) {
        self.state.store(state as u8, Relaxed);
        self.state_since.store(now, Relaxed);
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `interval` ± 10 %, milliseconds: connections that began together do not beat together.
fn jittered(interval: Duration) -> u64 {
    let tenth = millis(interval) / 10;
    millis(interval) - tenth + fastrand::u64(0..=2 * tenth)
}
