//! Who is in a topic: members, as lines and as sentences.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::StreamExt as _;
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    client::{Change, Client, Error, Event, Item, Mirror, Open, Session},
    proto::v1::Member,
};

/// The member that an event of a presence topic is about.
pub(super) fn member(event: &Event) -> Member {
    let key = String::from_utf8_lossy(&event.key);
    let (client_id, session_id) = key.split_once(' ').unwrap_or((&key, ""));
    Member {
        client_id: client_id.to_owned(),
        session_id: session_id.to_owned(),
        info: event.payload.clone(),
        since_us: event.time_us,
    }
}

/// A member as a line for people, without its end.
pub(super) fn row(member: &Member, zone: &TimeZone) -> String {
    let Member { client_id, session_id, info, .. } = member;
    let since = local(member.since_us, zone).strftime("%Y-%m-%d %H:%M:%S");
    let info = harmless(&String::from_utf8_lossy(info));
    format!("{client_id:<20} {session_id:<28} since {since}  {info}").trim_end().to_owned()
}

/// A moment, microseconds since the Unix epoch, on the clock of people here.
pub(super) fn local(time_us: u64, zone: &TimeZone) -> jiff::Zoned {
    let time = i64::try_from(time_us).ok().and_then(|us| Timestamp::from_microsecond(us).ok()).unwrap_or_default();
    time.to_zoned(zone.clone())
}

/// Without what could move the cursor or switch the terminal: other people wrote it.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// The members of a topic as a session on its presence tells them.
#[derive(Debug)]
pub(super) struct People {
    session: Session,
    mirror: Mirror,
}

impl People {
    /// Begins with those who are there.
    pub(super) async fn open(client: &Client, topic: &str) -> Result<Self, Error> {
        Ok(Self { session: client.open(Open::presence_of(topic)).await?, mirror: Mirror::new() })
    }

    /// What changes next: those who are there come first, all at once. `None` once the session has ended, as asked.
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Change>>, Error> {
        loop {
            let Some(item) = self.session.next().await else { return Ok(None) };
            let begins = !self.mirror.is_complete();
            let changes = self.mirror.take(&item);
            match item {
                Item::Closed(Some(error)) => return Err(error),
                Item::Closed(None) => return Ok(None),
                // That nobody is there is worth telling too.
                _ if !changes.is_empty() || (begins && self.mirror.is_complete()) => return Ok(Some(changes)),
                _ => {}
            }
        }
    }

    /// The member a key is of, if it is there.
    pub(super) fn get(&self, key: &Bytes) -> Option<Member> {
        self.mirror.get(key).map(member)
    }

    /// The clients that are there, each once.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.mirror.events().map(|event| event.publisher.clone()).collect()
    }
}

/// What to tell `own` of those who were there `before`, if it was told of them, and those who are there now.
pub(super) fn sentences(before: Option<&BTreeSet<String>>, now: &BTreeSet<String>, own: &str) -> Vec<String> {
    let other = |name: &&String| *name != own;
    let Some(before) = before else {
        let others: Vec<_> = now.iter().filter(other).map(String::as_str).collect();
        let none = others.is_empty();
        return vec![if none { "nobody else is here".to_owned() } else { format!("here: {}", others.join(", ")) }];
    };
    let joined = now.difference(before).filter(other).map(|name| format!("{name} joined"));
    let left = before.difference(now).filter(other).map(|name| format!("{name} left"));
    joined.chain(left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn people_are_told_who_is_there_then_who_comes_and_goes_but_not_of_themselves() {
        assert_eq!(sentences(None, &names(&["me"]), "me"), ["nobody else is here"]);
        assert_eq!(sentences(None, &names(&["bob", "alice", "me"]), "me"), ["here: alice, bob"]);
        let (before, now) = (names(&["alice", "bob"]), names(&["alice", "carol", "me"]));
        assert_eq!(sentences(Some(&before), &now, "me"), ["carol joined", "bob left"]);
        assert!(sentences(Some(&now), &names(&["alice", "carol"]), "me").is_empty());
    }

    #[test]
    fn a_member_is_its_client_and_its_session() {
        let event = Event { key: "alice desk 1".into(), payload: "x".into(), time_us: 5, ..Event::default() };
        let member = member(&event);
        assert_eq!((member.client_id.as_str(), member.session_id.as_str()), ("alice", "desk 1"));
        let row = row(&Member { info: "\u{1b}[2Jhi".into(), ..member }, &TimeZone::UTC);
        assert!(row.starts_with("alice ") && row.ends_with("since 1970-01-01 00:00:00  \u{fffd}[2Jhi"), "{row}");
    }

    #[test]
    fn what_others_wrote_cannot_take_over_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\tc\r"), "a\u{fffd}[2Jb\tc\u{fffd}");
    }
}
