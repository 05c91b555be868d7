//! Whether this process is ready for work, and if not, why. The one source for `/readyz` and for `grpc.health.v1`.
//!
//! Ready means: the phase is `Serving` and every component says it is ready. A component that has not spoken yet is not, and
//! neither is one whose last word is too old to be believed.

mod config;

use std::{borrow::Cow, collections::BTreeMap};

use tokio::{sync::watch, time::Instant};

pub use self::config::Config;
use crate::{
    lifecycle::{Lifecycle, Phase},
    types::sleep_until_or_forever,
};

/// What a component lacks whose last word is too old.
const SILENT: &str = "nothing was heard of it for too long";

/// The statuses of all components and services. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Health {
    lifecycle: Lifecycle,
    board: watch::Sender<Board>,
}

#[derive(Debug, Default)]
struct Board {
    /// What each component said last.
    components: BTreeMap<&'static str, Word>,
    /// Whether each service may be called, as far as the service itself is concerned.
    services: BTreeMap<&'static str, bool>,
}

/// The last that a component said.
#[derive(Debug, Default)]
struct Word {
    /// What it lacks; `None` when it is ready.
    problem: Option<Cow<'static, str>>,
    /// Until when that it is ready is to be believed; `None` for ever.
    until: Option<Instant>,
}

impl Word {
    fn problem(&self, now: Instant) -> Option<Cow<'static, str>> {
        let silent = self.until.is_some_and(|until| until <= now);
        self.problem.clone().or_else(|| silent.then_some(SILENT.into()))
    }
}

/// One line of a verbose readiness report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The component; the first line is `phase`.
    pub component: &'static str,
    /// What it lacks; `None` when it is ready.
    pub problem: Option<Cow<'static, str>>,
}

impl Health {
    /// Health of the process whose phase `lifecycle` holds.
    pub fn new(lifecycle: &Lifecycle) -> Self {
        Self { lifecycle: lifecycle.clone(), board: watch::Sender::default() }
    }

    /// Makes a component known; the process is not ready until it is.
    pub fn component(&self, name: &'static str) -> Component {
        let component = Component { name, board: self.board.clone() };
        component.say(Some("starting".into()), None);
        component
    }

    /// Makes a service known under its full gRPC name, or changes whether it serves. It still counts as not serving
    /// while the process is not ready.
    pub fn set_service(&self, name: &'static str, serving: bool) {
        self.board.send_if_modified(|board| board.services.insert(name, serving) != Some(serving));
    }

    /// Whether the process is ready for work.
    pub fn ready(&self) -> bool {
        let now = Instant::now();
        let well = |word: &Word| word.problem(now).is_none();
        self.lifecycle.phase() == Phase::Serving && self.board.borrow().components.values().all(well)
    }

    /// Whether a service may be called; `None` when it is not known. The empty name is the whole process.
    pub fn service(&self, name: &str) -> Option<bool> {
        let known = name.is_empty() || self.board.borrow().services.contains_key(name);
        let willing = || self.board.borrow().services.get(name).copied().unwrap_or(true);
        known.then(|| self.ready() && willing())
    }

    /// Every service that is known, and whether it may be called; the whole process first, under the empty name.
    pub fn services(&self) -> Vec<(&'static str, bool)> {
        let ready = self.ready();
        let board = self.board.borrow();
        let known = board.services.iter().map(|(name, willing)| (*name, ready && *willing));
        std::iter::once(("", ready)).chain(known).collect()
    }

    /// The phase and every component, with what each lacks.
    pub fn report(&self) -> Vec<Line> {
        let phase = self.lifecycle.phase();
        let problem = (phase != Phase::Serving).then(|| phase.as_str().into());
        let (board, now) = (self.board.borrow(), Instant::now());
        let components = board.components.iter();
        let components = components.map(|(component, word)| Line { component, problem: word.problem(now) });
        std::iter::once(Line { component: "phase", problem }).chain(components).collect()
    }

    /// Follows all of it.
    pub fn watch(&self) -> Watch {
        let (phases, board) = (self.lifecycle.watch(), self.board.subscribe());
        Watch { phases, board, looked: Instant::now(), health: self.clone() }
    }
}

/// Through this a part of the process says how it is. Keeps its last word when dropped.
#[derive(Debug)]
pub struct Component {
    name: &'static str,
    board: watch::Sender<Board>,
}

impl Component {
    /// It can do its work.
    pub fn ready(&self) {
        self.say(None, None);
    }

