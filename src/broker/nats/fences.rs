//! What keeps out of a topic what an older holder of a session publishes late, wherever that holder is.
//!
//! A session that was taken over writes the order of its claim into the topic's stream, under a subject of its own, before
//! it publishes there. Its publishes name the place of that record, and the stream takes them only if it is the newest:
//! so from then on nothing of an older claim is stored, whatever was on its way. A claim that is a session's first finds no
//! such record and needs none: its publishes say that there is none.

use parking_lot::Mutex;

use super::{api, api::Problem, entry::Entry};
use crate::types::{ByProducer, Claim, Producer};

/// Most sessions of a topic whose records are remembered; any other's is looked up.
const MOST: usize = 10_000;
/// How often it is tried again after somebody else was quicker.
const ATTEMPTS: usize = 10;

/// The places of records that are known, and of which claims they are.
#[derive(Debug, Default)]
pub(super) struct Fences(Mutex<ByProducer<(Claim, u64)>>);

/// Why there is no place to name.
#[derive(Debug)]
pub(super) enum Closed {
    /// Somebody has a newer claim.
    Taken,
    /// It could not be learnt.
    Problem(Problem),
}

impl From<Problem> for Closed {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Fences {
    fn known(&self, producer: &Producer, claim: Claim) -> Option<u64> {
        self.0.lock().get(producer).filter(|(known, _)| known.order == claim.order).map(|(_, place)| *place)
    }

    fn remember(&self, producer: &Producer, claim: Claim, place: u64) {
        let mut places = self.0.lock();
        if places.len() >= MOST && !places.contains_key(producer) {
            places.clear();
        }
        places.insert(producer.clone(), (claim, place));
    }

    /// Somebody else may have written since.
    pub(super) fn doubt(&self, producer: &Producer) {
        self.0.lock().remove(producer);
    }
}

/// The place that what a session publishes to a topic under this claim has to name. `doubted`: the stream did not take
/// the one that was named.
pub(super) async fn place(entry: &Entry, producer: &Producer, claim: Claim, doubted: bool) -> Result<u64, Closed> {
    if let Some(place) = entry.fences.known(producer, claim) {
        return Ok(place);
    }
    if claim.first && !doubted {
        return Ok(0);
    }
    let engine = &entry.engine;
    let (stream, subject) =
        (engine.names.stream(entry.partition), engine.names.fence(entry.partition, &entry.topic, producer));
    for _ in 0..ATTEMPTS {
        let newest = api::newest(&engine.links.asking, &stream, &subject).await?;
        let written =
            newest.as_ref().and_then(|newest| std::str::from_utf8(&newest.content()).ok()?.parse::<u64>().ok());
        let place = newest.map_or(0, |newest| newest.seq);
        match written {
            Some(order) if order > claim.order => return Err(Closed::Taken),
            Some(order) if order == claim.order => {
                entry.fences.remember(producer, claim, place);
                return Ok(place);
            }
            _ => {}
        }
        let order = claim.order.to_string().into();
        match api::put(&engine.links.publishing, subject.clone(), order, Some(place)).await {
            Ok(ack) => {
                entry.fences.remember(producer, claim, ack.seq);
                return Ok(ack.seq);
            }
            Err(problem) if problem.wrong_last().is_some() => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    Err(Problem::Late.into())
}
