//! The one task that owns the client's state: the links to servers, the sessions, the clocks.
//!
//! It waits for five things (a frame, a command, a wish, the clock, the end of a dial) and never for anything else: it
//! always reads what a server sends, and what it sends waits in the link's outbox.
//!
//! There are up to three links. `active` carries the sessions. `successor` is dialled beside it when the server asks
//! us to move, and becomes active with its Welcome. `retiring` is the one we moved from, until it has ended.

mod conversation;
mod frame;
mod handle;
mod links;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    Builder, Error, ErrorKind, Status,
    backoff::Retry,
    command::Command,
    link::{Heard, Link},
    shared::{Attention, SessionKey},
};
use crate::{proto::v1, types::sleep_until_or_forever};
use conversation::{Conversation, Conversations};

/// How long a client that was let go may go on sending.
const LINGER: Duration = Duration::from_secs(5);
/// How long a publish may be repeated if the server does not say.
const DEFAULT_DEDUPE_WINDOW: Duration = Duration::from_secs(180);

/// Starts the worker. It ends when the last handle is dropped, or with an error that retrying does not cure.
#[expect(clippy::disallowed_methods, reason = "a library in other people's programs: there is no lifecycle to join")]
pub(super) fn spawn(
    settings: Builder,
    commands: mpsc::Receiver<Command>,
    attention: Arc<Attention>,
    status: watch::Sender<Status>,
    first: oneshot::Sender<()>,
) {
    let now = Instant::now();
    let worker = Worker {
        retry: Retry::new(settings.backoff),
        settings: Arc::new(settings),
        commands,
        attention,
        status,
        conversations: Conversations::new(),
        active: None,
        successor: None,
        retiring: None,
        links: 0,
        limits: v1::Limits::default(),
        redial_at: Some(now),
        down_since: Some(now),
        first: Some(first),
        sweep_at: None,
        closing: None,
        end: None,
        turn: 0,
    };
    drop(tokio::spawn(worker.run()));
}

#[derive(Debug)]
struct Worker {
    settings: Arc<Builder>,
    commands: mpsc::Receiver<Command>,
    attention: Arc<Attention>,
    status: watch::Sender<Status>,
    conversations: Conversations,
    active: Option<Link>,
    successor: Option<Link>,
    retiring: Option<Link>,
    /// Links made so far.
    links: u64,
    /// What the last server said.
    limits: v1::Limits,
    retry: Retry,
    /// When to dial, while there is no active link.
    redial_at: Option<Instant>,
    /// Since when there has been no welcomed link.
    down_since: Option<Instant>,
    /// Told of the first Welcome; until then a lost connection is one that could not be made.
    first: Option<oneshot::Sender<()>>,
    /// When a session wants to be looked at by the clock; may be too early, never too late.
    sweep_at: Option<Instant>,
    /// Set when the application has let go: when to end at the latest.
    closing: Option<Instant>,
    /// Why it ended, if not as asked.
    end: Option<Error>,
    /// Who is asked first, next time.
    turn: u32,
}

/// Which of the links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Active,
    Successor,
    Retiring,
}

/// What woke the worker.
#[derive(Debug)]
enum Wake {
    Heard(Role, Heard),
    Command(Option<Command>),
    Wish,
    Clock,
}

/// Whether to go on.
type Flow = std::ops::ControlFlow<Option<Error>>;
const GO_ON: Flow = Flow::Continue(());

impl Worker {
    async fn run(mut self) {
        loop {
            let wake = self.wait().await;
            let now = Instant::now();
            let mut flow = GO_ON;
            match wake {
                Wake::Heard(role, Heard::Frame(frame)) => self.frame(role, frame, now),
                Wake::Heard(role, Heard::Ended(error)) => flow = self.link_ended(role, error, now),
                Wake::Command(command) => self.command(command, now),
                Wake::Wish => self.wish(now),
                Wake::Clock => flow = self.clock(now),
            }
            if let Flow::Break(error) = flow {
                self.end = error;
                return;
            }
            if self.closing.is_some() && self.leave(now) {
                return;
            }
        }
    }

