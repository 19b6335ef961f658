//! Signals out and in: what the switchboard wants said gets its keys, its wrap and its relays; what peers say is read,
//! checked against what was offered, and handed to the switchboard.

use std::time::Duration;

use tokio::time::Instant;

use super::{About, Letter};
use crate::engine::clock::fresh;
use crate::engine::core::Core;
use crate::engine::effects::Effect;
use crate::proto::call::{Call, Handled, Signalled};
use crate::proto::v2::signal::{
    self, ACCEPT_RELAYS, Answer, Body, INVITE_RELAYS, Offer, SharedCallId, Signal, VERSION,
};
use crate::proto::{CallId, CallState, EventId, Millis, PublicKey, TraceParent};
use crate::store;
use crate::transport::RelayId;
use crate::transport::v2::handshake::{self, Response};
use crate::transport::v2::{Initiator, MOST_WORK, Opened, Rumor, SessionKey, Terms};

/// A ring that no relay has taken in this time cannot be heard: its caller is told instead of being left to wait.
const TAKEN_WITHIN: Duration = Duration::from_secs(8);

/// An offer of ours that waits for its acceptance.
pub(super) struct Pending {
    pub(super) initiator: Initiator,
    letter: Letter,
    /// The rumor's id: what an acceptance names.
    id: EventId,
    generation: u32,
    /// Where it is listened for, as the offer spells it.
    relays: Vec<String>,
    way: Way,
}

/// How far an offer has come.
enum Way {
    Unpublished,
    /// First published then, and no relay has said that it took it.
    Published(Instant),
    Taken,
}

impl Pending {
    fn given_up_at(&self) -> Option<Instant> {
        match self.way {
            Way::Published(at) => Some(at + TAKEN_WITHIN),
            Way::Unpublished | Way::Taken => None,
        }
    }
}

/// What we answered to an offer.
pub(super) struct Answered {
    to: PublicKey,
    rumor: Rumor,
    relays: Vec<String>,
}

impl Core {
    /// Says what the switchboard wants said about a call.
    pub(in crate::engine) fn signal(
        &mut self,
        id: &CallId,
        signal: Signalled,
        now: Millis,
    ) -> Result<(), store::Error> {
        let Some(call) = self.board.call(id).cloned() else { return Ok(()) };
        let Some(shared) = call.shared() else { return Ok(()) };
        let generation = self.board.line(id).map_or(0, |line| line.generation);
        let say = |body: Body| Signal { call: shared, generation, body };
        match signal {
            Signalled::Offer => self.offer(&call, shared, generation, now)?,
            Signalled::OfferAgain => {
                let work = self.inbox_of(&call.peer)?.work.min(MOST_WORK);
                if let Some(pending) = self.lines.offers.get_mut(id) {
                    // The peer may ask for more than it did.
                    pending.letter.work = pending.letter.work.max(work);
                    self.effects.push(Effect::Post(pending.letter.clone()));
                }
            }
            Signalled::Accept { replaces } => self.accept_offer(&call, shared, replaces, now)?,
            Signalled::AcceptAgain => self.answer_again(id),
            Signalled::Reject { reason } => self.refuse_offer(&call, say(Body::Reject { reason }), now),
            Signalled::Busy => self.refuse_offer(&call, say(Body::Busy), now),
            Signalled::Cancel { reason } => {
                self.drop_offer(id);
                self.post_signal(&call, say(Body::Cancel { reason }), now)?;
            }
            Signalled::End { reason } => self.post_signal(&call, say(Body::End { reason }), now)?,
            Signalled::Disown { shared } => {
                let body = Body::End { reason: "another ring took its place".into() };
                self.post_signal(&call, Signal { call: shared, generation: 0, body }, now)?;
            }
        }
        Ok(())
    }

    /// The trace that a ring of ours is part of. Who resumes has told it.
    fn trace_of(&self, call: &Call) -> Result<Option<TraceParent>, store::Error> {
        match self.lines.traces.get(&call.id) {
            _ if call.state() != CallState::Ringing => Ok(None),
            Some(trace) => Ok(Some(trace.clone())),
            None => Ok(self.store.call(&call.id)?.and_then(|stored| stored.traceparent)),
        }
    }

