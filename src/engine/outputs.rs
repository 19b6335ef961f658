//! What the machines want, done: persisted in the batch's transaction, let out after its commit.

use std::time::Duration;

use super::core::{Core, Topic};
use super::effects::Effect;
use super::files;
use super::metrics::Count;
use crate::api::{Error, ErrorKind};
use crate::proto::call::{Call, Content, Entry, Output, WINDOW};
use crate::proto::legacy::Payload;
use crate::proto::v2::signal::REMEMBERED;
use crate::proto::{
    CallId, CallState, Direction, EventKind, MessageId, MessageKind, MessageState, Millis, PublicKey, Sender,
    presence,
};
use crate::store::{self, NewEvent, NewMessage, Outgoing};
use crate::transport::{SealError, Signed, legacy};

/// Most events of ours that share a second of `created_at`: a relay serves what is stored in pages by time, and a
/// second that holds more than a page cannot be read whole.
const PER_SECOND: usize = 100;
/// How far `created_at` may run ahead of the clock in a burst, seconds: relays take up to 900.
const AHEAD_LIMIT: u64 = 300;
/// Further ahead than the limit by so much, seconds, is no burst: a few events are signed without asking for the limit.
const SET_BACK: u64 = 60;
/// How long events and the ids of handled events are kept: longer than any relay keeps a message that would come
/// again.
const EVENTS_KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long a message waits for a relay before it has failed.
const UNDELIVERED_KEPT: Duration = Duration::from_secs(24 * 3_600);

