//! What the server says to such a client.

use std::sync::Arc;

use super::{Frames, Over, seat::Unanswered};
use crate::{
    checker::history::{Op, Outcome},
    proto::v1::{self, Heartbeat, StreamDataResponse, stream_data_request, stream_data_response::Frame},
    sim::world::{Kind, kind},
    witness::event,
};

impl Frames {
    pub(super) fn hear(&mut self, response: StreamDataResponse) -> Result<(), Over> {
        match response.frame.ok_or("a frame of no known kind")? {
            Frame::Welcome(welcome) => self.record(Op::Connected { node: welcome.node }),
            Frame::SessionOpened(opened) => self.opened(&opened)?,
            Frame::Delivery(delivery) => self.delivered(&delivery),
            Frame::Gap(gap) => self.gap(&gap),
            Frame::Reply(reply) => self.answered(reply)?,
            Frame::SessionClosed(closed) => self.closed(closed),
            Frame::Drain(_) => return Err("told to move".to_owned()),
            Frame::Heartbeat(heartbeat) => {
                for mark in &heartbeat.marks {
                    self.mark(mark);
                }
                if heartbeat.reply_requested {
                    let answer = Heartbeat { nonce: heartbeat.nonce, ..Heartbeat::default() };
                    self.send(0, stream_data_request::Frame::Heartbeat(answer))?;
                }
            }
        }
        Ok(())
    }

    /// Whose alias it is; that nobody's is named is worth a record.
    fn seat(&mut self, alias: u32, what: &str) -> Option<usize> {
        let found = self.seats.iter().position(|seat| seat.alias == alias && alias != 0);
        if found.is_none() {
            self.record(Op::Broken {
                session: "".into(),
                text: format!("{what} for the alias {alias}, which is not open"),
            });
        }
        found
    }

    fn opened(&mut self, frame: &v1::SessionOpened) -> Result<(), Over> {
        let Some(index) = self.seat(frame.session, "SessionOpened") else { return Ok(()) };
        let (start, head) = (frame.start.unwrap_or_default(), frame.head.unwrap_or_default());
        let seat = &mut self.seats[index];
        seat.opened = true;
        seat.attach = frame.attach;
        // A session of no name is another one each time.
        if seat.name.is_empty() {
            seat.attach = 0;
        }
        seat.cursor = Some(start);
        let op = Op::Opened {
            session: seat.session.clone(),
            topic: seat.topic.clone(),
            attach: seat.attach,
            start: (start.epoch, start.offset),
            head: (head.epoch, head.offset),
            recovery: frame.recovery().as_str_name().into(),
            published_seq: frame.published_seq,
        };
        self.record(op);
        // Who has left sends nothing any more: it will when it comes back.
        if self.sender.is_some() { self.repeat(index, frame.published_seq) } else { Ok(()) }
    }

    fn delivered(&mut self, frame: &v1::Delivery) {
        let Some(index) = self.seat(frame.session, "Delivery") else { return };
        let seat = &mut self.seats[index];
        if frame.snapshot {
            seat.in_snapshot &= !frame.events.is_empty();
        } else if let (Some(last), Some(cursor)) = (frame.events.last(), &mut seat.cursor) {
            (cursor.offset, cursor.time_us) = (last.offset, last.time_us);
        }
        let (session, topic) = (seat.session.clone(), seat.topic.clone());
        let events = frame.events.iter().map(event).collect();
        let v1::Delivery { prev, skipped, snapshot, .. } = *frame;
        self.record(Op::Deliver { session, topic, prev, skipped, snapshot, events });
    }

    fn gap(&mut self, frame: &v1::Gap) {
        let Some(index) = self.seat(frame.session, "Gap") else { return };
        let (from, to) = (frame.from.unwrap_or_default(), frame.to.unwrap_or_default());
        let seat = &mut self.seats[index];
        seat.cursor = Some(to);
        seat.in_snapshot = kind(&seat.topic) == Kind::State;
        let op = Op::Gap {
            session: seat.session.clone(),
            topic: seat.topic.clone(),
            from: (from.epoch, from.offset),
            to: (to.epoch, to.offset),
            reason: frame.reason().as_str_name().into(),
        };
        self.record(op);
    }

    fn mark(&mut self, mark: &v1::Mark) {
        let Some(index) = self.seat(mark.session, "Mark") else { return };
        let seat = &mut self.seats[index];
        if let Some(cursor) = seat.cursor.as_mut().filter(|cursor| cursor.offset < mark.offset) {
            (cursor.offset, cursor.time_us) = (mark.offset, mark.time_us);
        }
        let session = seat.session.clone();
        self.record(Op::Mark { session, offset: mark.offset });
    }

    fn answered(&mut self, reply: v1::Reply) -> Result<(), Over> {
        let reason = reply.failure.map(|failure| failure.reason);
        self.record(Op::Reply { request: reply.request_id, failure: reason.clone() });
        let asked = |seat: &super::Seat| seat.unanswered.iter().position(|waiting| waiting.request == reply.request_id);
        let Some((index, at)) = self.seats.iter().enumerate().find_map(|(index, seat)| Some((index, asked(seat)?)))
        else {
            return Ok(());
        };
        let seat = &mut self.seats[index];
        if reason.as_deref() == Some("UNKNOWN_OUTCOME") {
            return self.find_out(index, at);
        }
        let Some(Unanswered { seq, id, payload, resent, .. }) = seat.unanswered.remove(at) else { return Ok(()) };
        let outcome = match reason {
            None => {
                let cursor = reply.cursor.unwrap_or_default();
                seat.stored = Some((seq, id.clone(), payload));
                Outcome::Stored { place: (cursor.epoch, cursor.offset), duplicate: reply.duplicate }
            }
            Some(reason) => {
                // Of a session that has ended, the numbers will be told when it is opened again.
                seat.refused |= reason != "UNKNOWN_SESSION";
                if resent || reason == "FORGOTTEN_SEQ" { Outcome::Unknown } else { Outcome::Refused(reason) }
            }
        };
        if seat.refused && seat.unanswered.is_empty() {
            (seat.refused, seat.seq) = (false, reply.through_seq);
        }
        let (session, topic): (Arc<str>, Arc<str>) = (seat.session.clone(), seat.topic.clone());
        self.record(Op::Answered { session, topic, id, outcome });
        Ok(())
    }

    /// Publishes again what may be stored: now, or when the session is open again. Those behind it are refused.
    fn find_out(&mut self, index: usize, at: usize) -> Result<(), Over> {
        let has_left = self.sender.is_none();
        let seat = &mut self.seats[index];
        if has_left || !seat.opened {
            seat.unanswered[at].resent = true;
            return Ok(());
        }
        let Some(Unanswered { seq, id, payload, .. }) = seat.unanswered.remove(at) else { return Ok(()) };
        self.hand_over(index, seq, id, payload, true)
    }

    fn closed(&mut self, closed: v1::SessionClosed) {
        let Some(index) = self.seat(closed.session, "SessionClosed") else { return };
        let reason = closed.failure.map(|failure| failure.reason);
        let seat = &mut self.seats[index];
        seat.detached();
        seat.ousted = reason.as_deref() == Some("TAKEN_OVER");
        // What is unanswered is sent again when it is open again.
        let session = seat.session.clone();
        self.record(Op::Closed { session, reason });
    }
}