    /// Begins a handshake. The session key is listened for before the offer leaves: effects keep their order.
    fn offer(
        &mut self,
        call: &Call,
        shared: SharedCallId,
        generation: u32,
        now: Millis,
    ) -> Result<(), store::Error> {
        self.drop_offer(&call.id);
        let key = SessionKey::generate();
        let relays = self.meeting_relays();
        let mut offer = Offer {
            agent_id: self.me.agent_id.clone(),
            name: self.me.name.clone(),
            topic: call.topic.clone(),
            expires: call.ring_until.as_secs(),
            key: key.public_key(),
            noise: [0; signal::FIRST_MESSAGE],
            versions: vec![VERSION],
            relays: relays.clone(),
            inbox: self.own_inbox(),
            traceparent: self.trace_of(call)?,
        };
        let public = offer.key;
        let me = self.identity_in(&call.id).public_key();
        let terms = Terms::of(&offer, &shared, generation, &me, &call.peer);
        let (initiator, noise) = match Initiator::start(key, &terms) {
            Ok(started) => started,
            Err(error) => {
                self.board.handle_broken(&call.id, error.to_string(), now);
                return Ok(());
            }
        };
        offer.noise = noise;
        let rings = call.state() == CallState::Ringing;
        let body = if rings { Body::Invite(offer) } else { Body::Resume(offer) };
        let rumor = rumor(&Signal { call: shared, generation, body }, now);
        let id = rumor.id(&me);
        let letter = self.letter(&call.peer, rumor, About::Offer(call.id))?;
        self.lines.keys.insert(public, call.id);
        self.effects.push(Effect::Listen(public, relays.clone()));
        self.effects.push(Effect::Post(letter.clone()));
        self.send_without_work(&letter, now);
        self.lines
            .offers
            .insert(call.id, Pending { initiator, letter, id, generation, relays, way: Way::Unpublished });
        Ok(())
    }

    /// An offer of ours is not to be accepted any more.
    pub(in crate::engine) fn drop_offer(&mut self, id: &CallId) {
        if let Some(pending) = self.lines.offers.remove(id) {
            let key = pending.initiator.key().public_key();
            self.lines.keys.remove(&key);
            self.effects.push(Effect::Forget(key));
        }
    }

    /// Where a session of ours can meet: the fittest of our relays.
    fn meeting_relays(&self) -> Vec<String> {
        self.sessions.ranked().iter().take(INVITE_RELAYS).map(ToString::to_string).collect()
    }

    /// The second half of the peer's handshake.
    fn accept_offer(
        &mut self,
        call: &Call,
        shared: SharedCallId,
        replaces: Option<SharedCallId>,
        now: Millis,
    ) -> Result<(), store::Error> {
        let Some((generation, standing)) =
            self.board.line(&call.id).and_then(|line| Some((line.generation, line.offer.clone()?)))
        else {
            return Ok(());
        };
        self.drop_offer(&call.id);
        let offer = standing.offer;
        let mut linked = self.sessions.ensure(&offer.relays);
        linked.sort_by_key(|relay| !self.sessions.is_up(std::slice::from_ref(relay)));
        linked.truncate(ACCEPT_RELAYS);
        // In the offer's spelling, which is what the handshake is bound to.
        let is_linked = |url: &&String| RelayId::parse(url).is_ok_and(|relay| linked.contains(&relay));
        let relays: Vec<String> =
            offer.relays.iter().filter(is_linked).take(ACCEPT_RELAYS).cloned().collect();
        let me = self.identity_in(&call.id).public_key();
        let terms = Terms::of(&offer, &shared, generation, &call.peer, &me);
        let response = match relays.is_empty() {
            true => Err("no relay that both sides may use".to_owned()),
            false => handshake::respond(SessionKey::generate(), &terms, &offer.noise)
                .map_err(|error| error.to_string()),
        };
        let Response { session, message, hash } = match response {
            Ok(response) => response,
            Err(why) => {
                tracing::info!(call = %call.id, why, "the peer's offer cannot be taken");
                self.board.handle_broken(&call.id, why.clone(), now);
                let body = Body::End { reason: why };
                return self.post_signal(call, Signal { call: shared, generation, body }, now);
            }
        };
        let answer = Answer {
            agent_id: self.me.agent_id.clone(),
            name: self.me.name.clone(),
            key: session.key().public_key(),
            noise: message,
            relays: relays.clone(),
            invite: standing.rumor,
            hash,
            replaces,
            inbox: self.own_inbox(),
        };
        let body = Body::Accept(answer);
        let rumor = rumor(&Signal { call: shared, generation, body }, now);
        self.establish(&call.id, session, relays, false, now)?;
        self.lines.answers.insert(call.id, Answered { to: offer.key, rumor, relays: offer.relays });
        self.answer_again(&call.id);
        Ok(())
    }

