//! The owner's key: a question is an ordinary private message (NIP-17), and so is its answer.
//!
//! An answer says which question it is about: it replies to the question's message (its `e` tag names the rumor), or its
//! line begins with the question's id. Anything else decides nothing, and its writer hears what became of it
//! ([decision 9](../../../docs/decisions/0009-which-question.md)). Who wrote it is who sealed it: a peer that repeats the
//! id, or replies to a message that it was shown, is not the owner.
//!
//! The copy that NIP-17 sends to the sender's own inbox is for other devices of the sender. An agent has none, so there is
//! none.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::clock::fresh;
use crate::engine::core::{Attempt, Core, NO_REQUEST};
use crate::engine::v2::mail_to;
use crate::owner::{Became, JobId, Parcel, which};
use crate::proto::authority::Role;
use crate::proto::{EventId, Hex, MessageId, Millis, PublicKey, TicketId, TicketState};
use crate::store::{self, StoredLetter, StoredTicket};
use crate::transport::v2::{Opened, mail};

/// How long a question waits for a relay before it is posted anew: longer than the outbox keeps it.
const POSTED: Duration = Duration::from_secs(25 * 3_600);
/// Most messages in an hour that answer what an owner's key wrote: more than a person writes. A key that answers by itself
/// would go on for ever.
const WRITTEN_BACK: usize = 20;
/// The time in which they are counted.
const HOUR: Duration = Duration::from_secs(3_600);

impl Core {
    // ---- out ----

    /// Posts questions to an owner's key, once it is known where it reads its messages.
    pub(super) fn write_to_owner(
        &mut self,
        job: JobId,
        key: &PublicKey,
        parcel: &Parcel,
        now: Millis,
    ) -> Result<(), store::Error> {
        let since = *self.asking.looking.entry(job).or_insert_with(Instant::now);
        let attempt = Attempt { now, role: Role::Agent, number: NO_REQUEST, first: true, last: false, since };
        if let Err(until) = self.find_inbox(key, attempt)? {
            self.owner.desk.put_off(&job, now + until.saturating_duration_since(Instant::now()), false);
            return Ok(());
        }
        self.asking.looking.remove(&job);
        let (batch, way) = job;
        let due = now + POSTED;
        let tries = self.owner.desk.put_off(&job, due, false);
        self.store.put_off_asks(&batch, &way, due, tries)?;
        self.write_to_key(key, &parcel.letter(), Some((job, parcel.tickets())), now)
    }

    /// Posts a text to an owner's key; of questions it is noted which, before the text can leave.
    pub(super) fn write_to_key(
        &mut self,
        key: &PublicKey,
        text: &str,
        asks: Option<(JobId, Vec<TicketId>)>,
        now: Millis,
    ) -> Result<(), store::Error> {
        self.write(key, text, None, asks, now)
    }

    fn write(
        &mut self,
        key: &PublicKey,
        text: &str,
        reply_to: Option<&EventId>,
        asks: Option<(JobId, Vec<TicketId>)>,
        now: Millis,
    ) -> Result<(), store::Error> {
        let message: MessageId = fresh();
        let rumor = mail_to(key, text, reply_to, now);
        let id = rumor.id(&self.me.key);
        if let Some(((batch, way), tickets)) = asks {
            for ticket in tickets {
                let letter = StoredLetter { rumor: id, ticket, key: *key, way, batch, message, at: now };
                self.store.add_letter(&letter)?;
            }
        }
        self.post_to(key, rumor, message, now)
    }

    /// A relay has a message of the outbox, or none takes it: if it is a question, its way has carried it, or has not.
    pub(in crate::engine) fn note_letter(
        &mut self,
        message: &MessageId,
        error: Option<&str>,
        now: Millis,
    ) -> Result<(), store::Error> {
        let Some(letter) = self.store.letter_in(message)? else { return Ok(()) };
        let job = (letter.batch, letter.way);
        let asked: Vec<TicketId> =
            self.store.letters(&letter.rumor, &letter.key)?.into_iter().map(|letter| letter.ticket).collect();
        self.note_carried(&job, &asked, error.map(String::from), now)
    }

    /// After a start: what was posted and has left the outbox untaken is posted anew.
    pub(in crate::engine) fn post_lost_letters(&mut self, now: Millis) -> Result<(), store::Error> {
        for job in self.store.lost_letters()? {
            let tries = self.owner.desk.put_off(&job, now, false);
            self.store.put_off_asks(&job.0, &job.1, now, tries)?;
        }
        Ok(())
    }

    // ---- in ----

