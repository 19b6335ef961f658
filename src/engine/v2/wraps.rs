//! Gift wraps: what comes in waits to be opened, within a budget; what goes out is sealed and published.
//!
//! Who sent a wrap is known only after the work of opening it is done. So a stranger's wraps share a budget, and a wrap
//! of somebody who is known gives its share back. What waits here is not marked as seen: a crash, or a queue that is
//! full, means that the relay hands it out again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{About, Letter, Mined};
use crate::engine::clock;
use crate::engine::core::Core;
use crate::engine::effects::Effect;
use crate::mutants::{Mutant, planted};
use crate::proto::call::Queue;
use crate::proto::v2::signal;
use crate::proto::{CallId, EventId, Millis, PublicKey, Tier};
use crate::store::{self, Outgoing};
use crate::transport::v2::{
    DecryptBudget, MOST_WORK, Opened, Rumor, Sealed, Wrap, WrapKind, WrapOptions, mail, seal_wrap,
};
use crate::transport::{Class, RelayId, SealError, Signed};

/// Most wraps that wait to be opened: twice the mail of a long absence.
const BACKLOG: usize = 4_096;
/// Most bytes of them.
const BACKLOG_BYTES: usize = 16 << 20;
/// So many that wait are a flood: what the budget opens in two seconds, in which a contact's call is to connect.
const CROWDED: usize = 400;
/// What strangers are asked for then: 65,536 hashes, a tenth of a second of one core.
const WORK_UNDER_FLOOD: u8 = 16;
/// For how long after a flood.
const FLOOD_REMEMBERED: Duration = Duration::from_secs(600);

/// Wraps that wait, and mail that waits to be put in order.
#[derive(Default)]
pub(super) struct Backlog {
    /// Those that prove the work that we ask for, opened first, and the others.
    worked: VecDeque<Wrap>,
    wraps: VecDeque<Wrap>,
    /// Bits of work that our presence asks for.
    asked: u8,
    /// When it was crowded last.
    crowded_at: Option<Instant>,
    bytes: usize,
    budget: DecryptBudget,
    /// Opened mail: shown in order once there is nothing left to open.
    pub(super) mail: Vec<Opened>,
    /// Some had to be left out: asked for again once the rest is done.
    overflowed: bool,
    /// A relay has told all that it had stored. Until then, mail that comes is a part of what waited, in no order.
    told: bool,
}

impl Backlog {
    fn len(&self) -> usize {
        self.worked.len() + self.wraps.len()
    }
}

impl Core {
    /// A wrap to the identity.
    pub(in crate::engine) fn handle_wrap(&mut self, wrap: Wrap) {
        let told = self.has_been_told();
        let backlog = &mut self.lines.backlog;
        // What is checked before anything is opened: it costs us nothing, and a flood a tenth of a second each.
        let is_worked = backlog.asked > 0 && wrap.work >= backlog.asked;
        while backlog.len() >= BACKLOG || backlog.bytes + wrap.size() > BACKLOG_BYTES {
            backlog.overflowed = true;
            // Who has done the work takes the place of somebody who has not.
            let gone = if is_worked { backlog.wraps.pop_back() } else { None };
            let Some(gone) = gone else {
                tracing::debug!(event = %wrap.id, "more wraps than can wait; this one is asked for again later");
                return;
            };
            tracing::debug!(event = %gone.id, "a wrap without work makes room; it is asked for again later");
            backlog.bytes -= gone.size();
        }
        backlog.bytes += wrap.size();
        match is_worked {
            true => backlog.worked.push_back(wrap),
            false => backlog.wraps.push_back(wrap),
        }
        // What waited during an absence is no flood.
        if told && backlog.len() >= CROWDED {
            self.ask_for_work();
        }
    }

    fn ask_for_work(&mut self) {
        let backlog = &mut self.lines.backlog;
        backlog.crowded_at = Some(Instant::now());
        if std::mem::replace(&mut backlog.asked, WORK_UNDER_FLOOD) == 0 {
            tracing::warn!("a flood of wraps; strangers are asked for proof of work");
            self.announcer.soon();
        }
    }

    /// Bits of proof of work that our presence asks for: none, but under a flood and for a while after it.
    pub(in crate::engine) fn asked_work(&mut self) -> u8 {
        let backlog = &mut self.lines.backlog;
        if backlog.crowded_at.is_some_and(|at| at.elapsed() >= FLOOD_REMEMBERED) {
            backlog.crowded_at = None;
            backlog.asked = 0;
        }
        backlog.asked
    }

    fn has_been_told(&self) -> bool {
        self.lines.backlog.told && self.earlier_has_told()
    }