    /// It can do its work, and says so again before then; if it does not, it is not ready any more.
    pub fn ready_until(&self, then: Instant) {
        self.say(None, Some(then));
    }

    /// It cannot; `problem` says why, in words fit for an operator.
    pub fn not_ready(&self, problem: impl Into<Cow<'static, str>>) {
        self.say(Some(problem.into()), None);
    }

    fn say(&self, problem: Option<Cow<'static, str>>, until: Option<Instant>) {
        self.board.send_if_modified(|board| {
            let now = Instant::now();
            let before = board.components.insert(self.name, Word { problem: problem.clone(), until });
            // That it will be believed for longer is no news.
            before.is_none_or(|before| before.problem(now) != problem)
        });
    }
}

/// Follows a [`Health`].
#[derive(Debug)]
pub struct Watch {
    phases: watch::Receiver<Phase>,
    board: watch::Receiver<Board>,
    /// When `changed` last completed: words that have become too old since are news.
    looked: Instant,
    /// Also keeps both senders alive, so that waiting never ends for want of one.
    health: Health,
}

impl Watch {
    /// As [`Health::service`], now.
    pub fn service(&self, name: &str) -> Option<bool> {
        self.health.service(name)
    }

    /// Whether the drain has begun, so that long calls have to end.
    pub fn draining(&self) -> bool {
        self.health.lifecycle.phase() >= Phase::Draining
    }

    /// Completes after something changed that came after the last completion, and now and then for nothing. Cancel-safe.
    pub async fn changed(&mut self) {
        let stale = sleep_until_or_forever(self.stale_at());
        tokio::select! {
            _ = self.phases.changed() => {}
            _ = self.board.changed() => {}
            () = stale => {}
        }
        self.looked = Instant::now();
    }

    /// When the next word is too old.
    fn stale_at(&self) -> Option<Instant> {
        let board = self.board.borrow();
        board.components.values().filter_map(|word| word.until).filter(|until| *until > self.looked).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_needs_the_phase_and_every_component() {
        let lifecycle = Lifecycle::default();
        let health = Health::new(&lifecycle);
        let broker = health.component("broker");
        assert!(!health.ready());
        lifecycle.advance(Phase::Serving);
        assert!(!health.ready(), "the broker has not spoken");
        broker.ready();
        assert!(health.ready());
        broker.not_ready("no quorum");
        let broken = Line { component: "broker", problem: Some("no quorum".into()) };
        assert_eq!(health.report(), [Line { component: "phase", problem: None }, broken]);
        broker.ready();
        lifecycle.advance(Phase::LameDuck);
        assert!(!health.ready(), "a lame duck is not ready");
        assert_eq!(health.report()[0].problem.as_deref(), Some("lame_duck"));
    }

    #[test]
    fn a_service_serves_when_it_is_known_and_willing_and_the_process_ready() {
        let lifecycle = Lifecycle::default();
        let health = Health::new(&lifecycle);
        health.set_service("a.A", true);
        assert_eq!(
            (health.service(""), health.service("a.A"), health.service("b.B")),
            (Some(false), Some(false), None)
        );
        lifecycle.advance(Phase::Serving);
        assert_eq!((health.service(""), health.service("a.A")), (Some(true), Some(true)));
        health.set_service("a.A", false);
        assert_eq!((health.service(""), health.service("a.A")), (Some(true), Some(false)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_too_long_ago_is_not_believed_and_whoever_watches_is_told() {
        let lifecycle = Lifecycle::default();
        let health = Health::new(&lifecycle);
        lifecycle.advance(Phase::Serving);
        let broker = health.component("broker");
        let soon = || Instant::now() + std::time::Duration::from_secs(5);
        broker.ready_until(soon());
        let mut watch = health.watch();
        assert!(health.ready());
        watch.changed().await;
        assert!(!health.ready());
        assert_eq!(health.report()[1].problem.as_deref(), Some(SILENT));
        broker.ready_until(soon());
        watch.changed().await;
        assert!(health.ready());
    }

    #[tokio::test]
    async fn a_watch_sees_changes_of_either_kind_and_none_that_are_not() {
        let lifecycle = Lifecycle::default();
        let health = Health::new(&lifecycle);
        let broker = health.component("broker");
        let mut watch = health.watch();
        broker.not_ready("starting");
        assert!(futures_util::FutureExt::now_or_never(watch.changed()).is_none());
        broker.ready();
        watch.changed().await;
        lifecycle.advance(Phase::Serving);
        watch.changed().await;
    }
}
