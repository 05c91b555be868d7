//! Publishes without an answer: what is sent when, again when, under which number, and for how long. No I/O.
//!
//! The server stores (session id, seq) at most once and refuses a seq that leaves a hole. So: numbers are given at the
//! first sending, a number that may have been stored is never given to another event, and a refused event gives its
//! number to the next.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{Error, ErrorKind, NewEvent, Published, Refusal};
use crate::{error::Advice, proto::v1};

/// How often an event may be refused with `WRONG_SEQ` before it fails. Each one is numbered anew by what the server
/// says, so a second one already means that the two do not agree.
const MAX_RENUMBERINGS: u32 = 3;

/// The publishes of one session. `T` is whatever an event's answer is given to.
#[derive(Debug)]
pub(super) struct Outstanding<T> {
    entries: VecDeque<Entry<T>>,
    /// How many entries, from the first on, were sent on the present attach and wait for an answer.
    sent: usize,
    /// The number of the next event sent for the first time.
    next_seq: u64,
    /// Of the log the session is attached to.
    epoch: u64,
    /// Nothing is sent before.
    not_before: Option<Instant>,
    /// How many may be unanswered after the server has held us back: what it refuses was sent in vain. From one on, it
    /// doubles with each that is stored.
    pace: usize,
}

#[derive(Debug)]
struct Entry<T> {
    event: NewEvent,
    done: T,
    /// 0 until first sent.
    seq: u64,
    /// Of the last sending; 0 if its answer no longer counts.
    request_id: u64,
    /// Since when it may be stored.
    first_sent: Option<Instant>,
    /// It may be stored in a log before the present one: what the server now says of it is not all there is to say.
    elsewhere: bool,
    renumbered: u32,
}

impl<T> Entry<T> {
    /// The end of an event that the server refused.
    fn refused(self, refusal: Refusal) -> Outcome<T> {
        let kind = if self.elsewhere { ErrorKind::UnknownOutcome } else { ErrorKind::PublishFailed };
        (self.done, Err(Error::refused(kind, refusal)))
    }
}

/// The end of one publish.
pub(super) type Outcome<T> = (T, Result<Published, Error>);

/// What a server's answer to a publish says.
#[derive(Debug)]
pub(super) enum Answer {
    /// Stored.
    Stored(Published),
    /// Not stored, and `through_seq` of the reply.
    Refused(Refusal, u64),
}

