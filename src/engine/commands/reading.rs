//! Looking, waiting, and taking what was waited for.

use std::collections::HashMap;
use std::time::Duration;

use super::super::core::{Answer, Attempt, Core, Fault, Topic};
use super::super::views::ticket_view;
use super::calls::relays_unreachable;
use super::{deadline, done, is_over};
use crate::api::{
    self, AgentEntry, AgentList, AgentSelf, Calls, DaemonInfo, DoorPolicy, Error, ErrorKind, Inbox,
    OutboxCount, Status, Time, WaitReply,
};
use crate::proto::presence::Entry;
use crate::proto::{CallId, EventKind, MessageId, Millis, Protocol, fingerprint};
use crate::store::{self, Filter};
use crate::transport::{joined, npub};

/// Most missed calls and unread messages that `inbox` shows; the rest is one command away.
const INBOX_LIMIT: usize = 100;
/// For how long somebody is woken for what nobody takes. Later it still stands in the inbox.
const WAKE_FOR: Duration = Duration::from_secs(86_400);
/// Most events after the first that one `wait` brings, and about how many bytes of words: a line of the socket.
const AHEAD_LIMIT: usize = 256;
const AHEAD_SIZE: usize = 128 * 1024;
/// Most calls that one command lists.
const CALLS_LIMIT: usize = 10_000;

impl Core {
    pub(in super::super) fn status(&mut self) -> Result<Answer, Fault> {
        let connected = self.is_connected();
        let relays = joined(self.pool.status(), self.sessions.status());
        let live: Vec<_> =
            self.store.live_calls()?.into_iter().filter(|stored| !stored.call.queued).collect();
        Ok(Status {
            agent: AgentSelf {
                id: self.me.agent_id.clone(),
                name: self.me.name.clone(),
                pubkey: self.me.key,
                npub: npub(&self.me.key),
                capabilities: self.settings.capabilities.clone(),
                home: self.home.path().display().to_string(),
                fingerprint: fingerprint(&self.me.key),
            },
            daemon: DaemonInfo {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                uptime_s: self.started.elapsed().as_secs_f64(),
                code: super::super::code::running(),
            },
            connected,
            relays,
            clock_offset_s: self.pool.clock().offset_s,
            calls: self.call_views(&live),
            unread: self.store.unread_count()?,
            outbox: OutboxCount { queued: self.store.outbox_count()?, failed: self.store.failed_count()? },
            owner: self.owner.state(),
            door: DoorPolicy { strangers: self.settings.strangers, auto_accept: self.settings.auto_accept },
        }
        .into())
    }

    pub(in super::super) fn list(
        &mut self,
        capability: Option<&str>,
        limit: Option<usize>,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        if !self.is_connected() {
            return self.patiently(attempt, relays_unreachable);
        }
        if let Some(until) = self.look(attempt) {
            return Ok(Answer::Wait { until, topic: Topic::Relays });
        }
        let mut claims: HashMap<&str, usize> = HashMap::new();
        for entry in self.directory.online(attempt.now) {
            *claims.entry(&entry.content.agent_id).or_default() += 1;
        }
        let agents = self
            .directory
            .online(attempt.now)
            .filter(|entry| entry.key != self.me.key)
            .filter(|entry| {
                capability.is_none_or(|wanted| entry.content.capabilities.iter().any(|has| has == wanted))
            })
            .take(limit.unwrap_or(usize::MAX))
            .map(|entry| {
                let claimed_twice = claims.get(entry.content.agent_id.as_str()).is_some_and(|keys| *keys > 1);
                self.agent_entry(entry, claimed_twice, attempt.now)
            })
            .collect::<Result<_, _>>()?;
        Ok(AgentList { agents }.into())
    }

