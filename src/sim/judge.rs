//! Holds a history to the promises, one rule for each. Pure: a history in, violations out.

mod chain;
mod log;
mod turn;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    history::{Op, Record},
    world::{Kind, kind},
};

/// A promise that was broken.
#[derive(Debug, Clone)]
pub(super) struct Violation {
    /// Which: `G1` to `G15`.
    pub(super) promise: &'static str,
    /// When it was seen, microseconds since the run began.
    pub(super) at: u64,
    pub(super) text: String,
}

impl Violation {
    fn new(promise: &'static str, record: &Record, text: impl Into<String>) -> Self {
        let (client, connection) = (&record.client, record.connection);
        Self { promise, at: record.at, text: format!("{client} on {connection:x}: {}", text.into()) }
    }
}

/// Everything wrong with a run, in the order in which it was seen.
pub(super) fn judge(records: &[Record]) -> Vec<Violation> {
    let mut found = chain::judge(records);
    found.extend(turn::judge(records));
    found.extend(log::judge(records));
    found.extend(caught_up(records));
    found.extend(answers(records));
    found.extend(drains(records));
    found.sort_by_key(|violation| violation.at);
    found
}

/// G13: everybody is attached and has everything in the end.
fn caught_up(records: &[Record]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut heads = BTreeMap::new();
    let (mut open, mut stand) = (BTreeMap::new(), BTreeSet::new());
    for record in records {
        match &record.op {
            Op::Head { topic, head } => drop(heads.insert(topic.clone(), *head)),
            Op::Opened { session, .. } => drop(open.insert((record.client.clone(), session.clone()), record)),
            // For good, if it does not open it again.
            Op::Closed { session, reason: Some(_) } if record.connection == 0 => {
                open.remove(&(record.client.clone(), session.clone()));
            }
            Op::Stuck => found.push(Violation::new("G13", record, "waits for ever")),
            Op::Stands { session, .. } => drop(stand.insert((record.client.clone(), session.clone()))),
            _ => {}
        }
    }
    for record in records {
        if let Op::Stands { session, topic, place } = &record.op
            && kind(topic) != Kind::Signal
            && let Some(head) = heads.get(topic)
            && place.as_ref() != Some(head)
        {
            let text = format!("{session} stands at {place:?} of {topic}, whose head is {head:?}");
            found.push(Violation::new("G13", record, text));
        }
    }
    for (who, record) in open.iter().filter(|(who, _)| !stand.contains(*who)) {
        found.push(Violation::new("G13", record, format!("{} is not attached in the end", who.1)));
    }
    found
}

/// G13: every request has one answer, where the connection ended well; never two.
fn answers(records: &[Record]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut asked: BTreeMap<u64, BTreeMap<u64, u32>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.connection != 0) {
        let of = asked.entry(record.connection).or_default();
        match &record.op {
            Op::Open { request, .. }
            | Op::Publish { request, .. }
            | Op::Flow { request, .. }
            | Op::Close { request, .. } => drop(of.insert(*request, 0)),
            Op::Reply { request, .. } => match of.get_mut(request) {
                Some(answered) => {
                    *answered += 1;
                    if *answered > 1 {
                        found.push(Violation::new("G13", record, format!("request {request} was answered twice")));
                    }
                }
                None => found.push(Violation::new("G13", record, format!("nobody asked request {request}"))),
            },
            Op::Disconnected { why } if why == "left" => {
                for request in of.iter().filter(|(_, answered)| **answered == 0).map(|(request, _)| request) {
                    found.push(Violation::new("G13", record, format!("request {request} was never answered")));
                }
            }
            _ => {}
        }
    }
    found
}

/// G15: a server that leaves is gone in time.
fn drains(records: &[Record]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut began = None;
    for record in records {
        match &record.op {
            Op::Fault { what, .. } if what == "drain" => began = Some(record.at),
            Op::Fault { what, .. } if what == "drained" => {
                let took = record.at - began.take().unwrap_or(record.at);
                // Its deadline of four seconds, and five.
                if took > 9_000_000 {
                    found.push(Violation::new("G15", record, format!("leaving took {took} µs")));
                }
            }
            Op::Closed { reason: Some(reason), .. } | Op::Disconnected { why: reason }
                if reason.contains("INTERNAL") =>
            {
                found.push(Violation::new("G13", record, "the server failed inside"));
            }
            _ => {}
        }
    }
    found
}
