//! A session of such a client: what it knows, and what it asks for.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use fastrand::Rng;

use super::{Frames, Over};
use crate::{
    checker::history::{Asked, Op, Outcome, Place},
    proto::v1::{
        self, CloseSession, Credit, DeliveryPolicy, Flow, NewEvent, OpenSession, Operation, Publish, SessionMode,
        StartPosition, start_position::Position, stream_data_request::Frame,
    },
    sim::world::{Kind, World, key, kind},
};

/// More than a run has events.
const PLENTY: u64 = 1 << 40;
/// Most publishes unanswered.
const IN_FLIGHT: usize = 16;

pub(super) struct Seat {
    /// Empty: it has no name on the server.
    pub(super) name: Arc<str>,
    /// What the records call it.
    pub(super) session: Arc<str>,
    pub(super) topic: Arc<str>,
    first: StartPosition,
    mode: SessionMode,
    pub(super) cursor: Option<v1::Cursor>,
    pub(super) attach: u64,
    pub(super) seq: u64,
    counter: u64,
    pub(super) unanswered: VecDeque<Unanswered>,
    /// The last that was stored.
    pub(super) stored: Option<(u64, Arc<str>, String)>,
    /// A publish was refused: those behind it will be, too.
    pub(super) refused: bool,
    pub(super) alias: u32,
    pub(super) opened: bool,
    credit: Option<Credit>,
    paused: bool,
    pub(super) wants_open: bool,
    /// The snapshot that was asked for, or that follows a gap, has not ended.
    pub(super) in_snapshot: bool,
    policy: DeliveryPolicy,
    required: bool,
    present: bool,
    /// Another wants the same session.
    rival: bool,
    /// And has got it; the last to come keeps it in the end.
    pub(super) ousted: bool,
}

fn policy(topic: &str, rng: &mut Rng) -> DeliveryPolicy {
    match rng.u8(..6) {
        0 => DeliveryPolicy::DropOldest,
        3..6 if topic.starts_with("small") => DeliveryPolicy::DropOldest,
        1 => DeliveryPolicy::Disconnect,
        2 | 3 if kind(topic) == Kind::State => DeliveryPolicy::Conflate,
        _ => DeliveryPolicy::Unspecified,
    }
}

/// A publish without an answer.
pub(super) struct Unanswered {
    pub(super) seq: u64,
    pub(super) id: Arc<str>,
    pub(super) payload: String,
    pub(super) request: u64,
    /// An earlier connection may have stored it.
    pub(super) resent: bool,
}

impl Seat {
    pub(super) fn new(world: &World, client: &str, number: usize, rival: bool, rng: &mut Rng) -> Self {
        let topic = match rng.u8(..8) {
            _ if rival => world.topics()[0].clone(),
            0 => format!("~presence.{}", world.topic(rng)).into(),
            _ => world.topic(rng),
        };
        let keyed = kind(&topic) == Kind::State;
        let snapshot = keyed && rng.u8(..4) > 0;
        let nameless = !rival && rng.u8(..5) == 0;
        let session: Arc<str> = match (rival, nameless) {
            (true, _) => "rivals".into(),
            (_, true) => format!("{client}-{number}-nameless").into(),
            _ => format!("{client}-{number}").into(),
        };
        let first = match rng.u8(..5) {
            _ if snapshot => Position::Snapshot(v1::Snapshot {}),
            0 => Position::Live(v1::Live {}),
            1 => Position::LastN(v1::LastN { count: rng.u64(..30) }),
            _ => Position::Earliest(v1::Earliest {}),
        };
        let mode = if rival || topic.starts_with('~') || rng.u8(..6) == 0 {
            SessionMode::ReadOnly
        } else {
            SessionMode::Unspecified
        };
        Self {
            name: if nameless { "".into() } else { session.clone() },
            session,
            first: StartPosition { position: Some(first) },
            mode,
            cursor: None,
            attach: 0,
            seq: 0,
            counter: 0,
            unanswered: VecDeque::new(),
            stored: None,
            refused: false,
            alias: 0,
            opened: false,
            credit: match rng.u8(..4) {
                0 => None,
                1 => Some(Credit::default()),
                _ => Some(Credit { events: rng.u64(1..30), bytes: rng.u64(..3000) }),
            },
            paused: false,
            wants_open: true,
            in_snapshot: snapshot,
            policy: policy(&topic, rng),
            required: topic.starts_with("paced") && !nameless && rng.bool(),
            present: !rival && !topic.starts_with('~') && rng.u8(..3) == 0,
            topic,
            rival,
            ousted: false,
        }
    }

