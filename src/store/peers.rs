//! Keys that have shown v2: they are never called on legacy again, whatever a relay says later.

use rusqlite::Row;

use super::intact::{self, Content, Mark};
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

fn mark(key: &PublicKey, peer: &StoredPeer) -> Mark {
    Content::new().field(key.0).list(&peer.inbox).number(peer.work.into()).mark()
}

/// Of a damaged row only that the key has shown v2 is believed.
fn read(row: &Row<'_>) -> rusqlite::Result<StoredPeer> {
    let unverified = |row: &Row<'_>| {
        let inbox: String = row.get(1)?;
        let peer = StoredPeer { inbox: serde_json::from_str(&inbox).unwrap_or_default(), work: row.get(2)? };
        Ok((row.get(0)?, peer))
    };
    let found = intact::read(row, 3, "peer", unverified, |(key, peer)| mark(key, peer));
    Ok(found.map(|(_, peer)| peer).unwrap_or_default())
}

impl Store {
    /// What is known of a key; nothing if it never showed v2.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn peer(&self, key: &PublicKey) -> Result<Option<StoredPeer>> {
        self.query_one("SELECT key, inbox, work, hash FROM peers WHERE key = ?", [key], read)
    }

    /// A key has shown v2. An empty list of relays changes none that is known.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn save_peer(&mut self, key: &PublicKey, peer: &StoredPeer, now: Millis) -> Result<()> {
        let mut peer = peer.clone();
        if peer.inbox.is_empty() {
            peer.inbox = self.peer(key)?.unwrap_or_default().inbox;
        }
        self.execute(
            "INSERT INTO peers (key, inbox, work, at, hash) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO UPDATE SET inbox = ?2, work = ?3, at = ?4, hash = ?5",
            (key, json(&peer.inbox), peer.work, now, mark(key, &peer)),
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
