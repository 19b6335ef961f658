//! Strangers, and names that are claimed: what is kept of the door, mail that waits, keys that are not who they say.
//!
//! A stranger's mail that is not let in waits in a queue of its own, as short as that of calls; who is named, or whose
//! call is taken, or whom we write to, is let in with all that waits.
//!
//! A key that claims an agent id which is pinned to another key is **blocked** from that moment on: nothing of it is
//! heard, and `contact.key-changed` tells it, once an hour for an agent id. Two ways lead past it: a statement that the
//! old key has signed (`rotation`), and a person who verifies the key (`contacts verify`).

use super::core::Core;
use super::files;
use super::outputs::event;
use super::v2::parcel_file;
use crate::api::{self, KeyChanged, Time};
use crate::proto::call::{Admission, Content, Digest, Entry, QUEUE_LIMIT, Queue, WINDOW, makes_room};
use crate::proto::v2::parcel::Parcel;
use crate::proto::{EventKind, MessageKind, MessageState, Millis, PublicKey, Sender, Tier, safe_file_name};
use crate::store::{self, NewEvent, WaitingMail};

impl Core {
    // ---- the door ----

    /// Reads back what counted at the door, and what the owner is still to be told.
    pub(super) fn restore_door(&mut self) -> Result<(), store::Error> {
        let heard = self.store.knocks(self.wall() - WINDOW)?;
        let digest = self.store.digest()?.and_then(|json| serde_json::from_str::<Digest>(&json).ok());
        let door = self.board.door();
        door.restore(heard);
        door.restore_digest(digest.unwrap_or_default());
        Ok(())
    }

    /// Persists what counted, and tells the owner what is due.
    pub(super) fn tick_door(&mut self, now: Millis) -> Result<(), store::Error> {
        for knock in self.board.door().take_new() {
            self.store.add_knock(&knock)?;
        }
        if let Some((counts, since)) = self.board.door().take_digest(now) {
            let work = self.asked_work();
            let told = api::Strangers {
                since: Time(since),
                calls_waiting: counts.calls_waiting,
                calls_dropped: counts.calls_dropped,
                mail_waiting: counts.mail_waiting,
                mail_dropped: counts.mail_dropped,
                work,
            };
            tracing::info!(?counts, work, "strangers beyond their limits");
            let detail = serde_json::to_string(&told).ok();
            self.tell(NewEvent { detail, ..event(EventKind::StrangersDigest, None, now) })?;
            self.tell_owner(told, now)?;
        }
        if let Some(digest) = self.board.door().take_changed_digest() {
            let json = serde_json::to_string(digest).unwrap_or_default();
            self.store.save_digest(&json)?;
        }
        Ok(())
    }

    /// The queue of calls has a bound.
    pub(super) fn trim_queue(&mut self, now: Millis) -> Result<(), store::Error> {
        if !std::mem::take(&mut self.queue_grew) {
            return Ok(());
        }
        let mut waiting = self.store.queued_keys()?;
        let mut ranks: Vec<_> = waiting.iter().map(|(_, peer)| (*peer, self.book.tier(peer))).collect();
        while waiting.len() > QUEUE_LIMIT
            && let Some(leaving) = makes_room(&ranks)
        {
            ranks.remove(leaving.place);
            let (call, _) = waiting.remove(leaving.place);
            if leaving.by_others {
                self.board.door().pushed_out(Queue::Calls, now);
            }
            tracing::debug!(%call, "the queue of calls is full; this one goes");
            self.board.forget(&call);
            self.store.delete_call(&call)?;
        }
        Ok(())
    }

    /// Whether what claims to be of this key is not even opened: a stranger's, for a queue in which it would not last. Who
    /// has done the work that is asked for then is heard all the same.
    pub(super) fn is_shut_out(
        &mut self,
        claimed: &PublicKey,
        queue: Queue,
        now: Millis,
    ) -> Result<bool, store::Error> {
        if !self.board.door().is_crushed(queue, now)
            || self.is_known(claimed)?
            || self.store.count_mail_to(claimed)? > 0
        {
            return Ok(false);
        }
        self.board.door().shut_out(queue, now);
        Ok(true)
    }

    // ---- mail ----

    /// Mail that belongs to no call of ours: shown, or put into the queue, or dropped, by who wrote it.
    pub(super) fn take_mail(
        &mut self,
        from: &PublicKey,
        entry: Entry,
        now: Millis,
    ) -> Result<(), store::Error> {
        // Whom we have written to may answer.
        let tier = match self.book.tier(from) {
            Tier::Stranger if self.owner.is_owner(from) || self.store.count_mail_to(from)? > 0 => Tier::Known,
            tier => tier,
        };
        // Nothing is fetched for who has not been let in: that would tell a stranger's server where this agent is.
        let fetches = matches!(entry.content, Content::Parcel(_));
        match self.board.door().admit_mail(from, tier, now) {
            Admission::Ring if fetches && tier == Tier::Stranger => self.queue_mail(from, entry, now),
            Admission::Ring => self.keep(None, from, entry, true, now).map(drop),
            Admission::Queue => self.queue_mail(from, entry, now),
            Admission::TurnAway | Admission::Ignore => {
                tracing::debug!(message = %entry.id, "a stranger's mail is not wanted");
                Ok(())
            }
        }
    }

