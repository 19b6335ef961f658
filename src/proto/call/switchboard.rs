//! All calls of an agent, and the rules between them: who is called, who is busy, what happens when both ring.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::door::{Admission, Door};
use super::machine::{Call, Machine, Outputs, Refused, TURNED_AWAY};
use super::signals::Signalled;
use super::{Content, Entry, Handled, MAX_CALLS, Output, RING_GRACE, RING_TIME};
use crate::mutants::{Mutant, planted};
use crate::proto::legacy::{Body, PLAINTEXT_LIMIT, Payload};
use crate::proto::{CallId, CallState, Direction, EndReason, MessageId, Millis, Protocol, PublicKey, Tier};

/// Most rings remembered that were taken back before they came.
const TAKEN_BACK_LIMIT: usize = 64;

/// Who this agent is, as it tells its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Myself {
    /// Its key.
    pub key: PublicKey,
    /// Its agent id.
    pub agent_id: String,
    /// Its display name.
    pub name: String,
}

impl Myself {
    fn acceptance(&self, replaces: Option<String>) -> Body {
        Body::CallAccepted { agent_id: self.agent_id.clone(), agent_name: self.name.clone(), replaces }
    }

    fn rejection(&self, reason: &str, busy: bool) -> Body {
        let (agent_id, agent_name) = (self.agent_id.clone(), self.name.clone());
        Body::CallRejected { agent_id, agent_name, reason: reason.to_owned(), busy }
    }
}

/// What the user allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most calls up at once; the next caller hears that we are busy.
    pub max_calls: usize,
    /// How long a call rings.
    pub ring_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_calls: MAX_CALLS, ring_time: RING_TIME }
    }
}

/// What is needed to place a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The id that it gets in this home.
    pub id: CallId,
    /// Its name on the wire: a fresh UUID in legacy, 16 fresh bytes in hex in v2.
    pub room: String,
    /// The dialect.
    pub protocol: Protocol,
    /// Who is called.
    pub peer: PublicKey,
    /// Its agent id, as far as it is known.
    pub agent_id: String,
    /// Its display name, as far as it is known.
    pub agent_name: String,
    /// What it is about.
    pub topic: String,
}

/// The live calls, and ended ones for as long as something in them waits.
#[derive(Debug)]
pub struct Switchboard {
    pub(super) me: Myself,
    pub(super) limits: Limits,
    pub(super) calls: BTreeMap<CallId, Machine>,
    pub(super) rooms: BTreeMap<(PublicKey, String), CallId>,
    /// Rings taken back before they came: a relay hands out in any order.
    taken_back: VecDeque<(PublicKey, String)>,
    pub(super) door: Door,
    pub(super) outputs: Outputs,
}

impl Switchboard {
    /// Without calls.
    pub fn new(me: Myself, limits: Limits) -> Self {
        Self {
            me,
            limits,
            calls: BTreeMap::new(),
            rooms: BTreeMap::new(),
            taken_back: VecDeque::new(),
            door: Door::default(),
            outputs: VecDeque::new(),
        }
    }

    // ---- getters ----

    /// A call that is live, or in which something waits.
    pub fn call(&self, id: &CallId) -> Option<&Call> {
        self.calls.get(id).map(Machine::call)
    }

    /// Whether a payload of this room finds its call here; otherwise it may be in the database.
    pub fn knows(&self, peer: &PublicKey, room: &str) -> bool {
        self.rooms.contains_key(&(*peer, room.to_owned()))
    }

    /// Who is let in.
    pub fn door(&mut self) -> &mut Door {
        &mut self.door
    }

    /// How many calls are up, or were placed here. Who only rings makes nobody busy: strangers could.
    pub(super) fn load(&self) -> usize {
        let rings_here = |call: &&Call| (call.direction, call.state()) == (Direction::In, CallState::Ringing);
        self.live().filter(|call| !rings_here(call)).count()
    }

    /// Calls that ring or are connected, by id.
    pub fn live(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().map(Machine::call).filter(|call| call.state() != CallState::Ended)
    }

    pub(super) fn live_with(&self, peer: &PublicKey) -> impl Iterator<Item = &Call> {
        self.live().filter(move |call| call.peer == *peer)
    }

    /// What is said in the legacy dialect touches only calls of that dialect.
    fn legacy_with(&self, peer: &PublicKey) -> impl Iterator<Item = &Call> {
        self.live_with(peer).filter(|call| call.protocol == Protocol::Legacy)
    }