impl<T> Outstanding<T> {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), sent: 0, next_seq: 1, epoch: 0, not_before: None, pace: usize::MAX }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push(&mut self, event: NewEvent, done: T) {
        self.entries.push_back(Entry {
            event,
            done,
            seq: 0,
            request_id: 0,
            first_sent: None,
            elsewhere: false,
            renumbered: 0,
        });
    }

    /// The session is attached anew: everything is to be sent again, unchanged and in order. `published_seq` is what
    /// the server knows to be stored: another process may have numbered further than we have. `epoch` is its log's.
    pub(super) fn attached(&mut self, published_seq: u64, epoch: u64) {
        if std::mem::replace(&mut self.epoch, epoch) != epoch {
            let sent = self.entries.iter_mut().filter(|entry| entry.first_sent.is_some());
            sent.for_each(|entry| entry.elsewhere = true);
        }
        self.sent = 0;
        self.not_before = None;
        self.next_seq = self.next_seq.max(published_seq.saturating_add(1));
    }

    /// The next to send, if fewer than `limit` wait for an answer: the frame, under `request_id`.
    pub(super) fn next(&mut self, now: Instant, limit: usize, request_id: u64) -> Option<v1::Publish> {
        if self.sent >= limit.min(self.pace) || self.not_before.is_some_and(|time| now < time) {
            return None;
        }
        let entry = self.entries.get_mut(self.sent)?;
        if entry.seq == 0 {
            entry.seq = self.next_seq;
            self.next_seq += 1;
        }
        entry.request_id = request_id;
        entry.first_sent.get_or_insert(now);
        self.sent += 1;
        Some(v1::Publish { session: 0, seq: entry.seq, event: Some(entry.event.clone()) })
    }

    /// Takes an answer. From a connection that is `stale`, only success counts: whatever it refused is asked again on
    /// the present one. `pause` is how long to wait where the server advises a retry but names no time.
    pub(super) fn answer(
        &mut self,
        request_id: u64,
        answer: Answer,
        stale: bool,
        now: Instant,
        pause: Duration,
    ) -> Option<Outcome<T>> {
        let index = self.entries.iter().position(|entry| entry.request_id == request_id && request_id != 0)?;
        match answer {
            Answer::Stored(published) => {
                self.pace = self.pace.saturating_mul(2);
                self.remove(index).map(|entry| (entry.done, Ok(published)))
            }
            Answer::Refused(..) if stale => None,
            Answer::Refused(refusal, through) if refusal.reason == "WRONG_SEQ" => {
                self.renumber_after(index, refusal, through)
            }
            // Stored, but where is forgotten: it keeps its number.
            Answer::Refused(refusal, _) if refusal.reason == "FORGOTTEN_SEQ" => {
                self.remove(index).map(|entry| entry.refused(refusal))
            }
            Answer::Refused(refusal, _) if refusal.reason == "BACKPRESSURE" => {
                self.hold(index, now + refusal.retry_after.unwrap_or(pause));
                None
            }
            Answer::Refused(refusal, _) if is_to_be_repeated(&refusal) => {
                self.rewind(index);
                self.not_before = Some(now + refusal.retry_after.unwrap_or(pause));
                None
            }
            Answer::Refused(refusal, _) => {
                let entry = self.remove(index)?;
                // All that were sent after it are refused too, because they leave a hole where it was.
                self.renumber(index, entry.seq);
                Some(entry.refused(refusal))
            }
        }
    }

    /// Gives up what was first sent longer than `patience` ago: beyond the server's memory a repeat could be stored
    /// twice. Its numbers are not given to others.
    pub(super) fn expire(&mut self, now: Instant, patience: Duration) -> Vec<Outcome<T>> {
        let mut expired = Vec::new();
        // In order of first sending, so that the first one that is young enough ends the search.
        while self.entries.front().and_then(|entry| entry.first_sent).is_some_and(|sent| now >= sent + patience) {
            expired.extend(self.remove(0).map(|entry| (entry.done, Err(unknown("no answer in time")))));
        }
        expired
    }

    /// When `next` or `expire` has something to do that it has not now; `None` if only a frame or command can.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Instant> {
        let expiry = self.entries.front().and_then(|entry| entry.first_sent).map(|sent| sent + patience);
        [expiry, self.not_before].into_iter().flatten().min()
    }

    /// Forgets a past `not_before`, so that `deadline` does not name it again.
    pub(super) fn wake(&mut self, now: Instant) {
        self.not_before = self.not_before.filter(|time| now < *time);
    }

    /// Ends them all: those that were never sent with `unsent`, the others may or may not be stored.
    pub(super) fn end(&mut self, unsent: &Error) -> Vec<Outcome<T>> {
        self.sent = 0;
        let end = |entry: Entry<T>| {
            let error = if entry.first_sent.is_some() { unknown(&unsent.to_string()) } else { unsent.clone() };
            (entry.done, Err(error))
        };
        self.entries.drain(..).map(end).collect()
    }

    fn remove(&mut self, index: usize) -> Option<Entry<T>> {
        if index < self.sent {
            self.sent -= 1;
        }
        self.entries.remove(index)
    }

    /// The entries from `index` on are to be sent again, as they are; answers still on their way do not count.
    fn rewind(&mut self, index: usize) {
        self.sent = self.sent.min(index);
        self.entries.range_mut(index..).for_each(|entry| entry.request_id = 0);
    }

    /// A reader the publishers wait for has not kept up. That may take any time, which does not count: the server has
    /// said that the entry is not stored, and so those after it cannot be.
    fn hold(&mut self, index: usize, until: Instant) {
        self.rewind(index);
        let here = self.entries.range_mut(index..).filter(|entry| !entry.elsewhere);
        here.for_each(|entry| entry.first_sent = None);
        self.not_before = Some(until);
        self.pace = 1;
    }

    /// The entries from `index` on are known not to be stored: they are sent again, numbered from `first` on.
    fn renumber(&mut self, index: usize, first: u64) {
        self.rewind(index);
        // Never a number that one before it may still be stored under.
        let taken = index.checked_sub(1).map_or(0, |before| self.entries[before].seq);
        let first = first.max(taken + 1);
        self.entries.range_mut(index..).for_each(|entry| entry.seq = 0);
        self.next_seq = first;
    }

    fn renumber_after(&mut self, index: usize, refusal: Refusal, through: u64) -> Option<Outcome<T>> {
        let entry = &mut self.entries[index];
        entry.renumbered += 1;
        // A hole lies below the number. Anything else is a disagreement that repeating does not cure.
        if through.saturating_add(1) >= entry.seq || entry.renumbered > MAX_RENUMBERINGS {
            let entry = self.remove(index)?;
            self.renumber(index, through.saturating_add(1));
            return Some(entry.refused(refusal));
        }
        self.renumber(index, through + 1);
        None
    }
}

fn is_to_be_repeated(refusal: &Refusal) -> bool {
    // Of a session that has ended on the server, SessionClosed says how it goes on.
    let has_ended = ["UNKNOWN_SESSION", "TAKEN_OVER"].contains(&&*refusal.reason);
    has_ended || matches!(refusal.advice, Advice::Retry | Advice::Reconnect)
}

