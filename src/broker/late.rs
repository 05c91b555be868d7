//! Tests only: memory that takes its time. What becomes of a publish is planned: when it is stored, if it is, and when its
//! publisher is told, if it ever can be. What is not planned is as it is in the program.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use super::{Publishing, memory::Entry};
use crate::{
    error::{Failure, Reason},
    lifecycle::Tasks,
    types::NewEvent,
};

/// How long it tries to learn what became of a publish.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// What becomes of a publish, counted from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fate {
    /// When it is stored; never, if not.
    pub(crate) stored: Option<Duration>,
    /// When the outcome is known. If it never is, that is said after [`PATIENCE`].
    pub(crate) answered: Option<Duration>,
}

type Plan = Box<dyn FnMut(&NewEvent) -> Option<Fate>>;

thread_local! {
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
    static UNSEEN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Holds the engines of this thread to a plan until it is dropped.
pub(crate) struct Planned(());

impl Planned {
    /// No log can be looked at for so long.
    pub(crate) fn unseen_for(&self, time: Duration) {
        UNSEEN.set(Some(Instant::now() + time));
    }
}

impl Drop for Planned {
    fn drop(&mut self) {
        drop(PLAN.take());
        UNSEEN.set(None);
    }
}

/// Plans what becomes of publishes: `fate` is asked about each; what it knows nothing of is stored and answered at once.
pub(crate) fn plan(fate: impl FnMut(&NewEvent) -> Option<Fate> + 'static) -> Planned {
    PLAN.set(Some(Box::new(fate)));
    Planned(())
}

pub(super) fn fate(event: &NewEvent) -> Option<Fate> {
    PLAN.with_borrow_mut(|plan| plan.as_mut()?(event))
}

pub(super) fn publish(entry: &Arc<Entry>, event: NewEvent, fate: Fate) -> Publishing {
    let told = Instant::now() + fate.answered.unwrap_or(PATIENCE);
    let (tell, outcome) = oneshot::channel();
    if let Some(after) = fate.stored {
        let entry = entry.clone();
        // Whether anybody still waits for the outcome is nothing to it.
        drop(Tasks::default().spawn("late publish", async move {
            sleep(after).await;
            tell.send(entry.publish(&event)).ok();
        }));
    }
    Publishing::Later(Box::pin(async move {
        sleep_until(told).await;
        match fate {
            Fate { answered: None, .. } => Err(Failure::new(Reason::UnknownOutcome, "no answer in time")),
            Fate { stored: None, .. } => Err(Failure::new(Reason::Broker, "not reached")),
            _ => outcome.await.expect("it is stored"),
        }
    }))
}

pub(super) fn ready() -> Option<BoxFuture<'static, Result<(), Failure>>> {
    let until = UNSEEN.get().filter(|until| Instant::now() < *until)?;
    Some(Box::pin(async move {
        sleep_until(until).await;
        Ok(())
    }))
}
