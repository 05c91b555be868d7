//! What was published and what became of it: G6 to G9 and G12.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Violation;
use crate::sim::{
    history::{Event, Op, Outcome, Place, Record},
    world::{Kind, kind},
};

/// A place in a topic.
type At = (Arc<str>, Place);

#[derive(Default)]
struct Book<'r> {
    /// Which topic an id was published to.
    attempted: BTreeMap<&'r str, &'r str>,
    /// What readers, and the last look, say that is where.
    held: BTreeMap<At, &'r str>,
    /// Where an answer said that an id is, by epoch.
    answered: BTreeMap<(&'r str, u64), u64>,
    found: Vec<Violation>,
}

pub(super) fn judge(records: &[Record]) -> Vec<Violation> {
    let mut book = Book::default();
    for record in records {
        match &record.op {
            Op::Publish { topic, id, .. } => drop(book.attempted.insert(id, topic)),
            Op::Deliver { topic, events, .. } => {
                // Of another epoch than the one it is in, an event's place would not be known here.
                let epoch = record.epoch;
                events.iter().for_each(|event| book.hold(record, topic, epoch, event));
            }
            Op::Stored { topic, epoch, events } => {
                events.iter().for_each(|event| book.hold(record, topic, *epoch, event));
            }
            _ => {}
        }
    }
    for record in records {
        if let Op::Answered { topic, id, outcome, .. } = &record.op {
            book.answer(record, topic, id, outcome);
        }
    }
    book.ends(records);
    book.repeats(records);
    book.orders(records);
    book.found
}

impl<'r> Book<'r> {
    fn fail(&mut self, promise: &'static str, record: &Record, text: String) {
        self.found.push(Violation::new(promise, record, text));
    }

    /// Somebody says that an event is there: G9, G12.
    fn hold(&mut self, record: &Record, topic: &Arc<str>, epoch: u64, event: &'r Event) {
        // What the server itself says has no id.
        if event.id.is_empty() || topic.starts_with('~') {
            return;
        }
        match self.attempted.get(&*event.id) {
            None => self.fail("G9", record, format!("{} in {topic} was never published", event.id)),
            Some(other) if **other != **topic => {
                self.fail("G12", record, format!("{} in {topic} was published to {other}", event.id));
            }
            Some(_) => {}
        }
        let at = (topic.clone(), (epoch, event.offset));
        match self.held.insert(at, &event.id) {
            Some(other) if *other != *event.id => {
                self.fail("G9", record, format!("{topic} {epoch} {}: {other}, then {}", event.offset, event.id));
            }
            _ => {}
        }
    }

    /// An answer: G6, G7.
    fn answer(&mut self, record: &Record, topic: &Arc<str>, id: &'r Arc<str>, outcome: &Outcome) {
        let Outcome::Stored { place, .. } = outcome else { return };
        if let Some(other) = self.held.get(&(topic.clone(), *place))
            && **other != **id
        {
            let text = format!("{id} was answered with {topic} {place:?}, where {other} is");
            self.fail("G6", record, text);
        }
        if kind(topic) == Kind::Signal {
            return;
        }
        match self.answered.insert((id, place.0), place.1) {
            Some(other) if other != place.1 => {
                self.fail("G7", record, format!("{id} was answered with {} and {}", other, place.1));
            }
            _ => {}
        }
    }

    /// G6: what was answered is in the log, unless the log no longer reaches back to it.
    fn ends(&mut self, records: &'r [Record]) {
        let mut logs = BTreeMap::new();
        for record in records {
            if let Op::Stored { topic, epoch, events } = &record.op {
                let offsets: BTreeSet<_> = events.iter().map(|event| event.offset).collect();
                logs.insert(topic.clone(), (*epoch, offsets));
            }
        }
        let first = |offsets: &BTreeSet<u64>| offsets.first().copied().unwrap_or(u64::MAX);
        for record in records {
            if let Op::Answered { topic, id, outcome: Outcome::Stored { place, .. }, .. } = &record.op
                && let Some((epoch, offsets)) = logs.get(topic)
                && place.0 == *epoch
                && place.1 >= first(offsets)
                && !offsets.contains(&place.1)
            {
                self.fail("G6", record, format!("{id} was answered with {topic} {place:?}, where nothing is"));
            }
        }
    }

    /// G7: nothing is there twice.
    fn repeats(&mut self, records: &[Record]) {
        let Some(last) = records.last() else { return };
        let mut places: BTreeMap<(&str, u64), Vec<u64>> = BTreeMap::new();
        for ((topic, (epoch, offset)), id) in &self.held {
            if kind(topic) != Kind::Signal {
                places.entry((id, *epoch)).or_default().push(*offset);
            }
        }
        let doubled = places.into_iter().filter(|(_, offsets)| offsets.len() > 1);
        let found = doubled.map(|((id, _), at)| Violation::new("G7", last, format!("{id} is stored at {at:?}")));
        self.found.extend(found);
    }

    /// G8: what a session published is there in the order of its numbers.
    fn orders(&mut self, records: &[Record]) {
        let Some(last) = records.last() else { return };
        let mut lasts: BTreeMap<(&Arc<str>, u64, &str), u64> = BTreeMap::new();
        for ((topic, (epoch, offset)), id) in &self.held {
            let Some((session, number)) = id.rsplit_once('/') else { continue };
            let number: u64 = number.parse().unwrap_or_default();
            if session == "back-end" || kind(topic) == Kind::Signal {
                continue;
            }
            if let Some(before) = lasts.insert((topic, *epoch, session), number)
                && before > number
            {
                let text = format!("{topic} {epoch} {offset}: {session} {number} after {before}");
                self.found.push(Violation::new("G8", last, text));
            }
        }
    }
}
