//! What became of the lines of `pub`.

use std::{collections::VecDeque, io};

use tokio::time::Instant;

use super::{
    exit::{Stop, notice},
    json,
    output::Output,
};
use crate::client::{Cursor, Published};

/// Counts of lines. Every line sent is answered in its order.
#[derive(Debug)]
pub(super) struct Tally {
    topic: String,
    begun: Instant,
    /// Lengths of the lines that are unanswered, bytes.
    unanswered: VecDeque<usize>,
    /// Lines left out because they had been stored before.
    skipped: u64,
    published: u64,
    duplicates: u64,
    failed: u64,
    /// Of all lines done with, ends included.
    bytes: u64,
    first: Option<Cursor>,
    last: Option<Cursor>,
}

impl Tally {
    /// Begins now.
    pub(super) fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            begun: Instant::now(),
            unanswered: VecDeque::new(),
            skipped: 0,
            published: 0,
            duplicates: 0,
            failed: 0,
            bytes: 0,
            first: None,
            last: None,
        }
    }

    /// A line was left out.
    pub(super) fn skip(&mut self, length: usize) {
        self.skipped += 1;
        self.bytes += length as u64 + 1;
    }

    /// A line went out.
    pub(super) fn sent(&mut self, length: usize) {
        self.unanswered.push_back(length);
    }

    /// The oldest unanswered line was stored.
    pub(super) fn stored(&mut self, published: &Published) {
        self.bytes += self.unanswered.pop_front().unwrap_or_default() as u64 + 1;
        self.first.get_or_insert(published.cursor);
        self.last = Some(published.cursor);
        if published.duplicate {
            self.duplicates += 1;
        } else {
            self.published += 1;
        }
    }

    /// The oldest unanswered line was not stored; returns its number in the input.
    pub(super) fn failed(&mut self) -> u64 {
        self.unanswered.pop_front();
        self.failed += 1;
        self.lines() + self.failed
    }

    /// Bytes of the input that are done with.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lines that are stored.
    pub(super) fn lines(&self) -> u64 {
        self.skipped + self.published + self.duplicates
    }

    /// Says on stderr, or as JSON on stdout, what was published.
    pub(super) fn report(&self, as_json: bool) -> Result<(), Stop> {
        let seconds = self.begun.elapsed().as_secs_f64();
        if as_json {
            let object = serde_json::json!({
                "topic": self.topic, "published": self.published, "duplicates": self.duplicates + self.skipped,
                "failed": self.failed, "unanswered": self.unanswered.len(), "seconds": seconds,
                "first": self.first.map(|cursor| cursor.to_string()),
                "last": self.last.map(|cursor| cursor.to_string()),
            });
            let mut text = Vec::new();
            json::line(&mut text, &object);
            let print = || -> io::Result<()> { Output::stdout()?.write(&text) };
            return print().map_err(|error| Stop::stdout(&error));
        }
        let rate = self.published as f64 / seconds.max(1e-6);
        let events = if self.published == 1 { "event" } else { "events" };
        let stored_before = match self.duplicates + self.skipped {
            0 => String::new(),
            count => format!(", {count} stored before"),
        };
        notice(format!(
            "published {} {events} to {}{stored_before}, in {seconds:.2} s ({rate:.0}/s)",
            self.published, self.topic
        ));
        Ok(())
    }

    /// Why not everything was published, and how much of it was; `read` lines had been read.
    pub(super) fn epitaph(&self, sentence: &str, read: u64) -> String {
        let stored = self.lines();
        let unknown = match self.unanswered.len() {
            0 => String::new(),
            count => format!(" ({count} unanswered)"),
        };
        let separator = if sentence.is_empty() { "" } else { "; " };
        format!("{sentence}{separator}{stored} of the {read} lines read are stored{unknown}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Durability;

    fn published(duplicate: bool) -> Published {
        Published { cursor: Cursor::default(), duplicate, durability: Durability::Accepted }
    }

    #[test]
    fn every_line_is_counted_where_it_belongs() {
        let mut tally = Tally::new("t");
        tally.skip(3);
        for length in [1, 2, 3, 4] {
            tally.sent(length);
        }
        tally.stored(&published(true));
        tally.stored(&published(false));
        assert_eq!((tally.lines(), tally.bytes()), (3, 4 + 2 + 3));
        assert_eq!(tally.failed(), 4, "the first line that is not stored");
        assert_eq!(tally.epitaph("no", 9), "no; 3 of the 9 lines read are stored (1 unanswered)");
    }
}
