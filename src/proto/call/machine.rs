//! One call.

use std::collections::{BTreeMap, VecDeque};

use super::door::Admission;
use super::signals::{Line, Signalled};
use super::{CLOSING_TIME, Entry, HELD_LIMIT, HELD_LIMIT_V2, Handled, Output, REORDER_TIME};
use crate::mutants::{Mutant, planted};
use crate::proto::legacy::{Body, Payload};
use crate::proto::{
    CallId, CallState, Direction, EndReason, EventKind, MessageId, Millis, Protocol, PublicKey,
};

/// What the caller says when one of ours takes a ring back because its time is over.
pub(super) const NO_ANSWER: &str = "no-answer";

/// What a stranger is told who is turned away.
pub(super) const TURNED_AWAY: &str = "this agent does not take calls of strangers";

/// Everything about a call that outlives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its id in this home.
    pub id: CallId,
    /// The other end.
    pub peer: PublicKey,
    /// The room, chosen by the caller: (peer, room) is the call on the wire. In v2, the shared call id in hex.
    pub room: String,
    /// Who placed it.
    pub direction: Direction,
    /// The dialect that it is held in.
    pub protocol: Protocol,
    /// The agent id that the peer claims.
    pub agent_id: String,
    /// The display name that the peer claims.
    pub agent_name: String,
    /// What it is about.
    pub topic: String,
    /// When the ring began.
    pub started_at: Millis,
    /// When the ring is over.
    pub ring_until: Millis,
    /// When it was accepted.
    pub connected_at: Option<Millis>,
    /// When and why it ended.
    pub ended: Option<Ended>,
    /// The number of the next message that we send, from 1.
    pub next_out: u64,
    /// The number of the next message that the peer sends.
    pub next_in: u64,
    /// The peer ended the call after this message, and not all have come: until when they are waited for.
    pub closing: Option<(u64, Millis)>,
    /// A message is missing: until when it is waited for.
    pub gap_until: Option<Millis>,
    /// It waits in the queue of strangers: nobody is told of it.
    pub queued: bool,
}

/// The end of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Millis,
    /// Why.
    pub reason: EndReason,
    /// The words that came with it.
    pub words: Option<String>,
}

impl Call {
    /// A call as it begins.
    #[expect(clippy::too_many_arguments, reason = "the fields that differ between calls that begin")]
    pub(super) fn ringing(
        protocol: Protocol,
        id: CallId,
        peer: PublicKey,
        room: String,
        direction: Direction,
        (agent_id, agent_name): (String, String),
        topic: String,
        started_at: Millis,
        ring_until: Millis,
    ) -> Self {
        Self {
            id,
            peer,
            room,
            direction,
            protocol,
            agent_id,
            agent_name,
            topic,
            started_at,
            ring_until,
            connected_at: None,
            ended: None,
            next_out: 1,
            next_in: 1,
            closing: None,
            gap_until: None,
            queued: false,
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> CallState {
        match (&self.ended, self.connected_at) {
            (Some(_), _) => CallState::Ended,
            (None, Some(_)) => CallState::Connected,
            (None, None) => CallState::Ringing,
        }
    }
}

/// Why a command cannot be carried out in the call's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The call is over.
    #[error("the call has ended")]
    Ended(Option<EndReason>),
    /// It still rings.
    #[error("the call still rings")]
    Ringing,
    /// Only who is called can answer, and only while it rings.
    #[error("the call does not ring here")]
    NotRinging,
    /// A call with this peer is up: a deployed agent holds only one.
    #[error("a call with this agent is up")]
    PeerBusy(CallId),
    /// It does not fit an event.
    #[error("{size} bytes do not fit an event: at most {limit}")]
    TooLarge {
        /// Bytes of the payload.
        size: usize,
        /// Bytes that fit.
        limit: usize,
    },
    /// No such call.
    #[error("no such call")]
    Unknown,
}

/// A call, and what was held back in it.
#[derive(Debug)]
pub struct Machine {
    pub(super) call: Call,
    /// Only calls of the v2 dialect have one.
    pub(super) line: Option<Line>,
    /// Numbered entries that came before their turn.
    held: BTreeMap<u64, MessageId>,
    /// Entries without a number that came before the answer, in the order of arrival.
    early: Vec<MessageId>,
}

/// Where a machine puts its outputs: the switchboard's queue, so that the order across calls is kept.
pub(super) type Outputs = VecDeque<Output>;

impl Machine {
    /// A call as it was persisted, with the entries that were held back.
    pub(super) fn new(call: Call, held_back: impl IntoIterator<Item = (MessageId, Option<u64>)>) -> Self {
        let mut machine = Self { call, line: None, held: BTreeMap::new(), early: Vec::new() };
        for (message, seq) in held_back {
            match seq {
                Some(seq) => _ = machine.held.insert(seq, message),
                None => machine.early.push(message),
            }
        }
        machine
    }

    /// The call as it is now.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// It needs no machine any more: whatever comes late can be restored from the database.
    pub(super) fn is_idle(&self) -> bool {
        self.call.state() == CallState::Ended && self.held.is_empty() && self.early.is_empty()
    }

