//! What was published, what was answered and what was read, held against each other: set algebra over a whole history.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    Options,
    history::{Event, Op, Outcome, Place, Record},
    report::{Guarantee as G, Report},
    seat::{Picture, Stand},
};

/// One log: a topic in one epoch.
type LogName = (Arc<str>, u64);

/// What was done to publish an event.
#[derive(Debug)]
struct Attempt<'r> {
    /// Its place in the order in which events were published: the first time, or the first after it was refused.
    number: usize,
    record: &'r Record,
    count: usize,
    refused: Vec<&'r Record>,
    /// It may have been stored by more than one of them.
    unsure: bool,
}

impl<'r> Attempt<'r> {
    fn new(number: usize, record: &'r Record) -> Self {
        Self { number, record, count: 0, refused: Vec::new(), unsure: false }
    }

    fn again(&mut self, number: usize, record: &'r Record) {
        if self.count > 0 && self.refused.len() >= self.count {
            (self.number, self.record) = (number, record);
        } else if !self.refused.is_empty() {
            self.unsure = true;
        }
        self.count += 1;
    }

    /// The last refusal, if whatever was done was refused.
    fn is_refused(&self) -> Option<&'r Record> {
        self.refused.last().copied().filter(|_| self.refused.len() >= self.count)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stored<'r> {
    /// What is known of each log, from whoever has seen it.
    logs: HashMap<LogName, BTreeMap<u64, (&'r Event, &'r Record)>>,
    attempts: HashMap<&'r str, Attempt<'r>>,
    answers: HashMap<&'r str, Vec<(Place, &'r Record)>>,
    heads: HashMap<Arc<str>, Place>,
    last: HashMap<LogName, Vec<u64>>,
    /// When something last went wrong or was stored: whatever takes long afterwards takes long by itself.
    stirred: u64,
}

impl<'r> Stored<'r> {
    /// Takes in a record; `epoch` is that of whoever recorded it.
    pub(super) fn take(&mut self, record: &'r Record, epoch: u64, report: &mut Report) {
        match &record.op {
            Op::Publish { id, .. } => {
                let number = self.attempts.len();
                self.attempts.entry(id).or_insert_with(|| Attempt::new(number, record)).again(number, record);
                self.stirred = self.stirred.max(record.at);
            }
            Op::Answered { id, outcome, .. } => {
                match (outcome, self.attempts.get_mut(&**id)) {
                    (Outcome::Stored { place, .. }, _) => self.answers.entry(id).or_default().push((*place, record)),
                    (Outcome::Refused(_), Some(attempt)) => attempt.refused.push(record),
                    _ => {}
                }
                self.stirred = self.stirred.max(record.at);
            }
            Op::Fault { took_hold: true, .. } => self.stirred = self.stirred.max(record.at),
            Op::Deliver { topic, events, .. } => self.learn(topic, epoch, events, record, report),
            Op::Head { topic, head } => drop(self.heads.insert(topic.clone(), *head)),
            Op::Stored { topic, epoch, events } => {
                self.learn(topic, *epoch, events, record, report);
                self.last.insert((topic.clone(), *epoch), events.iter().map(|event| event.offset).collect());
            }
            _ => {}
        }
    }