    /// The connection is gone.
    pub(super) fn detached(&mut self) {
        self.opened = false;
        self.alias = 0;
        self.paused = false;
        self.wants_open = true;
        self.stored = None;
        // Totals count from the open.
        if let Some(credit) = &mut self.credit {
            *credit = Credit { events: credit.events.min(30), bytes: credit.bytes.min(3000) };
        }
    }

    pub(super) fn place(&self) -> Option<Place> {
        self.cursor.as_ref().map(|cursor| (cursor.epoch, cursor.offset))
    }
}

impl Frames {
    pub(super) fn open(&mut self, index: usize) -> Result<(), Over> {
        self.alias += 1;
        let (alias, calm, request) = (self.alias, self.is_calm(), self.request());
        let seat = &mut self.seats[index];
        seat.alias = alias;
        (seat.wants_open, seat.ousted) = (false, false);
        if calm {
            seat.credit = None;
        }
        let start = match seat.cursor {
            _ if seat.in_snapshot => StartPosition { position: Some(Position::Snapshot(v1::Snapshot {})) },
            Some(cursor) => StartPosition { position: Some(Position::Cursor(cursor)) },
            None => seat.first,
        };
        let open = OpenSession {
            session: alias,
            session_id: seat.name.to_string(),
            topic: seat.topic.to_string(),
            start: Some(start),
            credit: seat.credit,
            mode: seat.mode.into(),
            last_attach: seat.attach,
            delivery_policy: seat.policy.into(),
            required: seat.required,
            presence: seat.present.then(|| v1::Presence { info: "here".into() }),
            ..OpenSession::default()
        };
        let op = Op::Open {
            session: seat.session.clone(),
            topic: seat.topic.clone(),
            start: match start.position {
                Some(Position::Cursor(cursor)) => Asked::Cursor((cursor.epoch, cursor.offset)),
                Some(Position::Snapshot(_)) => Asked::Snapshot,
                _ => Asked::Fresh,
            },
            credit: seat.credit.map(|credit| (credit.events, credit.bytes)),
            request,
        };
        self.record(op);
        self.send(request, Frame::OpenSession(Box::new(open)))
    }

    /// Publishes something new; or, now and then, again what is stored already, or with a number that leaves a hole.
    pub(super) fn publish(&mut self, index: usize) -> Result<(), Over> {
        for _ in 0..self.rng.usize(1..6) {
            let seat = &mut self.seats[index];
            let may = seat.opened && seat.mode != SessionMode::ReadOnly && !seat.refused;
            if !may || seat.unanswered.len() >= IN_FLIGHT {
                break;
            }
            let dice = self.rng.u8(..24);
            if let Some((seq, id, payload)) = seat.stored.clone().filter(|_| dice == 0) {
                self.hand_over(index, seq, id, payload, true)?;
                continue;
            }
            seat.counter += 1;
            seat.seq += if dice == 1 { 2 } else { 1 };
            let (seq, id) = (seat.seq, Arc::<str>::from(format!("{}/{}", seat.session, seat.counter)));
            let payload = self.world.payload(&id, &mut self.rng);
            self.hand_over(index, seq, id, payload, false)?;
        }
        Ok(())
    }

    pub(super) fn hand_over(
        &mut self,
        index: usize,
        seq: u64,
        id: Arc<str>,
        payload: String,
        resent: bool,
    ) -> Result<(), Over> {
        let request = self.request();
        let seat = &mut self.seats[index];
        seat.unanswered.push_back(Unanswered { seq, id: id.clone(), payload: payload.clone(), request, resent });
        let (session, topic) = (seat.session.clone(), seat.topic.clone());
        let keyed = kind(&seat.topic) == Kind::State;
        let event = Some(NewEvent {
            key: if keyed { key(&id).into() } else { Bytes::new() },
            operation: if keyed && id.ends_with('7') { Operation::Delete.into() } else { 0 },
            session_scoped: keyed && id.ends_with('3'),
            payload: payload.into(),
            ..NewEvent::default()
        });
        let frame = Frame::Publish(Publish { session: seat.alias, seq, event }.into());
        self.record(Op::Publish { session, topic, id, request });
        self.send(request, frame)
    }