    /// Something that an owner's key wrote. `false` if it is about no question: the agent gets it like anybody's mail.
    pub(in crate::engine) fn handle_owner_words(
        &mut self,
        opened: &Opened,
        now: Millis,
    ) -> Result<bool, store::Error> {
        if opened.rumor.kind != mail::TEXT || !self.owner.is_owner(&opened.from) {
            return Ok(false);
        }
        let words = opened.rumor.content.trim();
        let named = self.named_questions(words)?;
        if !named.is_empty() {
            let mut lines = Vec::new();
            for (ticket, answer) in named {
                lines.push(self.answer_of_owner(ticket, &answer, now)?);
            }
            self.write_back(opened, &lines.join("\n"), now)?;
            return Ok(true);
        }
        let replied = self.replied_questions(opened)?;
        match <[StoredTicket; 1]>::try_from(replied) {
            Ok([ticket]) => {
                let became = self.answer_of_owner(ticket, words, now)?;
                self.write_back(opened, &became, now)?;
                Ok(true)
            }
            Err(several) if several.is_empty() => {
                let open = self.store.open_tickets()?;
                // Without a question there is nothing that it could have been meant for: once an hour is enough.
                if !open.is_empty() || self.may_write_back(&opened.from, 1) {
                    self.write_back(opened, &which(&titles(&open), true), now)?;
                }
                Ok(false)
            }
            Err(mut several) => {
                several.retain(|ticket| ticket.state == TicketState::Waiting);
                self.write_back(opened, &which(&titles(&several), false), now)?;
                Ok(true)
            }
        }
    }

    /// Questions whose ids begin a line, each with the words behind it.
    fn named_questions(&self, words: &str) -> Result<Vec<(StoredTicket, String)>, store::Error> {
        let mut found: Vec<(StoredTicket, String)> = Vec::new();
        for (place, line) in words.lines().enumerate() {
            let (first, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
            let id = first.trim_start_matches('#').trim_end_matches([':', ',', '.']).to_lowercase();
            let ticket = match id.parse::<TicketId>() {
                Ok(id) => self.store.ticket(&id)?,
                Err(_) => None,
            };
            match (ticket, found.last_mut()) {
                (Some(ticket), _) => found.push((ticket, rest.trim().to_owned())),
                (None, Some((_, answer))) => {
                    answer.push('\n');
                    answer.push_str(line);
                }
                // What begins without an id is not cut to pieces.
                (None, None) if place == 0 => return Ok(Vec::new()),
                (None, None) => {}
            }
        }
        Ok(found)
    }

    /// Questions of the message that this one replies to.
    fn replied_questions(&self, opened: &Opened) -> Result<Vec<StoredTicket>, store::Error> {
        let replied = opened.rumor.tags.iter().filter_map(|tag| match tag.as_slice() {
            [name, id, ..] if name == "e" => id.parse::<Hex<32>>().ok(),
            _ => None,
        });
        let mut found = Vec::new();
        for rumor in replied {
            for letter in self.store.letters(&rumor, &opened.from)? {
                found.extend(self.store.ticket(&letter.ticket)?);
            }
        }
        Ok(found)
    }

    /// Answers an owner, so that nobody waits for what was not taken.
    fn write_back(&mut self, opened: &Opened, text: &str, now: Millis) -> Result<(), store::Error> {
        if !self.may_write_back(&opened.from, WRITTEN_BACK) {
            tracing::warn!(
                "an owner's key writes faster than a person; it is not answered any more for a while"
            );
            return Ok(());
        }
        self.asking.written_back.entry(opened.from).or_default().push(Instant::now());
        self.write(&opened.from, text, Some(&opened.id), None, now)
    }

    /// Whether fewer than so many answers went to this key in the last hour.
    fn may_write_back(&mut self, key: &PublicKey, limit: usize) -> bool {
        let times = self.asking.written_back.entry(*key).or_default();
        times.retain(|at| at.elapsed() < HOUR);
        times.len() < limit
    }

    /// An owner's answer to a question: it is decided, or the owner is told why not.
    pub(super) fn answer_of_owner(
        &mut self,
        ticket: StoredTicket,
        answer: &str,
        now: Millis,
    ) -> Result<String, store::Error> {
        let id = ticket.id;
        let became = self.decide_for_owner(ticket, answer, now)?;
        if !matches!(became, Became::Taken { .. }) {
            tracing::warn!(ticket = %id, "an answer of the owner does not count");
        }
        Ok(became.text(&id))
    }
}

fn titles(tickets: &[StoredTicket]) -> Vec<(TicketId, String)> {
    tickets.iter().rev().map(|ticket| (ticket.id, ticket.question.clone())).collect()
}
