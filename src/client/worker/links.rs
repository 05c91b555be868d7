//! How links come and go: dialled, moved to, moved from, lost.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{Conversation, Flow, GO_ON, Role, Worker};
use crate::{
    client::{
        Advice, Error, ErrorKind, Status,
        command::answer,
        link::{Awaited, Link},
        shared::SessionKey,
    },
    proto::v1::{self, stream_data_request::Frame},
};

impl Worker {
    pub(super) fn link(&mut self, role: Role) -> &mut Option<Link> {
        match role {
            Role::Active => &mut self.active,
            Role::Successor => &mut self.successor,
            Role::Retiring => &mut self.retiring,
        }
    }

    pub(super) fn dial(&mut self, now: Instant) -> Link {
        self.links += 1;
        self.reread_token();
        Link::dial(self.links, &self.settings, now)
    }

    /// True if the token's file has another one. While it cannot be read, the last one is kept.
    fn reread_token(&mut self) -> bool {
        if !self.settings.has_token_file() {
            return false;
        }
        // A few bytes of a local file, seldom: not worth another thing to wait for.
        Arc::make_mut(&mut self.settings).reread_token().unwrap_or_else(|error| {
            tracing::warn!(%error, "the token cannot be read again");
            false
        })
    }

    /// Shows a new token in place of one that soon runs out, if there is one by now; looks again later, if not.
    pub(super) fn renew(&mut self, now: Instant) {
        let due = self.active.as_ref().and_then(|link| link.renew_at).is_some_and(|at| now >= at);
        if !due {
            return;
        }
        let changed = self.reread_token();
        let token = self.settings.token.clone();
        let Some(link) = &mut self.active else { return };
        link.look_for_token_later(now);
        if changed || token != link.token {
            link.token.clone_from(&token);
            let token = token.expose().to_owned();
            let (done, _accepted) = oneshot::channel();
            let id = link.request_id();
            // One that is not believed is followed by the end of the connection, which says so.
            link.ask(id, Frame::Authenticate(v1::Authenticate { token }), Awaited::Handle(done));
        }
    }

    /// Connects, and opens every session in the same breath, without waiting for Welcome.
    pub(super) fn dial_active(&mut self, now: Instant) {
        self.redial_at = None;
        self.active = Some(self.dial(now));
        self.status.send_replace(Status::Connecting);
        self.attach_all();
    }

    /// Dials beside the active link once it is time to leave that.
    pub(super) fn dial_successor(&mut self, now: Instant) {
        if let Some(active) = &mut self.active
            && active.leave_at.is_some_and(|at| now >= at)
        {
            active.leave_at = None;
            tracing::debug!("dialling the server's successor");
            self.successor = Some(self.dial(now));
        }
    }

    /// Begins to move to another link after `wait`, if it has not begun already.
    pub(super) fn move_after(&mut self, wait: Duration, now: Instant) {
        if let (Some(active), None) = (&mut self.active, &self.successor) {
            active.leave_at.get_or_insert(now + wait);
        }
    }

    /// The successor is welcomed: the sessions go over to it, and the one before is read to its end.
    pub(super) fn promote(&mut self, now: Instant) {
        self.unlink(Role::Retiring, now);
        // One that is left has held as well as one that is lost: what went wrong before it is over.
        if let Some(left) = self.active.as_ref().filter(|link| link.welcome.is_some()) {
            self.retry.held(left.since, now);
        }
        self.retiring = self.active.take();
        self.active = self.successor.take();
        for conversation in self.conversations.values_mut().filter(|conversation| !conversation.is_leaving()) {
            if let Some(left) = &self.retiring {
                conversation.depart(left);
            }
            conversation.adrift();
        }
        self.attach_all();
    }

    /// Opens on the active link what has no home and is not waiting for its time.
    pub(super) fn attach_all(&mut self) {
        let Some(link) = &mut self.active else { return };
        for conversation in self.conversations.values_mut().filter(|conversation| conversation.is_adrift()) {
            conversation.attach(link);
        }
    }

    /// Half-closes the link we moved from, once every session has arrived.
    pub(super) fn settle(&mut self, now: Instant) {
        if let Some(retiring) = &mut self.retiring
            && !self.conversations.values().any(|c| c.is_attaching() || c.lives_on(retiring.id))
        {
            retiring.half_close(now);
        }
    }

    /// A link is gone, with why if it did not end well.
    pub(super) fn link_ended(&mut self, role: Role, error: Option<Error>, now: Instant) -> Flow {
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
    pub(super) fn unlink(&mut self, role: Role, now: Instant) -> Option<Instant> {
        let link = self.link(role).take()?;
        let detached = |(key, c): (&SessionKey, &mut Conversation)| {
            let is_over = c.lives_on(link.id) && c.detach(&link);
            c.left.gone(link.id, now);
            is_over.then_some(*key)
        };
        let ended: Vec<_> = self.conversations.iter_mut().filter_map(detached).collect();
        for key in ended {
            self.end_conversation(key, None, now);
        }
        let held_since = link.welcome.is_some().then_some(link.since);
        release(link);
        held_since
    }

    pub(super) fn active_ended(&mut self, error: Error, held_since: Option<Instant>, now: Instant) -> Flow {
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
        let patient = self.first.is_none() || self.settings.wait_for_server;
        // A token that is no longer believed is no end where there is another one by now.
        let renewed = error.advice() == Advice::Reauthenticate && self.reread_token();
        if !patient || !(error.is_retryable() || renewed) {
            return Flow::Break(Some(error));
        }
        let retry_in = self.retry.next(error.retry_after());
        tracing::info!(%error, ?retry_in, "connection lost");
        self.redial_at = Some(now + retry_in);
        self.status.send_replace(Status::Waiting { error, retry_in });
        GO_ON
    }
}

/// Answers who waits for a Reply that will not come. A pause is in force all the same: sessions that are paused are
/// attached without credit.
fn release(link: Link) {
    for awaited in link.awaited.into_values() {
        if let Awaited::Handle(done) = awaited {
            answer(done, Ok(()));
        }
    }
}