    /// The next deadline.
    pub(super) fn poll_timeout(&self) -> Option<(Millis, &'static str)> {
        let ring = (self.call.state() == CallState::Ringing).then_some((self.call.ring_until, "ring"));
        let closing = self.call.closing.filter(|_| self.call.ended.is_none()).map(|(_, at)| (at, "closing"));
        let gap = self.call.gap_until.map(|at| (at, "reorder"));
        let again = self.line.as_ref().and_then(Line::poll_again).map(|at| (at, "signal"));
        [ring, closing, gap, again].into_iter().flatten().min()
    }

    pub(super) fn save(&self, out: &mut Outputs) {
        out.push_back(Output::Save(self.call.id));
    }

    pub(super) fn event(&self, kind: EventKind, own: bool, out: &mut Outputs) {
        out.push_back(Output::Event { call: self.call.id, kind, own });
    }

    /// A payload of this call's room.
    pub(super) fn payload(&self, origin: &str, body: Body, numbered: Option<(MessageId, u64)>) -> Payload {
        Payload {
            room: self.call.room.clone(),
            origin: origin.to_owned(),
            id: numbered.map(|(id, _)| id),
            seq: numbered.map(|(_, seq)| seq),
            body,
        }
    }

    /// Tells the peer about the call itself.
    pub(super) fn transmit(&self, origin: &str, body: Body, out: &mut Outputs) {
        let payload = self.payload(origin, body, None);
        out.push_back(Output::Transmit { call: self.call.id, to: self.call.peer, payload });
    }

    /// Tells the peer that the call is over, and after which message of ours.
    pub(super) fn transmit_end(&self, origin: &str, reason: &str, out: &mut Outputs) {
        let mut payload = self.payload(origin, Body::EndCall { reason: reason.to_owned() }, None);
        payload.seq = Some(self.call.next_out - 1);
        out.push_back(Output::Transmit { call: self.call.id, to: self.call.peer, payload });
    }

    pub(super) fn connect(&mut self, own: bool, now: Millis, out: &mut Outputs) {
        self.call.connected_at = Some(now);
        self.call.queued = false;
        self.save(out);
        self.event(EventKind::CallConnected, own, out);
        for message in std::mem::take(&mut self.early) {
            out.push_back(Output::Surface { call: self.call.id, message });
        }
        self.release(now, out);
    }

    /// Ends the call. Which event that is follows from who was waiting for what.
    pub(super) fn end(
        &mut self,
        reason: EndReason,
        words: Option<String>,
        own: bool,
        now: Millis,
        out: &mut Outputs,
    ) {
        let answered = self.call.connected_at.is_some();
        let kind = match (self.call.direction, reason) {
            _ if answered => EventKind::CallEnded,
            (Direction::In, EndReason::Rejected) => EventKind::CallEnded,
            (Direction::In, _) => EventKind::CallMissed,
            (Direction::Out, EndReason::Rejected | EndReason::Busy) => EventKind::CallRejected,
            (Direction::Out, _) => EventKind::CallEnded,
        };
        self.call.ended = Some(Ended { at: now, reason, words: words.filter(|words| !words.is_empty()) });
        self.call.closing = None;
        if let Some(line) = &mut self.line {
            line.rest();
        }
        if !answered {
            self.call.gap_until = None;
            for message in std::mem::take(&mut self.held).into_values().chain(std::mem::take(&mut self.early))
            {
                out.push_back(Output::Discard { call: self.call.id, message });
            }
        }
        self.call.queued &= reason != EndReason::Rejected;
        self.save(out);
        if !self.call.queued {
            self.event(kind, own, out);
        }
    }

    /// Rings, or does what the door says.
    pub(super) fn begin(&mut self, admission: Admission, now: Millis, out: &mut Outputs) {
        match admission {
            Admission::Ring => {
                self.save(out);
                self.event(EventKind::CallRinging, false, out);
            }
            Admission::Queue => {
                self.call.queued = true;
                self.save(out);
            }
            // Nobody here is told of whom nobody wants to hear.
            Admission::TurnAway | Admission::Ignore => {
                let words = Some(TURNED_AWAY.to_owned());
                self.call.ended = Some(Ended { at: now, reason: EndReason::Rejected, words });
                self.save(out);
            }
        }
    }

    /// Takes what the peer said: shows it, holds it back, or knows it already.
    pub(super) fn handle_entry(&mut self, entry: Entry, now: Millis, out: &mut Outputs) -> Handled {
        let call = self.call.id;
        if self.call.state() == CallState::Ringing {
            return self.hold(entry, now, out);
        }
        if self.call.connected_at.is_none() {
            return Handled::Dropped("message in a call that was never answered");
        }
        match entry.seq.filter(|_| !planted(Mutant::OrderByCreatedAt)) {
            None => out.push_back(Output::Store { call, entry, surfaced: true }),
            // Known already, or given up and here after all: the journal knows which.
            Some(seq) if seq < self.call.next_in => {
                out.push_back(Output::Store { call, entry, surfaced: true });
                return Handled::Taken;
            }
            Some(seq) if seq == self.call.next_in => {
                self.call.next_in += 1;
                out.push_back(Output::Store { call, entry, surfaced: true });
                self.release(now, out);
            }
            Some(_) => return self.hold(entry, now, out),
        }
        self.save(out);
        Handled::Taken
    }

