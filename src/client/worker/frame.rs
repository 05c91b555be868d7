//! What a server says.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Conversation, Link, Role, Worker};
use crate::{
    client::{
        Error, ErrorKind, Refusal, Status, command::answer, link::Awaited, outstanding::Answer, shared::SessionKey,
        wire,
    },
    error::Advice,
    proto::v1::{self, stream_data_response::Frame},
};

impl Worker {
    pub(super) fn frame(&mut self, role: Role, frame: Frame, now: Instant) {
        match frame {
            Frame::Welcome(welcome) => self.welcome(role, welcome, now),
            Frame::SessionOpened(opened) => {
                self.present(role, opened.session, |conversation, link| conversation.opened(&opened, link, now));
                self.settle(now);
            }
            Frame::Delivery(delivery) => {
                let alias = delivery.session;
                self.present(role, alias, |conversation, link| conversation.deliver(delivery, link, now));
            }
            Frame::Gap(gap) => {
                self.present(role, gap.session, |conversation, link| conversation.gap(&gap, link, now));
            }
            Frame::Reply(reply) => self.reply(role, reply, now),
            Frame::SessionClosed(closed) => self.session_closed(role, closed, now),
            Frame::Drain(drain) => self.drain(role, &drain, now),
            Frame::Heartbeat(heartbeat) => self.heartbeat(role, heartbeat),
        }
    }

    /// Hands a frame to the session it belongs to, unless that has moved on: frames of an older attach are void.
    fn present(&mut self, role: Role, alias: u32, act: impl FnOnce(&mut Conversation, &mut Link)) {
        let link = match role {
            Role::Active => &mut self.active,
            Role::Successor => &mut self.successor,
            Role::Retiring => &mut self.retiring,
        };
        let Some(link) = link else { return };
        let Some(key) = link.aliases.get(&alias).copied() else { return };
        let Some(conversation) = self.conversations.get_mut(&key) else { return };
        if conversation.lives_at(link.id, alias) {
            act(conversation, link);
            self.reschedule(key);
        }
    }

    fn welcome(&mut self, role: Role, welcome: v1::Welcome, now: Instant) {
        let Some(link) = self.link(role) else { return };
        link.welcomed(welcome, now);
        let welcome = link.welcome.clone().unwrap_or_default();
        if role == Role::Retiring {
            return;
        }
        tracing::debug!(connection = welcome.connection_id, node = welcome.node, "connected");
        self.limits = welcome.limits.unwrap_or_default();
        self.down_since = None;
        self.status.send_replace(Status::Connected(Arc::clone(&welcome)));
        if let Some(first) = self.first.take() {
            // Whoever no longer waits has also dropped the client, which is noticed elsewhere.
            first.send(()).ok();
        }
        if role == Role::Successor {
            self.promote(now);
            self.settle(now);
        }
    }

    fn reply(&mut self, role: Role, mut reply: v1::Reply, now: Instant) {
        let Some(link) = self.link(role) else { return };
        let id = link.id;
        let Some(awaited) = link.awaited.remove(&reply.request_id) else { return };
        let failure = reply.failure.take().map(wire::refusal);
        match awaited {
            Awaited::Handle(done) => {
                // A pause of an attach that has just ended is in force all the same: the session is opened again paused.
                let failure = failure.filter(|refusal| refusal.reason != "UNKNOWN_SESSION");
                let answered = failure.map_or(Ok(()), |refusal| Err(Error::refused(ErrorKind::Refused, refusal)));
                answer(done, answered);
            }
            Awaited::Publish(key) => {
                let Some(conversation) = self.conversations.get_mut(&key) else { return };
                let stale = !conversation.is_open_on(id);
                let reconnect = failure.as_ref().filter(|refusal| refusal.advice == Advice::Reconnect && !stale);
                let wait = reconnect.map(|refusal| refusal.retry_after);
                let verdict = match failure {
                    None => Answer::Stored(wire::published(&reply)),
                    Some(refusal) => Answer::Refused(refusal, reply.through_seq),
                };
                conversation.answered(reply.request_id, verdict, stale, now);
                if let Some((conversation, Some(link))) = self.seat(key) {
                    conversation.pump(link, now);
                }
                if self.conversations.get(&key).is_some_and(Conversation::can_end_here) {
                    self.end_conversation(key, None, now);
                }
                self.reschedule(key);
                if let Some(advised) = wait {
                    self.move_elsewhere(advised, now);
                }
            }
        }
    }

    fn session_closed(&mut self, role: Role, closed: v1::SessionClosed, now: Instant) {
        let Some(link) = self.link(role) else { return };
        let id = link.id;
        let Some(key) = link.aliases.remove(&closed.session) else { return };
        let Some(conversation) = self.conversations.get_mut(&key) else { return };
        // Of an older attach: TAKEN_OVER by our own newer one, or an open that was left there and is refused.
        if !conversation.lives_at(id, closed.session) {
            return conversation.left.answered(id);
        }
        let Some(refusal) = closed.failure.map(wire::refusal) else {
            return self.end_conversation(key, None, now);
        };
        let advised = refusal.retry_after;
        match refusal.advice {
            Advice::Reconnect if !conversation.is_leaving() => {
                conversation.adrift();
                self.move_elsewhere(advised, now);
            }
            Advice::Retry if !conversation.is_new() && !conversation.is_leaving() => {
                self.reopen_later(key, advised, now);
            }
            // Most likely an open of its own, left on another connection, was carried out late: it takes the session back.
            _ if is_taken(&refusal) && !conversation.is_leaving() && conversation.left.take(now) => {
                self.reopen_later(key, advised, now);
            }
            _ => self.end_conversation(key, Some(Error::refused(ErrorKind::SessionClosed, refusal)), now),
        }
    }

    fn reopen_later(&mut self, key: SessionKey, advised: Option<Duration>, now: Instant) {
        if let Some(conversation) = self.conversations.get_mut(&key) {
            conversation.reopen_later(advised, now);
        }
        self.reschedule(key);
        self.settle(now);
    }

    /// The server leaves, and told us when to go.
    fn drain(&mut self, role: Role, drain: &v1::Drain, now: Instant) {
        if role == Role::Active {
            tracing::debug!(reason = drain.reason, delay_ms = drain.reconnect_delay_ms, "server is leaving");
            self.move_after(Duration::from_millis(u64::from(drain.reconnect_delay_ms)), now);
        }
    }

    /// Something can only go on over another connection; what goes on over this one is not disturbed meanwhile.
    fn move_elsewhere(&mut self, advised: Option<Duration>, now: Instant) {
        if self.successor.is_none() && self.active.as_ref().is_some_and(|link| link.leave_at.is_none()) {
            let wait = self.retry.next(advised);
            self.move_after(wait, now);
        }
    }

    fn heartbeat(&mut self, role: Role, heartbeat: v1::Heartbeat) {
        if heartbeat.reply_requested
            && let Some(link) = self.link(role)
        {
            link.beat(heartbeat.nonce, false);
        }
        for mark in heartbeat.marks {
            self.present(role, mark.session, |conversation, _| conversation.mark(mark));
        }
    }
}

fn is_taken(refusal: &Refusal) -> bool {
    refusal.reason == "TAKEN_OVER"
}
