//! The line of those who arrive: a crowd comes in few at a time, and whoever is there already has turns between them.
//!
//! A client that arrives takes many times the work of one that sends a message, and when a replica has gone thousands arrive at
//! once. Each is a task, and tokio has tasks take turns: a message would wait for a turn of everybody who has something to
//! say, three times on its way. In the line only few of them do.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use tokio::{runtime::Handle, sync::Semaphore, task::yield_now};

/// For each worker of the runtime so many have a turn, then everybody else has one.
const AT_ONCE: usize = 4;

/// See the module.
pub(super) struct Arrivals {
    turns: Semaphore,
}

impl Arrivals {
    /// Nobody is there yet. Must be called inside a runtime.
    pub(super) fn new() -> Self {
        Self { turns: Semaphore::new(AT_ONCE * Handle::current().metrics().num_workers()) }
    }

    /// Does what there is to do for somebody who arrives, each turn of it when the line has come to it. What that begins in
    /// other tasks, a call above all, has its first turn before the next in the line has theirs. Whoever has nothing to say
    /// leaves the line until they do, so nobody is kept out by those who are silent. Cancel-safe if `arrival` is.
    pub(super) async fn stand_in_line<F: Future>(&self, arrival: F) -> F::Output {
        let mut arrival = pin!(arrival);
        loop {
            let turn = self.turns.acquire().await;
            let arrived = poll_fn(|cx| Poll::Ready(arrival.as_mut().poll(cx))).await;
            yield_now().await;
            drop(turn);
            if let Poll::Ready(output) = arrived {
                return output;
            }
            if let Some(output) = next_wake(arrival.as_mut()).await {
                return output;
            }
        }
    }
}

/// Waits until the future is woken. It has one turn before, since it may have been woken while its task waited for something
/// else; if that was its last there is something to return.
async fn next_wake<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        rc::Rc,
        sync::Arc,
    };

    use tokio::{
        sync::Notify,
        task::{LocalSet, spawn_local},
    };

    use super::*;

    #[tokio::test]
    async fn a_crowd_lets_others_have_turns_and_all_of_it_gets_in() {
        const CROWD: usize = 200;
        let (arrivals, log) = (Rc::new(Arrivals::new()), Rc::new(RefCell::new(Vec::new())));
        LocalSet::new()
            .run_until(async {
                let crowd: Vec<_> = (0..CROWD)
                    .map(|n| {
                        let (arrivals, log) = (arrivals.clone(), log.clone());
                        spawn_local(async move { arrivals.stand_in_line(async { log.borrow_mut().push(n) }).await })
                    })
                    .collect();
                let between = log.clone();
                let other = spawn_local(async move {
                    let mut most = 0;
                    loop {
                        let before = between.borrow().len();
                        yield_now().await;
                        most = most.max(between.borrow().len() - before);
                        if before == CROWD {
                            return most;
                        }
                    }
                });
                for one in crowd {
                    one.await.unwrap();
                }
                assert_eq!(other.await.unwrap(), AT_ONCE, "the most that arrived between two turns of somebody else");
            })
            .await;
        assert_eq!(*log.borrow(), (0..CROWD).collect::<Vec<_>>(), "in the order they came");
    }

    #[tokio::test]
    async fn those_who_are_silent_keep_nobody_out() {
        let arrivals = Rc::new(Arrivals::new());
        LocalSet::new()
            .run_until(async {
                for _ in 0..2 * AT_ONCE {
                    let arrivals = arrivals.clone();
                    spawn_local(async move { arrivals.stand_in_line(std::future::pending::<()>()).await });
                }
                yield_now().await;
                assert_eq!(arrivals.stand_in_line(async { 1 }).await, 1);
            })
            .await;
    }

    /// Woken again and again, most of all while its task waits for its turn or yields it.
    #[tokio::test]
    async fn whoever_is_woken_at_any_moment_has_a_turn_for_it() {
        let (arrivals, words) = (Rc::new(Arrivals::new()), Rc::new(Cell::new(0)));
        let woken = Arc::new(Notify::new());
        LocalSet::new()
            .run_until(async {
                let one = spawn_local({
                    let (arrivals, words, woken) = (arrivals.clone(), words.clone(), woken.clone());
                    async move {
                        let talk = async {
                            while words.get() < 100 {
                                woken.notified().await;
                                words.set(words.get() + 1);
                            }
                        };
                        arrivals.stand_in_line(talk).await;
                    }
                });
                let mut patience = 100_000;
                while !one.is_finished() {
                    woken.notify_one();
                    for _ in 0..fastrand::u8(..4) {
                        yield_now().await;
                    }
                    patience -= 1;
                    assert!(patience > 0, "it has heard {} of 100 words", words.get());
                }
            })
            .await;
    }
}
