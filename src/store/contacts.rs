//! Keys that the user, or a call, has told us about.

use rusqlite::Row;

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

const COLUMNS: &str = "key, name, agent_id, known, blocked, allow_legacy, verified";

fn read(row: &Row<'_>) -> rusqlite::Result<StoredContact> {
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
        self.query_all(&sql, [], read)
    }

    /// Writes what is known about a key. A name or agent id that another key had goes to this one.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn save_contact(&mut self, contact: &StoredContact) -> Result<()> {
        self.execute(
            "UPDATE contacts SET name = NULL WHERE name = ?1 AND key <> ?2",
            (&contact.name, contact.key),
        )?;
        self.execute(
            "UPDATE contacts SET agent_id = NULL WHERE agent_id = ?1 AND key <> ?2",
            (&contact.agent_id, contact.key),
        )?;
        self.execute(
            "INSERT INTO contacts (key, name, agent_id, known, blocked, allow_legacy, verified) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (key) DO UPDATE SET \
             name = ?2, agent_id = ?3, known = ?4, blocked = ?5, allow_legacy = ?6, verified = ?7",
            (
                contact.key,
                &contact.name,
                &contact.agent_id,
                contact.known,
                contact.blocked,
                contact.allow_legacy,
                contact.verified,
            ),
        )
    }
}
