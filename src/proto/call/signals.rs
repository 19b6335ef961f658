//! Calls of the v2 dialect: what signals do to them, and what is signalled about them.
//!
//! ```text
//!   ringing, out ── accept, its handshake whole ──► connected     invite again after 5, 15, 30 s
//!                ── resume of the callee ─────────► connected     it took the call, and lost its keys since
//!   ringing, in  ── accept ───────────────────────► connected     accept again after 1, 3, 6, 12 s until a frame comes
//!   connected    ── keys lost, or peer away ──────► connected     resume, a generation higher, until it is answered
//! ```
//!
//! A **generation** is one handshake of a call. The highest wins; of two offers of the same generation that of the
//! call's caller. What is said in the call outlives generations: that is the delivery machine's.
//!
//! Keys, handshakes and wraps are made outside: [`Output::Signal`] says which signal is wanted, and
//! [`Switchboard::expects`] whether an acceptance is worth finishing its handshake.

use std::collections::VecDeque;
use std::time::Duration;

use super::door::Admission;
use super::machine::{Machine, NO_ANSWER, TURNED_AWAY};
use super::switchboard::{Place, Switchboard};
use super::{Call, Entry, Handled, Output, Refused};
use crate::mutants::{Mutant, planted};
use crate::proto::v2::signal::{
    ACCEPT_AGAIN, Answer, Body, FRESH, INVITE_AGAIN, Offer, SharedCallId, Signal,
};
use crate::proto::{CallId, CallState, Direction, EndReason, EventId, Millis, Protocol, PublicKey, Tier};

/// When a resumption without an answer is sent again. The wrap waits at the peer's inbox relays; this is for relays
/// that have lost it, within the ten minutes after which the call is lost.
const RESUME_AGAIN: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(300)];

/// What a call of the v2 dialect has beside the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// The newest handshake that either side has begun.
    pub generation: u32,
    /// The peer's offer that rings, or that was taken last.
    pub offer: Option<Standing>,
    /// The ring that the call grew from is ours. Not the same as who called: of two rings at once one survives.
    pub ours: bool,
    /// Not persisted: what is to be signalled again, and when.
    again: Option<Again>,
    /// Not persisted: the peer has been heard in the session of this generation.
    heard: bool,
}

/// An offer of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The rumor that brought it: what an acceptance answers.
    pub rumor: EventId,
    /// The offer.
    pub offer: Offer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Again {
    signal: Signalled,
    at: VecDeque<Millis>,
}

/// What is to be signalled about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signalled {
    /// A fresh handshake of the line's generation: an invite while the call rings, a resumption once it was up.
    Offer,
    /// The same offer, in a new wrap.
    OfferAgain,
    /// The second half of the handshake that the line's offer began.
    Accept {
        /// Our own ring, which this call takes the place of.
        replaces: Option<SharedCallId>,
    },
    /// The same acceptance, in a new wrap.
    AcceptAgain,
    /// Declined.
    Reject {
        /// Words for the caller.
        reason: String,
    },
    /// No room for another call.
    Busy,
    /// Taken back.
    Cancel {
        /// Words for the callee.
        reason: String,
    },
    /// Over; for where the session cannot say it.
    End {
        /// Words for the peer.
        reason: String,
    },
    /// Over, under a name that did not survive: of a ring that another took the place of.
    Disown {
        /// The name.
        shared: SharedCallId,
    },
}

impl Line {
    /// As it was persisted.
    pub fn new(generation: u32, offer: Option<Standing>, ours: bool) -> Self {
        Self { generation, offer, ours, again: None, heard: false }
    }

    /// Nothing is to be signalled again.
    pub(super) fn rest(&mut self) {
        self.again = None;
    }

    pub(super) fn poll_again(&self) -> Option<Millis> {
        self.again.as_ref().and_then(|again| again.at.front().copied())
    }

    fn repeat(&mut self, signal: Signalled, after: &[Duration], now: Millis) {
        self.again = Some(Again { signal, at: after.iter().map(|after| now + *after).collect() });
    }

    /// Whether an offer of ours waits for its answer.
    fn is_offering(&self) -> bool {
        self.again.as_ref().is_some_and(|again| again.signal == Signalled::OfferAgain)
    }
}

impl Call {
    /// The name of a v2 call on the wire.
    pub fn shared(&self) -> Option<SharedCallId> {
        (self.protocol == Protocol::V2).then(|| self.room.parse().ok()).flatten()
    }
}