    /// Nothing waits to be opened.
    pub(in crate::engine) fn no_wraps_wait(&self) -> bool {
        self.lines.backlog.len() == 0
    }

    /// All that a relay had stored has come.
    pub(in crate::engine) fn handle_wraps_told(&mut self) {
        self.lines.backlog.told = true;
    }

    /// When the next wrap can be opened, if one waits.
    pub(in crate::engine) fn next_wrap_at(&mut self, now: Millis) -> Option<Millis> {
        let backlog = &mut self.lines.backlog;
        (backlog.len() > 0).then(|| backlog.budget.ready_at(now))
    }

    /// Opens what the budget allows. At the end comes the mail, in the order in which it was written.
    pub(in crate::engine) fn open_wraps(&mut self, now: Millis) -> Result<(), store::Error> {
        loop {
            let backlog = &mut self.lines.backlog;
            if backlog.len() == 0 || !backlog.budget.take(now) {
                break;
            }
            let Some(wrap) = backlog.worked.pop_front().or_else(|| backlog.wraps.pop_front()) else { break };
            backlog.bytes -= wrap.size();
            let Some(opened) = self.open_wrap(&wrap, now)? else {
                self.mark_handled(&wrap.id, now)?;
                continue;
            };
            if self.is_known(&opened.from)? {
                self.lines.backlog.budget.give_back();
            }
            self.handle_opened(opened, now)?;
        }
        let backlog = &mut self.lines.backlog;
        if backlog.len() == 0 {
            if std::mem::take(&mut backlog.overflowed) {
                self.pool.refresh(Class::Wrap);
            }
            if self.has_been_told() {
                self.handle_waiting_mail(now)?;
            }
        }
        Ok(())
    }