    /// Sends again what has no answer: in order, under the same numbers.
    pub(super) fn repeat(&mut self, index: usize, published_seq: u64) -> Result<(), Over> {
        let seat = &mut self.seats[index];
        seat.refused = false;
        let waiting = std::mem::take(&mut seat.unanswered);
        if seat.name.is_empty() {
            // Another session to the server: what became of them is never known.
            seat.seq = 0;
            let (session, topic) = (seat.session.clone(), seat.topic.clone());
            for Unanswered { id, .. } in waiting {
                let (session, topic) = (session.clone(), topic.clone());
                self.record(Op::Answered { session, topic, id, outcome: Outcome::Unknown });
            }
            return Ok(());
        }
        seat.seq = seat.seq.max(published_seq);
        for Unanswered { seq, id, payload, .. } in waiting {
            self.hand_over(index, seq, id, payload, true)?;
        }
        Ok(())
    }

    pub(super) fn grant(&mut self, index: usize) -> Result<(), Over> {
        let (events, bytes) = (self.rng.u64(..20), self.rng.u64(..2000));
        let seat = &mut self.seats[index];
        let Some(credit) = &mut seat.credit else { return Ok(()) };
        let unlimited = credit.bytes == 0 && credit.events > 0;
        credit.events += events;
        credit.bytes = if unlimited { 0 } else { credit.bytes + bytes };
        let credit = *credit;
        self.flow(index, Some(credit), None, None)
    }

    pub(super) fn pause(&mut self, index: usize) -> Result<(), Over> {
        let seat = &mut self.seats[index];
        seat.paused = !seat.paused;
        let paused = seat.paused;
        self.flow(index, None, Some(paused), None)
    }

    pub(super) fn ack(&mut self, index: usize) -> Result<(), Over> {
        let acked = self.seats[index].cursor.map(|cursor| cursor.offset);
        if acked.is_some() { self.flow(index, None, None, acked) } else { Ok(()) }
    }

    fn flow(
        &mut self,
        index: usize,
        credit: Option<Credit>,
        paused: Option<bool>,
        acked: Option<u64>,
    ) -> Result<(), Over> {
        let request = self.request();
        let seat = &self.seats[index];
        if !seat.opened {
            return Ok(());
        }
        let acked_epoch = seat.cursor.filter(|_| acked.is_some()).map_or(0, |cursor| cursor.epoch);
        let frame = Frame::Flow(Flow { session: seat.alias, acked, acked_epoch, credit, paused });
        let session = seat.session.clone();
        let credit = credit.map(|credit| (credit.events, credit.bytes));
        self.record(Op::Flow { session, credit, paused, acked, request });
        self.send(request, frame)
    }

    pub(super) fn close(&mut self, index: usize) -> Result<(), Over> {
        let (dice, request) = (self.rng.bool(), self.request());
        let seat = &mut self.seats[index];
        // Or the numbers of the other's attaches would begin anew.
        let keep = dice || seat.rival;
        // With publishes unanswered it would not know which of them the server still knows.
        if !seat.opened || !seat.unanswered.is_empty() {
            return Ok(());
        }
        seat.opened = false;
        let frame = Frame::CloseSession(CloseSession { session: seat.alias, keep });
        let session = seat.session.clone();
        self.record(Op::Close { session, keep, request });
        self.send(request, frame)
    }

    pub(super) fn reopen(&mut self, index: usize) -> Result<(), Over> {
        if self.seats[index].wants_open { self.open(index) } else { Ok(()) }
    }

    /// Lets everything come.
    pub(super) fn relax(&mut self, index: usize) -> Result<(), Over> {
        if !self.seats[index].ousted {
            self.reopen(index)?;
        }
        let seat = &mut self.seats[index];
        let limited = seat.credit.is_some_and(|credit| credit.events < PLENTY);
        if seat.opened && seat.required {
            self.ack(index)?;
        }
        let seat = &mut self.seats[index];
        if seat.opened && (seat.paused || limited) {
            seat.paused = false;
            let credit = limited.then_some(Credit { events: PLENTY, bytes: 0 });
            seat.credit = credit.or(seat.credit);
            self.flow(index, credit, Some(false), None)?;
        }
        Ok(())
    }

    /// Records where everything stands in the end; nowhere, if it is not attached.
    pub(super) fn stand(&mut self, attached: bool) {
        if std::mem::replace(&mut self.stood, true) {
            return;
        }
        for seat in self.seats.iter().filter(|seat| !seat.ousted) {
            let (session, topic) = (seat.session.clone(), seat.topic.clone());
            let place = seat.place().filter(|_| attached && seat.opened);
            self.record(Op::Stands { session, topic, place });
        }
    }
}
