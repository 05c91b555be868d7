//! What a log remembers of its publishes, so that a repeat is answered and not stored.
//!
//! Bounded: a session's latest `depth` publishes, an application's latest [`MAX_IDS`] ids, nothing older than the
//! window. The window runs from the first store; repeats do not refresh it.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::Duration,
};

use crate::{
    error::{Failure, Reason},
    types::{Dedupe, Producer, Timestamp},
};

/// Most dedupe ids remembered for one topic; the oldest goes first.
const MAX_IDS: usize = 100_000;

type Place = (u64, Timestamp);

pub(super) enum Verdict {
    New,
    Repeat(Place),
}

#[derive(Debug)]
pub(super) struct Dedupes {
    window: Duration,
    depth: usize,
    ids: HashMap<String, Place>,
    id_order: VecDeque<(Timestamp, String)>,
    producers: HashMap<Producer, Numbering>,
    next_expiry: Timestamp,
}

/// One session's numbering: the places of its latest publishes.
#[derive(Debug)]
struct Numbering {
    last: u64,
    places: VecDeque<Place>,
}

impl Numbering {
    fn place_of(&self, seq: u64) -> Option<Place> {
        let back = usize::try_from(self.last - seq).ok()?;
        self.places.get(self.places.len().checked_sub(back + 1)?).copied()
    }
}

impl Dedupes {
    pub(super) fn new(window: Duration, depth: usize) -> Self {
        Self {
            window,
            depth,
            ids: HashMap::new(),
            id_order: VecDeque::new(),
            producers: HashMap::new(),
            next_expiry: Timestamp(0),
        }
    }

    pub(super) fn judge(&self, dedupe: &Dedupe) -> Result<Verdict, Failure> {
        match dedupe {
            Dedupe::None => Ok(Verdict::New),
            Dedupe::Id(id) => Ok(self.ids.get(id).map_or(Verdict::New, |place| Verdict::Repeat(*place))),
            Dedupe::Seq { producer, seq, fresh } => self.judge_seq(producer, *seq, *fresh),
        }
    }

    fn judge_seq(&self, producer: &Producer, seq: u64, fresh: bool) -> Result<Verdict, Failure> {
        let refuse = |reason, message: String, through: u64| {
            Err(Failure::new(reason, message).with("through_seq", through))
        };
        match self.producers.get(producer) {
            Some(numbering) if seq <= numbering.last => match numbering.place_of(seq) {
                Some(place) => Ok(Verdict::Repeat(place)),
                None => refuse(Reason::ForgottenSeq, format!("seq {seq} was stored long ago"), numbering.last),
            },
            Some(numbering) if seq > numbering.last + 1 => {
                refuse(Reason::WrongSeq, format!("seq {seq} leaves a hole after {}", numbering.last), numbering.last)
            }
            None if fresh && seq != 1 => {
                refuse(Reason::WrongSeq, format!("seq {seq} does not begin a new session; 1 does"), 0)
            }
            _ => Ok(Verdict::New),
        }
    }

    pub(super) fn remember(&mut self, dedupe: &Dedupe, place: Place) {
        match dedupe {
            Dedupe::None => {}
            Dedupe::Id(id) => {
                if self.id_order.len() == MAX_IDS
                    && let Some((_, oldest)) = self.id_order.pop_front()
                {
                    self.ids.remove(&oldest);
                }
                self.ids.insert(id.clone(), place);
                self.id_order.push_back((place.1, id.clone()));
            }
            Dedupe::Seq { producer, seq, .. } => {
                let numbering = match self.producers.entry(producer.clone()) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => entry.insert(Numbering { last: 0, places: VecDeque::new() }),
                };
                if numbering.places.len() == self.depth {
                    numbering.places.pop_front();
                }
                numbering.places.push_back(place);
                numbering.last = *seq;
            }
        }
    }

    /// Forgets what is past the window. Numberings are looked through four times a window, not at every publish.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let horizon = now.minus(self.window);
        while let Some((_, id)) = self.id_order.pop_front_if(|(stored, _)| *stored < horizon) {
            self.ids.remove(&id);
        }
        if now >= self.next_expiry {
            self.next_expiry = Timestamp(now.0 + u64::try_from(self.window.as_micros() / 4).unwrap_or(u64::MAX));
            self.producers.retain(|_, numbering| numbering.places.back().is_some_and(|(_, time)| *time >= horizon));
        }
    }

    pub(super) fn last_seq(&self, producer: &Producer) -> u64 {
        self.producers.get(producer).map_or(0, |numbering| numbering.last)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.producers.is_empty()
    }
}
