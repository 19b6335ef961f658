//! Rows and machines as front ends see them.

use super::core::Core;
use crate::api::{self, Event, KeyChanged, RelayNote, Time};
use crate::proto::call;
use crate::proto::v2::body::answer_to;
use crate::proto::{
    CallId, Direction, EventKind, MessageKind, MessageState, Millis, Protocol, PublicKey, Sender,
    TicketState, fingerprint,
};
use crate::store::{self, JournalEntry, NewMessage, StoredCall, StoredContact, StoredMessage, StoredTicket};
use crate::transport::npub;

/// Without a limit, as far as SQLite counts.
const ALL: usize = i64::MAX as usize;

/// Why a file of ours does not move.
const WAITS: &str = "the peer is away; it is sent when it is back in the call";

impl Core {
    /// Who a key is to this home. `agent_id` and `name` are what it claims.
    pub(super) fn peer(&self, key: &PublicKey, agent_id: &str, name: &str) -> api::Peer {
        let contact = self.book.get(key);
        let pinned = contact.and_then(|contact| contact.agent_id.clone());
        let named = contact.and_then(|contact| contact.name.clone());
        let id = pinned.unwrap_or_else(|| agent_id.to_owned());
        let claimed = if name.is_empty() { id.clone() } else { name.to_owned() };
        api::Peer {
            name: named.unwrap_or(claimed),
            id,
            pubkey: *key,
            npub: npub(key),
            tier: self.book.tier(key),
            looks_like: self.book.looks_like(key, agent_id).or_else(|| self.book.looks_like(key, name)),
        }
    }

    pub(super) fn call_view(&self, stored: &StoredCall) -> api::Call {
        let call = &stored.call;
        let ended = call.ended.as_ref();
        api::Call {
            call: call.id,
            state: call.state(),
            direction: call.direction,
            peer: self.peer(&call.peer, &call.agent_id, &call.agent_name),
            topic: call.topic.clone(),
            protocol: call.protocol,
            away: self.is_away(&call.id),
            started_at: Time(call.started_at),
            connected_at: call.connected_at.map(Time),
            ended_at: ended.map(|end| Time(end.at)),
            end_reason: ended.map(|end| end.reason),
            reason: ended.and_then(|end| end.words.clone()),
            messages: stored.messages,
            traceparent: stored.traceparent.clone(),
        }
    }

    pub(super) fn call_views(&self, stored: &[StoredCall]) -> Vec<api::Call> {
        stored.iter().map(|call| self.call_view(call)).collect()
    }

    pub(super) fn transcript(
        &self,
        stored: &StoredCall,
        now: Millis,
    ) -> Result<api::Transcript, store::Error> {
        let call = &stored.call;
        let messages = self.message_views(&self.store.messages(Some(&call.id), false, ALL)?);
        let peer = self.peer(&call.peer, &call.agent_id, &call.agent_name).id;
        let me = self.me.agent_id.clone();
        let (caller, callee) = match call.direction {
            Direction::In => (peer, me),
            Direction::Out => (me, peer),
        };
        let ended_at = call.ended.as_ref().map(|end| end.at);
        Ok(api::Transcript {
            call: call.id,
            caller,
            callee,
            topic: call.topic.clone(),
            started_at: Time(call.started_at),
            ended_at: ended_at.map(Time),
            duration_s: ended_at.unwrap_or(now).since(call.started_at).as_secs_f64(),
            message_count: messages.len() as u64,
            messages,
        })
    }

    /// An event with what it is about; none if that is gone: a damaged row, or one that was forgotten.
    pub(super) fn event_view(&self, entry: &JournalEntry) -> Result<Option<Event>, store::Error> {
        let event = &entry.event;
        let mut view = Event {
            cursor: entry.cursor,
            kind: event.kind,
            at: Time(event.at),
            call: event.call,
            message: None,
            progress: None,
            call_state: None,
            escalation: None,
            key_changed: None,
            relay: None,
            strangers: None,
        };
        if let (EventKind::FileOffered | EventKind::FileProgress, Some(detail)) = (event.kind, &event.detail)
            && let Ok((message, progress)) = serde_json::from_str::<(api::Message, _)>(detail)
        {
            let message = api::Message { tier: self.book.tier(&message.peer), ..message };
            (view.message, view.progress) = (Some(message), progress);
        } else if let Some(row) = event.message {
            view.message = self.store.message_at(row)?.as_ref().map(|stored| self.message_view(stored));
        } else if let Some(ticket) = event.ticket {
            view.escalation = self.store.ticket(&ticket)?.as_ref().map(ticket_view);
        } else if let Some(call) = event.call {
            view.call_state = self.store.call(&call)?.as_ref().map(|stored| self.call_view(stored));
        } else if let Some(detail) = &event.detail {
            match event.kind {
                EventKind::ContactKeyChanged => {
                    view.key_changed = serde_json::from_str::<KeyChanged>(detail).ok();
                }
                EventKind::StrangersDigest => view.strangers = serde_json::from_str(detail).ok(),
                _ => view.relay = serde_json::from_str::<RelayNote>(detail).ok(),
            }
        }
        Ok(view.is_about_something().then_some(view))
    }

