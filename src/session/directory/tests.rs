//! Who has a session when several want it, and for how long its place is kept.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{elsewhere::Watch, *};
use crate::{
    broker::Taking,
    types::{Cursor, SessionId},
};

fn producer(session: &str) -> Producer {
    Producer::new(ClientId::parse("c").unwrap(), SessionId::parse(session).unwrap())
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn nobody() -> Kick {
    Box::new(|_| {})
}

fn directory() -> Arc<Directory> {
    Arc::new(Directory::new(Config::default(), Fleet::Alone))
}

fn attach(directory: &Arc<Directory>) -> Attachment {
    directory.attach(producer("s"), &topic("t"), 0, None, nobody()).unwrap()
}

fn cursor(offset: u64) -> Cursor {
    Cursor { epoch: 1, offset, ..Cursor::default() }
}

#[test]
fn the_newest_attach_wins_and_the_older_holder_is_told() {
    let (directory, kicked) = (directory(), Arc::new(AtomicBool::new(false)));
    let tell = kicked.clone();
    let kick = Box::new(move |_| tell.store(true, Ordering::SeqCst));
    let first = directory.attach(producer("s"), &topic("t"), 0, None, kick).unwrap();
    let second = attach(&directory);
    assert!(kicked.load(Ordering::SeqCst));
    assert!(second.attach() > first.attach());
    drop(first);
    assert_eq!(attach(&directory).attach(), second.attach() + 1);
}

#[test]
fn attach_goes_on_from_what_the_client_has_seen() {
    let attachment = directory().attach(producer("s"), &topic("t"), 41, None, nobody()).unwrap();
    assert_eq!((attachment.attach(), attachment.is_fresh()), (42, false));
}

#[tokio::test(start_paused = true)]
async fn a_place_is_kept_for_its_time_and_then_forgotten() {
    let directory = directory();
    let attachment = attach(&directory);
    assert!(attachment.is_fresh());
    attachment.estate().ack(1, cursor(7)).unwrap();
    attachment.estate().ack(1, cursor(5)).unwrap();
    drop(attachment);

    tokio::time::advance(Duration::from_secs(119)).await;
    assert_eq!(directory.sweep(), 0);
    let attachment = attach(&directory);
    assert_eq!((attachment.estate().acked(), attachment.is_fresh()), (Some(cursor(7)), false));
    drop(attachment);
    tokio::time::advance(Duration::from_secs(119)).await;
    assert_eq!(directory.sweep(), 0, "the time runs from the last end");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!((directory.sweep(), directory.len()), (1, 0));
}

#[test]
fn a_forgotten_session_leaves_nothing() {
    let directory = directory();
    let mut attachment = attach(&directory);
    attachment.forget();
    drop(attachment);
    assert!(directory.is_empty());
}

#[tokio::test(start_paused = true)]
async fn taking_a_session_again_and_again_costs_nobody_else_its_place() {
    let config = Config { max_kept: 10, ..Config::default() };
    let directory = Arc::new(Directory::new(config, Fleet::Alone));
    drop(directory.attach(producer("victim"), &topic("t"), 0, None, nobody()).unwrap());
    for _ in 0..5000 {
        drop(attach(&directory));
    }
    assert_eq!((directory.sweep(), directory.len()), (0, 2));
    assert!(directory.state.lock().let_go.len() < 1000, "what is stale is dropped");
}

#[test]
fn who_held_a_session_before_can_do_nothing_more_in_its_name() {
    let directory = directory();
    let older = attach(&directory);
    let newer = attach(&directory);
    assert_eq!(older.estate().ack(older.attach(), cursor(9)).unwrap_err().reason, Reason::TakenOver);
    newer.estate().ack(newer.attach(), cursor(3)).unwrap();
    assert_eq!(newer.estate().acked(), Some(cursor(3)));
    older.estate().leave_presence(older.attach()).unwrap_err();
}

#[test]
fn a_session_that_moves_to_another_topic_leaves_its_place_behind() {
    let directory = directory();
    attach(&directory).estate().ack(1, cursor(7)).unwrap();
    let moved = directory.attach(producer("s"), &topic("other"), 0, None, nobody()).unwrap();
    assert_eq!((moved.attach(), moved.estate().acked()), (2, None));
    assert!(directory.estate(&producer("s"), &topic("t")).is_none());
}

#[test]
fn a_client_has_so_many_sessions_and_no_more_but_may_always_come_back_to_one() {
    let config = Config { max_per_client: 2, ..Config::default() };
    let directory = Arc::new(Directory::new(config, Fleet::Alone));
    let attach = |session| directory.attach(producer(session), &topic("t"), 0, None, nobody());
    let (_one, two) = (attach("1").unwrap(), attach("2").unwrap());
    assert_eq!(attach("3").unwrap_err().reason, Reason::SessionLimit);
    drop(two);
    assert_eq!(attach("3").unwrap_err().reason, Reason::SessionLimit, "kept ones count");
    let mut two = attach("2").unwrap();
    two.forget();
    drop(two);
    attach("3").unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_places_nobody_holds_only_so_many_are_kept_the_newest() {
    let config = Config { max_kept: 2, ..Config::default() };
    let directory = Arc::new(Directory::new(config, Fleet::Alone));
    for session in ["1", "2", "3"] {
        drop(directory.attach(producer(session), &topic("t"), 0, None, nobody()).unwrap());
    }
    assert_eq!((directory.sweep(), directory.len()), (1, 2));
    assert!(directory.estate(&producer("1"), &topic("t")).is_none());
}

#[test]
fn a_session_that_another_replica_takes_while_it_is_taken_here_is_that_ones() {
    let directory = directory();
    let taken = || {
        let claim = Claim { order: 2, first: false };
        Taken { claimed: Claimed { attach: 2, claim, previous: None }, watch: Watch::keep(&directory, &producer("s")) }
    };
    let attach = |taken| directory.attach(producer("s"), &topic("t"), 0, Some(taken), nobody());
    let elsewhere = |attach| Taking { producer: producer("s"), topic: topic("t"), attach, presence: None };
    let late = taken();
    assert!(directory.hand_away(&elsewhere(3)).is_none(), "there is nothing here yet");
    assert_eq!(attach(late).unwrap_err().reason, Reason::TakenOver);
    assert!(directory.state.lock().taking.is_empty());
    // One that was taken before counts for nothing, and neither does what is older than that.
    let newest = taken();
    assert!(directory.hand_away(&elsewhere(1)).is_none());
    assert_eq!(attach(newest).unwrap().attach(), 2);
}