impl Core {
    /// Drains the switchboard.
    pub(super) fn settle(&mut self, now: Millis) -> Result<(), store::Error> {
        while let Some(output) = self.board.poll_output() {
            self.stir(Topic::Journal);
            match output {
                Output::Save(id) => {
                    if let Some(call) = self.board.call(&id) {
                        self.queue_grew |= call.queued;
                        self.store.save_call(call)?;
                        if let Some(line) = self.board.line(&id)
                            && self.lines.is_new(&id, line)
                        {
                            self.store.save_line(call, line)?;
                            let told =
                                line.offer.as_ref().and_then(|standing| standing.offer.traceparent.clone());
                            if let Some(trace) = told.filter(|_| call.direction == Direction::In) {
                                self.store.trace_call(&id, &trace)?;
                            }
                        }
                    }
                }
                Output::Number(id) => {
                    if let Some(call) = self.board.call(&id) {
                        self.store.number_call(&id, call.next_out, call.next_in)?;
                    }
                }
                Output::Store { call, entry, surfaced } => {
                    if let Some(peer) = self.board.call(&call).map(|call| call.peer) {
                        self.keep(Some(&call), &peer, entry, surfaced, now)?;
                    }
                }
                Output::Surface { call, message } => {
                    if let Some((row, kind)) = self.store.surface_message(&call, &message)? {
                        self.tell_received(Some(&call), row, (kind, MessageState::Received), now)?;
                    }
                }
                Output::Signal { call, signal } => self.signal(&call, signal, now)?,
                Output::Alias { call, room } => {
                    if let Some(peer) = self.board.call(&call).map(|call| call.peer) {
                        self.store.add_alias(&peer, &room, &call)?;
                    }
                }
                Output::Discard { call, message } => self.store.discard_held(&call, &message)?,
                Output::Transmit { call, to, payload } => self.transmit(&call, &to, &payload, now)?,
                Output::Event { call, kind: EventKind::CallRinging, .. } if self.takes_unasked(&call) => {
                    self.board.accept_unasked(&call, now);
                }
                Output::Event { call, kind, own } => {
                    if kind == EventKind::CallConnected {
                        self.pin(&call, now)?;
                    }
                    self.tell(NewEvent { own, ..event(kind, Some(call), now) })?;
                    if !own && self.board.call(&call).is_some_and(|call| call.state() == CallState::Ended) {
                        self.drop_offer(&call);
                        self.cut_talk(&call, now)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the user wants for whom.
    pub(super) fn apply_policies(&mut self) {
        self.board.door().set_policy(self.settings.strangers);
    }

    /// Whether the user takes calls of this caller without being asked.
    fn takes_unasked(&self, call: &CallId) -> bool {
        let from = self.settings.auto_accept;
        let tier = self.board.call(call).map(|call| self.book.tier(&call.peer));
        from.is_some_and(|from| tier.is_some_and(|tier| tier >= from))
    }

    /// A peer has said something: on the disk, whether it is shown now or held back. Returns whether it is new.
    pub(super) fn keep(
        &mut self,
        call: Option<&CallId>,
        peer: &PublicKey,
        entry: Entry,
        surfaced: bool,
        now: Millis,
    ) -> Result<bool, store::Error> {
        let kind = entry.content.kind();
        let mut state = MessageState::Received;
        let (text, file) = match entry.content {
            Content::Text(text) | Content::Escalation(text) | Content::OwnerSaid(text) => (text, None),
            Content::Parcel(parcel) => {
                self.take_parcel(call, peer, (entry.id, entry.seq, entry.at), *parcel, now)?;
                return Ok(false);
            }
            Content::Kept { name, file } => (name, Some(file)),
            Content::File { name, mime, bytes } => {
                match files::receive(&self.home, call, &name, &mime, &bytes) {
                    Ok(file) => (file.name.clone(), serde_json::to_string(&file).ok()),
                    Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                        tracing::debug!(?call, %error, "a file of a peer is not base64");
                        state = MessageState::Failed;
                        (crate::proto::safe_file_name(&name), None)
                    }
                    Err(error) => {
                        tracing::warn!(?call, %error, "a file of a peer cannot be written");
                        return Err(store::Error::of_disk(&self.home.files(), error));
                    }
                }
            }
        };
        let message = NewMessage {
            message: entry.id,
            call: call.copied(),
            peer: *peer,
            sender: Sender::Peer,
            kind,
            text,
            file,
            at: entry.at,
            state,
            seq: entry.seq,
        };
        if !surfaced {
            return self.store.hold_message(&message);
        }
        let added = self.store.add_message(&message)?;
        if let Some(row) = added {
            self.tell_received(call, row, (kind, state), now)?;
        }
        Ok(added.is_some())
    }

    fn tell_received(
        &mut self,
        call: Option<&CallId>,
        row: u64,
        what: (MessageKind, MessageState),
        now: Millis,
    ) -> Result<(), store::Error> {
        let kind = match what {
            (MessageKind::File, MessageState::Failed) => EventKind::FileFailed,
            (MessageKind::File, _) => EventKind::FileReceived,
            (MessageKind::Escalation, _) => EventKind::EscalationReceived,
            _ => EventKind::MessageReceived,
        };
        let dialect = call.and_then(|call| self.board.call(call)).map(|call| call.protocol);
        self.effects.push(Effect::Count(Count::Message { out: false, dialect }));
        self.tell(NewEvent { message: Some(row), ..event(kind, call.copied(), now) })?;
        Ok(())
    }

    /// Signs a payload once; from here on the event is only repeated, byte for byte.
    fn transmit(
        &mut self,
        call: &CallId,
        to: &PublicKey,
        payload: &Payload,
        now: Millis,
    ) -> Result<(), store::Error> {
        let created_at = self.next_second(now);
        match legacy::seal(&self.identity, to, &payload.to_json(), created_at) {
            Ok(signed) => {
                self.store.enqueue(&Outgoing {
                    event: signed.id,
                    kind: signed.kind,
                    created_at,
                    json: signed.json.clone(),
                    call: *call,
                    message: payload.id,
                    at: now,
                    relays: None,
                })?;
                self.effects.push(Effect::Publish(signed));
                Ok(())
            }
            Err(error) => self.give_up(call, payload.id.as_ref(), &unsealed(&error), now),
        }
    }

    /// Something of ours will not arrive.
    pub(super) fn give_up(
        &mut self,
        call: &CallId,
        message: Option<&MessageId>,
        why: &str,
        now: Millis,
    ) -> Result<(), store::Error> {
        tracing::warn!(%call, why, "not delivered");
        let Some(message) = message else {
            self.board.handle_undeliverable(call, why.to_owned(), now);
            return Ok(());
        };
        self.note_letter(message, Some(why), now)?;
        if let Some(row) = self.store.advance_message(message, MessageState::Failed, Some(why))? {
            let call = Some(*call).filter(|call| *call != CallId::default());
            let failed = event(EventKind::MessageFailed, call, now);
            self.tell(NewEvent { message: Some(row), ..failed })?;
        }
        Ok(())
    }

    /// The second that the next event is signed with: now, or a little ahead in a burst.
    pub(super) fn next_second(&mut self, now: Millis) -> u64 {
        self.last_second = second_after(self.last_second, now.as_secs());
        self.last_second.0
    }

    /// Refuses to run ahead of the clock further than relays would follow.
    pub(super) fn check_pace(&self, now: Millis) -> Result<(), Error> {
        if ahead(self.last_second.0, now.as_secs()) < AHEAD_LIMIT {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooFast,
            format!("{} messages a second is what the legacy dialect carries", PER_SECOND),
            "wait a minute, then go on; nothing of this message was sent",
        ))
    }

    /// A call is connected: its key is known from now on, and has the agent id that it claims, unless another has.
    fn pin(&mut self, id: &CallId, now: Millis) -> Result<(), store::Error> {
        let Some(call) = self.board.call(id) else { return Ok(()) };
        let (peer, agent_id) = (call.peer, call.agent_id.clone());
        let mut contact = self.book.entry(&peer);
        contact.known = true;
        if contact.agent_id.is_none()
            && presence::is_agent_id(&agent_id)
            && self.book.pinned(&agent_id).is_none()
            && agent_id != self.me.agent_id
        {
            contact.agent_id = Some(agent_id);
        }
        self.book.save(&mut self.store, contact)?;
        self.let_mail_in(&peer, now)
    }

    /// Memory is made equal to the database: at the start, and after a batch that was not committed.
    pub(super) fn restore(&mut self) -> Result<(), store::Error> {
        self.board.clear();
        self.lines.forget_saved();
        let mut ids: Vec<CallId> = self.store.live_calls()?.iter().map(|stored| stored.call.id).collect();
        ids.extend(self.store.calls_with_held()?);
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            self.restore_call(&id)?;
        }
        self.book = super::book::Book::load(&self.store)?;
        self.restore_door()?;
        self.lines.parcels.look_again();
        self.restore_talks()?;
        self.restore_owner()
    }

    /// Brings a call back onto the switchboard.
    pub(super) fn restore_call(&mut self, id: &CallId) -> Result<Option<Call>, store::Error> {
        if let Some(call) = self.board.call(id) {
            return Ok(Some(call.clone()));
        }
        let Some(stored) = self.store.call(id)? else { return Ok(None) };
        self.board.restore(stored.call.clone(), self.store.held_in(id)?);
        if let Some(line) = self.store.line(id)? {
            self.board.restore_line(id, line, self.store.aliases(id)?);
        }
        Ok(Some(stored.call))
    }

    /// Publishes again what no relay has taken yet.
    pub(super) fn republish(&mut self) -> Result<(), store::Error> {
        self.republish_at = None;
        for out in self.store.outbox()? {
            let signed = Signed { id: out.event, kind: out.kind, created_at: out.created_at, json: out.json };
            self.effects.push(match out.relays {
                Some(relays) => Effect::PublishTo(signed, relays),
                None => Effect::Publish(signed),
            });
        }
        Ok(())
    }

    /// Clears away what is too old to matter.
    pub(super) fn clear_away(&mut self, now: Millis) -> Result<(), store::Error> {
        self.store.prune_events(now - EVENTS_KEPT)?;
        self.store.forget_seen(now - EVENTS_KEPT)?;
        self.store.forget_signals(now - REMEMBERED)?;
        self.store.forget_knocks(now - WINDOW)?;
        self.clear_away_letters(now)?;
        self.book.forget_stale_claims(&mut self.store)?;
        self.store.prune_peers()?;
        self.directory.expire(now);
        self.tidy_lines();
        self.sweep_files()?;
        self.forget_parcel_secrets()?;
        let too_old = now - UNDELIVERED_KEPT;
        for out in self.store.outbox()?.into_iter().filter(|out| out.at < too_old) {
            self.store.dequeue(&out.event)?;
            self.refusals.remove(&out.event);
            self.give_up(&out.call, out.message.as_ref(), "no relay took it within a day", now)?;
        }
        self.settle(now)
    }
}

/// How many seconds a burst is ahead of the clock. A clock that was set back is another matter: nobody waits for the time
/// that it has left.
fn ahead(second: u64, now: u64) -> u64 {
    let ahead = second.saturating_sub(now);
    if ahead > AHEAD_LIMIT + SET_BACK { 0 } else { ahead }
}

/// The second of the next event, and how many bear it then.
fn second_after((second, used): (u64, usize), now: u64) -> (u64, usize) {
    if now > second || (now < second && ahead(second, now) == 0) {
        (now, 1)
    } else if used < PER_SECOND {
        (second, used + 1)
    } else {
        (second + 1, 1)
    }
}

/// An event with nothing but its call.
pub(super) fn event(kind: EventKind, call: Option<CallId>, at: Millis) -> NewEvent {
    NewEvent { kind, at, call, message: None, ticket: None, detail: None, own: false }
}

fn unsealed(error: &SealError) -> String {
    format!("it could not be sealed: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn at_most_a_hundred_events_bear_a_second_and_a_burst_runs_ahead() {
        let mut last = (0, 0);
        let seconds: Vec<u64> = (0..250)
            .map(|_| {
                last = second_after(last, NOW);
                last.0
            })
            .collect();
        for (second, count) in [(NOW, 100), (NOW + 1, 100), (NOW + 2, 50)] {
            assert_eq!(seconds.iter().filter(|at| **at == second).count(), count);
        }
        assert_eq!(ahead(last.0, NOW), 2);
        assert_eq!(second_after(last, NOW + 3), (NOW + 3, 1));
    }

    #[test]
    fn a_clock_that_was_set_back_by_a_day_holds_nothing_up() {
        assert_eq!(ahead(NOW + 86_400, NOW), 0);
        assert_eq!(second_after((NOW + 86_400, 7), NOW), (NOW, 1));
        assert_eq!(ahead(NOW + AHEAD_LIMIT, NOW), AHEAD_LIMIT, "the end of a burst");
    }
}
