//! What a keyed topic looks like to a session: snapshots, and changes of them.

use std::{collections::BTreeMap, sync::Arc};

use super::super::{
    history::{Event, Record},
    report::{Guarantee as G, Report},
};

/// Key → offset and id.
pub(in super::super) type Picture = BTreeMap<Arc<str>, (u64, Arc<str>)>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// A snapshot is going on: what it has shown, and its last offset.
    fresh: Option<(Picture, u64)>,
    /// What the topic looks like, once a snapshot has ended.
    pub(super) picture: Option<Picture>,
}

impl Mirror {
    /// A snapshot follows, or none.
    pub(super) fn expect(&mut self, snapshot: bool) {
        self.fresh = snapshot.then(Default::default);
    }

    /// A snapshot has not ended.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.is_some()
    }

    /// Part of a snapshot, or, empty, its end.
    pub(super) fn snapshot(&mut self, record: &Record, events: &[Event], report: &mut Report) {
        let (fresh, last) = self.fresh.get_or_insert_default();
        if events.iter().any(|event| std::mem::replace(last, event.offset) >= event.offset) {
            report.violate(G::G1Ordered, "a snapshot is not in the order of its events", &[record]);
        }
        learn(fresh, events);
        if events.is_empty() {
            self.picture = self.fresh.take().map(|(picture, _)| picture);
        }
    }

    /// Changes.
    pub(super) fn change(&mut self, events: &[Event]) {
        if let Some(picture) = &mut self.picture {
            learn(picture, events);
        }
    }
}

fn learn(picture: &mut Picture, events: &[Event]) {
    for event in events {
        if event.removes {
            picture.remove(&event.key);
        } else {
            picture.insert(event.key.clone(), (event.offset, event.id.clone()));
        }
    }
}
