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

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Builder, Error, ErrorKind, Status,
    backoff::Retry,
    command::Command,
    link::{Awaited, Heard, Link},
    shared::{Attention, SessionKey},
};
use crate::proto::v1;
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
        welcomed: false,
        sweep_at: None,
        closing: None,
        end: None,
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
    /// True once there was one.
    welcomed: bool,
    /// When a session wants to be looked at by the clock; may be too early, never too late.
    sweep_at: Option<Instant>,
    /// Set when the application has let go: when to end at the latest.
    closing: Option<Instant>,
    /// Why it ended, if not as asked.
    end: Option<Error>,
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

    /// Not biased: neither a flood of frames nor one of commands may shut the other out.
    async fn wait(&mut self) -> Wake {
        let deadline = self.deadline();
        let clock = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = next(&mut self.active) => Wake::Heard(Role::Active, heard),
            heard = next(&mut self.successor) => Wake::Heard(Role::Successor, heard),
            heard = next(&mut self.retiring) => Wake::Heard(Role::Retiring, heard),
            command = self.commands.recv(), if self.closing.is_none() => Wake::Command(command),
            () = self.attention.wanted() => Wake::Wish,
            () = clock => Wake::Clock,
        }
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
        if self.sweep_at.is_some_and(|at| now >= at) {
            self.sweep(now);
        }
        GO_ON
    }

    // --- links

    fn link(&mut self, role: Role) -> &mut Option<Link> {
        match role {
            Role::Active => &mut self.active,
            Role::Successor => &mut self.successor,
            Role::Retiring => &mut self.retiring,
        }
    }

    fn dial(&mut self, now: Instant) -> Link {
        self.links += 1;
        Link::dial(self.links, &self.settings, now)
    }

    /// Connects, and opens every session in the same breath, without waiting for Welcome.
    fn dial_active(&mut self, now: Instant) {
        self.redial_at = None;
        self.active = Some(self.dial(now));
        self.status.send_replace(Status::Connecting);
        self.attach_all();
    }

    /// Dials beside the active link once it is time to leave that.
    fn dial_successor(&mut self, now: Instant) {
        if let Some(active) = &mut self.active
            && active.leave_at.is_some_and(|at| now >= at)
        {
            active.leave_at = None;
            tracing::debug!("dialling the server's successor");
            self.successor = Some(self.dial(now));
        }
    }

    /// Begins to move to another link after `wait`, if it has not begun already.
    fn move_after(&mut self, wait: Duration, now: Instant) {
        if let (Some(active), None) = (&mut self.active, &self.successor) {
            active.leave_at.get_or_insert(now + wait);
        }
    }

    /// The successor is welcomed: the sessions go over to it, and the one before is read to its end.
    fn promote(&mut self, now: Instant) {
        self.unlink(Role::Retiring, now);
        self.retiring = self.active.take();
        self.active = self.successor.take();
        for conversation in self.conversations.values_mut() {
            if !conversation.is_leaving() {
                conversation.adrift();
            }
        }
        self.attach_all();
    }

    /// Opens on the active link what has no home and is not waiting for its time.
    fn attach_all(&mut self) {
        let Some(link) = &mut self.active else { return };
        for conversation in self.conversations.values_mut().filter(|conversation| conversation.is_adrift()) {
            conversation.attach(link);
        }
    }

    /// Half-closes the link we moved from, once every session has arrived.
    fn settle(&mut self, now: Instant) {
        if let Some(retiring) = &mut self.retiring
            && !self.conversations.values().any(|c| c.is_attaching() || c.lives_on(retiring.id))
        {
            retiring.half_close(now);
        }
    }

    /// A link is gone, with why if it did not end well.
    fn link_ended(&mut self, role: Role, error: Option<Error>, now: Instant) -> Flow {
        let held_since = self.unlink(role, now);
        let error = error.unwrap_or_else(|| Error::new(ErrorKind::Connect, "the server ended the call"));
        tracing::debug!(?role, %error, "connection ended");
        match role {
            Role::Retiring => {}
            Role::Successor => {
                let wait = self.retry.next(error.retry_after());
                self.move_after(wait, now);
            }
            Role::Active => return self.active_ended(error, held_since, now),
        }
        GO_ON
    }

    /// Lets go of a link and of all that hangs on it. Returns since when it was welcomed.
    fn unlink(&mut self, role: Role, now: Instant) -> Option<Instant> {
        let link = self.link(role).take()?;
        let detached = |(key, c): (&SessionKey, &mut Conversation)| (c.lives_on(link.id) && c.detach()).then_some(*key);
        let ended: Vec<_> = self.conversations.iter_mut().filter_map(detached).collect();
        for key in ended {
            self.end_conversation(key, None, now);
        }
        let held_since = link.welcome.is_some().then_some(link.since);
        release(link);
        held_since
    }

    fn active_ended(&mut self, error: Error, held_since: Option<Instant>, now: Instant) -> Flow {
        if let Some(since) = held_since {
            self.retry.held(since, now);
            self.down_since = Some(now);
        }
        if self.closing.is_some() && self.conversations.is_empty() {
            return Flow::Break(None);
        }
        if self.successor.is_some() {
            self.active = self.successor.take();
            self.status.send_replace(Status::Connecting);
            self.attach_all();
            return GO_ON;
        }
        let patient = self.welcomed || self.settings.wait_for_server;
        if !patient || !error.is_retryable() {
            return Flow::Break(Some(error));
        }
        let retry_in = self.retry.next(error.retry_after());
        tracing::info!(%error, ?retry_in, "connection lost");
        self.redial_at = Some(now + retry_in);
        self.status.send_replace(Status::Waiting { error, retry_in });
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

/// Answers who waits for a Reply that will not come. A pause is in force all the same: sessions that are paused are
/// attached without credit.
fn release(link: Link) {
    for awaited in link.awaited.into_values() {
        if let Awaited::Handle(done) = awaited {
            drop(done.send(Ok(())));
        }
    }
}