    fn refuse_offer(&mut self, call: &Call, signal: Signal, now: Millis) {
        let Some(standing) = self.board.line(&call.id).and_then(|line| line.offer.clone()) else { return };
        let offer = standing.offer;
        self.sessions.ensure(&offer.relays);
        let answered = Answered { to: offer.key, rumor: rumor(&signal, now), relays: offer.relays };
        self.lines.answers.insert(call.id, answered);
        self.answer_again(&call.id);
    }

    fn answer_again(&mut self, id: &CallId) {
        if let Some(Answered { to, rumor, relays }) = self.lines.answers.get(id) {
            self.effects.push(Effect::Answer(*id, *to, rumor.clone(), relays.clone()));
        }
    }

    /// A signal that has to arrive although nobody answers it.
    fn post_signal(&mut self, call: &Call, signal: Signal, now: Millis) -> Result<(), store::Error> {
        let about = About::Kept { call: call.id, message: None };
        let letter = self.letter(&call.peer, rumor(&signal, now), about)?;
        self.post(letter, now)
    }

    // ---- in ----

    /// A signal, opened and verified.
    pub(super) fn handle_signal(&mut self, opened: &Opened, now: Millis) -> Result<(), store::Error> {
        let Opened { from, to, rumor, id, .. } = opened;
        let dropped = |why: &str| tracing::debug!(rumor = %id, why, "a signal changes nothing");
        if now.as_secs().saturating_sub(rumor.created_at) > signal::LIFETIME.as_secs() {
            dropped("older than a wrap lives");
            return Ok(());
        }
        let signal = match Signal::parse(&rumor.content) {
            Ok(signal) => signal,
            Err(error) => {
                dropped(&error.to_string());
                return Ok(());
            }
        };
        let inbox = match &signal.body {
            Body::Invite(offer) | Body::Resume(offer) => offer.inbox.as_slice(),
            Body::Accept(answer) => answer.inbox.as_slice(),
            _ => &[],
        };
        if let Body::Invite(offer) = &signal.body
            && self.is_false_claim(&offer.agent_id, from, now)?
        {
            dropped("a ring under a name that is another's");
            return Ok(());
        }
        self.note_v2(from, inbox, now)?;
        if let Some(named) = self.store.call_named(from, &signal.call.to_string())? {
            self.restore_call(&named)?;
        }
        if let Body::Accept(answer) = &signal.body
            && let Some(call) = self.board.expects(from, &signal)
        {
            return self.handle_accept(&call, from, &signal, answer, now);
        }
        let handled = match self.store.mark_signal(from, &signal, now)? {
            true => {
                let (tier, new) = (self.book.tier(from), fresh());
                let handled = self.board.handle_signal((from, tier), signal, *id, rumor.created_at, new, now);
                if self.board.call(&new).is_some() {
                    self.came_to(to, &new)?;
                }
                handled
            }
            false => self.board.handle_repeated(from, &signal),
        };
        if let Handled::Dropped(why) = handled {
            dropped(why);
        }
        self.settle(now)
    }

    /// The acceptance of an offer that waits for one: its handshake is finished first.
    fn handle_accept(
        &mut self,
        id: &CallId,
        from: &PublicKey,
        signal: &Signal,
        answer: &Answer,
        now: Millis,
    ) -> Result<(), store::Error> {
        let fits = self.lines.offers.get(id).is_some_and(|pending| {
            (pending.id, pending.generation) == (answer.invite, signal.generation)
                && answer.relays.iter().all(|relay| pending.relays.contains(relay))
        });
        if !fits || !self.store.mark_signal(from, signal, now)? {
            tracing::debug!(call = %id, "an acceptance of another offer than the newest");
            return Ok(());
        }
        let Some(pending) = self.lines.offers.remove(id) else { return Ok(()) };
        let key = pending.initiator.key().public_key();
        match pending.initiator.finish(&answer.key, &answer.noise, &answer.hash) {
            Ok((session, early)) => {
                self.board.handle_accept(id, answer, now);
                self.settle(now)?;
                self.establish(id, session, answer.relays.clone(), true, now)?;
                for event in early {
                    self.handle_frame(&event, now)?;
                }
                Ok(())
            }
            Err(error) => {
                tracing::info!(call = %id, %error, "the peer's half of the handshake does not fit");
                self.lines.keys.remove(&key);
                self.effects.push(Effect::Forget(key));
                self.board.handle_broken(id, error.to_string(), now);
                self.settle(now)
            }
        }
    }