impl Machine {
    /// What is to be said again is said again.
    pub(super) fn handle_again(&mut self, now: Millis, out: &mut super::machine::Outputs) {
        let call = self.call.id;
        let Some(again) = self.line.as_mut().and_then(|line| line.again.as_mut()) else { return };
        while again.at.front().is_some_and(|at| *at <= now) {
            again.at.pop_front();
            out.push_back(Output::Signal { call, signal: again.signal.clone() });
        }
    }
}

impl Switchboard {
    // ---- getters ----

    /// The v2 part of a call.
    pub fn line(&self, id: &CallId) -> Option<&Line> {
        self.calls.get(id)?.line.as_ref()
    }

    /// The call whose offer of ours an acceptance answers, if it is who was called, and the newest offer. Its
    /// handshake is to be finished, and then [`Self::handle_accept`] called.
    pub fn expects(&self, from: &PublicKey, signal: &Signal) -> Option<CallId> {
        let any = self.live().next().filter(|_| planted(Mutant::AnyAcceptance));
        let from = any.map_or(from, |call| &call.peer);
        let machine = self.calls.get(self.rooms.get(&(*from, signal.call.to_string()))?)?;
        let line = machine.line.as_ref()?;
        let waits = match (machine.call.state(), machine.call.direction) {
            (CallState::Ringing, Direction::Out) => true,
            (CallState::Connected, _) => line.is_offering(),
            _ => false,
        };
        (waits && line.generation == signal.generation && machine.call.shared() == Some(signal.call))
            .then_some(machine.call.id)
    }

    // ---- handle: from peers ----

    /// Takes a signal that `from` sealed, who is of this tier, in a rumor made at `at` seconds, for the first time. An acceptance goes by way
    /// of [`Self::expects`].
    pub fn handle_signal(
        &mut self,
        (from, tier): (&PublicKey, Tier),
        signal: Signal,
        rumor: EventId,
        at: u64,
        fresh: CallId,
        now: Millis,
    ) -> Handled {
        let Signal { call, generation, body } = signal;
        let known = self.v2_call(from, call);
        if let Some(id) = known
            && self.call(&id).is_some_and(|it| it.shared() != Some(call))
        {
            return self.handle_under_old_name(&id, call, &body);
        }
        match (body, known) {
            (Body::Invite(offer), Some(id)) => self.handle_newer(&id, generation, rumor, offer, false, now),
            (Body::Resume(offer), Some(id)) => self.handle_newer(&id, generation, rumor, offer, true, now),
            (Body::Invite(offer), None) => {
                let line = Line::new(generation, Some(Standing { rumor, offer }), false);
                self.handle_invite((from, tier), call, line, at, fresh, now)
            }
            (Body::Cancel { reason }, Some(id)) => self.handle_cancel(&id, &reason, now),
            (Body::Cancel { .. } | Body::End { .. }, None) => {
                self.take_back((*from, call.to_string()));
                Handled::Dropped("taken back before it came")
            }
            (Body::Reject { reason }, Some(id)) => {
                self.handle_refusal(&id, generation, EndReason::Rejected, Some(reason), now)
            }
            (Body::Busy, Some(id)) => self.handle_refusal(&id, generation, EndReason::Busy, None, now),
            (Body::End { reason }, Some(id)) => self.handle_peer_end(&id, reason, now),
            (Body::Accept(_), Some(id)) => self.handle_late_accept(&id),
            (Body::Resume(_) | Body::Accept(_) | Body::Reject { .. } | Body::Busy, None) => {
                Handled::Dropped("no call of this key has this name")
            }
        }
    }

    /// A signal came again, in another wrap: its sender has not heard our answer.
    pub fn handle_repeated(&mut self, from: &PublicKey, signal: &Signal) -> Handled {
        let Some(id) = self.v2_call(from, signal.call) else { return Handled::Dropped("known already") };
        let Some(machine) = self.calls.get_mut(&id) else { return Handled::Dropped("known already") };
        let Some(line) = &machine.line else { return Handled::Dropped("known already") };
        let is_offer = matches!(signal.body, Body::Invite(_) | Body::Resume(_));
        if !is_offer || machine.call.shared() != Some(signal.call) {
            return Handled::Dropped("known already");
        }
        let answer = match (machine.call.state(), machine.call.ended.as_ref().map(|end| end.reason)) {
            (CallState::Connected, _) if !line.heard && line.generation == signal.generation => {
                Signalled::AcceptAgain
            }
            (CallState::Ended, Some(EndReason::Rejected)) => {
                let words = machine.call.ended.as_ref().and_then(|end| end.words.clone());
                Signalled::Reject { reason: words.unwrap_or_default() }
            }
            (CallState::Ended, Some(EndReason::Busy)) => Signalled::Busy,
            _ => return Handled::Dropped("known already"),
        };
        self.outputs.push_back(Output::Signal { call: id, signal: answer });
        Handled::Taken
    }

