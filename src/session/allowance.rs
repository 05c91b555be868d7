//! How much a session may send: absolute totals since the open, and what of them is used up.

use super::Credit;
use crate::planted::{self, Bug};

/// See the module. Without credit there is no limit but HTTP/2's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    credit: Option<Credit>,
    sent: Credit,
}

impl Allowance {
    pub(super) fn new(credit: Option<Credit>) -> Self {
        Self { credit, sent: Credit::default() }
    }

    /// Applies new totals. Credit only grows.
    pub(super) fn grant(&mut self, granted: Credit) {
        // Nothing at all says nothing of bytes either: it leaves what was granted, or is to be, as it is.
        if granted == Credit::default() {
            return;
        }
        let Some(held) = &mut self.credit else {
            // A session that was opened without a limit has one from now on.
            self.credit = Some(granted);
            return;
        };
        if *held == Credit::default() {
            *held = granted;
        }
        held.events = held.events.max(granted.events);
        // None at all is the most.
        let unlimited = held.bytes == 0 || granted.bytes == 0;
        held.bytes = if unlimited { 0 } else { held.bytes.max(granted.bytes) };
    }

    /// True if one more event may go after `events` and `bytes` of a run that is being put together.
    pub(super) fn covers(&self, events: usize, bytes: u64) -> bool {
        self.credit.is_none_or(|credit| {
            let enough_bytes = credit.bytes == 0 || self.sent.bytes + bytes < credit.bytes;
            let over = u64::from(planted::active(Bug::OverrunsCredit));
            self.sent.events + (events as u64) < credit.events + over && enough_bytes
        })
    }

    /// How many more events there is credit for; 0 where nothing limits them.
    pub(super) fn remaining(&self) -> u64 {
        self.credit.filter(|_| self.covers(0, 0)).map_or(0, |credit| credit.events.saturating_sub(self.sent.events))
    }

    /// A run has been sent.
    pub(super) fn spend(&mut self, events: usize, bytes: u64) {
        self.sent.events += events as u64;
        self.sent.bytes += bytes;
    }

    /// Events sent.
    pub(super) fn sent_events(&self) -> u64 {
        self.sent.events
    }
}