fn unknown(why: &str) -> Error {
    Error::new(ErrorKind::UnknownOutcome, format!("the event may or may not be stored: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Cursor, Durability};

    const PAUSE: Duration = Duration::from_millis(100);

    fn refusal(reason: &str, advice: Advice) -> Refusal {
        Refusal {
            code: tonic::Code::Unknown,
            reason: reason.to_owned(),
            message: String::new(),
            advice,
            retry_after: None,
            metadata: Default::default(),
        }
    }

    struct Bench {
        outstanding: Outstanding<u32>,
        now: Instant,
        requests: u64,
    }

    impl Bench {
        /// With events 1 to `count` handed over, attached.
        fn new(count: u32) -> Self {
            let mut outstanding = Outstanding::new();
            (1..=count).for_each(|n| outstanding.push(NewEvent::default(), n));
            outstanding.attached(0, 7);
            Self { outstanding, now: Instant::now(), requests: 0 }
        }

        /// Sends all that may be sent: (request id, seq).
        fn send(&mut self, limit: usize) -> Vec<(u64, u64)> {
            let mut sent = Vec::new();
            while let Some(publish) = self.outstanding.next(self.now, limit, self.requests + 1) {
                self.requests += 1;
                sent.push((self.requests, publish.seq));
            }
            sent
        }

        fn stored(&mut self, request: u64, stale: bool) -> Option<u32> {
            let published = Published { cursor: Cursor::default(), duplicate: false, durability: Durability::Accepted };
            self.answer(request, Answer::Stored(published), stale).map(|(event, result)| {
                assert!(result.is_ok());
                event
            })
        }

        fn refused(&mut self, request: u64, reason: &str, advice: Advice, through: u64) -> Option<u32> {
            self.answer(request, Answer::Refused(refusal(reason, advice), through), false).map(|(event, result)| {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::PublishFailed);
                event
            })
        }

        fn answer(&mut self, request: u64, answer: Answer, stale: bool) -> Option<Outcome<u32>> {
            self.outstanding.answer(request, answer, stale, self.now, PAUSE)
        }
    }

    #[tokio::test]
    async fn at_most_the_limit_is_unanswered_and_numbers_rise_by_one() {
        let mut bench = Bench::new(4);
        assert_eq!(bench.send(3), [(1, 1), (2, 2), (3, 3)]);
        assert_eq!(bench.stored(1, false), Some(1));
        assert_eq!(bench.send(3), [(4, 4)]);
    }

    #[tokio::test]
    async fn a_new_process_goes_on_after_what_the_server_knows() {
        let mut bench = Bench::new(1);
        bench.outstanding.attached(41, 7);
        assert_eq!(bench.send(9), [(1, 42)]);
    }

    #[tokio::test]
    async fn after_a_reconnect_all_unanswered_are_sent_again_in_order_under_their_numbers() {
        let mut bench = Bench::new(3);
        bench.send(2);
        bench.stored(1, false);
        bench.outstanding.attached(1, 7);
        assert_eq!(bench.send(9), [(3, 2), (4, 3)]);
        // The answer to the first sending no longer counts: the second will be answered too.
        assert_eq!(bench.stored(2, true), None);
        assert_eq!(bench.stored(3, false), Some(2));
    }

    #[tokio::test]
    async fn what_another_log_may_have_is_not_called_refused() {
        let mut bench = Bench::new(2);
        bench.send(1);
        bench.outstanding.attached(0, 8);
        assert_eq!(bench.send(9), [(2, 1), (3, 2)]);
        let refuse = |bench: &mut Bench, request| {
            let refusal = refusal("WRONG_LAST", Advice::None);
            bench.answer(request, Answer::Refused(refusal, 0), false).unwrap().1.unwrap_err().kind()
        };
        assert_eq!(refuse(&mut bench, 2), ErrorKind::UnknownOutcome);
        // The second was never sent to the server that is gone; its number is that of the one before it now.
        assert_eq!(bench.send(9), [(4, 1)]);
        assert_eq!(refuse(&mut bench, 4), ErrorKind::PublishFailed);
    }

    #[tokio::test]
    async fn success_on_the_connection_before_counts_until_it_is_sent_again_and_refusal_does_not() {
        let mut bench = Bench::new(2);
        bench.send(9);
        assert_eq!(bench.stored(1, true), Some(1));
        let refusal = refusal("UNKNOWN_SESSION", Advice::None);
        assert!(bench.answer(2, Answer::Refused(refusal, 0), true).is_none());
        bench.outstanding.attached(1, 7);
        assert_eq!(bench.send(9), [(3, 2)]);
    }

    #[tokio::test]
    async fn a_refused_event_gives_its_number_to_the_next_and_those_after_it_are_sent_again() {
        let mut bench = Bench::new(3);
        bench.send(9);
        assert_eq!(bench.refused(1, "WRONG_LAST", Advice::None, 0), Some(1));
        // What the server says of the others is old news.
        assert_eq!(bench.refused(2, "WRONG_SEQ", Advice::None, 0), None);
        assert_eq!(bench.send(9), [(4, 1), (5, 2)]);
        assert_eq!(bench.refused(3, "WRONG_SEQ", Advice::None, 0), None);
        assert_eq!(bench.stored(4, false), Some(2));
        assert_eq!(bench.stored(5, false), Some(3));
        assert!(bench.outstanding.is_empty());
    }

    #[tokio::test]
    async fn a_refusal_does_not_touch_those_before_it_that_still_wait() {
        let mut bench = Bench::new(3);
        bench.send(9);
        assert_eq!(bench.refused(2, "TOO_LARGE", Advice::None, 0), Some(2));
        assert_eq!(bench.send(9), [(4, 2)]);
        assert_eq!(bench.stored(1, false), Some(1));
        assert_eq!(bench.stored(4, false), Some(3));
    }

    #[tokio::test]
    async fn a_hole_is_closed_by_numbering_from_where_the_server_says() {
        let mut bench = Bench::new(2);
        bench.outstanding.attached(9, 7);
        assert_eq!(bench.send(9), [(1, 10), (2, 11)]);
        assert_eq!(bench.refused(1, "WRONG_SEQ", Advice::None, 4), None);
        assert_eq!(bench.send(9), [(3, 5), (4, 6)]);
    }

    #[tokio::test]
    async fn a_server_that_contradicts_itself_about_numbers_is_not_argued_with() {
        let mut bench = Bench::new(1);
        bench.send(9);
        assert_eq!(bench.refused(1, "WRONG_SEQ", Advice::None, 0), Some(1));
    }

    #[tokio::test]
    async fn advice_to_retry_repeats_unchanged_after_a_pause() {
        let mut bench = Bench::new(2);
        bench.send(9);
        assert_eq!(bench.refused(1, "TOPIC_LIMIT", Advice::Retry, 0), None);
        assert_eq!(bench.send(9), []);
        assert_eq!(bench.outstanding.deadline(Duration::MAX / 4), Some(bench.now + PAUSE));
        bench.now += PAUSE;
        bench.outstanding.wake(bench.now);
        assert_eq!(bench.send(9), [(3, 1), (4, 2)]);
    }

    #[tokio::test]
    async fn a_publisher_that_is_held_back_waits_as_long_as_it_takes_and_then_speeds_up() {
        let mut bench = Bench::new(9);
        let patience = Duration::from_secs(135);
        assert_eq!(bench.send(9).len(), 9);
        assert_eq!(bench.stored(1, false), Some(1));
        for round in 0..1000 {
            let refused = if round == 0 { 2 } else { bench.requests };
            assert_eq!(bench.refused(refused, "BACKPRESSURE", Advice::Retry, 1), None);
            assert_eq!(bench.outstanding.deadline(patience), Some(bench.now + PAUSE));
            bench.now += Duration::from_secs(1);
            assert!(bench.outstanding.expire(bench.now, patience).is_empty());
            bench.outstanding.wake(bench.now);
            // One at a time, under its own number: the rest would be refused as well.
            assert_eq!(bench.send(9), [(bench.requests, 2)]);
        }
        let first = bench.requests;
        let sent = [0, 1, 2].map(|n| {
            assert!(bench.stored(first + n, false).is_some());
            bench.send(9).len()
        });
        assert_eq!(sent, [2, 3, 2], "two, then four may be unanswered, then all");
    }

    #[tokio::test]
    async fn what_is_too_old_to_repeat_fails_and_keeps_its_number() {
        let mut bench = Bench::new(2);
        bench.send(1);
        bench.now += Duration::from_secs(135);
        let expired = bench.outstanding.expire(bench.now, Duration::from_secs(135));
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].1.as_ref().unwrap_err().kind(), ErrorKind::UnknownOutcome);
        assert_eq!(bench.send(1), [(2, 2)]);
    }

    #[tokio::test]
    async fn at_the_end_only_what_was_sent_is_of_unknown_outcome() {
        let mut bench = Bench::new(2);
        bench.send(1);
        let ended = bench.outstanding.end(&Error::new(ErrorKind::Closed, "closed"));
        let kinds: Vec<_> = ended.into_iter().map(|(_, result)| result.unwrap_err().kind()).collect();
        assert_eq!(kinds, [ErrorKind::UnknownOutcome, ErrorKind::Closed]);
    }
}