    fn v2_call(&self, from: &PublicKey, call: SharedCallId) -> Option<CallId> {
        let id = self.rooms.get(&(*from, call.to_string()))?;
        self.calls.get(id).filter(|machine| machine.line.is_some()).map(|machine| machine.call.id)
    }

    fn handle_invite(
        &mut self,
        (from, tier): (&PublicKey, Tier),
        call: SharedCallId,
        line: Line,
        at: u64,
        fresh: CallId,
        now: Millis,
    ) -> Handled {
        let Some(Standing { offer, .. }) = line.offer.clone() else {
            return Handled::Dropped("without an offer");
        };
        let (room, rings) = (call.to_string(), offer.rings(at, now));
        if self.knows(from, &room) {
            return Handled::Dropped("a call of another dialect has this name");
        }
        let mine = self
            .live_with(from)
            .filter(|call| (call.direction, call.protocol) == (Direction::Out, Protocol::V2))
            .find(|call| call.state() == CallState::Ringing)
            .cloned();
        if let Some(mine) = mine.filter(|_| rings) {
            return self.handle_v2_glare(&mine, room, line, offer, now);
        }
        let taken_back = self.was_taken_back(&(*from, room.clone()));
        let busy = self.load() >= self.limits.max_calls;
        // A missed call is a ring too: it is shown, and may not be shown without end.
        let admission = self.door.admit(from, tier, Protocol::V2, now);
        if admission == Admission::Ignore {
            return Handled::Dropped("a stranger, beyond what strangers are answered");
        }
        let at = Millis::from_secs(at).min(now);
        // The caller takes its ring back by itself; a time far ahead would only ring for ever.
        let ring_until = Millis::from_secs(offer.expires).min(now + FRESH);
        let labels = (offer.agent_id, offer.name);
        let call = Call::ringing(
            Protocol::V2,
            fresh,
            *from,
            room,
            Direction::In,
            labels,
            offer.topic,
            at,
            ring_until,
        );
        self.insert_v2(call, line);
        let Some(machine) = self.calls.get_mut(&fresh) else { return Handled::Dropped("no call was made") };
        machine.call.queued = admission != Admission::Ring;
        if taken_back {
            machine.end(EndReason::Cancelled, None, false, now, &mut self.outputs);
        } else if !rings {
            machine.end(EndReason::NoAnswer, None, false, now, &mut self.outputs);
        } else if busy && admission == Admission::Ring {
            machine.end(EndReason::Busy, None, false, now, &mut self.outputs);
            self.outputs.push_back(Output::Signal { call: fresh, signal: Signalled::Busy });
        } else {
            machine.begin(admission, now, &mut self.outputs);
            if admission == Admission::TurnAway {
                let signal = Signalled::Reject { reason: TURNED_AWAY.into() };
                self.outputs.push_back(Output::Signal { call: fresh, signal });
            }
        }
        Handled::Taken
    }

    /// Both rang at once. The ring of the lower key survives on both sides; the other side takes it without being
    /// asked, since having called is consent. The ring that does not survive stays as another name of the call.
    fn handle_v2_glare(
        &mut self,
        mine: &Call,
        theirs: String,
        line: Line,
        offer: Offer,
        now: Millis,
    ) -> Handled {
        let Some(machine) = self.calls.get_mut(&mine.id) else { return Handled::Dropped("no such call") };
        self.rooms.insert((mine.peer, theirs.clone()), mine.id);
        if self.me.key < mine.peer {
            self.outputs.push_back(Output::Alias { call: mine.id, room: theirs });
            return Handled::Dropped("both rang at once; our ring survives");
        }
        let replaces = mine.shared();
        let replaced = std::mem::replace(&mut machine.call.room, theirs);
        (machine.call.agent_id, machine.call.agent_name) = (offer.agent_id, offer.name);
        machine.line = Some(line);
        machine.connect(false, now, &mut self.outputs);
        self.outputs.push_back(Output::Alias { call: mine.id, room: replaced });
        self.answer_offer(&mine.id, replaces, now);
        Handled::Taken
    }