    /// Where something lies after `from` and up to `to` of a log, as far as anybody has seen it.
    pub(super) fn between(&self, topic: &Arc<str>, epoch: u64, from: u64, to: u64) -> impl Iterator<Item = u64> + '_ {
        let log = self.logs.get(&(topic.clone(), epoch)).into_iter();
        let after = log.flat_map(move |log| log.range(from.saturating_add(1)..));
        after.map(|(offset, _)| *offset).take_while(move |offset| *offset <= to)
    }

    fn learn(&mut self, topic: &Arc<str>, epoch: u64, events: &'r [Event], record: &'r Record, report: &mut Report) {
        let log = self.logs.entry((topic.clone(), epoch)).or_default();
        for event in events {
            report.exercise(G::G9NoPhantom);
            let (known, first) = *log.entry(event.offset).or_insert((event, record));
            if known != event {
                report.violate(G::G9NoPhantom, "two have read different events at one place", &[first, record]);
            }
        }
    }

    /// Holds it all against each other.
    pub(super) fn close(&self, options: &Options, report: &mut Report) {
        let mut logs: Vec<_> = self.logs.iter().collect();
        logs.sort_by_key(|(name, _)| *name);
        for (name, log) in logs {
            let places = self.unique(name, log, options, report);
            // Where repeats are not recognised, the first of them may have been read by nobody.
            if !options.is_signal(&name.0) {
                self.in_order(&places, report);
            }
        }
        let mut answers: Vec<_> = self.answers.iter().collect();
        answers.sort_by_key(|(id, _)| **id);
        for (id, places) in answers {
            self.acknowledged(id, places, options, report);
        }
    }

    /// Every event was attempted, in this topic, and is there once. Where each is.
    fn unique(
        &self,
        (topic, epoch): &LogName,
        log: &BTreeMap<u64, (&'r Event, &'r Record)>,
        options: &Options,
        report: &mut Report,
    ) -> HashMap<&'r str, u64> {
        let mut places: HashMap<&'r str, (u64, &Record)> = HashMap::new();
        for (offset, (event, record)) in log.iter().filter(|(_, (event, _))| !event.id.is_empty()) {
            let attempt = self.attempts.get(&*event.id);
            match attempt.map(|attempt| attempt.record) {
                None if options.is_written_by_the_server(topic) => continue,
                None => report.violate(G::G9NoPhantom, format!("nobody published {:?}", event.id), &[record]),
                Some(published) => {
                    report.exercise(G::G12Isolation);
                    if !matches!(&published.op, Op::Publish { topic: to, .. } if to == topic) {
                        let sentence = format!("{:?} was published to another topic", event.id);
                        report.violate(G::G12Isolation, sentence, &[published, record]);
                    }
                }
            }
            // A refusal knows nothing of logs that were lost before it.
            let lost = self.heads.get(topic).is_some_and(|head| head.0 != *epoch);
            let refused = attempt.and_then(Attempt::is_refused).filter(|_| !lost);
            if let Some(refused) = refused.filter(|_| !self.answers.contains_key(&*event.id)) {
                let sentence = format!("{:?} was refused, and is stored", event.id);
                report.violate(G::G9NoPhantom, sentence, &[refused, record]);
            }
            let other = places.insert(&*event.id, (*offset, record));
            if let Some((other, first)) = other.filter(|_| !options.is_signal(topic)) {
                let sentence = format!("{:?} is stored at {other} and at {offset}", event.id);
                report.violate(G::G7Idempotent, sentence, &[first, record]);
            }
        }
        places.into_iter().map(|(id, (offset, _))| (id, offset)).collect()
    }

    /// Each session's events are stored in the order in which it published them.
    fn in_order(&self, places: &HashMap<&'r str, u64>, report: &mut Report) {
        let mut sessions: BTreeMap<_, Vec<(usize, u64, &Record)>> = BTreeMap::new();
        for (id, offset) in places {
            if let Some(Attempt { number, record, .. }) = self.attempts.get(id).filter(|attempt| !attempt.unsure)
                && let Op::Publish { session, .. } = &record.op
                && !session.is_empty()
            {
                sessions.entry((&record.program, session)).or_default().push((*number, *offset, record));
            }
        }
        for published in sessions.values_mut() {
            published.sort_unstable_by_key(|(number, ..)| *number);
            for pair in published.windows(2) {
                report.exercise(G::G8Fifo);
                if pair[0].1 > pair[1].1 {
                    let sentence = format!("published in this order, stored at {} and {}", pair[0].1, pair[1].1);
                    report.violate(G::G8Fifo, sentence, &[pair[0].2, pair[1].2]);
                }
            }
        }
    }

    /// What was answered OK is there, and every answer names the same place.
    fn acknowledged(&self, id: &str, places: &[(Place, &Record)], options: &Options, report: &mut Report) {
        // In each epoch: that of another is of a log that was lost.
        let mut firsts: BTreeMap<u64, (u64, &Record)> = BTreeMap::new();
        for ((epoch, offset), record) in places {
            let Op::Answered { topic, outcome, .. } = &record.op else { continue };
            self.is_there(id, (topic, *epoch, *offset), record, report);
            let (first, answered) = *firsts.entry(*epoch).or_insert((*offset, record));
            let duplicate = matches!(outcome, Outcome::Stored { duplicate: true, .. });
            if duplicate || !std::ptr::eq(answered, *record) {
                report.exercise(G::G7Idempotent);
            }
            if first != *offset && !options.is_signal(topic) {
                let sentence = format!("{id:?} was answered with two places");
                report.violate(G::G7Idempotent, sentence, &[answered, record]);
            }
        }
    }

    fn is_there(&self, id: &str, place: (&Arc<str>, u64, u64), record: &Record, report: &mut Report) {
        let (topic, epoch, offset) = place;
        let name = (topic.clone(), epoch);
        let found = self.logs.get(&name).and_then(|log| log.get(&offset));
        // What the log has kept to the end must hold it, unless it lies before that.
        let kept = self.last.get(&name).filter(|kept| kept.first().is_some_and(|first| *first <= offset));
        if found.is_some() || kept.is_some() {
            report.exercise(G::G6Published);
        }
        if let Some((event, read)) = found.filter(|(event, _)| *event.id != *id) {
            let sentence = format!("{id:?} was answered with a place that holds {:?}", event.id);
            report.violate(G::G6Published, sentence, &[record, read]);
        }
        let beyond = self.heads.get(topic).is_some_and(|head| head.0 == epoch && head.1 < offset);
        if beyond || kept.is_some_and(|kept| kept.binary_search(&offset).is_err()) {
            let sentence = format!("{id:?} was answered as stored, and its log does not hold it");
            report.violate(G::G6Published, sentence, &[record]);
        }
    }

    /// Of a sparse log: the last place that somebody may not have seen. The last look at it saw all that it had left.
    fn unseen(&self, name: &LogName, options: &Options) -> Option<u64> {
        let kept = self.last.get(name).and_then(|kept| kept.first());
        options.sparse.then(|| kept.map_or(u64::MAX, |first| first.saturating_sub(1)))
    }

    /// A session that is still open in the end has caught up, in time, and one of a keyed topic sees it as it is.
    pub(super) fn stands(
        &self,
        record: &Record,
        (topic, place): (&Arc<str>, Option<Place>),
        stand: &Stand,
        options: &Options,
        report: &mut Report,
    ) {
        let Some(head) = self.heads.get(topic) else { return };
        report.exercise(G::G13Live);
        // Of a sparse log that ends at a place without an event, whoever has all of it stands before that.
        let has_all = |(epoch, at): Place| {
            options.sparse && epoch == head.0 && at < head.1 && self.between(topic, epoch, at, head.1).next().is_none()
        };
        if place != Some(*head) && !place.is_some_and(has_all) {
            let sentence = format!("when all was over, a session stood at {place:?}, its topic at {head:?}");
            return report.violate(G::G13Live, sentence, &[record]);
        }
        let took = stand.moved.saturating_sub(self.stirred.max(stand.granted));
        if took > options.recovery {
            let sentence = format!("a session took {took} µs to catch up, with nothing in its way");
            report.violate(G::G13Live, sentence, &[record]);
        }
        if let Some((picture, log)) = stand.picture.as_ref().zip(self.logs.get(&(topic.clone(), head.0)))
            && let Some(key) = misread(picture, log, head.1, self.unseen(&(topic.clone(), head.0), options))
        {
            let sentence = format!("a keyed topic is seen otherwise than it is: {key:?} is {:?}", picture.get(&key));
            report.violate(G::G3Reliable, sentence, &[record]);
        }
    }
}

/// A key that stands otherwise in a picture than in its log, as far as that is known. What lies at `hole` or before it, if
/// that is known, may have been seen by nobody: it may have changed any key, and what is older may be gone.
fn misread(
    picture: &Picture,
    log: &BTreeMap<u64, (&Event, &Record)>,
    head: u64,
    hole: Option<u64>,
) -> Option<Arc<str>> {
    let dense = || {
        let ends = log.range(..=head).rev().zip((0..=head).rev());
        head - ends.take_while(|((offset, _), expected)| *offset == expected).count() as u64
    };
    let hole = hole.unwrap_or_else(dense);
    // What came when it was looked at no more is of another time.
    let latest: BTreeMap<_, _> =
        log.range(..=head).map(|(offset, (event, _))| (&event.key, (*offset, event))).collect();
    let differs = latest.into_iter().find(|(key, (offset, event))| match picture.get(*key) {
        Some((seen, _)) => event.removes || seen != offset,
        None => !event.removes && *offset > hole,
    });
    differs.map(|(key, _)| key.clone())
}