    /// Neither a flood of frames nor one of commands may shut the other out, so each is asked first in turn. Not at
    /// random: what a client does follows from what it sees.
    async fn wait(&mut self) -> Wake {
        let clock = sleep_until_or_forever(self.deadline());
        let leaving = self.closing.is_some();
        let command = async {
            match leaving {
                false => self.commands.recv().await,
                true => std::future::pending().await,
            }
        };
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        let (mut active, mut successor) = (pin!(next(&mut self.active)), pin!(next(&mut self.successor)));
        let (mut retiring, mut command) = (pin!(next(&mut self.retiring)), pin!(command));
        let (mut wanted, mut clock) = (pin!(self.attention.wanted()), pin!(clock));
        poll_fn(move |cx| {
            let mut poll = |source: u32| match source % 6 {
                0 => active.as_mut().poll(cx).map(|heard| Wake::Heard(Role::Active, heard)),
                1 => successor.as_mut().poll(cx).map(|heard| Wake::Heard(Role::Successor, heard)),
                2 => retiring.as_mut().poll(cx).map(|heard| Wake::Heard(Role::Retiring, heard)),
                3 => command.as_mut().poll(cx).map(Wake::Command),
                4 => wanted.as_mut().poll(cx).map(|()| Wake::Wish),
                _ => clock.as_mut().poll(cx).map(|()| Wake::Clock),
            };
            (0..6).map(|step| poll(turn.wrapping_add(step))).find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }

    fn deadline(&self) -> Option<Instant> {
        let links = [&self.active, &self.successor, &self.retiring];
        let links = links.into_iter().flatten().filter_map(Link::deadline).min();
        let give_up = self.down_since.zip(self.settings.give_up_after).map(|(since, limit)| since + limit);
        [links, self.redial_at, self.sweep_at, self.closing, give_up].into_iter().flatten().min()
    }

    /// Does all that is due.
    fn clock(&mut self, now: Instant) -> Flow {
        if let Some((since, limit)) = self.down_since.zip(self.settings.give_up_after)
            && now >= since + limit
        {
            let last = match &*self.status.borrow() {
                Status::Waiting { error, .. } => Some(error.clone()),
                _ => None,
            };
            let gone = || Error::new(ErrorKind::Connect, format!("no server could be reached for {limit:?}"));
            return Flow::Break(Some(last.unwrap_or_else(gone)));
        }
        for role in [Role::Active, Role::Successor, Role::Retiring] {
            if let Some(link) = self.link(role)
                && let Err(error) = link.tend(now)
            {
                self.link_ended(role, Some(error), now)?;
            }
        }
        if self.redial_at.is_some_and(|at| now >= at) {
            self.dial_active(now);
        }
        self.dial_successor(now);
        self.renew(now);
        if self.sweep_at.is_some_and(|at| now >= at) {
            self.sweep(now);
        }
        GO_ON
    }

    // --- sessions

    /// The session and the link it would use.
    fn seat(&mut self, key: SessionKey) -> Option<(&mut Conversation, Option<&mut Link>)> {
        let conversation = self.conversations.get_mut(&key)?;
        let links = [&mut self.active, &mut self.retiring];
        let home = links.into_iter().flatten().find(|link| conversation.lives_on(link.id));
        Some((conversation, home))
    }

    fn end_conversation(&mut self, key: SessionKey, error: Option<Error>, now: Instant) {
        if let Some(conversation) = self.conversations.remove(&key) {
            conversation.end(error);
        }
        self.settle(now);
    }

    /// What a session wants from the clock may have changed.
    fn reschedule(&mut self, key: SessionKey) {
        let patience = self.patience();
        let deadline = self.conversations.get(&key).and_then(|conversation| conversation.deadline(patience));
        self.sweep_at = [self.sweep_at, deadline].into_iter().flatten().min();
    }

    fn sweep(&mut self, now: Instant) {
        let patience = self.patience();
        for conversation in self.conversations.values_mut() {
            conversation.expire(now, patience);
            match &mut self.active {
                Some(link) if conversation.reopen_at.is_some_and(|at| now >= at) => conversation.attach(link),
                Some(link) => conversation.pump(link, now),
                // It goes along with the next link.
                None if conversation.reopen_at.is_some_and(|at| now >= at) => conversation.reopen_at = None,
                None => {}
            }
        }
        self.sweep_at = self.conversations.values().filter_map(|conversation| conversation.deadline(patience)).min();
    }

    /// How long a publish may be repeated: three quarters of the server's memory, for clocks and for the way there.
    fn patience(&self) -> Duration {
        match self.limits.dedupe_window_ms {
            0 => DEFAULT_DEDUPE_WINDOW,
            millis => Duration::from_millis(u64::from(millis)),
        }
        .mul_f64(0.75)
    }

    // --- the end

    /// The application has let go. True once there is nothing left to do.
    fn leave(&mut self, now: Instant) -> bool {
        if self.closing.is_some_and(|deadline| now >= deadline) {
            return true;
        }
        if !self.conversations.is_empty() {
            return false;
        }
        match &mut self.active {
            Some(link) if link.welcome.is_some() => link.half_close(now),
            _ => return true,
        }
        false
    }
}

impl Drop for Worker {
    /// However it ended, by the application, an error, a panic or the end of the runtime: nobody is left waiting.
    fn drop(&mut self) {
        let error = self.end.take();
        let all = std::mem::take(&mut self.conversations);
        for conversation in all.into_values() {
            conversation.end(error.clone());
        }
        self.status.send_replace(Status::Closed(error));
    }
}

/// Waits for ever where there is no link.
async fn next(link: &mut Option<Link>) -> Heard {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}
