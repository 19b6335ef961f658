//! What relays say. Events are verified by `transport`; whether they mean anything is decided here.

use super::clock::fresh;
use super::core::{Core, Topic};
use super::effects::Effect;
use super::outputs::event;
use crate::api::RelayNote;
use crate::mutants::{Mutant, planted};
use crate::proto::call::Handled;
use crate::proto::legacy::{Body, Payload};
use crate::proto::presence::{Content, Entry};
use crate::proto::{CallId, EventId, EventKind, Hex, MessageState, Millis, Protocol, PublicKey, Tier};
use crate::store::{self, NewEvent};
use crate::transport::{Class, Inbound, Outcome, Published, RelayId};

/// Longest note of a relay kept, characters.
const NOTE_LIMIT: usize = 300;

/// The bits of proof of work that a refusal asks for (NIP-13): `pow: 20 bits needed`, `pow: difficulty 18 is less than 20`.
fn asked_work(reason: &str) -> Option<u8> {
    let words = reason.strip_prefix("pow:")?;
    words.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).max()
}

impl Core {
    pub(super) fn handle_inbound(&mut self, inbound: Inbound, now: Millis) -> Result<(), store::Error> {
        match inbound {
            Inbound::Presence { id, from, created_at, agent_id, content, .. } => {
                self.handle_presence(id, from, created_at, &agent_id, &content, now)
            }
            Inbound::Retracted { from, created_at, .. } => {
                self.directory.retract(&from, Millis::from_secs(created_at));
                Ok(())
            }
            Inbound::Direct { id, from, created_at, payload, .. } => {
                self.handle_direct(&id, &from, created_at, &payload, now)
            }
            Inbound::Synced { relay, class, since_request } => {
                match class {
                    Class::Session => {
                        self.pool.nudge(&relay);
                        self.handle_session_link(&relay);
                    }
                    Class::Wrap => self.handle_wraps_told(),
                    Class::Presence | Class::Direct => {}
                }
                // What was stored for a key from before is read from the same place on.
                let moves = class == Class::Direct || class == Class::Wrap && self.earlier.is_none();
                if moves {
                    self.store.set_cursor(relay.as_str(), class.name(), since_request)?;
                    self.effects.push(Effect::Cursor(relay, class, since_request));
                }
                self.stir(Topic::Relays);
                Ok(())
            }
            Inbound::Refreshed { token, .. } => {
                if self.outlook.handle_answer(token) {
                    self.stir(Topic::Relays);
                }
                Ok(())
            }
            Inbound::Wrap { wrap, .. } => {
                self.handle_wrap(wrap);
                Ok(())
            }
            Inbound::Frame { event, .. } => self.handle_frame(&event, now),
            Inbound::Ephemeral { wrap, .. } => self.handle_ephemeral(&wrap, now),
            Inbound::Whereabouts { token, key, found, asked, .. } => {
                self.handle_whereabouts(token, &key, found, asked);
                Ok(())
            }
            Inbound::Published(published) => self.handle_published(published, now),
            Inbound::Gap { relay, class, second } => {
                let detail = format!("more {class} events at second {second} than the relay serves");
                self.note(EventKind::Gap, &relay, detail, now)
            }
            Inbound::Up { relay } => {
                tracing::info!(%relay, "connected");
                self.sessions.nudge(&relay);
                self.note(EventKind::RelayUp, &relay, String::new(), now)
            }
            Inbound::Down { relay, error } => {
                tracing::info!(%relay, error, "not connected");
                self.note(EventKind::RelayDown, &relay, error, now)
            }
        }
    }

    fn note(
        &mut self,
        kind: EventKind,
        relay: &RelayId,
        detail: String,
        now: Millis,
    ) -> Result<(), store::Error> {
        self.stir(Topic::Relays);
        let detail = detail.chars().take(NOTE_LIMIT).collect();
        let note = RelayNote { url: relay.as_str().to_owned(), detail };
        self.tell(NewEvent { detail: serde_json::to_string(&note).ok(), ..event(kind, None, now) })?;
        Ok(())
    }

