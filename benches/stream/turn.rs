//! Whose turn it is: several works have their connections at the same time, and one of them works.

use std::cell::Cell;

use tokio::sync::Notify;

/// The turn of one work, which its workers wait for.
#[derive(Default)]
pub struct Turn {
    mine: Cell<bool>,
    begins: Notify,
    /// Workers that wait for it, with nothing on its way.
    resting: Cell<usize>,
    rests: Notify,
}

impl Turn {
    /// Lets the workers go on.
    pub fn begin(&self) {
        self.mine.set(true);
        self.begins.notify_waiters();
    }

    /// Has them begin nothing more.
    pub fn end(&self) {
        self.mine.set(false);
    }

    /// Waits until all of so many workers rest.
    pub async fn over(&self, workers: usize) {
        while self.resting.get() < workers {
            self.rests.notified().await;
        }
    }

    /// For a worker: whether it may begin something.
    pub fn is_mine(&self) -> bool {
        self.mine.get()
    }

    /// For a worker that has nothing on its way: rests until it may begin something.
    pub async fn mine(&self) {
        while !self.mine.get() {
            self.resting.set(self.resting.get() + 1);
            self.rests.notify_one();
            self.begins.notified().await;
            self.resting.set(self.resting.get() - 1);
        }
    }
}