    pub(super) fn take_back(&mut self, place: (PublicKey, String)) {
        self.taken_back.truncate(TAKEN_BACK_LIMIT - 1);
        self.taken_back.push_front(place);
    }

    pub(super) fn was_taken_back(&self, place: &(PublicKey, String)) -> bool {
        self.taken_back.contains(place)
    }

    // ---- restoring ----

    /// Forgets everything that was not persisted.
    pub fn clear(&mut self) {
        self.calls.clear();
        self.rooms.clear();
        self.outputs.clear();
    }

    /// Forgets a call that had no place in the queue.
    pub fn forget(&mut self, id: &CallId) {
        self.calls.remove(id);
        self.rooms.retain(|_, of| of != id);
    }

    /// Takes a call as it was persisted, with the entries held back in it.
    pub fn restore(&mut self, call: Call, held_back: impl IntoIterator<Item = (MessageId, Option<u64>)>) {
        self.rooms.insert((call.peer, call.room.clone()), call.id);
        self.calls.insert(call.id, Machine::new(call, held_back));
    }

    /// Drops the machines of calls that are over and in which nothing waits.
    pub fn evict_idle(&mut self) {
        let before = self.calls.len();
        self.calls.retain(|_, machine| !machine.is_idle());
        if self.calls.len() < before {
            self.rooms.retain(|_, id| self.calls.contains_key(id));
        }
    }

    /// The name and the agent id that peers are told from now on.
    pub fn rename(&mut self, me: Myself) {
        self.me = me;
    }

    // ---- handle: from peers and from the clock ----