    /// A relay said what became of an offer: when all that were asked have refused it, the call cannot be placed.
    pub(in crate::engine) fn handle_offer_refused(
        &mut self,
        event: &EventId,
        reason: &str,
        now: Millis,
    ) -> Result<(), store::Error> {
        let Some((call, left)) = self.lines.published.get_mut(event) else { return Ok(()) };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return Ok(());
        }
        let call = *call;
        self.lines.published.remove(event);
        self.drop_offer(&call);
        self.board.handle_undeliverable(&call, format!("every inbox relay refused it: {reason}"), now);
        self.settle(now)
    }

    /// An offer of ours, to be wrapped anew with more work than it had.
    pub(super) fn offer_with_work(&mut self, event: &EventId, bits: u8) -> Option<Letter> {
        let (call, _) = self.lines.published.get(event)?;
        let pending = self.lines.offers.get_mut(call).filter(|pending| pending.letter.work < bits)?;
        pending.letter.work = bits;
        Some(pending.letter.clone())
    }

    /// A peer asks for more work than an offer to it has: behind a flood, that offer would wait for long.
    pub(super) fn work_more(&mut self, key: &PublicKey, asked: u8) {
        let bits = asked.min(MOST_WORK);
        for pending in self.lines.offers.values_mut() {
            if pending.letter.to == *key && pending.letter.work < bits {
                pending.letter.work = bits;
                self.effects.push(Effect::Post(pending.letter.clone()));
            }
        }
    }

    /// A relay has an offer: whatever others say, it is on its way.
    pub(in crate::engine) fn handle_offer_taken(&mut self, event: &EventId) {
        if let Some((call, _)) = self.lines.published.remove(event)
            && let Some(pending) = self.lines.offers.get_mut(&call)
        {
            pending.way = Way::Taken;
        }
    }

    /// An offer leaves, for the first time or again.
    pub(super) fn note_published(&mut self, call: &CallId) {
        if let Some(pending) = self.lines.offers.get_mut(call)
            && let Way::Unpublished = pending.way
        {
            pending.way = Way::Published(Instant::now());
        }
    }

    /// When the next ring that no relay has taken is given up.
    pub(in crate::engine) fn offers_wake(&self) -> Option<Instant> {
        let offers = self.lines.offers.iter().filter(|(id, _)| self.rings(id));
        offers.filter_map(|(_, pending)| pending.given_up_at()).min()
    }

    /// Gives up the rings that no relay has taken.
    pub(in crate::engine) fn give_up_offers(&mut self, now: Millis) -> Result<(), store::Error> {
        let instant = Instant::now();
        let offers = self.lines.offers.iter();
        let unheard = offers.filter(|(_, pending)| pending.given_up_at().is_some_and(|at| at <= instant));
        let unheard: Vec<CallId> = unheard.map(|(id, _)| *id).filter(|id| self.rings(id)).collect();
        for id in unheard {
            self.drop_offer(&id);
            let words = "none of the relays where the peer reads could be reached";
            self.board.handle_undeliverable(&id, words.to_owned(), now);
            self.settle(now)?;
        }
        Ok(())
    }

    fn rings(&self, id: &CallId) -> bool {
        self.board.call(id).is_some_and(|call| call.state() == CallState::Ringing)
    }

    /// Forgets what was kept for calls that are over.
    pub(in crate::engine) fn tidy_lines(&mut self) {
        let live: Vec<CallId> = self.board.live().map(|call| call.id).collect();
        let talks = &self.lines.talks;
        self.lines.answers.retain(|id, _| live.contains(id) || talks.contains_key(id));
        self.lines.published.retain(|_, (id, _)| live.contains(id));
        self.lines.saved.retain(|id, _| live.contains(id) || talks.contains_key(id));
    }

    /// Begins a handshake for whatever has none and needs one.
    pub(in crate::engine) fn renew_lines(&mut self, now: Millis) -> Result<(), store::Error> {
        if !std::mem::take(&mut self.lines.renew) {
            return Ok(());
        }
        let calls: Vec<CallId> =
            self.board.live().filter(|call| call.shared().is_some()).map(|call| call.id).collect();
        for id in calls {
            let has_session = self.lines.talks.get(&id).is_some_and(|talk| talk.session.is_some());
            if !has_session {
                self.board.renew(&id, now);
            }
        }
        self.settle(now)?;
        self.post_unposted(now)
    }
}

fn rumor(signal: &Signal, now: Millis) -> Rumor {
    Rumor { kind: signal::KIND, created_at: now.as_secs(), tags: Vec::new(), content: signal.to_json() }
}