    /// A newer handshake of a call that is known.
    fn handle_newer(
        &mut self,
        id: &CallId,
        generation: u32,
        rumor: EventId,
        offer: Offer,
        resumes: bool,
        now: Millis,
    ) -> Handled {
        let Some(machine) = self.calls.get_mut(id) else { return Handled::Dropped("no such call") };
        let (state, direction) = (machine.call.state(), machine.call.direction);
        if state == CallState::Ended {
            return self.tell_ended(id, generation, resumes);
        }
        let Some(line) = &mut machine.line else { return Handled::Dropped("no such call") };
        // An invite is of whose ring it is; a resumption comes from either side, but only of a call that was taken.
        let fits = matches!(
            (resumes, line.ours, state),
            (false, false, _) | (true, true, _) | (true, false, CallState::Connected)
        );
        let wins =
            generation > line.generation || generation == line.generation && line.is_offering() && !line.ours;
        if !fits || !wins {
            return Handled::Dropped("another handshake of this call is newer");
        }
        (line.generation, line.heard) = (generation, false);
        line.offer = Some(Standing { rumor, offer });
        match state {
            CallState::Ringing if direction == Direction::In => machine.save(&mut self.outputs),
            CallState::Ringing => {
                machine.connect(false, now, &mut self.outputs);
                self.answer_offer(id, None, now);
            }
            _ => {
                machine.save(&mut self.outputs);
                self.answer_offer(id, None, now);
            }
        }
        Handled::Taken
    }

    /// A signal of a ring that did not survive beside another. Who believes in a call of that name is told.
    fn handle_under_old_name(&mut self, id: &CallId, shared: SharedCallId, body: &Body) -> Handled {
        match body {
            Body::Accept(_) | Body::Resume(_) => {
                self.outputs.push_back(Output::Signal { call: *id, signal: Signalled::Disown { shared } });
                Handled::Taken
            }
            _ => Handled::Dropped("this ring did not survive"),
        }
    }

    /// The peer wants to go on with a call that is over here.
    fn tell_ended(&mut self, id: &CallId, generation: u32, resumes: bool) -> Handled {
        let Some(machine) = self.calls.get_mut(id) else { return Handled::Dropped("no such call") };
        let signal = match machine.call.ended.as_ref().map(|end| end.reason) {
            Some(EndReason::Rejected) if !resumes => {
                if let Some(line) = &mut machine.line {
                    line.generation = generation;
                }
                machine.save(&mut self.outputs);
                let words = machine.call.ended.as_ref().and_then(|end| end.words.clone());
                Signalled::Reject { reason: words.unwrap_or_default() }
            }
            Some(_) if resumes => Signalled::End { reason: "ended".into() },
            _ => return Handled::Dropped("an invite of a call that is over"),
        };
        self.outputs.push_back(Output::Signal { call: *id, signal });
        Handled::Taken
    }

    fn answer_offer(&mut self, id: &CallId, replaces: Option<SharedCallId>, now: Millis) {
        self.outputs.push_back(Output::Signal { call: *id, signal: Signalled::Accept { replaces } });
        if let Some(line) = self.calls.get_mut(id).and_then(|machine| machine.line.as_mut()) {
            line.heard = false;
            line.repeat(Signalled::AcceptAgain, &ACCEPT_AGAIN, now);
        }
    }

    /// An acceptance that [`Self::expects`] named, its handshake finished.
    pub fn handle_accept(&mut self, id: &CallId, answer: &Answer, now: Millis) {
        let Some(machine) = self.calls.get_mut(id) else { return };
        (machine.call.agent_id, machine.call.agent_name) = (answer.agent_id.clone(), answer.name.clone());
        if let Some(line) = &mut machine.line {
            line.rest();
            line.heard = true;
        }
        if machine.call.state() == CallState::Ringing {
            machine.connect(false, now, &mut self.outputs);
        } else {
            machine.save(&mut self.outputs);
        }
        if let Some(theirs) = answer.replaces {
            // The peer's own ring, which may still be on its way: it is this call.
            let room = theirs.to_string();
            if self.rooms.entry((machine.call.peer, room.clone())).or_insert(*id) == id {
                self.outputs.push_back(Output::Alias { call: *id, room });
            }
        }
    }

