//! Keys that have shown v2: they are never called on legacy again, whatever a relay says later.

use super::{Result, Store, json};
use crate::proto::{Millis, PublicKey};

/// Most keys remembered that are nobody's contact. A flood of free keys pushes out the oldest; keys of calls and
/// contacts stay.
const STRANGERS_LIMIT: u64 = 50_000;

/// What is known of a key that has shown v2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredPeer {
    /// Where it reads its wraps, as it said: to be checked before they are dialled. Empty if it never said.
    pub inbox: Vec<String>,
    /// Bits of proof of work that it asks of strangers.
    pub work: u8,
}

impl Store {
    /// What is known of a key; nothing if it never showed v2.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn peer(&self, key: &PublicKey) -> Result<Option<StoredPeer>> {
        self.query_one("SELECT inbox, work FROM peers WHERE key = ?", [key], |row| {
            let inbox: String = row.get(0)?;
            Ok(StoredPeer { inbox: serde_json::from_str(&inbox).unwrap_or_default(), work: row.get(1)? })
        })
    }

    /// A key has shown v2. An empty list of relays changes none that is known.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn save_peer(&mut self, key: &PublicKey, peer: &StoredPeer, now: Millis) -> Result<()> {
        let inbox = json(&peer.inbox);
        self.execute(
            "INSERT INTO peers VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET \
             inbox = iif(?2 = '[]', inbox, ?2), work = ?3, at = ?4",
            (key, inbox, peer.work, now),
        )
    }

    /// Forgets the oldest keys beyond the limit that are nobody's contact.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn prune_peers(&mut self) -> Result<()> {
        self.execute(
            "DELETE FROM peers WHERE key IN (SELECT key FROM peers WHERE key NOT IN (SELECT key FROM contacts) \
             ORDER BY at DESC LIMIT -1 OFFSET ?)",
            [STRANGERS_LIMIT],
        )
    }
}
