//! `contacts`: the contact book.

use clap::{Args, Subcommand};

use super::session::{Session, ask};
use super::{DONE, Verdict, show};
use crate::api::{self, Command, ContactEdit};

/// The contact book
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm contacts add bob npub1…
         p2p-comm contacts block npub1…

A KEY is an npub, an nprofile, a hex key, or the id of an agent that is online. A NAME is yours alone: nobody is told.
A key that claims an id pinned to another is blocked. Compare fingerprints with its owner by another way (theirs is
in their `status`), then `verify` in a terminal: the new key, or the old one to reject the claim.")]
pub(super) struct Contacts {
    #[command(subcommand)]
    verb: Option<ContactsVerb>,
}

#[derive(Debug, Subcommand)]
enum ContactsVerb {
    /// Everybody in it (also without a verb)
    List,
    /// Name a key; its agent id is pinned to it
    Add { name: String, key: String },
    /// Forget a name; what is pinned or blocked stays
    Remove { name: String },
    /// Let nothing of a key in
    Block { key: String },
    /// Let it in again
    Unblock { key: String },
    /// Move a name, and the agent id pinned with it, to another key, or confirm that it is this one; in a terminal
    Verify { name: String, key: String },
    /// Allow calls on the legacy dialect to a key that has shown a better one
    AllowLegacy { key: String },
}

impl Contacts {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        let command = match self.verb {
            None | Some(ContactsVerb::List) => Command::Contacts {},
            Some(ContactsVerb::Add { name, key }) => Command::ContactEdit(ContactEdit::Add { name, key }),
            Some(ContactsVerb::Remove { name }) => Command::ContactEdit(ContactEdit::Remove { name }),
            Some(ContactsVerb::Block { key }) => Command::ContactEdit(ContactEdit::Block { key }),
            Some(ContactsVerb::Unblock { key }) => Command::ContactEdit(ContactEdit::Unblock { key }),
            Some(ContactsVerb::Verify { name, key }) => {
                Command::ContactEdit(ContactEdit::Verify { name, key })
            }
            Some(ContactsVerb::AllowLegacy { key }) => Command::ContactEdit(ContactEdit::AllowLegacy { key }),
        };
        let client = session.client().await?;
        let contacts: api::Contacts = ask(&client, command).await?;
        session
            .printer
            .data(&contacts, || show::lines(&contacts.contacts, "no contacts yet", show::contact))?;
        Ok(DONE)
    }
}