    /// Opens a wrap, unless what is in it is not to be believed, or is a stranger's at a time when it would not be looked at.
    fn open_wrap(&mut self, wrap: &Wrap, now: Millis) -> Result<Option<Opened>, store::Error> {
        let opened = match Sealed::from_wrap(self.receiver(&wrap.receiver), wrap, 0) {
            Ok(sealed) => {
                // What it is stands inside. But signals expire, and mail does not.
                let queue = if wrap.expires { Queue::Calls } else { Queue::Mail };
                if wrap.work < WORK_UNDER_FLOOD && self.is_shut_out(&sealed.claimed(), queue, now)? {
                    tracing::debug!(event = %wrap.id, "a stranger's, while too many come");
                    self.ask_for_work();
                    return Ok(None);
                }
                sealed.open(self.receiver(&wrap.receiver))
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok(opened) if opened.rumor.kind == signal::KIND && !wrap.expires => {
                // Or a flood of rings would be taken for one of mail, where there is room.
                tracing::debug!(event = %wrap.id, "a signal in a wrap that does not expire");
                if !self.is_known(&opened.from)? {
                    self.board.door().pushed_out(Queue::Mail, now);
                }
                Ok(None)
            }
            Ok(opened) => Ok(Some(opened)),
            Err(error) => {
                tracing::debug!(event = %wrap.id, %error, "a wrap was not taken");
                Ok(None)
            }
        }
    }

    pub(in crate::engine) fn is_known(&self, key: &PublicKey) -> Result<bool, store::Error> {
        let with_them = |call: &crate::proto::call::Call| call.peer == *key;
        Ok(self.book.tier(key) != Tier::Stranger
            || self.owner.is_owner(key)
            || self.board.live().any(with_them))
    }

    fn handle_opened(&mut self, opened: Opened, now: Millis) -> Result<(), store::Error> {
        let is_mail = matches!(opened.rumor.kind, mail::TEXT | mail::FILE);
        // The owner is who the settings name, whatever became of the key as a peer.
        let is_blocked =
            self.book.is_blocked(&opened.from) && !(is_mail && self.owner.is_owner(&opened.from));
        if is_blocked || opened.from == self.me.key {
            tracing::debug!(event = %opened.wrap, "of a blocked key, or our own");
        } else if is_mail {
            // Marked as handled when it is shown.
            self.lines.backlog.mail.push(opened);
            return Ok(());
        } else if opened.rumor.kind == signal::KIND && opened.rumor.tags.is_empty() {
            if self.mark_handled(&opened.wrap, now)? {
                self.handle_signal(&opened, now)?;
            }
            return Ok(());
        } else {
            tracing::debug!(event = %opened.wrap, kind = opened.rumor.kind, "nothing for an agent");
        }
        self.mark_handled(&opened.wrap, now)?;
        Ok(())
    }

    pub(super) fn mark_handled(&mut self, event: &EventId, now: Millis) -> Result<bool, store::Error> {
        self.effects.push(Effect::Seen(*event));
        self.store.mark_seen(event, now)
    }

    /// A wrap to a session key: the answer to an offer of ours.
    pub(in crate::engine) fn handle_ephemeral(
        &mut self,
        wrap: &Wrap,
        now: Millis,
    ) -> Result<(), store::Error> {
        let Some(call) = self.lines.keys.get(&wrap.receiver).copied() else { return Ok(()) };
        let Some(pending) = self.lines.offers.get(&call) else { return Ok(()) };
        // The key is in the relays' REQ: who floods it delays only what is sent again anyway.
        if !self.lines.answer_budget.take(now) {
            tracing::debug!(event = %wrap.id, "more answers than are opened");
            return Ok(());
        }
        match pending.initiator.key().open_wrap(wrap) {
            Ok(opened)
                if self.board.call(&call).is_some_and(|call| call.peer == opened.from)
                    || planted(Mutant::AnyAcceptance) =>
            {
                self.lines.answer_budget.give_back();
                let is_signal = opened.rumor.kind == signal::KIND && opened.rumor.tags.is_empty();
                if is_signal { self.handle_signal(&opened, now) } else { Ok(()) }
            }
            Ok(_) => {
                tracing::debug!(event = %wrap.id, "an answer of somebody who was not asked");
                Ok(())
            }
            Err(error) => {
                tracing::debug!(event = %wrap.id, %error, "a wrap to a session key was not taken");
                Ok(())
            }
        }
    }

    // ---- out ----

    /// A letter to somebody's inbox.
    pub(super) fn letter(&self, to: &PublicKey, rumor: Rumor, about: About) -> Result<Letter, store::Error> {
        let inbox = self.inbox_of(to)?;
        let dated = matches!(about, About::Offer(_)) || rumor.kind == signal::KIND;
        Ok(Letter { to: *to, rumor, relays: inbox.relays, work: inbox.work.min(MOST_WORK), dated, about })
    }

    /// Posts a letter that is kept until a relay has it.
    pub(super) fn post(&mut self, letter: Letter, now: Millis) -> Result<(), store::Error> {
        if letter.work > 0 {
            self.effects.push(Effect::Post(letter));
            return Ok(());
        }
        let sealed = self.seal(&letter, now).map_err(|error| error.to_string());
        self.handle_sealed(&letter, sealed, now)
    }

    fn seal(&self, letter: &Letter, now: Millis) -> Result<Signed, SealError> {
        seal_wrap(self.identity_in(&letter.call()), &letter.to, &letter.rumor, &options(letter, now))
    }

    /// Work takes a while, and whoever knows us opens what we send without it: whom we know need not wait. What becomes of
    /// this wrap is nothing to us; the one with the work follows.
    pub(super) fn send_without_work(&mut self, letter: &Letter, now: Millis) {
        if letter.work == 0 || self.book.tier(&letter.to) == Tier::Stranger {
            return;
        }
        let plain = Letter { work: 0, ..letter.clone() };
        if let Ok(signed) = self.seal(&plain, now) {
            self.effects.push(Effect::PublishTo(signed, plain.relays));
        }
    }

    fn handle_sealed(
        &mut self,
        letter: &Letter,
        sealed: Result<Signed, String>,
        now: Millis,
    ) -> Result<(), store::Error> {
        let About::Kept { call, message } = letter.about else { return Ok(()) };
        match sealed {
            Ok(signed) => {
                self.store.enqueue(&Outgoing {
                    event: signed.id,
                    kind: signed.kind,
                    created_at: signed.created_at,
                    json: signed.json.clone(),
                    call,
                    message,
                    at: now,
                    relays: Some(letter.relays.clone()),
                })?;
                self.effects.push(Effect::PublishTo(signed, letter.relays.clone()));
                Ok(())
            }
            Err(why) => self.give_up(&call, message.as_ref(), &format!("it could not be sealed: {why}"), now),
        }
    }

    /// A relay asks for proof of work before it takes a wrap of ours: the letter is wrapped anew, with that work. `false`
    /// if there is none to be wrapped anew, or the relay asks for more than is mined.
    pub(in crate::engine) fn work_for(
        &mut self,
        event: &EventId,
        bits: u8,
        now: Millis,
    ) -> Result<bool, store::Error> {
        if bits > MOST_WORK {
            return Ok(false);
        }
        if let Some(letter) = self.offer_with_work(event, bits) {
            self.effects.push(Effect::Post(letter));
            return Ok(true);
        }
        let Some(queued) = self.store.queued(event)?.filter(|queued| queued.relays.is_some()) else {
            return Ok(false);
        };
        let Some(stored) = queued.message.map(|id| self.store.my_message(&id)).transpose()?.flatten() else {
            return Ok(false);
        };
        let Some(mut letter) = self.letter_of(&stored.message, now)?.filter(|letter| letter.work < bits)
        else {
            return Ok(false);
        };
        letter.work = bits;
        self.store.dequeue(event)?;
        self.refusals.remove(event);
        self.post(letter, now)?;
        Ok(true)
    }

    /// A letter comes back from its mine.
    pub(in crate::engine) fn handle_mined(&mut self, mined: Mined, now: Millis) -> Result<(), store::Error> {
        let Mined { letter, sealed } = mined;
        match (letter.about, sealed) {
            (About::Offer(call), Ok(signed)) => {
                // Whoever took the ring back meanwhile wants it no more.
                if self.lines.offers.contains_key(&call) {
                    self.effects.push(Effect::PublishOffer(call, signed, letter.relays));
                }
                Ok(())
            }
            (About::Offer(call), Err(why)) => {
                self.board.handle_undeliverable(&call, why, now);
                self.settle(now)
            }
            (About::Kept { .. }, sealed) => self.handle_sealed(&letter, sealed, now),
        }
    }

    /// Seals and publishes a letter whose moment has come; where work is asked, elsewhere.
    pub(in crate::engine) fn let_letter_out(&mut self, letter: Letter) {
        let now = self.wall();
        if letter.work == 0 {
            match (self.seal(&letter, now), letter.about) {
                (Ok(signed), About::Offer(call)) => self.publish_offer(call, signed, &letter.relays),
                (Ok(signed), About::Kept { .. }) => self.publish_to(signed, &letter.relays),
                (Err(error), _) => tracing::warn!(%error, "a wrap cannot be sealed"),
            }
            return;
        }
        let (identity, mined) = (self.identity_in(&letter.call()).clone(), self.lines.mined.clone());
        tokio::spawn(async move {
            let job = letter.clone();
            let options = options(&letter, now);
            let sealing =
                tokio::task::spawn_blocking(move || seal_wrap(&identity, &job.to, &job.rumor, &options));
            let sealed = match sealing.await {
                Ok(sealed) => sealed.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // An error means that the engine is gone.
            _ = mined.send(Mined { letter, sealed }).await;
        });
    }

    pub(in crate::engine) fn publish_offer(&mut self, call: CallId, signed: Signed, relays: &[String]) {
        let linked = self.inbox_links(relays);
        self.lines.published.retain(|_, (of, _)| *of != call);
        self.lines.published.insert(signed.id, (call, linked.len()));
        self.note_published(&call);
        // What comes to its end at once is sent again by the switchboard's timer.
        let _ = self.sessions.publish(signed, &linked);
    }

    /// Publishes an event of the outbox on somebody's inbox relays.
    pub(in crate::engine) fn publish_to(&mut self, signed: Signed, relays: &[String]) {
        let linked = self.inbox_links(relays);
        if !self.sessions.publish(signed, &linked).is_empty() {
            self.republish_soon();
        }
    }

    /// The links to somebody's inbox relays; to ours, where theirs may not be dialled.
    fn inbox_links(&self, relays: &[String]) -> Vec<RelayId> {
        let linked = self.sessions.ensure(relays);
        if linked.is_empty() { self.sessions.ranked() } else { linked }
    }

    /// Answers an offer: sealed to its session key, on each of its relays.
    pub(in crate::engine) fn send_answer(
        &mut self,
        call: &CallId,
        to: &PublicKey,
        rumor: &Rumor,
        relays: &[String],
    ) {
        let options = WrapOptions::at(WrapKind::Ephemeral, self.wall().as_secs());
        match seal_wrap(self.identity_in(call), to, rumor, &options) {
            Ok(signed) => {
                for relay in self.sessions.ensure(relays) {
                    self.sessions.send(signed.clone(), std::slice::from_ref(&relay));
                }
            }
            Err(error) => tracing::warn!(%error, "an answer cannot be sealed"),
        }
    }

    /// When wraps and mail are to be looked at again.
    pub(in crate::engine) fn wraps_wake(&mut self, now: Millis) -> Option<Instant> {
        self.next_wrap_at(now).map(|at| Instant::now() + at.since(now))
    }
}

/// How a letter is dated: mail is set back by the dice, signals are of now.
fn options(letter: &Letter, now: Millis) -> WrapOptions {
    let now = now.as_secs();
    let options = match letter.dated {
        true => WrapOptions::at(WrapKind::Stored, now),
        false => WrapOptions::fuzzed(now, clock::below(WrapOptions::FUZZ), clock::below(WrapOptions::FUZZ)),
    };
    WrapOptions { work: letter.work, ..options }
}
