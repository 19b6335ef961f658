//! Who is meant, and what is known about whom.

use super::super::core::{Answer, Attempt, Core, Fault, Topic};
use super::calls::relays_unreachable;
use crate::api::{ContactEdit, Contacts, Error, ErrorKind};
use crate::proto::text::quote;
use crate::proto::{Millis, PublicKey};
use crate::store::StoredContact;
use crate::transport::{npub, parse_key};

/// Longest name of a contact, characters.
const NAME_LIMIT: usize = 64;

/// The agent that a command means.
pub(super) struct Found {
    pub(super) key: PublicKey,
    pub(super) agent_id: String,
    pub(super) name: String,
}

impl Core {
    /// Finds an agent by a key in any form, a contact's name, a pinned agent id, or an agent id that is online.
    pub(super) fn find_agent(&self, text: &str, now: Millis) -> Result<Found, Fault> {
        let text = text.trim();
        if let Some(contact) = self.book.named(text).or_else(|| self.book.pinned(text)) {
            return Ok(self.found(contact.key, now));
        }
        if looks_like_a_key(text) {
            let key = parse_key(text).map_err(|error| {
                let hint = "give an npub, 64 hex digits, or an agent id: p2p-comm list";
                Error::new(ErrorKind::InvalidValue, error.to_string(), hint)
            })?;
            return Ok(self.found(key, now));
        }
        let claimants: Vec<PublicKey> = self.directory.claimants(text, now).map(|entry| entry.key).collect();
        match claimants.as_slice() {
            [] => Err(Error::new(
                ErrorKind::UnknownAgent,
                format!("no agent \"{}\" is online or among the contacts", short(text)),
                "see who is online: p2p-comm list",
            )
            .into()),
            [key] => Ok(self.found(*key, now)),
            several => {
                let list: Vec<String> = several.iter().map(npub).collect();
                Err(Error::new(
                    ErrorKind::AmbiguousAgent,
                    format!("{} keys claim to be \"{}\": {}", several.len(), short(text), list.join(", ")),
                    "find out which is right, then: p2p-comm contacts add NAME NPUB",
                )
                .into())
            }
        }
    }

    pub(super) fn found(&self, key: PublicKey, now: Millis) -> Found {
        let pinned = self.book.get(&key).and_then(|contact| contact.agent_id.clone());
        let announced = self.directory.get(&key, now).map(|entry| &entry.content);
        let claimed = announced.map(|content| content.agent_id.clone());
        Found {
            key,
            agent_id: pinned.or(claimed).unwrap_or_else(|| short_key(&key)),
            name: announced.map(|content| content.name.clone()).unwrap_or_default(),
        }
    }

    pub(in super::super) fn contacts(&mut self, now: Millis) -> Result<Answer, Fault> {
        let mut contacts =
            self.book.all().map(|contact| self.contact_view(contact, now)).collect::<Result<Vec<_>, _>>()?;
        contacts.sort_by(|a, b| {
            (a.name.is_empty(), &a.name, &a.agent_id).cmp(&(b.name.is_empty(), &b.name, &b.agent_id))
        });
        Ok(Contacts { contacts }.into())
    }