    /// An acceptance of a ring that is over: its sender believes that it is in a call.
    fn handle_late_accept(&mut self, id: &CallId) -> Handled {
        let Some(machine) = self.calls.get_mut(id) else { return Handled::Dropped("no such call") };
        let call = &machine.call;
        if call.direction == Direction::Out && call.state() == CallState::Ended && call.connected_at.is_none()
        {
            let signal = Signalled::End { reason: "too-late".into() };
            self.outputs.push_back(Output::Signal { call: *id, signal });
            return Handled::Taken;
        }
        Handled::Dropped("acceptance of an offer that does not wait for one")
    }

    fn handle_refusal(
        &mut self,
        id: &CallId,
        generation: u32,
        reason: EndReason,
        words: Option<String>,
        now: Millis,
    ) -> Handled {
        let Some(machine) = self.calls.get_mut(id) else { return Handled::Dropped("no such call") };
        let newest = machine.line.as_ref().is_some_and(|line| line.generation == generation);
        if (machine.call.direction, machine.call.state()) != (Direction::Out, CallState::Ringing) || !newest {
            return Handled::Dropped("refusal of a call that does not ring there");
        }
        machine.end(reason, words, false, now, &mut self.outputs);
        Handled::Taken
    }

    fn handle_cancel(&mut self, id: &CallId, reason: &str, now: Millis) -> Handled {
        let Some(machine) = self.calls.get_mut(id) else { return Handled::Dropped("no such call") };
        let Some(line) = &machine.line else { return Handled::Dropped("no such call") };
        let waits = match machine.call.state() {
            CallState::Ringing => !line.ours,
            // Our acceptance crossed it: the caller is in no call.
            CallState::Connected => !line.ours && !line.heard,
            CallState::Ended => false,
        };
        if !waits {
            return Handled::Dropped("only a caller takes its ring back, and only while it rings");
        }
        let end = if reason == NO_ANSWER { EndReason::NoAnswer } else { EndReason::Cancelled };
        machine.end(end, None, false, now, &mut self.outputs);
        // Our own ring, which this one took the place of, still rings there.
        let names = self.rooms.iter().filter(|(_, of)| *of == id).map(|((_, room), _)| room);
        let current = machine.call.room.clone();
        let old: Vec<SharedCallId> =
            names.filter(|room| **room != current).filter_map(|room| room.parse().ok()).collect();
        for shared in old {
            self.outputs.push_back(Output::Signal { call: *id, signal: Signalled::Disown { shared } });
        }
        Handled::Taken
    }

    fn handle_peer_end(&mut self, id: &CallId, reason: String, now: Millis) -> Handled {
        let Some(machine) = self.calls.get_mut(id) else { return Handled::Dropped("no such call") };
        match (machine.call.state(), machine.call.direction) {
            (CallState::Ended, _) => return Handled::Dropped("the call has ended already"),
            (CallState::Ringing, Direction::In) => {
                machine.end(EndReason::Cancelled, None, false, now, &mut self.outputs);
            }
            // Only who took a call ends it: the acceptance did not come.
            (CallState::Ringing, Direction::Out) => {
                machine.connect(false, now, &mut self.outputs);
                machine.end(EndReason::Completed, Some(reason), false, now, &mut self.outputs);
            }
            (CallState::Connected, _) => {
                machine.end(EndReason::Completed, Some(reason), false, now, &mut self.outputs);
            }
        }
        Handled::Taken
    }

    /// A frame of the peer was opened: it has our acceptance.
    pub fn handle_heard(&mut self, id: &CallId) {
        if let Some(line) = self.calls.get_mut(id).and_then(|machine| machine.line.as_mut())
            && !line.heard
        {
            line.heard = true;
            if !line.is_offering() {
                line.rest();
            }
        }
    }

    /// The session has ended: the peer said so in it, or was not heard for too long.
    pub fn handle_session_end(&mut self, id: &CallId, lost: bool, now: Millis) {
        if let Some(machine) = self.calls.get_mut(id)
            && machine.call.state() == CallState::Connected
        {
            let reason = if lost { EndReason::Lost } else { EndReason::Completed };
            machine.end(reason, None, false, now, &mut self.outputs);
        }
    }

