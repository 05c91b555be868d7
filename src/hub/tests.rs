use futures_util::FutureExt as _;

use super::*;
use crate::broker::memory::Memory;

fn hub() -> Hub {
    Hub::new(Config::default(), Broker::Memory(Memory::new(100)), Arc::new(Metrics::default()))
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn party() -> Party {
    Party::address(std::net::Ipv4Addr::LOCALHOST.into())
}

fn event() -> NewEvent {
    NewEvent { payload: "x".into(), ..NewEvent::default() }
}

fn publish(hub: &Hub, name: &str) -> Result<Published, Failure> {
    hub.publish(&topic(name), event(), party()).now_or_never().expect("memory answers at once")
}

fn taken(ready: &ReadySet) -> Vec<u32> {
    let mut aliases = Vec::new();
    ready.drain(|alias| aliases.push(alias));
    aliases
}

/// A reader whose lane is there to be woken.
fn armed(feed: &Arc<Feed>, alias: u32, ready: &Arc<ReadySet>) -> ReaderGuard {
    let guard = feed.attach(Reader::new(alias, ready.clone()));
    guard.reader().rearm();
    guard
}

#[test]
fn sessions_of_one_topic_share_a_feed_that_ends_with_the_last() {
    let hub = hub();
    let (first, second) = (hub.join(&topic("t"), party()).unwrap(), hub.join(&topic("t"), party()).unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    drop(first);
    assert_eq!(hub.feeds.lock().len(), 1);
    drop(second);
    assert!(hub.feeds.lock().is_empty());
}

#[test]
fn a_publish_wakes_each_reader_once_until_it_has_looked() {
    let hub = hub();
    let feed = hub.join(&topic("t"), party()).unwrap();
    let ready = Arc::new(ReadySet::default());
    let guards: Vec<_> = (1..=3).map(|alias| armed(&feed, alias, &ready)).collect();
    publish(&hub, "t").unwrap();
    publish(&hub, "t").unwrap();
    assert_eq!(taken(&ready), [1, 2, 3]);

    guards[0].reader().rearm();
    publish(&hub, "t").unwrap();
    assert_eq!(taken(&ready), [1], "the others have not looked yet");
}

#[test]
fn a_reader_that_leaves_is_not_woken_and_takes_nobody_with_it() {
    let hub = hub();
    let feed = hub.join(&topic("t"), party()).unwrap();
    let ready = Arc::new(ReadySet::default());
    let mut guards: Vec<_> = (1..=5).map(|alias| armed(&feed, alias, &ready)).collect();
    guards.remove(1);
    guards.remove(0);
    publish(&hub, "t").unwrap();
    let mut woken = taken(&ready);
    woken.sort_unstable();
    assert_eq!((woken, feed.reader_count()), (vec![3, 4, 5], 3));
    drop(guards);
    assert_eq!(feed.reader_count(), 0);
}

#[test]
fn an_echo_topic_is_another_one_for_everybody() {
    let hub = hub();
    let (mine, theirs) = (hub.join(&topic("echo"), party()).unwrap(), hub.join(&topic("echo"), party()).unwrap());
    assert!(matches!(mine.publish(event()), Publishing::Done(Ok(_))));
    assert_eq!((mine.log().head().offset, theirs.log().head().offset), (1, 0));
    assert_eq!(publish(&hub, "echo.x").unwrap_err().reason, Reason::Unsupported);
    assert!(hub.list("", "", 10).is_empty());
}

#[test]
fn a_name_no_rule_covers_is_refused() {
    let config = Config { rules: Config::default().rules[..2].to_vec(), ..Config::default() };
    let hub = Hub::new(config, Broker::Memory(Memory::new(1)), Arc::new(Metrics::default()));
    assert_eq!(hub.join(&topic("t"), party()).unwrap_err().reason, Reason::UnknownTopic);
}