    pub(super) fn contact_view(
        &self,
        contact: &StoredContact,
        now: Millis,
    ) -> Result<api::Contact, store::Error> {
        let relays = self.store.peer(&contact.key)?.map_or_else(Vec::new, |peer| peer.inbox);
        // Who is seen online was seen at a relay of ours.
        let is_met = self.directory.get(&contact.key, now).is_some();
        let reachable = (is_met || !relays.is_empty()).then(|| is_met || self.sessions.may_reach(&relays));
        Ok(api::Contact {
            name: contact.name.clone().unwrap_or_default(),
            pubkey: contact.key,
            npub: npub(&contact.key),
            agent_id: contact.agent_id.clone(),
            tier: self.book.tier(&contact.key),
            blocked: contact.blocked,
            allow_legacy: contact.allow_legacy,
            relays,
            reachable,
            fingerprint: fingerprint(&contact.key),
            verified: contact.verified,
            claimed_by: self.book.claimants(contact).collect(),
        })
    }

    pub(super) fn message_view(&self, stored: &StoredMessage) -> api::Message {
        let message = &stored.message;
        let via = self.way_of(message);
        let waits = message.kind == MessageKind::File && message.state == MessageState::Queued;
        api::Message {
            message: message.message,
            call: message.call,
            from: message.sender,
            peer: message.peer,
            tier: self.book.tier(&message.peer),
            kind: message.kind,
            text: message.text.clone(),
            file: message.file.as_deref().and_then(|file| serde_json::from_str(file).ok()),
            at: Time(message.at),
            state: message.state,
            reason: stored
                .reason
                .clone()
                .or_else(|| waits.then(|| self.why_it_waits(message, via)).flatten()),
            answers: (message.kind == MessageKind::System).then(|| answer_to(&message.message)),
            via,
            traceparent: stored.traceparent.clone(),
        }
    }

    /// Whether a file of ours goes to the mailbox. What cannot be read back says nothing.
    fn way_of(&self, message: &NewMessage) -> Option<api::Via> {
        if message.kind != MessageKind::File || message.sender != Sender::Me {
            return None;
        }
        let is_v2 = |call: &CallId| {
            let known = self.board.call(call).map(|call| call.protocol);
            known.or_else(|| Some(self.store.call(call).ok()??.call.protocol)) == Some(Protocol::V2)
        };
        let mailed = match &message.call {
            None => true,
            Some(_) if self.store.my_parcel(&message.message).is_ok_and(|it| it.is_some()) => true,
            // In a call of v2 no relay takes a file as a whole: it was its letter.
            Some(call) => match message.state {
                MessageState::Relayed => is_v2(call),
                MessageState::Queued => {
                    self.store.is_posted(&message.message).unwrap_or_default() && is_v2(call)
                }
                _ => false,
            },
        };
        mailed.then_some(api::Via::Mailbox)
    }

    /// Why a file of ours has not left.
    fn why_it_waits(&self, message: &NewMessage, via: Option<api::Via>) -> Option<String> {
        if via.is_some() {
            let problem = self.store.my_parcel(&message.message).ok()??.problem?;
            return Some(format!("no server has taken it yet, and it is tried again: {problem}"));
        }
        let away = message.call.is_some_and(|call| self.is_away(&call));
        away.then(|| match self.works.blossom.complaint(&self.settings.blossom) {
            None => WAITS.to_owned(),
            Some(why) => format!("{WAITS}; no server keeps it until then: {why}"),
        })
    }

    pub(super) fn message_views(&self, stored: &[StoredMessage]) -> Vec<api::Message> {
        stored.iter().map(|stored| self.message_view(stored)).collect()
    }
}

pub(super) fn ticket_view(stored: &StoredTicket) -> api::Ticket {
    api::Ticket {
        ticket: stored.id,
        call: stored.call,
        question: stored.question.clone(),
        options: serde_json::from_str(&stored.options).unwrap_or_default(),
        state: stored.state,
        answer: stored.answer.clone(),
        channels: serde_json::from_str(&stored.channels).unwrap_or_default(),
        at: Time(stored.at),
        message: stored.message,
        asked_at: Some(Time(stored.release)).filter(|_| stored.state != TicketState::NoOwner),
        expires_at: Some(Time(stored.expires_at)),
    }
}

/// A call that only the switchboard knows yet, as its row will be.
pub(super) fn as_stored(call: &call::Call) -> StoredCall {
    StoredCall { call: call.clone(), messages: 0, traceparent: None }
}
