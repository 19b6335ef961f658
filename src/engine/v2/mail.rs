//! The mailbox (NIP-17): what a call left unsaid, and what is said outside of calls.
//!
//! Mail is dated back by the dice, so relays hand it out in no order. What is of a call bears its number there, and is
//! held back until its turn like anything else; the rest is shown in the order in which it was written, as far as it
//! comes at once.

use std::collections::btree_map;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{About, Letter};
use crate::api::{Error, ErrorKind};
use crate::engine::core::{Core, Fault};
use crate::engine::effects::Effect;
use crate::engine::files;
use crate::mutants::{Mutant, planted};
use crate::proto::call::{Call, Content, Entry, Handled};
use crate::proto::v2::parcel::PARCEL_LIMIT;
use crate::proto::{
    CallId, EventId, MessageId, MessageKind, MessageState, Millis, Protocol, PublicKey, Sender,
};
use crate::store::{self, NewMessage};
use crate::transport::v2::mail::{FILE_LIMIT, Mail, MailBody, TEXT};
use crate::transport::v2::{Opened, Rumor, largest_rumor};

/// Bytes of a rumor's JSON apart from its content: fields and tags with their longest values.
const ENVELOPE: usize = 700;

/// A text in nobody's call, as any client of private messages writes it; a reply names what it replies to.
pub(in crate::engine) fn mail_to(
    to: &PublicKey,
    text: &str,
    reply_to: Option<&EventId>,
    now: Millis,
) -> Rumor {
    let mut tags = vec![vec!["p".to_owned(), to.to_string()]];
    tags.extend(reply_to.map(|id| vec!["e".to_owned(), id.to_string(), String::new(), "reply".to_owned()]));
    Rumor { kind: TEXT, created_at: now.as_secs(), tags, content: text.to_owned() }
}

impl Core {
    // ---- in ----

    /// Shows the mail that was opened, in the order in which it was written.
    pub(super) fn handle_waiting_mail(&mut self, now: Millis) -> Result<(), store::Error> {
        let mut waiting: Vec<(Opened, Option<Mail>)> = std::mem::take(&mut self.lines.backlog.mail)
            .into_iter()
            .map(|opened| {
                let mail = Mail::parse(&opened)
                    .inspect_err(|error| tracing::debug!(event = %opened.wrap, %error, "mail not taken"));
                (opened, mail.ok())
            })
            .collect();
        waiting.sort_by_key(|(opened, mail)| {
            let seq = mail.as_ref().and_then(|mail| mail.seq);
            (opened.rumor.created_at, seq.filter(|_| !planted(Mutant::OrderByCreatedAt)), opened.id)
        });
        for (opened, mail) in waiting {
            if self.mark_handled(&opened.wrap, now)?
                && let Some(mail) = mail
            {
                self.handle_mail(&opened, mail, now)?;
            }
        }
        Ok(())
    }

    fn handle_mail(&mut self, opened: &Opened, mail: Mail, now: Millis) -> Result<(), store::Error> {
        if self.handle_owner_words(opened, now)? {
            return Ok(());
        }
        let content = match mail.body {
            MailBody::Text(text) => Content::Text(text),
            MailBody::File { name, mime, bytes } => {
                Content::File { name, mime, bytes: STANDARD.encode(bytes) }
            }
            MailBody::Parcel(parcel) => Content::Parcel(parcel),
            // Nobody fetches it unasked; the agent may.
            MailBody::Link { url, mime } => Content::Text(format!("{url} ({mime})")),
        };
        let at = Millis::from_secs(opened.rumor.created_at).min(now);
        let entry = Entry { id: mail.id, seq: mail.seq, at, content };
        let of_call = match mail.call {
            Some(shared) => self.store.call_named(&opened.from, &shared.to_string())?,
            None => None,
        };
        if let Some(id) = of_call
            && let Some(call) = self.restore_call(&id)?
            && call.protocol == Protocol::V2
            && call.connected_at.is_some()
        {
            // It takes its place when it is here.
            if let Content::Parcel(parcel) = entry.content {
                let about = (entry.id, entry.seq, entry.at);
                return self.take_parcel(Some(&id), &opened.from, about, *parcel, now);
            }
            let (message, is_file) = (entry.id, matches!(entry.content, Content::File { .. }));
            if let Handled::Dropped(why) = self.board.handle_mail(&id, entry, now) {
                tracing::debug!(event = %opened.wrap, why, "mail changes nothing");
            }
            self.settle(now)?;
            return if is_file { self.say_file_done(&id, message, now) } else { Ok(()) };
        }
        self.take_mail(&opened.from, entry, now)
    }

