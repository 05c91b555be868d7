//! Credit: how much a server may send before the application has taken what came. No I/O.

use super::shared::Totals;

/// One session's account. The protocol counts from each attach, the account for as long as the session lives, so that
/// what still waits from before a reconnect takes its part of the window.
#[derive(Debug)]
pub(super) struct Window {
    size: Totals,
    /// Received since the session began.
    received: Totals,
    /// Taken by the application since the session began; at most `received`.
    taken: Totals,
    /// `received` at the last attach: where the protocol's count begins.
    base: Totals,
    /// What the server was told last, counted from the attach.
    granted: Totals,
}

impl Window {
    pub(super) fn new(size: Totals) -> Self {
        let zero = Totals::default();
        Self { size, received: zero, taken: zero, base: zero, granted: zero }
    }

    /// A new attach begins, with this credit. While `paused` it is nothing, so that nothing can come between the open
    /// and the pause.
    pub(super) fn attach(&mut self, paused: bool) -> Totals {
        self.base = self.received;
        self.granted = if paused { Totals::default() } else { self.due() };
        self.granted
    }

    /// The application has taken so much in all.
    pub(super) fn take(&mut self, taken: Totals) {
        self.taken = taken;
    }

    /// New totals for the server, if at least half a window has become free since the last ones, or all has.
    pub(super) fn extend(&mut self) -> Option<Totals> {
        let due = self.due();
        let half = |size: u64| size.div_ceil(2);
        let worth_it = due.events.saturating_sub(self.granted.events) >= half(self.size.events)
            || due.bytes.saturating_sub(self.granted.bytes) >= half(self.size.bytes);
        worth_it.then(|| {
            self.granted = due;
            due
        })
    }

    /// How many of a run of events, by their sizes, the server had credit for. The event that crosses the byte total
    /// is within the rules, and so are empty ones that follow the one which reached it.
    pub(super) fn admits(&self, sizes: impl Iterator<Item = u64>) -> usize {
        let mut events = self.received.events - self.base.events;
        let mut bytes = self.received.bytes - self.base.bytes;
        sizes
            .take_while(|size| {
                let within = events < self.granted.events && (bytes < self.granted.bytes || *size == 0);
                events += 1;
                bytes += size;
                within
            })
            .count()
    }

    /// Counts an event that was accepted.
    pub(super) fn receive(&mut self, bytes: u64) {
        self.received.events += 1;
        self.received.bytes += bytes;
    }

    /// What the server may have sent since the attach, if the application takes nothing more.
    fn due(&self) -> Totals {
        let room = |taken: u64, size: u64, base: u64| (taken + size).saturating_sub(base);
        let events = room(self.taken.events, self.size.events, self.base.events);
        let bytes = room(self.taken.bytes, self.size.bytes, self.base.bytes);
        // On the wire no bytes means "as the events allow", so a side without room closes both.
        if events == 0 || bytes == 0 { Totals::default() } else { Totals { events, bytes } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(events: u64, bytes: u64) -> Totals {
        Totals { events, bytes }
    }

    fn accept(window: &mut Window, bytes: u64) -> bool {
        let within = window.admits([bytes].into_iter()) == 1;
        if within {
            window.receive(bytes);
        }
        within
    }

    fn attached() -> Window {
        let mut window = Window::new(totals(10, 1000));
        assert_eq!(window.attach(false), totals(10, 1000));
        window
    }

    #[test]
    fn credit_is_extended_when_half_of_it_was_taken() {
        let mut window = attached();
        (0..10).for_each(|_| assert!(accept(&mut window, 1)));
        window.take(totals(4, 4));
        assert_eq!(window.extend(), None);
        window.take(totals(5, 5));
        assert_eq!(window.extend(), Some(totals(15, 1005)));
        assert_eq!(window.extend(), None);
    }

    #[test]
    fn what_exceeds_the_credit_is_noticed() {
        let mut window = attached();
        (0..10).for_each(|_| assert!(accept(&mut window, 1)));
        assert!(!accept(&mut window, 1));
    }

    #[test]
    fn one_event_may_cross_the_byte_total_and_none_may_follow() {
        let mut window = attached();
        assert!(accept(&mut window, 5000));
        assert!(!accept(&mut window, 1));
        window.take(totals(1, 5000));
        assert_eq!(window.extend(), Some(totals(11, 6000)));
        assert!(accept(&mut window, 1));
    }

    #[test]
    fn after_a_reconnect_what_still_waits_takes_its_part_and_the_count_begins_anew() {
        let mut window = attached();
        (0..7).for_each(|_| assert!(accept(&mut window, 10)));
        assert_eq!(window.attach(false), totals(3, 930));
        (0..3).for_each(|_| assert!(accept(&mut window, 10)));
        assert!(!accept(&mut window, 10));
        window.take(totals(10, 100));
        assert_eq!(window.extend(), Some(totals(13, 1030)));
    }

    #[test]
    fn a_full_window_grants_nothing_at_a_reconnect_not_even_by_the_bytes_that_mean_no_limit() {
        let mut window = attached();
        assert!(accept(&mut window, 1000));
        assert_eq!(window.attach(false), totals(0, 0));
        window.take(totals(1, 1000));
        assert_eq!(window.extend(), Some(totals(10, 1000)));
    }

    #[test]
    fn a_paused_session_is_attached_without_credit_and_gets_it_when_resumed() {
        let mut window = attached();
        assert_eq!(window.attach(true), totals(0, 0));
        assert_eq!(window.extend(), Some(totals(10, 1000)));
    }
}
