//! What the application asks.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Conversation, LINGER, Worker, conversation::Ticket};
use crate::{
    client::{
        Error, ErrorKind, NewEvent,
        command::{Command, Done, answer},
        link::Awaited,
        shared::SessionKey,
    },
    proto::v1::{self, stream_data_request::Frame},
    types::Secret,
};

impl Worker {
    /// A command; `None` when the last handle is gone.
    pub(super) fn command(&mut self, command: Option<Command>, now: Instant) {
        match command {
            Some(Command::Open { open, shared, done }) => {
                let key = shared.key();
                let conversation = Conversation::new(shared, *open, done, self.settings.backoff);
                self.conversations.insert(key, conversation);
                self.attach_all();
                self.look(key, now);
            }
            Some(Command::Publish { session, event, permit, done }) => {
                self.publish(session, *event, Ticket { done, permit }, now);
            }
            Some(Command::Pause { session, paused, done }) => match self.seat(session) {
                Some((conversation, link)) => conversation.pause(paused, done, link),
                None => answer(done, Err(closed())),
            },
            Some(Command::Close { session, keep, done }) => self.close(session, keep, Some(done), now),
            Some(Command::Authenticate { token, done }) => self.authenticate(token, done),
            Some(Command::Shutdown) => self.shut_down(true, now),
            None => self.shut_down(false, now),
        }
    }

    fn publish(&mut self, key: SessionKey, event: NewEvent, ticket: Ticket, now: Instant) {
        let limits = self.limits;
        match self.seat(key) {
            Some((conversation, link)) => {
                conversation.publish(event, ticket, &limits);
                if let Some(link) = link {
                    conversation.pump(link, now);
                }
                self.reschedule(key);
            }
            None => answer(ticket.done, Err(closed())),
        }
    }

    /// Sessions want to be looked at.
    pub(super) fn wish(&mut self, now: Instant) {
        // What was handed over before a session was dropped comes before its end.
        while let Ok(command) = self.commands.try_recv() {
            self.command(Some(command), now);
        }
        for key in self.attention.take() {
            self.look(key, now);
        }
    }

    fn look(&mut self, key: SessionKey, now: Instant) {
        let Some((conversation, link)) = self.seat(key) else { return };
        if let Some(link) = link {
            conversation.tend(link, now);
        }
        if conversation.is_abandoned() {
            self.close(key, false, None, now);
        }
    }

    fn close(&mut self, key: SessionKey, keep: bool, done: Option<Done>, now: Instant) {
        let Some((conversation, link)) = self.seat(key) else {
            if let Some(done) = done {
                answer(done, Ok(()));
            }
            return;
        };
        conversation.close(keep, done);
        if let Some(link) = link {
            conversation.pump(link, now);
        }
        if conversation.can_end_here() {
            self.end_conversation(key, None, now);
        }
    }

    fn authenticate(&mut self, token: Secret, done: Done) {
        Arc::make_mut(&mut self.settings).token.clone_from(&token);
        match self.active.as_mut().filter(|link| link.welcome.is_some()) {
            Some(link) => {
                link.token.clone_from(&token);
                let id = link.request_id();
                let token = token.expose().to_owned();
                link.ask(id, Frame::Authenticate(v1::Authenticate { token }), Awaited::Handle(done));
            }
            None => answer(done, Ok(())),
        }
    }

    /// Ends all sessions, then the connection. With handles left, nothing more is taken from them.
    fn shut_down(&mut self, handles_left: bool, now: Instant) {
        if handles_left {
            self.commands.close();
            // What was handed over before is still carried out.
            while let Ok(command) = self.commands.try_recv() {
                if !matches!(command, Command::Shutdown) {
                    self.command(Some(command), now);
                }
            }
        }
        self.closing.get_or_insert(now + LINGER);
        let keys: Vec<_> = self.conversations.keys().copied().collect();
        for key in keys {
            self.close(key, false, None, now);
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the session is closed")
}