    /// The handshake cannot be made: the peer's half is none.
    pub fn handle_broken(&mut self, id: &CallId, words: String, now: Millis) {
        if let Some(machine) = self.calls.get_mut(id)
            && machine.call.state() != CallState::Ended
        {
            machine.end(EndReason::Failed, Some(words), false, now, &mut self.outputs);
        }
    }

    /// A ring or a call begins a new handshake: after a restart, which lost the keys, or when the peer is away, which
    /// may have lost its own. Whoever is called does not hear a second ring.
    pub fn renew(&mut self, id: &CallId, now: Millis) {
        let Some(machine) = self.calls.get_mut(id) else { return };
        let again: &[Duration] = match (machine.call.state(), machine.call.direction) {
            (CallState::Ringing, Direction::Out) => &INVITE_AGAIN,
            (CallState::Connected, _) => &RESUME_AGAIN,
            _ => return,
        };
        let Some(line) = &mut machine.line else { return };
        line.generation = line.generation.saturating_add(1);
        line.repeat(Signalled::OfferAgain, again, now);
        machine.save(&mut self.outputs);
        self.outputs.push_back(Output::Signal { call: *id, signal: Signalled::Offer });
    }

    /// Takes a v2 call as it was persisted, with the other names that it has.
    pub fn restore_line(&mut self, id: &CallId, line: Line, aliases: impl IntoIterator<Item = String>) {
        if let Some(machine) = self.calls.get_mut(id) {
            machine.line = Some(line);
            for room in aliases {
                self.rooms.entry((machine.call.peer, room)).or_insert(*id);
            }
        }
    }

    /// Mail of a call that was up: in its order, also after the end.
    pub fn handle_mail(&mut self, id: &CallId, entry: Entry, now: Millis) -> Handled {
        match self.calls.get_mut(id) {
            Some(machine) => machine.handle_entry(entry, now, &mut self.outputs),
            None => Handled::Dropped("no such call"),
        }
    }

    /// Something of the peer was shown that has a number only here: it came in its order.
    pub fn count_in(&mut self, id: &CallId) {
        if let Some(machine) = self.calls.get_mut(id) {
            machine.call.next_in += 1;
            self.outputs.push_back(Output::Number(*id));
        }
    }

    // ---- commands ----

    pub(super) fn place_v2(&mut self, place: Place, now: Millis) -> CallId {
        let Place { id, room, peer, agent_id, agent_name, topic, .. } = place;
        let rings = |call: &&Call| {
            (call.direction, call.state(), call.protocol) == (Direction::In, CallState::Ringing, Protocol::V2)
        };
        // Both want to talk, and one ring has arrived already: to call is to answer.
        let ring = self.live_with(&peer).find(rings).map(|call| call.id);
        if let Some(ring) = ring {
            self.accept_v2(&ring, true, now);
            return ring;
        }
        let until = now + self.limits.ring_time;
        let labels = (agent_id, agent_name);
        let mut line = Line::new(0, None, true);
        line.repeat(Signalled::OfferAgain, &INVITE_AGAIN, now);
        self.insert_v2(
            Call::ringing(Protocol::V2, id, peer, room, Direction::Out, labels, topic, now, until),
            line,
        );
        self.outputs.push_back(Output::Save(id));
        self.outputs.push_back(Output::Signal { call: id, signal: Signalled::Offer });
        id
    }

    pub(super) fn accept_v2(&mut self, id: &CallId, own: bool, now: Millis) {
        if let Some(machine) = self.calls.get_mut(id) {
            machine.connect(own, now, &mut self.outputs);
        }
        self.answer_offer(id, None, now);
    }

    pub(super) fn signal(&mut self, id: &CallId, signal: Signalled) {
        self.outputs.push_back(Output::Signal { call: *id, signal });
    }

    /// Numbers what is said in a v2 call; the delivery machine carries it.
    pub(super) fn number(&mut self, id: &CallId) -> Result<u64, Refused> {
        let machine = self.calls.get_mut(id).ok_or(Refused::Unknown)?;
        let seq = machine.call.next_out;
        machine.call.next_out += 1;
        self.outputs.push_back(Output::Number(*id));
        Ok(seq)
    }

    fn insert_v2(&mut self, call: Call, line: Line) {
        let id = call.id;
        self.restore(call, []);
        self.restore_line(&id, line, []);
    }
}