    pub(in super::super) fn edit_contact(
        &mut self,
        edit: &ContactEdit,
        attempt: Attempt,
    ) -> Result<Answer, Fault> {
        let now = attempt.now;
        match edit {
            ContactEdit::Add { name, key } => {
                check_name(name)?;
                let found = match self.find_agent(key, now) {
                    Err(Fault::Api(error)) if error.kind == ErrorKind::UnknownAgent => {
                        if let Some(until) = self.look_anew(attempt) {
                            return Ok(Answer::Wait { until, topic: Topic::Relays });
                        }
                        return self.patiently(attempt, || {
                            if self.is_connected() { error } else { relays_unreachable() }
                        });
                    }
                    found => found?,
                };
                if let Some(other) = self.book.named(name).filter(|other| other.key != found.key) {
                    return Err(Error::new(
                        ErrorKind::InvalidValue,
                        format!("\"{}\" is the name of another key: {}", short(name), npub(&other.key)),
                        format!(
                            "to move the name: p2p-comm contacts verify {} {}",
                            short(name),
                            npub(&found.key)
                        ),
                    )
                    .into());
                }
                self.check_distinct(name, &found.key)?;
                let announced =
                    self.directory.get(&found.key, now).map(|entry| entry.content.agent_id.clone());
                let mut contact = self.book.entry(&found.key);
                contact.name = Some(name.clone());
                if contact.agent_id.is_none() {
                    contact.agent_id = announced.filter(|agent_id| self.book.pinned(agent_id).is_none());
                }
                self.book.save(&mut self.store, contact)?;
                self.book.settle_claim(&mut self.store, &found.key)?;
                self.let_mail_in(&found.key, now)?;
            }
            ContactEdit::Remove { name } => {
                let mut contact = self.book.named(name).cloned().ok_or_else(|| no_contact(name))?;
                contact.name = None;
                self.book.save(&mut self.store, contact)?;
            }
            ContactEdit::Verify { name, key } => {
                let key = parse_key(key).map_err(|error| {
                    Error::new(
                        ErrorKind::InvalidValue,
                        error.to_string(),
                        "give the right key: an npub or 64 hex digits",
                    )
                })?;
                let known = self.book.named(name).or_else(|| self.book.pinned(name)).cloned();
                let old = known.ok_or_else(|| no_contact(name))?;
                let mut contact = self.book.entry(&key);
                contact.verified = true;
                if old.key != key {
                    contact.name = old.name.clone().or(contact.name);
                    contact.agent_id = old.agent_id.clone().or(contact.agent_id);
                    contact.known = true;
                    self.book.save(&mut self.store, contact)?;
                    self.book.settle_claim(&mut self.store, &key)?;
                    self.let_mail_in(&key, now)?;
                } else {
                    // The others who claim to be this agent are not.
                    for impostor in self.book.claimants(&old).collect::<Vec<_>>() {
                        let blocked = StoredContact { blocked: true, ..self.book.entry(&impostor) };
                        self.book.save(&mut self.store, blocked)?;
                        self.book.settle_claim(&mut self.store, &impostor)?;
                    }
                    self.book.save(&mut self.store, contact)?;
                }
            }
            ContactEdit::Block { key } => {
                let key = self.change(key, now, |contact| contact.blocked = true)?;
                // A person has looked: its claim is no open question any more.
                self.book.settle_claim(&mut self.store, &key)?;
                // What of it waits is not wanted either.
                self.store.take_mail_of(&key)?;
                for queued in self.store.queued_calls()?.iter().filter(|stored| stored.call.peer == key) {
                    self.board.forget(&queued.call.id);
                    self.store.delete_call(&queued.call.id)?;
                }
            }
            ContactEdit::Unblock { key } => {
                let key = self.change(key, now, |contact| contact.blocked = false)?;
                self.book.settle_claim(&mut self.store, &key)?;
            }
            ContactEdit::AllowLegacy { key } => {
                tracing::warn!("a key is allowed to be called on legacy");
                self.change(key, now, |contact| contact.allow_legacy = true)?;
            }
        }
        self.contacts(now)
    }

    fn change(
        &mut self,
        who: &str,
        now: Millis,
        change: impl FnOnce(&mut StoredContact),
    ) -> Result<PublicKey, Fault> {
        let key = self.find_agent(who, now)?.key;
        let mut contact = self.book.entry(&key);
        change(&mut contact);
        self.book.save(&mut self.store, contact)?;
        Ok(key)
    }

    /// Whether a key, in whatever form, is blocked because it claims to be an agent that has another key.
    pub(in super::super) fn is_claimant(&self, who: &str, now: Millis) -> bool {
        self.find_agent(who, now).is_ok_and(|found| self.book.claimed(&found.key).is_some())
    }

    /// A name of the user's own that could be taken for another would be worse than none.
    fn check_distinct(&self, name: &str, key: &PublicKey) -> Result<(), Fault> {
        let Some(other) = self.book.looks_like(key, name) else { return Ok(()) };
        Err(Error::new(
            ErrorKind::InvalidValue,
            format!("{} could be taken for {}, which is another key", quote(name), quote(&other)),
            "take a name that differs more: p2p-comm contacts add NAME KEY",
        )
        .into())
    }
}

/// Text that is meant as a key, right or wrong: an agent id of this form could not be told from one.
fn looks_like_a_key(text: &str) -> bool {
    let bare = text.strip_prefix("nostr:").unwrap_or(text);
    ["npub1", "nprofile1", "nsec1"].iter().any(|prefix| bare.starts_with(prefix))
        || bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn check_name(name: &str) -> Result<(), Fault> {
    let fits = (1..=NAME_LIMIT).contains(&name.chars().count()) && !name.trim().is_empty();
    if fits && !name.chars().any(char::is_control) && !looks_like_a_key(name) {
        return Ok(());
    }
    let message = format!("a contact's name has 1 to {NAME_LIMIT} characters, and is not a key");
    Err(Error::new(ErrorKind::InvalidValue, message, "p2p-comm contacts add NAME KEY").into())
}

fn no_contact(name: &str) -> Error {
    let message = format!("there is no contact \"{}\"", short(name));
    Error::new(ErrorKind::UnknownAgent, message, "see: p2p-comm contacts list")
}

/// A name as an error repeats it.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(NAME_LIMIT).collect()
}

/// What an agent without a known agent id is called.
fn short_key(key: &PublicKey) -> String {
    key.to_string().chars().take(8).collect()
}
