//! Bugs that tests plant on purpose, to see that they are caught. In the program there are none: whoever asks is told so
//! by a constant, and what stands behind it is compiled away.

/// What can be planted. Each breaks one promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Now and then an event is not delivered.
    LosesAnEvent,
    /// A resume begins at what was acknowledged, not at the cursor.
    ReplaysFromAck,
    /// A log that was lost comes back with the epoch it had.
    ReusesAnEpoch,
    /// A publish is answered and then not stored.
    AnswersUnstored,
    /// Who held a session is not told that it is lost.
    SkipsTheFence,
    /// Who held a session is told too late.
    FencesLate,
    /// The last publish of a session is not recognised when it is repeated.
    ForgetsTheLastRepeat,
    /// What was trimmed before it was read is not announced.
    TrimsSilently,
    /// A session that is not caught up is told that it is.
    MarksEarly,
    /// A pause is confirmed and not kept.
    DeliversPaused,
    /// One event more than was granted is sent.
    OverrunsCredit,
    /// Now and then a session is not woken.
    ForgetsAWake,
    /// Who joins one topic gets another.
    ConfusesTopics,
    /// Now and then a request is not answered.
    ForgetsAnAnswer,
    /// A session that is made to skip events is not told.
    SkipsSilently,
    /// A snapshot leaves a key out.
    LosesAKey,
}

/// Whether it is planted.
#[cfg(not(test))]
pub(crate) const fn active(_: Bug) -> bool {
    false
}

/// Whether it is planted, and this is one of every `nth` times that somebody asks.
#[cfg(not(test))]
pub(crate) const fn strikes(_: Bug, _: u64) -> bool {
    false
}

/// Does it later: not at all, here.
#[cfg(not(test))]
pub(crate) fn later(_: impl FnOnce() + Send + 'static) {}

#[cfg(test)]
pub(crate) use test::{active, later, plant, strikes};

#[cfg(test)]
mod test {
    use std::{cell::Cell, time::Duration};

    use super::Bug;
    use crate::lifecycle::Tasks;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
        static ASKED: Cell<u64> = const { Cell::new(0) };
    }

    /// Plants a bug in this thread, or takes it out again.
    pub(crate) fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
        ASKED.set(0);
    }

    /// Whether it is planted in this thread.
    pub(crate) fn active(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Whether it is planted, and this is one of every `nth` times that somebody asks.
    pub(crate) fn strikes(bug: Bug, nth: u64) -> bool {
        if !active(bug) {
            return false;
        }
        ASKED.set(ASKED.get() + 1);
        ASKED.get() % nth == 0
    }

    /// Does it a second later.
    pub(crate) fn later(act: impl FnOnce() + Send + 'static) {
        drop(Tasks::default().spawn("late", async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            act();
        }));
    }
}
