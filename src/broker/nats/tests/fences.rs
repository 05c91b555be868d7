//! What is published late by whoever held a session before.

use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::*;
use crate::{broker::Taking, types::Claim};

fn under(claim: Claim, number: u64) -> NewEvent {
    NewEvent { claim: Some(claim), ..numbered(number) }
}

const FIRST: Claim = Claim { order: 10, first: true };
const SECOND: Claim = Claim { order: 20, first: false };
const THIRD: Claim = Claim { order: 30, first: false };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stored_under_an_older_claim_once_something_was_under_a_newer_one() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two) = (replica(&server).await, replica(&server).await);
    let (here, there) = (one.open("a", LIMITS).await, two.open("a", LIMITS).await);
    let publish = async |line: &Line, claim, number| line.publish(under(claim, number)).outcome().await;
    publish(&here, FIRST, 1).await.unwrap();
    publish(&here, FIRST, 2).await.unwrap();
    let third = publish(&there, SECOND, 3).await.unwrap();
    // Not a repeat of what was stored, and not where the newer holder stores it.
    for number in [4, 5] {
        let late = NewEvent { payload: "late".into(), ..under(FIRST, number) };
        assert_eq!(here.publish(late).outcome().await.unwrap_err().reason, Reason::TakenOver);
    }
    publish(&there, SECOND, 4).await.unwrap();
    // It comes back to where it was, and the one between is the one that is late.
    let fifth = publish(&here, THIRD, 5).await.unwrap();
    assert_eq!(publish(&there, SECOND, 6).await.unwrap_err().reason, Reason::TakenOver);
    let again = publish(&here, THIRD, 5).await.unwrap();
    assert_eq!((again.duplicate, again.cursor), (true, fifth.cursor));
    eventually("both have all", || content(&here).len() == 5 && content(&there).len() == 5).await;
    assert_eq!(content(&here), content(&there));
    // Whoever publishes without a session is no concern of this, and neither is another session.
    super::publish(&there, "x").await;
    let repeat = publish(&there, THIRD, 3).await.unwrap();
    assert_eq!((repeat.duplicate, repeat.cursor), (true, third.cursor));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_takes_itself_for_the_first_finds_out_if_there_was_one() {
    let Some(server) = NatsServer::start().await else { return };
    let one = replica(&server).await;
    let line = one.open("a", LIMITS).await;
    line.publish(under(SECOND, 1)).outcome().await.unwrap();
    // The session was forgotten everywhere, and is begun anew.
    let anew = Claim { order: 40, first: true };
    line.publish(under(anew, 2)).outcome().await.unwrap();
    assert_eq!(line.publish(under(SECOND, 3)).outcome().await.unwrap_err().reason, Reason::TakenOver);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_another_replica_sees_to_are_not_removed_by_the_one_that_had_them() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two) = (replica(&server).await, replica(&server).await);
    let (here, there) = (one.open("a", KEYED).await, two.open("a", KEYED).await);
    let put = |key: &'static str, claim, number| NewEvent {
        key: key.into(),
        scope: Some(producer("s")),
        ..under(claim, number)
    };
    here.publish(put("mine", FIRST, 1)).outcome().await.unwrap();
    there.fence(&producer("s"), SECOND).await.unwrap();
    assert_eq!(here.fence(&producer("s"), FIRST).await.unwrap_err().reason, Reason::TakenOver);
    here.remove_owned(&producer("s"), Some(FIRST));
    // What comes after the attempt shows that it came to nothing.
    sleep(Duration::from_millis(300)).await;
    there.publish(put("other", SECOND, 2)).outcome().await.unwrap();
    let names = |line: &Line| line.log().read().keys().map(crate::log::Keys::len);
    eventually("both are there", || [&here, &there].iter().all(|line| names(line) == Some(2))).await;
    there.remove_owned(&producer("s"), Some(SECOND));
    eventually("both are removed", || [&here, &there].iter().all(|line| names(line) == Some(0))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_with_whoever_has_it_if_whoever_asks_for_it_has_gone() {
    let Some(server) = NatsServer::start().await else { return };
    let (one, two) = (replica(&server).await, replica(&server).await);
    let taking = Taking { producer: producer("s"), topic: Topic::parse("a").unwrap(), attach: 0, presence: None };
    let (here, there) = (one.broker.fleet(), two.broker.fleet());
    let first = here.claim(&taking).await.unwrap().unwrap();
    let second = there.claim(&taking).await.unwrap().unwrap();
    assert!(!here.stands(first.claim).await.unwrap() && there.stands(second.claim).await.unwrap());
    // Asked for, and not waited for.
    assert!(here.claim(&taking).now_or_never().is_none());
    one.lifecycle.advance(Phase::Stopped);
    timeout(LIMIT, one.lifecycle.ended()).await.expect("what was begun comes to its end");
    assert!(there.stands(second.claim).await.unwrap());
}