    fn queue_mail(&mut self, from: &PublicKey, entry: Entry, now: Millis) -> Result<(), store::Error> {
        let (text, file) = match entry.content {
            Content::Text(text) | Content::Escalation(text) | Content::OwnerSaid(text) => (text, None),
            Content::File { name, mime, bytes } => (bytes, Some((name, mime))),
            Content::Parcel(parcel) => {
                let labels = (parcel.name.clone(), parcel.mime.clone());
                (serde_json::to_string(&parcel).unwrap_or_default(), Some(labels))
            }
            Content::Kept { name, .. } => (name, None),
        };
        let mail = WaitingMail { message: entry.id, peer: *from, text, file, at: entry.at, seq: entry.seq };
        if !self.store.hold_mail(&mail)? {
            return Ok(());
        }
        let mut waiting = self.store.waiting_mail()?;
        let mut ranks: Vec<_> = waiting.iter().map(|mail| (mail.peer, self.book.tier(&mail.peer))).collect();
        while waiting.len() > QUEUE_LIMIT
            && let Some(leaving) = makes_room(&ranks)
        {
            ranks.remove(leaving.place);
            let gone = waiting.remove(leaving.place);
            if leaving.by_others {
                self.board.door().pushed_out(Queue::Mail, now);
            }
            tracing::debug!(message = %gone.message, "the queue of mail is full; this one goes");
            self.store.drop_mail(&gone.peer, &gone.message)?;
        }
        Ok(())
    }

    /// Somebody is let in: what waits of theirs is shown.
    pub(super) fn let_mail_in(&mut self, from: &PublicKey, now: Millis) -> Result<(), store::Error> {
        for WaitingMail { message, text, file, at, seq, .. } in self.store.take_mail_of(from)? {
            let content = match file {
                Some((name, mime)) => match elsewhere(&text) {
                    Some(parcel) => Content::Parcel(Box::new(parcel)),
                    None => Content::File { name, mime, bytes: text },
                },
                None => Content::Text(text),
            };
            self.keep(None, from, Entry { id: message, seq, at, content }, true, now)?;
        }
        Ok(())
    }

    /// The mail that waits, as `inbox` shows it: a file is not on the disk before somebody lets it in.
    pub(super) fn waiting_mail_views(&self) -> Result<Vec<api::Message>, store::Error> {
        let view = |mail: WaitingMail| {
            let WaitingMail { message, peer, text, file, at, .. } = mail;
            let parcel = elsewhere(&text).filter(|_| file.is_some());
            let file = file.map(|(name, mime)| {
                if let Some(parcel) = &parcel {
                    return parcel_file(parcel);
                }
                let bytes = files::decode(&text).unwrap_or_default();
                let (size, sha256) = (bytes.len() as u64, files::sha256(&bytes).to_string());
                api::File { name: safe_file_name(&name), size, mime, sha256, path: None }
            });
            api::Message {
                message,
                call: None,
                from: Sender::Peer,
                peer,
                tier: self.book.tier(&peer),
                kind: if file.is_some() { MessageKind::File } else { MessageKind::Text },
                text: file.as_ref().map_or(text, |file| file.name.clone()),
                file,
                at: Time(at),
                state: MessageState::Received,
                reason: None,
                answers: None,
                via: None,
                traceparent: None,
            }
        };
        Ok(self.store.waiting_mail()?.into_iter().map(view).collect())
    }

    // ---- claims ----

    /// A key says that it is this agent. Whether that name is another's: then the key is blocked, and it is told.
    pub(super) fn is_false_claim(
        &mut self,
        agent_id: &str,
        by: &PublicKey,
        now: Millis,
    ) -> Result<bool, store::Error> {
        let Some(claim) = self.book.claim(&mut self.store, agent_id, by, now)? else { return Ok(false) };
        if claim.is_to_be_told {
            tracing::warn!(agent_id, "another key claims a pinned agent id, and is blocked");
            let changed = KeyChanged {
                agent_id: agent_id.to_owned(),
                pinned: claim.pinned,
                claimed_by: *by,
                followed: false,
            };
            let told = event(EventKind::ContactKeyChanged, None, now);
            self.tell(NewEvent { detail: serde_json::to_string(&changed).ok(), ..told })?;
        }
        Ok(true)
    }
}

/// A file that waits and is elsewhere: base64 has no brace.
fn elsewhere(text: &str) -> Option<Parcel> {
    text.starts_with('{').then(|| serde_json::from_str(text).ok())?
}

#[cfg(test)]
mod tests;
