//! What was published, what was answered and what was read, held against each other: set algebra over a whole history.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    Options,
    history::{Event, Op, Outcome, Place, Record},
    report::{Guarantee as G, Report},
    seat::Picture,
};

/// One log: a topic in one epoch.
type LogName = (Arc<str>, u64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stored<'r> {
    /// What is known of each log, from whoever has seen it.
    logs: HashMap<LogName, BTreeMap<u64, (&'r Event, &'r Record)>>,
    /// Each id's first publish; in which order they were.
    attempts: HashMap<&'r str, (usize, &'r Record)>,
    refused: HashMap<&'r str, &'r Record>,
    answers: HashMap<&'r str, Vec<(Place, &'r Record)>>,
    heads: HashMap<Arc<str>, Place>,
    last: HashMap<LogName, Vec<u64>>,
}

impl<'r> Stored<'r> {
    /// Takes in a record; `epoch` is that of whoever recorded it.
    pub(super) fn take(&mut self, record: &'r Record, epoch: u64, report: &mut Report) {
        match &record.op {
            Op::Publish { id, .. } => {
                let number = self.attempts.len();
                self.attempts.entry(id).or_insert((number, record));
            }
            Op::Answered { id, outcome, .. } => match outcome {
                Outcome::Stored { place, .. } => self.answers.entry(id).or_default().push((*place, record)),
                Outcome::Refused(_) => drop(self.refused.insert(id, record)),
                Outcome::Unknown => {}
            },
            Op::Deliver { topic, events, .. } => self.learn(topic, epoch, events, record, report),
            Op::Head { topic, head } => drop(self.heads.insert(topic.clone(), *head)),
            Op::Stored { topic, epoch, events } => {
                self.learn(topic, *epoch, events, record, report);
                self.last.insert((topic.clone(), *epoch), events.iter().map(|event| event.offset).collect());
            }
            _ => {}
        }
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
        (topic, _): &LogName,
        log: &BTreeMap<u64, (&'r Event, &'r Record)>,
        options: &Options,
        report: &mut Report,
    ) -> HashMap<&'r str, u64> {
        let mut places = HashMap::new();
        for (offset, (event, record)) in log {
            if event.id.is_empty() {
                continue;
            }
            match self.attempts.get(&*event.id) {
                None if options.is_written_by_the_server(topic) => continue,
                None => report.violate(G::G9NoPhantom, format!("nobody published {:?}", event.id), &[record]),
                Some((_, published)) => {
                    report.exercise(G::G12Isolation);
                    if !matches!(&published.op, Op::Publish { topic: to, .. } if to == topic) {
                        let sentence = format!("{:?} was published to another topic", event.id);
                        report.violate(G::G12Isolation, sentence, &[published, record]);
                    }
                }
            }
            if let Some(refused) = self.refused.get(&*event.id).filter(|_| !self.answers.contains_key(&*event.id)) {
                let sentence = format!("{:?} was refused, and is stored", event.id);
                report.violate(G::G9NoPhantom, sentence, &[refused, record]);
            }
            if let Some(other) = places.insert(&*event.id, *offset).filter(|_| !options.is_signal(topic)) {
                let sentence = format!("{:?} is stored at {other} and at {offset}", event.id);
                report.violate(G::G7Idempotent, sentence, &[record]);
            }
        }
        places
    }

    /// Each session's events are stored in the order in which it published them.
    fn in_order(&self, places: &HashMap<&'r str, u64>, report: &mut Report) {
        let mut sessions: HashMap<_, Vec<(usize, u64, &Record)>> = HashMap::new();
        for (id, offset) in places {
            if let Some((number, record)) = self.attempts.get(id)
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
        for ((epoch, offset), record) in places {
            let Op::Answered { topic, .. } = &record.op else { continue };
            report.exercise(G::G6Published);
            let name = (topic.clone(), *epoch);
            if let Some((event, read)) = self.logs.get(&name).and_then(|log| log.get(offset))
                && *event.id != *id
            {
                let sentence = format!("{id:?} was answered with a place that holds {:?}", event.id);
                report.violate(G::G6Published, sentence, &[record, read]);
            }
            // What the log has kept to the end must hold it, unless it lies before that.
            let kept = self.last.get(&name).filter(|kept| kept.first().is_none_or(|first| first <= offset));
            let beyond = self.heads.get(topic).is_some_and(|head| head.0 == *epoch && head.1 < *offset);
            let trimmed = kept.is_none_or(Vec::is_empty);
            if beyond || (!trimmed && kept.is_some_and(|kept| kept.binary_search(offset).is_err())) {
                let sentence = format!("{id:?} was answered as stored, and its log does not hold it");
                report.violate(G::G6Published, sentence, &[record]);
            }
        }
        for pair in places.windows(2).filter(|pair| pair[0].0.0 == pair[1].0.0) {
            report.exercise(G::G7Idempotent);
            let Op::Answered { topic, .. } = &pair[0].1.op else { continue };
            if pair[0].0 != pair[1].0 && !options.is_signal(topic) {
                let sentence = format!("{id:?} was answered with two places");
                report.violate(G::G7Idempotent, sentence, &[pair[0].1, pair[1].1]);
            }
        }
        for (_, record) in places {
            if matches!(&record.op, Op::Answered { outcome: Outcome::Stored { duplicate: true, .. }, .. }) {
                report.exercise(G::G7Idempotent);
            }
        }
    }

    /// A session that is still open in the end has caught up, and one of a keyed topic sees it as it is.
    pub(super) fn stands(
        &self,
        record: &Record,
        (topic, place): (&Arc<str>, Option<Place>),
        picture: Option<&Picture>,
        report: &mut Report,
    ) {
        let Some(head) = self.heads.get(topic) else { return };
        report.exercise(G::G13Live);
        if place != Some(*head) {
            let sentence = format!("when all was over, a session stood at {place:?}, its topic at {head:?}");
            return report.violate(G::G13Live, sentence, &[record]);
        }
        let Some((picture, log)) = picture.zip(self.logs.get(&(topic.clone(), head.0))) else { return };
        let mut truth = Picture::new();
        // What came when it was looked at no more is of another time.
        for (offset, (event, _)) in log.range(..=head.1) {
            if event.removes {
                truth.remove(&event.key);
            } else {
                truth.insert(event.key.clone(), (*offset, event.id.clone()));
            }
        }
        if *picture != truth {
            let differs = truth.iter().find(|(key, value)| picture.get(*key) != Some(value));
            let extra = picture.keys().find(|key| !truth.contains_key(*key));
            let sentence = format!("a keyed topic is seen otherwise than it is: {differs:?}, {extra:?}");
            report.violate(G::G3Reliable, sentence, &[record]);
        }
    }
}