    fn agent_entry(
        &self,
        entry: &Entry,
        claimed_twice: bool,
        now: Millis,
    ) -> Result<AgentEntry, store::Error> {
        let contact = self.book.get(&entry.key);
        let id = &entry.content.agent_id;
        let claimed_from_us = *id == self.me.agent_id;
        let claimed_from_pin = self.book.pinned(id).is_some_and(|pinned| pinned.key != entry.key);
        // What a call would be held in: who has shown v2 once is held to it.
        let shown = entry.content.protocol();
        let held_to_v2 = shown == Protocol::Legacy
            && contact.is_none_or(|contact| !contact.allow_legacy)
            && self.store.peer(&entry.key)?.is_some();
        Ok(AgentEntry {
            id: id.clone(),
            name: if entry.content.name.is_empty() { id.clone() } else { entry.content.name.clone() },
            pubkey: entry.key,
            npub: npub(&entry.key),
            capabilities: entry.content.capabilities.clone(),
            card: entry.content.card.clone(),
            last_seen_s: now.since(entry.seen).as_secs(),
            protocol: if held_to_v2 { Protocol::V2 } else { shown },
            contact: contact.and_then(|contact| contact.name.clone()),
            pinned: contact.is_some_and(|contact| contact.agent_id.as_deref() == Some(id)),
            duplicate_id: claimed_twice || claimed_from_us || claimed_from_pin,
            looks_like: self
                .book
                .looks_like(&entry.key, id)
                .or_else(|| self.book.looks_like(&entry.key, &entry.content.name)),
        })
    }

    pub(in super::super) fn inbox(&mut self, now: Millis) -> Result<Answer, Fault> {
        let live: Vec<_> =
            self.store.live_calls()?.into_iter().filter(|stored| !stored.call.queued).collect();
        let ringing: Vec<api::Call> = self
            .call_views(&live)
            .into_iter()
            .filter(|call| (call.state, call.direction) == (api::CallState::Ringing, api::Direction::In))
            .collect();
        Ok(Inbox {
            ringing,
            unread: self.message_views(&self.store.messages(None, true, INBOX_LIMIT)?),
            missed: self.call_views(&self.store.missed_calls(INBOX_LIMIT)?),
            answers: self.store.untaken_tickets()?.iter().map(ticket_view).collect(),
            queue: self.call_views(&self.store.queued_calls()?),
            mail: self.waiting_mail_views()?,
            questions: self.store.undecided_tickets(now, INBOX_LIMIT)?.iter().map(ticket_view).collect(),
        }
        .into())
    }

    pub(in super::super) fn wait(
        &mut self,
        consumer: Option<&str>,
        after: Option<u64>,
        call: Option<&CallId>,
        kinds: &[EventKind],
        (ahead, timeout_s): (usize, f64),
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        if attempt.first {
            self.check_wait_place(consumer, after, call)?;
        }
        let mut filter = Filter {
            consumer: consumer.map(str::to_owned),
            after: after.unwrap_or(0),
            call: call.copied(),
            kinds: kinds.to_vec(),
        };
        let (mut found, mut size) = (Vec::new(), 0);
        while found.len() <= ahead.min(AHEAD_LIMIT)
            && size <= AHEAD_SIZE
            && let Some(entry) = self.store.peek(&filter)?
        {
            filter.after = entry.cursor;
            if let Some(event) = self.event_view(&entry)? {
                size += event.message.as_ref().map_or(0, |message| message.text.len());
                found.push(event);
            }
        }
        let mut found = found.into_iter();
        if let Some(event) = found.next() {
            let (cursor, ahead) = (event.cursor, found.collect());
            return Ok(WaitReply { cursor, event: Some(event), ahead, timeout: false }.into());
        }
        if !is_over(attempt, timeout_s) {
            return Ok(Answer::Wait { until: deadline(attempt.since, timeout_s), topic: Topic::Journal });
        }
        let cursor = self.store.last_cursor()?.max(filter.after);
        Ok(WaitReply { cursor, event: None, ahead: vec![], timeout: true }.into())
    }

    pub(in super::super) fn untaken(
        &mut self,
        after: u64,
        kinds: &[EventKind],
        timeout_s: f64,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        let since = attempt.now - WAKE_FOR;
        let mut place = after;
        while let Some(entry) = self.store.untaken(place, kinds, since)? {
            place = entry.cursor;
            if let Some(event) = self.event_view(&entry)? {
                return Ok(WaitReply {
                    cursor: entry.cursor,
                    event: Some(event),
                    ahead: vec![],
                    timeout: false,
                }
                .into());
            }
        }
        if !is_over(attempt, timeout_s) {
            return Ok(Answer::Wait { until: deadline(attempt.since, timeout_s), topic: Topic::Journal });
        }
        let cursor = self.store.last_cursor()?.max(after);
        Ok(WaitReply { cursor, event: None, ahead: vec![], timeout: true }.into())
    }

