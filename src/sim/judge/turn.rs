//! Who may be sent what: G10 and G11.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Violation;
use crate::sim::{
    history::{Event, Op, Record},
    world::ORIGIN,
};

/// How long after a newer holder was there the one before may still have been sent something, microseconds.
const KICK_BOUND: u64 = 50_000;

pub(super) fn judge(records: &[Record]) -> Vec<Violation> {
    let mut found = holders(records);
    let mut grants: BTreeMap<(u64, Arc<str>), Grant> = BTreeMap::new();
    for record in records.iter().filter(|record| record.connection != 0) {
        let key = |session: &Arc<str>| (record.connection, session.clone());
        match &record.op {
            Op::Open { session, credit, .. } => {
                grants.insert(key(session), Grant { limit: *credit, ..Grant::default() });
            }
            Op::Flow { session, credit, paused, request, .. } => {
                grants.entry(key(session)).or_default().flow(*credit, *paused, *request);
            }
            Op::Reply { request, failure: None } => {
                grants.iter_mut().filter(|((connection, _), _)| *connection == record.connection).for_each(
                    |(_, grant)| grant.paused |= grant.pausing.take_if(|pausing| pausing == request).is_some(),
                );
            }
            Op::Deliver { session, events, .. } => {
                if let Err(text) = grants.entry(key(session)).or_default().deliver(events) {
                    found.push(Violation::new("G11", record, format!("{session}: {text}")));
                }
            }
            _ => {}
        }
    }
    found
}

/// What one attach may be sent.
#[derive(Default)]
struct Grant {
    /// Events and bytes; none is no limit.
    limit: Option<(u64, u64)>,
    sent: (u64, u64),
    /// The request that asked for a pause.
    pausing: Option<u64>,
    paused: bool,
}

impl Grant {
    fn flow(&mut self, credit: Option<(u64, u64)>, paused: Option<bool>, request: u64) {
        match paused {
            Some(true) => self.pausing = Some(request),
            Some(false) => (self.pausing, self.paused) = (None, false),
            None => {}
        }
        let (Some((events, bytes)), Some(limit)) = (credit.filter(|credit| *credit != (0, 0)), &mut self.limit) else {
            return;
        };
        let no_bytes = bytes == 0 || (limit.1 == 0 && limit.0 > 0);
        *limit = (limit.0.max(events), if no_bytes { 0 } else { limit.1.max(bytes) });
    }

    fn deliver(&mut self, events: &[Event]) -> Result<(), String> {
        // The end of a snapshot costs nothing, but a pause holds it back.
        if self.paused {
            return Err("a delivery after the answer to the pause".to_owned());
        }
        for event in events {
            if let Some((most, bytes)) = self.limit
                && (self.sent.0 >= most || (bytes > 0 && self.sent.1 >= bytes))
            {
                return Err(format!("{} sent, {:?} granted: {:?}", event.offset, self.limit, self.sent));
            }
            self.sent.0 += 1;
            self.sent.1 += event.length as u64;
        }
        Ok(())
    }
}

/// G10: what was stored after a newer connection held the session is not sent to an older one.
fn holders(records: &[Record]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut nodes: BTreeMap<u64, &str> = BTreeMap::new();
    // Of a client's session on one server: attach, since when.
    let mut attaches: BTreeMap<(&str, &str, &str), Vec<(u64, u64)>> = BTreeMap::new();
    let mut given = BTreeSet::new();
    let mut mine: BTreeMap<(u64, &str), u64> = BTreeMap::new();
    for record in records.iter().filter(|record| record.connection != 0) {
        match &record.op {
            Op::Connected { node } => drop(nodes.insert(record.connection, node)),
            Op::Opened { session, attach, .. } if !session.ends_with("nameless") => {
                let node = nodes.get(&record.connection).copied().unwrap_or_default();
                if !given.insert((&*record.client, &**session, node, *attach)) {
                    found.push(Violation::new("G10", record, format!("{session}: attach {attach} was given twice")));
                }
                attaches.entry((&record.client, session, node)).or_default().push((*attach, record.at));
                mine.insert((record.connection, session), *attach);
            }
            Op::Deliver { session, events, .. } => {
                let Some(attach) = mine.get(&(record.connection, &**session)) else { continue };
                let node = nodes.get(&record.connection).copied().unwrap_or_default();
                let all = attaches.get(&(&*record.client, &**session, node)).into_iter().flatten();
                let Some(lost) = all.filter(|(other, _)| other > attach).map(|(_, at)| *at).min() else { continue };
                let late = events.iter().find(|event| event.time.saturating_sub(ORIGIN) > lost + KICK_BOUND);
                if let Some(late) = late {
                    let text = format!("{session}: attach {attach} was sent {} after it was lost", late.offset);
                    found.push(Violation::new("G10", record, text));
                }
            }
            _ => {}
        }
    }
    found
}