    fn hold(&mut self, entry: Entry, now: Millis, out: &mut Outputs) -> Handled {
        let limit = if self.line.is_some() { HELD_LIMIT_V2 } else { HELD_LIMIT };
        if self.held.len() + self.early.len() >= limit {
            if self.call.state() == CallState::Ringing {
                return Handled::Dropped("too many messages before the answer");
            }
            self.skip_gap(now, out);
            return self.handle_entry(entry, now, out);
        }
        match entry.seq {
            Some(seq) if self.held.contains_key(&seq) => return Handled::Dropped("message known already"),
            Some(seq) => _ = self.held.insert(seq, entry.id),
            None => self.early.push(entry.id),
        }
        out.push_back(Output::Store { call: self.call.id, entry, surfaced: false });
        if self.call.state() != CallState::Ringing && self.call.gap_until.is_none() {
            self.call.gap_until = Some(now + REORDER_TIME);
        }
        self.save(out);
        Handled::Taken
    }

    /// Shows what is next in order, for as long as there is any.
    fn release(&mut self, now: Millis, out: &mut Outputs) {
        while let Some(entry) = self.held.first_entry()
            && *entry.key() <= self.call.next_in
        {
            let (seq, message) = entry.remove_entry();
            self.call.next_in = self.call.next_in.max(seq.saturating_add(1));
            out.push_back(Output::Surface { call: self.call.id, message });
        }
        self.call.gap_until = match (self.held.is_empty(), self.call.gap_until) {
            (true, _) => None,
            (false, waiting) => waiting.or(Some(now + REORDER_TIME)),
        };
        if let Some((last, _)) = self.call.closing
            && self.call.next_in > last
            && self.call.ended.is_none()
        {
            self.end(EndReason::Completed, None, false, now, out);
        }
    }

    /// The missing message did not come: says so, and shows what came after it, up to the next gap.
    fn skip_gap(&mut self, now: Millis, out: &mut Outputs) {
        if let Some((&first, _)) = self.held.first_key_value() {
            self.event(EventKind::Gap, false, out);
            self.call.next_in = first;
            self.call.gap_until = None;
            self.release(now, out);
        }
    }

    /// The peer ended the call: at once, or when what it sent before has come.
    pub(super) fn handle_end(
        &mut self,
        reason: String,
        last: Option<u64>,
        now: Millis,
        out: &mut Outputs,
    ) -> Handled {
        match (self.call.state(), self.call.direction) {
            (CallState::Ended, _) => return Handled::Dropped("the call has ended already"),
            (CallState::Ringing, Direction::In) if reason == NO_ANSWER => {
                self.end(EndReason::NoAnswer, None, false, now, out);
            }
            (CallState::Ringing, Direction::In) => self.end(EndReason::Cancelled, None, false, now, out),
            // Only who took a call ends it with a number: the acceptance is still on its way.
            (CallState::Ringing, Direction::Out) if last.is_some() => {
                self.connect(false, now, out);
                return self.handle_end(reason, last, now, out);
            }
            (CallState::Ringing, Direction::Out) => {
                self.end(EndReason::Rejected, Some(reason), false, now, out)
            }
            (CallState::Connected, _) if self.call.closing.is_some() => {
                return Handled::Dropped("the call is ending already");
            }
            (CallState::Connected, _) => match last {
                Some(last) if last >= self.call.next_in => {
                    self.call.closing = Some((last, now + CLOSING_TIME));
                    self.save(out);
                }
                _ => self.end(EndReason::Completed, None, false, now, out),
            },
        }
        Handled::Taken
    }

    /// Carries out what is due.
    pub(super) fn handle_timeout(&mut self, origin: &str, tell: bool, now: Millis, out: &mut Outputs) {
        self.handle_again(now, out);
        if self.call.gap_until.is_some_and(|at| at <= now) {
            self.skip_gap(now, out);
            self.save(out);
        }
        if self.call.ended.is_some() {
            return;
        }
        if self.call.closing.is_some_and(|(_, at)| at <= now) {
            self.end(EndReason::Completed, None, false, now, out);
        } else if self.call.state() == CallState::Ringing && self.call.ring_until <= now {
            self.end(EndReason::NoAnswer, None, false, now, out);
            match (self.call.direction, self.call.protocol) {
                (Direction::Out, Protocol::V2) => {
                    let signal = Signalled::Cancel { reason: NO_ANSWER.into() };
                    out.push_back(Output::Signal { call: self.call.id, signal });
                }
                (Direction::Out, Protocol::Legacy) if tell => self.transmit_end(origin, NO_ANSWER, out),
                _ => {}
            }
        }
    }
}