    fn handle_presence(
        &mut self,
        id: EventId,
        from: PublicKey,
        created_at: u64,
        label: &str,
        content: &str,
        now: Millis,
    ) -> Result<(), store::Error> {
        let mut content = match Content::parse(content) {
            Ok(content) if content.agent_id == label => content,
            Ok(_) => {
                tracing::debug!(%id, "announcement under another label than its own");
                return Ok(());
            }
            Err(error) => {
                tracing::debug!(%id, %error, "announcement not taken");
                return Ok(());
            }
        };
        self.outlook.hear();
        let agent_id = content.agent_id.clone();
        // Of 20,000 agents in the directory these would be 40 MB.
        let rotations =
            content.p2p.as_mut().map(|p2p| std::mem::take(&mut p2p.rotations)).unwrap_or_default();
        let shown = content.p2p.clone().filter(|_| content.protocol() == Protocol::V2);
        let entry = Entry {
            key: from,
            seen: Millis::from_secs(created_at),
            content,
            event: id,
            is_stranger: self.book.tier(&from) == Tier::Stranger,
        };
        if !self.directory.announce(entry, now) {
            return Ok(());
        }
        self.stir(Topic::Relays);
        if let Some(shown) = shown.filter(|_| from != self.me.key) {
            self.note_presence(&from, &shown, now)?;
        }
        if from != self.me.key {
            self.follow_rotations(&from, &rotations, now)?;
        }
        if from != self.me.key {
            self.is_false_claim(&agent_id, &from, now)?;
        }
        Ok(())
    }

    fn handle_direct(
        &mut self,
        id: &EventId,
        from: &PublicKey,
        created_at: u64,
        payload: &str,
        now: Millis,
    ) -> Result<(), store::Error> {
        if !self.store.mark_seen(id, now)? {
            return Ok(());
        }
        self.effects.push(Effect::Seen(*id));
        if self.book.is_blocked(from) {
            tracing::debug!(event = %id, "from a blocked key");
            return Ok(());
        }
        let payload = match Payload::parse(payload) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::debug!(event = %id, %error, "payload not taken");
                return Ok(());
            }
        };
        if let Body::CallRequest { agent_id, .. } = &payload.body
            && self.is_false_claim(agent_id, from, now)?
        {
            tracing::debug!(event = %id, "a ring under a name that is another's");
            return Ok(());
        }
        if !self.board.knows(from, &payload.room)
            && let Some(known) = self.store.call_named(from, &payload.room)?
        {
            self.restore_call(&known)?;
        }
        // A message without an id of its own is named after its event, of which there is only one.
        let mut message = Hex([0; 16]);
        message.0.copy_from_slice(&id.0[..16]);
        let (at, tier) = (Millis::from_secs(created_at), self.book.tier(from));
        if let Handled::Dropped(why) = self.board.handle((from, tier), payload, message, fresh(), at, now) {
            tracing::debug!(event = %id, why, "payload changes nothing");
        }
        self.settle(now)
    }

    /// A relay has answered to an event of ours: the first yes counts, and only the last no.
    fn handle_published(&mut self, published: Published, now: Millis) -> Result<(), store::Error> {
        let Published { relay, id, outcome } = published;
        match outcome {
            Outcome::Accepted => {
                self.handle_offer_taken(&id);
                self.refusals.remove(&id);
                let Some((call, Some(message))) = self.store.dequeue(&id)? else { return Ok(()) };
                let (state, kind) = match planted(Mutant::OkIsDelivered) {
                    true => (MessageState::Delivered, EventKind::MessageDelivered),
                    false => (MessageState::Relayed, EventKind::MessageRelayed),
                };
                self.note_letter(&message, None, now)?;
                if let Some(row) = self.store.advance_message(&message, state, None)? {
                    let call = Some(call).filter(|call| *call != CallId::default());
                    let relayed = event(kind, call, now);
                    self.tell(NewEvent { message: Some(row), ..relayed })?;
                }
                Ok(())
            }
            Outcome::Refused { reason } => {
                tracing::info!(%relay, event = %id, reason, "refused");
                if let Some(bits) = asked_work(&reason)
                    && self.work_for(&id, bits, now)?
                {
                    return Ok(());
                }
                self.handle_offer_refused(&id, &reason, now)?;
                let Some(queued) = self.store.queued(&id)? else { return Ok(()) };
                let asked = queued.relays.map_or(self.pool.relays().count(), |relays| relays.len().max(1));
                let refusals = self.refusals.entry(id).or_default();
                refusals.insert(relay, reason.clone());
                if refusals.len() < asked {
                    return Ok(());
                }
                self.refusals.remove(&id);
                let Some((call, message)) = self.store.dequeue(&id)? else { return Ok(()) };
                self.give_up(&call, message.as_ref(), &format!("every relay refused it: {reason}"), now)?;
                self.settle(now)
            }
            Outcome::Unanswered | Outcome::Dropped => {
                tracing::debug!(%relay, event = %id, ?outcome, "not taken");
                self.republish_soon();
                Ok(())
            }
            Outcome::Superseded => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::asked_work;

    #[test]
    fn the_work_that_a_relay_asks_for_is_read_out_of_its_words() {
        for (words, bits) in [
            ("pow: 20 bits needed", Some(20)),
            ("pow: difficulty 18 is less than 20", Some(20)),
            ("pow:", None),
            ("pow: 99999999999999999999", None),
            ("blocked: pow 20", None),
        ] {
            assert_eq!(asked_work(words), bits, "{words}");
        }
    }
}