    fn check_wait_place(
        &self,
        consumer: Option<&str>,
        after: Option<u64>,
        call: Option<&CallId>,
    ) -> Result<(), Fault> {
        if let Some(id) = call {
            self.stored(id)?;
        }
        if consumer.is_none() && after.is_none() {
            let hint = "p2p-comm wait --as NAME, or p2p-comm wait --after CURSOR";
            return Err(
                Error::new(ErrorKind::Usage, "neither a consumer nor a cursor was given", hint).into()
            );
        }
        let pruned = self.store.pruned()?;
        match after {
            Some(after) if consumer.is_none() && after > 0 && after < pruned => Err(Error::new(
                ErrorKind::CursorExpired,
                format!("events up to {pruned} are no longer kept"),
                "begin with the oldest kept: p2p-comm wait --after 0; what was said is in: p2p-comm messages",
            )
            .into()),
            _ => Ok(()),
        }
    }

    pub(in super::super) fn commit_event(
        &mut self,
        consumer: Option<&str>,
        cursor: u64,
        now: Millis,
    ) -> Result<Answer, Fault> {
        let Some(entry) = self.store.event(cursor)? else {
            let message = format!("there is no event {cursor}");
            return Err(Error::new(ErrorKind::CursorExpired, message, "wait again: p2p-comm wait").into());
        };
        if let Some(row) = entry.event.message
            && let Some((call, message)) = self.store.mark_row_read(row, now)?
        {
            self.note_read(&call, row, message);
        }
        // Looking over the journal without a place of one's own takes nothing out of the inbox but messages.
        let Some(consumer) = consumer else { return Ok(api::Done { at: Time(now) }.into()) };
        self.store.take(consumer, cursor)?;
        if let (EventKind::CallMissed, Some(call)) = (entry.event.kind, entry.event.call) {
            self.store.mark_looked_at(&call)?;
        }
        if let Some(ticket) = entry.event.ticket
            && let Some(mut stored) = self.store.ticket(&ticket)?
        {
            stored.taken = true;
            self.store.save_ticket(&stored)?;
        }
        Ok(api::Done { at: Time(now) }.into())
    }

    /// A message was taken: a peer that can be told is told.
    pub(super) fn mark_read(&mut self, message: &MessageId, now: Millis) -> Result<(), store::Error> {
        if let Some((call, row)) = self.store.mark_read(message, now)? {
            self.note_read(&call, row, *message);
        }
        Ok(())
    }

    pub(in super::super) fn whole_call(
        &mut self,
        call: Option<&CallId>,
        now: Millis,
    ) -> Result<Answer, Fault> {
        let stored = match call {
            Some(id) => self.stored(id)?,
            None => self.store.calls(1)?.into_iter().next().ok_or_else(|| {
                let hint = "call an agent: p2p-comm call AGENT \"topic\"";
                Error::new(ErrorKind::UnknownCall, "there was no call yet", hint)
            })?,
        };
        Ok(Answer::Now(self.transcript(&stored, now)?.into()))
    }

    pub(in super::super) fn calls(&mut self, limit: usize) -> Result<Answer, Fault> {
        let calls = self.call_views(&self.store.calls(limit.min(CALLS_LIMIT))?);
        Ok(Calls { calls }.into())
    }

    /// Takes what changed in `config.toml` without a restart: the name, the capabilities, the owner's channels.
    pub(in super::super) fn reload(&mut self, attempt: Attempt) -> Result<Answer, Fault> {
        let settings = crate::home::settings::load(&self.home, &[])?.settings();
        self.change_ways(&settings.owner, attempt.now)?;
        self.owner.quiet = settings.owner_quiet;
        self.me.name = settings.name.clone().unwrap_or_else(|| self.me.agent_id.clone());
        self.board.rename(self.me.clone());
        self.settings.name = settings.name;
        self.settings.capabilities = settings.capabilities;
        self.settings.description = settings.description;
        self.settings.skills = settings.skills;
        self.settings.owner = settings.owner;
        self.settings.owner_quiet = settings.owner_quiet;
        self.settings.owner_webhook_secret = settings.owner_webhook_secret;
        self.need_webhook_secret();
        self.settings.strangers = settings.strangers;
        self.settings.auto_accept = settings.auto_accept;
        self.settings.file_limit_mib = settings.file_limit_mib;
        self.settings.file_limit_others_mib = settings.file_limit_others_mib;
        self.settings.blossom = settings.blossom;
        self.apply_policies();
        self.announcer.soon();
        self.reloads.send_modify(|count| *count += 1);
        Ok(done(attempt))
    }
}
