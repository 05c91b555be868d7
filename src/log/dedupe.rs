//! What a log remembers of its publishes, so that a repeat is answered and not stored.
//!
//! Bounded: a session's latest `depth` publishes, an application's latest [`MAX_IDS`] ids, nothing older than the
//! window. The window runs from the first store; repeats do not refresh it.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    error::{Failure, Reason},
    planted::{self, Bug},
    types::{ByProducer, Dedupe, MAX_DEDUPE_LEN, Producer, Seq, Timestamp},
};

/// Most dedupe ids remembered for one topic; the oldest goes first.
const MAX_IDS: usize = 100_000;
/// Most sessions whose numberings are remembered for one topic; those that have published least recently go first.
const MAX_PRODUCERS: usize = 10_000;

/// Bytes of memory that an id takes beside its text, which is kept twice.
const PER_ID: u64 = 160;
/// Bytes of memory that a session's numbering takes beside its places.
const PER_PRODUCER: u64 = 256;

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
    producers: ByProducer<Numbering>,
    next_expiry: Timestamp,
    /// Bytes of the texts of all ids.
    id_bytes: u64,
    /// Places of all numberings.
    places: u64,
}

/// One session's numbering: the places of its latest publishes.
#[derive(Debug, Default)]
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
            producers: ByProducer::default(),
            next_expiry: Timestamp(0),
            id_bytes: 0,
            places: 0,
        }
    }

    /// Most bytes of memory that can be remembered.
    pub(super) fn worst_bytes(depth: usize) -> u64 {
        if depth == 0 {
            return 0;
        }
        let ids = MAX_IDS as u64 * (PER_ID + 2 * MAX_DEDUPE_LEN as u64);
        ids + MAX_PRODUCERS as u64 * (PER_PRODUCER + (depth * size_of::<Place>()) as u64)
    }

    pub(super) fn judge(&self, dedupe: &Dedupe) -> Result<Verdict, Failure> {
        if self.depth == 0 {
            return Ok(Verdict::New);
        }
        if let Some(seq) = &dedupe.seq
            && let Some(place) = self.judge_seq(seq)?
        {
            return Ok(Verdict::Repeat(place));
        }
        let known = dedupe.id.as_ref().and_then(|id| self.ids.get(id));
        Ok(known.map_or(Verdict::New, |place| Verdict::Repeat(*place)))
    }

    /// The place of a number that was stored; none for the next one.
    fn judge_seq(&self, seq: &Seq) -> Result<Option<Place>, Failure> {
        let number = seq.number;
        let refuse =
            |reason, message: String, through: u64| Err(Failure::new(reason, message).with("through_seq", through));
        match self.producers.get(&seq.producer) {
            Some(numbering) if number == numbering.last && planted::active(Bug::ForgetsTheLastRepeat) => Ok(None),
            Some(numbering) if number <= numbering.last => match numbering.place_of(number) {
                Some(place) => Ok(Some(place)),
                None => refuse(
                    Reason::ForgottenSeq,
                    format!("seq {number} is older than what is remembered of the session"),
                    numbering.last,
                ),
            },
            Some(numbering) if number > numbering.last.saturating_add(1) => {
                refuse(Reason::WrongSeq, format!("seq {number} leaves a hole after {}", numbering.last), numbering.last)
            }
            None if number <= seq.through => refuse(
                Reason::ForgottenSeq,
                format!("seq {number} is older than what is remembered of the session"),
                seq.through,
            ),
            None if number > seq.through.saturating_add(1) => {
                refuse(Reason::WrongSeq, format!("seq {number} leaves a hole after {}", seq.through), seq.through)
            }
            _ => Ok(None),
        }
    }

    /// Remembers a publish that was judged new, or whose id was known: its number then leads to the same place.
    pub(super) fn remember(&mut self, dedupe: &Dedupe, place: Place) {
        if self.depth == 0 {
            return;
        }
        if let Some(id) = &dedupe.id
            && !self.ids.contains_key(id)
        {
            if self.id_order.len() == MAX_IDS
                && let Some((_, oldest)) = self.id_order.pop_front()
            {
                self.ids.remove(&oldest);
                self.id_bytes -= oldest.len() as u64;
            }
            self.id_bytes += id.len() as u64;
            self.ids.insert(id.clone(), place);
            self.id_order.push_back((place.1, id.clone()));
        }
        if let Some(seq) = &dedupe.seq {
            if self.producers.len() >= MAX_PRODUCERS && !self.producers.contains_key(&seq.producer) {
                self.evict_producers();
            }
            let known = self.producers.get_mut(&seq.producer);
            let numbering = match known {
                Some(numbering) => numbering,
                None => self.producers.entry(seq.producer.clone()).or_default(),
            };
            if seq.number > numbering.last {
                // A mirror may have missed some, and places are counted back from the last.
                if seq.number - numbering.last > 1 {
                    self.places -= numbering.places.len() as u64;
                    numbering.places.clear();
                }
                if numbering.places.len() == self.depth {
                    numbering.places.pop_front();
                } else {
                    self.places += 1;
                }
                numbering.places.push_back(place);
                numbering.last = seq.number;
            }
        }
    }

    /// Forgets what is past the window. Numberings are looked through four times a window, not at every publish.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let horizon = now.minus(self.window);
        while let Some((_, id)) = self.id_order.pop_front_if(|(stored, _)| *stored < horizon) {
            self.ids.remove(&id);
            self.id_bytes -= id.len() as u64;
        }
        if now >= self.next_expiry {
            self.next_expiry =
                Timestamp(now.0.saturating_add(u64::try_from(self.window.as_micros() / 4).unwrap_or(u64::MAX)));
            self.keep_producers(|numbering| numbering.places.back().is_some_and(|(_, time)| *time >= horizon));
        }
    }

    /// Makes room for a tenth more, so that looking for the oldest is rare.
    fn evict_producers(&mut self) {
        let newest = |numbering: &Numbering| numbering.places.back().map_or(Timestamp(0), |(_, time)| *time);
        let mut times: Vec<_> = self.producers.values().map(newest).collect();
        let (_, horizon, _) = times.select_nth_unstable(MAX_PRODUCERS / 10);
        let horizon = *horizon;
        self.keep_producers(|numbering| newest(numbering) > horizon);
    }

    fn keep_producers(&mut self, keep: impl Fn(&Numbering) -> bool) {
        let places = &mut self.places;
        self.producers.retain(|_, numbering| {
            let kept = keep(numbering);
            *places -= if kept { 0 } else { numbering.places.len() as u64 };
            kept
        });
    }

    /// Bytes of memory that all of it takes.
    pub(super) fn weight(&self) -> u64 {
        let ids = self.ids.len() as u64 * PER_ID + self.id_bytes * 2;
        let producers = self.producers.len() as u64 * PER_PRODUCER;
        ids + producers + self.places * size_of::<Place>() as u64
    }

    pub(super) fn last_seq(&self, producer: &Producer) -> u64 {
        self.producers.get(producer).map_or(0, |numbering| numbering.last)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.producers.is_empty()
    }
}
