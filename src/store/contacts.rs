//! Keys that the user, or a call, has told us about.

use rusqlite::Row;

use super::intact::{self, Content, Mark};
use super::{Result, Store};
use crate::proto::PublicKey;

/// What is known about a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredContact {
    /// The key.
    pub key: PublicKey,
    /// The user's name for it.
    pub name: Option<String>,
    /// The agent id pinned to it.
    pub agent_id: Option<String>,
    /// A call with it was once accepted.
    pub known: bool,
    /// Nothing of it comes in.
    pub blocked: bool,
    /// May be called on legacy although it has shown v2.
    pub allow_legacy: bool,
    /// A person has compared it with its owner's.
    pub verified: bool,
}

const COLUMNS: &str = "key, name, agent_id, known, blocked, allow_legacy, verified, hash";

fn mark(contact: &StoredContact) -> Mark {
    let flags = [contact.known, contact.blocked, contact.allow_legacy, contact.verified];
    Content::new()
        .field(contact.key.0)
        .optional(contact.name.as_deref())
        .optional(contact.agent_id.as_deref())
        .field(flags.map(u8::from))
        .mark()
}

/// What is known about a key, if it is what was written. Of a damaged row one thing is believed: that a key is blocked.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<StoredContact>> {
    let found = intact::read(row, 7, "contact", read_unverified, mark);
    Ok(found.or_else(|| match (row.get(0), row.get(4)) {
        (Ok(key), Ok(true)) => Some(StoredContact { key, blocked: true, ..StoredContact::default() }),
        _ => None,
    }))
}

fn read_unverified(row: &Row<'_>) -> rusqlite::Result<StoredContact> {
    Ok(StoredContact {
        key: row.get(0)?,
        name: row.get(1)?,
        agent_id: row.get(2)?,
        known: row.get(3)?,
        blocked: row.get(4)?,
        allow_legacy: row.get(5)?,
        verified: row.get(6)?,
    })
}

impl Store {
    /// All of them, by name, the nameless last.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn contacts(&self) -> Result<Vec<StoredContact>> {
        let sql = format!("SELECT {COLUMNS} FROM contacts ORDER BY name IS NULL, name, agent_id, key");
        Ok(self.query_all(&sql, [], read)?.into_iter().flatten().collect())
    }

    /// Writes what is known about a key. A name or agent id that another key had goes to this one.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn save_contact(&mut self, contact: &StoredContact) -> Result<()> {
        let StoredContact { key, name, agent_id, .. } = contact;
        let sql = format!("SELECT {COLUMNS} FROM contacts WHERE key <> ? AND (name = ? OR agent_id = ?)");
        let others = self.query_all(&sql, (key, name, agent_id), read)?;
        // Of damaged rows, too: both are unique.
        self.execute("UPDATE contacts SET name = NULL WHERE name = ? AND key <> ?", (name, key))?;
        self.execute("UPDATE contacts SET agent_id = NULL WHERE agent_id = ? AND key <> ?", (agent_id, key))?;
        for mut other in others.into_iter().flatten() {
            other.name = other.name.filter(|it| Some(it) != name.as_ref());
            other.agent_id = other.agent_id.filter(|it| Some(it) != agent_id.as_ref());
            self.write_contact(&other)?;
        }
        self.write_contact(contact)
    }

    fn write_contact(&mut self, contact: &StoredContact) -> Result<()> {
        self.execute(
            "INSERT INTO contacts (key, name, agent_id, known, blocked, allow_legacy, verified, hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (key) DO UPDATE SET \
             name = ?2, agent_id = ?3, known = ?4, blocked = ?5, allow_legacy = ?6, verified = ?7, hash = ?8",
            (
                contact.key,
                &contact.name,
                &contact.agent_id,
                contact.known,
                contact.blocked,
                contact.allow_legacy,
                contact.verified,
                mark(contact),
            ),
        )
    }
}