    /// Takes a payload that `from` signed, who is of this tier. `message` names what carries no id of its own, `fresh` a
    /// new call.
    pub fn handle(
        &mut self,
        (from, tier): (&PublicKey, Tier),
        payload: Payload,
        message: MessageId,
        fresh: CallId,
        at: Millis,
        now: Millis,
    ) -> Handled {
        let Payload { room, id, seq, body, .. } = payload;
        if let Body::CallRequest { agent_id, agent_name, topic } = body {
            return self.handle_request((from, tier), room, (agent_id, agent_name), topic, fresh, at, now);
        }
        let mut place = (*from, room);
        if planted(Mutant::AnyAcceptance) && matches!(body, Body::CallAccepted { .. }) {
            place = self.live().next().map_or(place, |call| (call.peer, call.room.clone()));
        }
        let Some(machine) = self.rooms.get(&place).and_then(|id| self.calls.get_mut(id)) else {
            if matches!(body, Body::EndCall { .. }) {
                self.take_back(place);
            }
            return Handled::Dropped("no call of this key has this room");
        };
        if machine.call.protocol != Protocol::Legacy {
            return Handled::Dropped("a call of another dialect has this room");
        }
        let content = match body {
            Body::CallAccepted { agent_id, agent_name, replaces } => {
                let call = machine.call.id;
                return self.handle_accepted(call, (agent_id, agent_name), replaces, now);
            }
            Body::CallRejected { reason, busy, .. } => {
                let call = &machine.call;
                if call.direction != Direction::Out || call.state() != CallState::Ringing {
                    return Handled::Dropped("rejection of a call that does not ring there");
                }
                let end = if busy { EndReason::Busy } else { EndReason::Rejected };
                machine.end(end, Some(reason), false, now, &mut self.outputs);
                return Handled::Taken;
            }
            Body::EndCall { reason } => return machine.handle_end(reason, seq, now, &mut self.outputs),
            Body::Message { content, .. } => Content::Text(content),
            Body::File { filename, content, mime, .. } => {
                Content::File { name: filename, mime, bytes: content }
            }
            Body::Escalate { message, .. } => Content::Escalation(message),
            Body::CallRequest { .. } => return Handled::Dropped("a request is handled above"),
        };
        let entry = Entry { id: id.unwrap_or(message), seq, at, content };
        machine.handle_entry(entry, now, &mut self.outputs)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one request; a struct would only rename them"
    )]
    fn handle_request(
        &mut self,
        (from, tier): (&PublicKey, Tier),
        room: String,
        (agent_id, agent_name): (String, String),
        topic: String,
        fresh: CallId,
        at: Millis,
        now: Millis,
    ) -> Handled {
        if self.knows(from, &room) {
            return Handled::Dropped("this call is known already");
        }
        let ring_until = at.min(now) + self.limits.ring_time + RING_GRACE;
        let mine = self.legacy_with(from).find(|call| call.direction == Direction::Out).cloned();
        if let Some(mine) = mine.filter(|call| call.state() == CallState::Ringing && ring_until > now) {
            return self.handle_glare(&mine, room, (agent_id, agent_name), now);
        }
        // A caller holds one call: another ring of the same key takes the place of the one before.
        for call in self.ringing_with(from) {
            self.end_quietly(&call, EndReason::Cancelled, now);
        }
        let taken_back = self.was_taken_back(&(*from, room.clone()));
        let busy = self.load() >= self.limits.max_calls;
        let admission = self.door.admit(from, tier, Protocol::Legacy, now);
        if admission == Admission::Ignore {
            return Handled::Dropped("a stranger, beyond what strangers are answered");
        }
        let (started_at, labels) = (at.min(now), (agent_id, agent_name));
        let legacy = Protocol::Legacy;
        let call =
            Call::ringing(legacy, fresh, *from, room, Direction::In, labels, topic, started_at, ring_until);
        self.restore(call, []);
        let Some(machine) = self.calls.get_mut(&fresh) else { return Handled::Dropped("no call was made") };
        machine.call.queued = admission != Admission::Ring;
        if taken_back {
            machine.end(EndReason::Cancelled, None, false, now, &mut self.outputs);
        } else if ring_until <= now {
            machine.end(EndReason::NoAnswer, None, false, now, &mut self.outputs);
        } else if busy && admission == Admission::Ring {
            machine.end(EndReason::Busy, None, false, now, &mut self.outputs);
            machine.transmit(&self.me.agent_id, self.me.rejection("busy", true), &mut self.outputs);
        } else {
            machine.begin(admission, now, &mut self.outputs);
            if admission == Admission::TurnAway {
                let rejection = self.me.rejection(TURNED_AWAY, false);
                machine.transmit(&self.me.agent_id, rejection, &mut self.outputs);
            }
        }
        Handled::Taken
    }

    /// Both rang at once. The ring of the lower key survives on both sides; the other side takes it without being
    /// asked, since having called is consent, and its own call goes on under the surviving room.
    fn handle_glare(&mut self, mine: &Call, room: String, peer: (String, String), now: Millis) -> Handled {
        if self.me.key < mine.peer {
            return Handled::Dropped("both rang at once; our ring survives");
        }
        let Some(machine) = self.calls.get_mut(&mine.id) else { return Handled::Dropped("no such call") };
        self.rooms.insert((mine.peer, room.clone()), mine.id);
        self.rooms.remove(&(mine.peer, mine.room.clone()));
        let replaced = std::mem::replace(&mut machine.call.room, room);
        (machine.call.agent_id, machine.call.agent_name) = peer;
        machine.connect(false, now, &mut self.outputs);
        machine.transmit(&self.me.agent_id, self.me.acceptance(Some(replaced)), &mut self.outputs);
        Handled::Taken
    }

    fn handle_accepted(
        &mut self,
        id: CallId,
        (agent_id, agent_name): (String, String),
        replaces: Option<String>,
        now: Millis,
    ) -> Handled {
        let Some(call) = self.call(&id).cloned() else { return Handled::Dropped("no such call") };
        if call.direction != Direction::Out {
            return Handled::Dropped("acceptance of a call that we did not place");
        }
        let alone = self.legacy_with(&call.peer).count() == 0;
        let Some(machine) = self.calls.get_mut(&id) else { return Handled::Dropped("no such call") };
        match call.state() {
            CallState::Connected => Handled::Dropped("the call is connected already"),
            CallState::Ringing => {
                (machine.call.agent_id, machine.call.agent_name) = (agent_id, agent_name);
                machine.connect(false, now, &mut self.outputs);
                if let Some(room) = replaces {
                    // The peer's own ring, which may still be on its way: it is this call.
                    self.rooms.entry((call.peer, room)).or_insert(id);
                }
                self.end_others(&call, now);
                Handled::Taken
            }
            // Deployed agents take a call at any time, and then believe that they are in it: tell them. Their
            // `end_call` looks at the sender only, so it must not hit another call with them.
            CallState::Ended if call.connected_at.is_none() && alone => {
                machine.transmit_end(&self.me.agent_id, "too-late", &mut self.outputs);
                Handled::Taken
            }
            CallState::Ended => Handled::Dropped("acceptance of a call that has ended"),
        }
    }

    fn ringing_with(&self, peer: &PublicKey) -> Vec<CallId> {
        self.legacy_with(peer)
            .filter(|call| call.direction == Direction::In && call.state() == CallState::Ringing)
            .map(|call| call.id)
            .collect()
    }

    /// A legacy agent holds one call: whatever else was up with it is over. Nothing is sent: its `end_call` would
    /// hit the call that has just begun.
    fn end_others(&mut self, connected: &Call, now: Millis) {
        let others: Vec<_> =
            self.legacy_with(&connected.peer).filter(|call| call.id != connected.id).cloned().collect();
        for other in others {
            let reason =
                if other.state() == CallState::Ringing { EndReason::Cancelled } else { EndReason::Lost };
            self.end_quietly(&other.id, reason, now);
        }
    }

    fn end_quietly(&mut self, id: &CallId, reason: EndReason, now: Millis) {
        if let Some(machine) = self.calls.get_mut(id) {
            machine.end(reason, None, false, now, &mut self.outputs);
        }
    }

    /// Carries out what is due.
    pub fn handle_timeout(&mut self, now: Millis) {
        let due: Vec<CallId> = self
            .calls
            .values()
            .filter(|machine| machine.poll_timeout().is_some_and(|(at, _)| at <= now))
            .map(|machine| machine.call.id)
            .collect();
        for id in due {
            let alone = self.call(&id).is_some_and(|call| self.legacy_with(&call.peer).count() == 1);
            if let Some(machine) = self.calls.get_mut(&id) {
                machine.handle_timeout(&self.me.agent_id, alone, now, &mut self.outputs);
            }
        }
    }

    /// No relay took the ring: the call cannot be placed.
    pub fn handle_undeliverable(&mut self, id: &CallId, words: String, now: Millis) {
        if let Some(machine) = self.calls.get_mut(id)
            && machine.call.state() == CallState::Ringing
            && machine.call.direction == Direction::Out
        {
            machine.end(EndReason::Failed, Some(words), false, now, &mut self.outputs);
        }
    }

    // ---- commands ----

    /// Rings a peer. Returns the call: in v2, a ring of that peer that waits here is answered instead.
    ///
    /// # Errors
    /// [`Refused::PeerBusy`] if a call with it is up, and the dialect is the one that knows only one.
    pub fn place(&mut self, place: Place, now: Millis) -> Result<CallId, Refused> {
        if place.protocol == Protocol::V2 {
            return Ok(self.place_v2(place, now));
        }
        if let Some(up) = self.legacy_with(&place.peer).next() {
            return Err(Refused::PeerBusy(up.id));
        }
        let Place { id, room, peer, agent_id, agent_name, topic, .. } = place;
        let (until, labels) = (now + self.limits.ring_time, (agent_id, agent_name));
        let legacy = Protocol::Legacy;
        let call = Call::ringing(legacy, id, peer, room, Direction::Out, labels, topic.clone(), now, until);
        self.restore(call, []);
        self.outputs.push_back(Output::Save(id));
        let body =
            Body::CallRequest { agent_id: self.me.agent_id.clone(), agent_name: self.me.name.clone(), topic };
        if let Some(machine) = self.calls.get(&id) {
            machine.transmit(&self.me.agent_id, body, &mut self.outputs);
        }
        Ok(id)
    }

    /// Takes a call the moment it rings, as the user wants for its caller: who waits hears that it is connected.
    pub fn accept_unasked(&mut self, id: &CallId, now: Millis) {
        // It rings: nothing is refused.
        let _ = self.take(id, false, now);
    }

    /// Takes a ringing call. `false` if it was taken before.
    ///
    /// # Errors
    /// [`Refused`] if it does not ring here.
    pub fn accept(&mut self, id: &CallId, now: Millis) -> Result<bool, Refused> {
        self.take(id, true, now)
    }

    fn take(&mut self, id: &CallId, own: bool, now: Millis) -> Result<bool, Refused> {
        let machine = self.calls.get_mut(id).ok_or(Refused::Unknown)?;
        match (machine.call.direction, machine.call.state()) {
            (Direction::In, CallState::Connected) => return Ok(false),
            (Direction::In, CallState::Ringing) => {}
            (_, CallState::Ended) => {
                return Err(Refused::Ended(machine.call.ended.as_ref().map(|end| end.reason)));
            }
            (Direction::Out, _) => return Err(Refused::NotRinging),
        }
        if machine.call.protocol == Protocol::V2 {
            self.accept_v2(id, own, now);
            return Ok(true);
        }
        machine.connect(own, now, &mut self.outputs);
        machine.transmit(&self.me.agent_id, self.me.acceptance(None), &mut self.outputs);
        let call = machine.call.clone();
        self.end_others(&call, now);
        Ok(true)
    }

    /// Declines a ringing call. `false` if it was declined before.
    ///
    /// # Errors
    /// [`Refused`] if it does not ring here.
    pub fn reject(&mut self, id: &CallId, words: &str, now: Millis) -> Result<bool, Refused> {
        let machine = self.calls.get_mut(id).ok_or(Refused::Unknown)?;
        match (machine.call.direction, machine.call.state()) {
            (Direction::In, CallState::Ringing) => {}
            (_, CallState::Ended) => match machine.call.ended.as_ref().map(|end| end.reason) {
                Some(EndReason::Rejected) if machine.call.direction == Direction::In => return Ok(false),
                reason => return Err(Refused::Ended(reason)),
            },
            _ => return Err(Refused::NotRinging),
        }
        machine.end(EndReason::Rejected, Some(words.to_owned()), true, now, &mut self.outputs);
        if machine.call.protocol == Protocol::V2 {
            self.signal(id, Signalled::Reject { reason: words.to_owned() });
            return Ok(true);
        }
        machine.transmit(&self.me.agent_id, self.me.rejection(words, false), &mut self.outputs);
        Ok(true)
    }

    /// Ends a call: takes back a ring, declines one, or hangs up. `false` if it had ended.
    ///
    /// # Errors
    /// [`Refused::Unknown`] if there is no such call.
    pub fn hang_up(&mut self, id: &CallId, now: Millis) -> Result<bool, Refused> {
        let machine = self.calls.get_mut(id).ok_or(Refused::Unknown)?;
        let (reason, words) = match (machine.call.state(), machine.call.direction) {
            (CallState::Ended, _) => return Ok(false),
            (CallState::Ringing, Direction::In) => return self.reject(id, "", now),
            (CallState::Ringing, Direction::Out) => (EndReason::Cancelled, "cancelled"),
            (CallState::Connected, _) => (EndReason::Completed, "ended_by_peer"),
        };
        machine.end(reason, None, true, now, &mut self.outputs);
        match machine.call.protocol {
            Protocol::Legacy => machine.transmit_end(&self.me.agent_id, words, &mut self.outputs),
            Protocol::V2 if reason == EndReason::Cancelled => {
                self.signal(id, Signalled::Cancel { reason: words.to_owned() });
            }
            // The session says it.
            Protocol::V2 => {}
        }
        Ok(true)
    }

    /// Says something: gives it its number and, in the legacy dialect, transmits it; in v2 the delivery machine carries
    /// it. The caller persists the message itself.
    ///
    /// # Errors
    /// [`Refused`] if the call is not connected, or the words do not fit an event; nothing has changed then.
    pub fn say(&mut self, id: &CallId, message: MessageId, content: Content) -> Result<u64, Refused> {
        let machine = self.calls.get_mut(id).ok_or(Refused::Unknown)?;
        match machine.call.state() {
            CallState::Ringing => return Err(Refused::Ringing),
            CallState::Ended => {
                return Err(Refused::Ended(machine.call.ended.as_ref().map(|end| end.reason)));
            }
            CallState::Connected if machine.call.closing.is_some() => return Err(Refused::Ended(None)),
            CallState::Connected if machine.call.protocol == Protocol::V2 => return self.number(id),
            CallState::Connected => {}
        }
        let sender = self.me.name.clone();
        let body = match content {
            Content::Text(content) => Body::Message { sender, content },
            Content::File { name, mime, bytes } => {
                Body::File { sender, filename: name, content: bytes, mime }
            }
            Content::Escalation(message) => Body::Escalate { from_agent: self.me.agent_id.clone(), message },
            // What comes by the mailbox is said by nobody here.
            Content::Parcel(parcel) => Body::Message { sender, content: parcel.name },
            Content::Kept { name, .. } => Body::Message { sender, content: name },
            // This dialect has no word for it.
            Content::OwnerSaid(content) => Body::Message { sender, content },
        };
        let seq = machine.call.next_out;
        let payload = machine.payload(&self.me.agent_id, body, Some((message, seq)));
        let size = payload.to_json().len();
        if size > PLAINTEXT_LIMIT {
            return Err(Refused::TooLarge { size, limit: PLAINTEXT_LIMIT });
        }
        machine.call.next_out += 1;
        self.outputs.push_back(Output::Save(*id));
        self.outputs.push_back(Output::Transmit { call: *id, to: machine.call.peer, payload });
        Ok(seq)
    }

    // ---- poll ----

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do, and what.
    pub fn poll_timeout(&self) -> Option<(Millis, &'static str)> {
        self.calls.values().filter_map(Machine::poll_timeout).min()
    }
}
