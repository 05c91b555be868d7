//! On whose account each topic is there, so that one client cannot use up all that there may be.

use std::collections::HashMap;

use crate::{
    error::{Failure, Reason},
    types::{Party, Topic},
};

/// As many entries as the broker has topics, at most; see the module.
#[derive(Debug)]
pub(super) struct Founders {
    /// Most topics on one account; 0 for no limit, and then nothing is kept.
    most: usize,
    of: HashMap<Topic, Party>,
    counts: HashMap<Party, usize>,
}

impl Founders {
    pub(super) fn new(most: usize) -> Self {
        Self { most, of: HashMap::new(), counts: HashMap::new() }
    }

    /// Whether `party` may have one more: TOPIC_LIMIT.
    pub(super) fn check(&self, party: Party) -> Result<(), Failure> {
        let most = self.most;
        let full = most > 0 && self.counts.get(&party).is_some_and(|count| *count >= most);
        if !full {
            return Ok(());
        }
        let failure = Failure::new(Reason::TopicLimit, format!("a client may have {most} topics created at once"));
        Err(failure.retry_after(std::time::Duration::from_secs(1)).with("limit", most))
    }

    /// The topic is there, on account of `party`.
    pub(super) fn founded(&mut self, topic: &Topic, party: Party) {
        if self.most == 0 {
            return;
        }
        *self.counts.entry(party).or_default() += 1;
        if let Some(before) = self.of.insert(topic.clone(), party) {
            self.discount(before);
        }
    }

    /// These topics are not there any more.
    pub(super) fn forget(&mut self, topics: &[Topic]) {
        for topic in topics {
            if let Some(party) = self.of.remove(topic) {
                self.discount(party);
            }
        }
    }

    fn discount(&mut self, party: Party) {
        if let Some(count) = self.counts.get_mut(&party) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ClientId;

    #[test]
    fn a_client_has_so_many_topics_and_one_more_when_one_is_forgotten() {
        let mut founders = Founders::new(2);
        let party = |name: &str| Party::client(&ClientId::parse(name).unwrap());
        let topic = |name: &str| Topic::parse(name).unwrap();
        for name in ["a", "b"] {
            founders.check(party("alice")).unwrap();
            founders.founded(&topic(name), party("alice"));
        }
        let refused = founders.check(party("alice")).unwrap_err();
        assert_eq!((refused.reason, refused.retry_after.is_some()), (Reason::TopicLimit, true));
        founders.check(party("bob")).unwrap();
        // Forgotten and made anew by somebody else: it is theirs from then on.
        founders.founded(&topic("a"), party("bob"));
        founders.check(party("alice")).unwrap();
        founders.forget(&[topic("a"), topic("b")]);
        assert!(founders.counts.is_empty() && founders.of.is_empty());
    }
}