    // ---- out ----

    /// Says something outside of a call.
    pub(in crate::engine) fn mail(
        &mut self,
        to: &PublicKey,
        id: MessageId,
        text: &str,
        now: Millis,
    ) -> Result<NewMessage, Fault> {
        let seq = self.store.count_mail_to(to)? + 1;
        let mail = Mail { id, call: None, seq: Some(seq), body: MailBody::Text(text.to_owned()) };
        let letter = self.mail_letter(to, &mail, None, now)?;
        let size = serde_json::to_string(&letter.rumor.content).map_or(0, |json| json.len()) + ENVELOPE;
        if size > largest_rumor() {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the message has {size} bytes as it is sent; at most {} fit into mail",
                    largest_rumor()
                ),
                "split it into several messages, or call the agent: p2p-comm call AGENT",
            )
            .into());
        }
        let message = NewMessage {
            message: id,
            call: None,
            peer: *to,
            sender: Sender::Me,
            kind: MessageKind::Text,
            text: text.to_owned(),
            file: None,
            at: now,
            state: MessageState::Queued,
            seq: Some(seq),
        };
        self.store.add_message(&message)?;
        self.post(letter, now)?;
        // Who is written to may answer, and may have written before.
        self.let_mail_in(to, now)?;
        Ok(message)
    }

    /// Posts a rumor that is no message of the agent's; `id` is its place in the outbox.
    pub(in crate::engine) fn post_to(
        &mut self,
        to: &PublicKey,
        rumor: Rumor,
        id: MessageId,
        now: Millis,
    ) -> Result<(), store::Error> {
        let about = About::Kept { call: CallId::default(), message: Some(id) };
        let letter = self.letter(to, rumor, about)?;
        self.post(letter, now)
    }

    fn mail_letter(
        &self,
        to: &PublicKey,
        mail: &Mail,
        call: Option<&CallId>,
        now: Millis,
    ) -> Result<Letter, store::Error> {
        let about = About::Kept { call: call.copied().unwrap_or_default(), message: Some(mail.id) };
        self.letter(to, mail.rumor(to, now.as_secs()), about)
    }

    /// A message of ours that its call did not carry to its end: by mail, if it fits.
    pub(super) fn post_left_over(
        &mut self,
        call: &Call,
        message: &MessageId,
        now: Millis,
    ) -> Result<(), store::Error> {
        let Some(stored) = self.store.my_message(message)? else { return Ok(()) };
        if self.is_carried(message)? {
            return Ok(());
        }
        match self.letter_of(&stored.message, now)? {
            Some(letter) => self.post(letter, now),
            None if self.carry_left_over(&stored.message, now)? => Ok(()),
            None => {
                let why = format!(
                    "the call ended first, and mail carries files of at most {FILE_LIMIT} bytes, or {PARCEL_LIMIT} by \
                     a server of the setting `blossom`"
                );
                self.effects.push(Effect::Remove(files::spool(&self.home, &call.id, message)));
                self.give_up(&call.id, Some(message), &why, now)
            }
        }
    }

    /// A message of ours as a letter; none for a file that is too large or gone.
    pub(super) fn letter_of(
        &mut self,
        message: &NewMessage,
        now: Millis,
    ) -> Result<Option<Letter>, store::Error> {
        let NewMessage { message: id, call, peer, kind, text, file, seq, .. } = message;
        let body = match kind {
            MessageKind::File => match self.file_body(call.as_ref(), id, file.as_deref())? {
                Some(body) => body,
                None => return Ok(None),
            },
            MessageKind::System => MailBody::Text(format!("My owner has answered: {text}")),
            _ => MailBody::Text(text.clone()),
        };
        let shared = match call {
            Some(call) => self.store.call(call)?.and_then(|stored| stored.call.shared()),
            None => None,
        };
        let mail = Mail { id: *id, call: shared, seq: *seq, body };
        Ok(Some(self.mail_letter(peer, &mail, call.as_ref(), now)?))
    }

    /// A file of ours in a letter: where it is, or itself if it is small.
    fn file_body(
        &self,
        call: Option<&CallId>,
        message: &MessageId,
        file: Option<&str>,
    ) -> Result<Option<MailBody>, store::Error> {
        if let Some(it) = self.store.my_parcel(message)? {
            return Ok((!it.parcel.url.is_empty()).then(|| MailBody::Parcel(Box::new(it.parcel))));
        }
        let file = file.and_then(|file| serde_json::from_str::<crate::api::File>(file).ok());
        let Some(file) = file.filter(|file| file.size <= FILE_LIMIT as u64) else { return Ok(None) };
        let copy = files::spool(&self.home, &call.copied().unwrap_or_default(), message);
        let bytes = std::fs::read(copy).ok();
        Ok(bytes.map(|bytes| MailBody::File { name: file.name, mime: file.mime, bytes }))
    }

    /// Whether a file of ours is on its way to a server of blobs: its letter follows.
    fn is_carried(&self, message: &MessageId) -> Result<bool, store::Error> {
        Ok(self.store.my_parcel(message)?.is_some_and(|it| it.due.is_some()))
    }

    /// The messages of ours that a call's delivery machine has.
    fn carried_in(&self, id: &CallId) -> Result<BTreeSet<MessageId>, store::Error> {
        let said = self.lines.talks.get(id).map(|talk| talk.delivery.undelivered()).unwrap_or_default();
        let files = self.store.transfers(id)?.into_iter().filter(|it| it.outgoing).map(|it| it.message);
        Ok(said.into_iter().chain(files).collect())
    }

    /// After a start: what was accepted and is not on its way, because the crash came before its wrap was sealed, or
    /// because its event or its entry on the disk is damaged.
    pub(super) fn post_unposted(&mut self, now: Millis) -> Result<(), store::Error> {
        self.store.drop_damaged_outbox()?;
        let mut carried: BTreeMap<CallId, BTreeSet<MessageId>> = BTreeMap::new();
        for stored in self.store.unposted()? {
            let NewMessage { message, call, .. } = stored.message;
            if let Some(id) = call.filter(|id| self.lines.talks.contains_key(id))
                && let btree_map::Entry::Vacant(place) = carried.entry(id)
            {
                place.insert(self.carried_in(&id)?);
            }
            match call {
                None if self.is_carried(&message)? => {}
                None => match self.letter_of(&stored.message, now)? {
                    Some(letter) => self.post(letter, now)?,
                    None if self.carry_left_over(&stored.message, now)? => {}
                    None => {
                        let why = "its copy cannot be read any more";
                        self.give_up(&CallId::default(), Some(&message), why, now)?;
                    }
                },
                // Of a call that is up, or drains, the delivery machine has it.
                Some(id) if carried.get(&id).is_some_and(|carried| carried.contains(&message)) => {}
                Some(id) => match self.restore_call(&id)? {
                    Some(call) if call.protocol == Protocol::V2 => {
                        self.post_left_over(&call, &message, now)?;
                    }
                    Some(call) => self.give_up(&call.id, Some(&message), "its event was damaged", now)?,
                    None => {}
                },
            }
        }
        self.post_lost_letters(now)
    }
}
