//! What no relay took yet; which events were handled; how far each relay was read.

use rusqlite::Row;

use super::intact::{self, Content, Mark};
use super::{Result, Store, json};
use crate::mutants::{Mutant, planted};
use crate::proto::{CallId, EventId, MessageId, Millis};

/// A signed event on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its id.
    pub event: EventId,
    /// Its kind.
    pub kind: u16,
    /// Its time, seconds.
    pub created_at: u64,
    /// The event, published as it is.
    pub json: String,
    /// The call it belongs to; all zeros outside of any.
    pub call: CallId,
    /// The message that it carries; none for what is said about the call itself.
    pub message: Option<MessageId>,
    /// When it was queued.
    pub at: Millis,
    /// The relays that it is for, where that are not simply ours.
    pub relays: Option<Vec<String>>,
}

/// Most ids of handled events remembered, 60 MB: a message every five seconds for as long as they are remembered.
const SEEN_LIMIT: u64 = 500_000;

const COLUMNS: &str = "event, kind, created_at, json, call, message, relays, at, hash";

fn mark(out: &Outgoing) -> Mark {
    let content = Content::new()
        .field(out.event.0)
        .field(&out.json)
        .field(out.call.0)
        .optional(out.message.map(|message| message.0))
        .number(out.kind.into())
        .number(out.created_at)
        .number(out.at.0);
    match &out.relays {
        Some(relays) => content.list(relays),
        None => content,
    }
    .mark()
}

/// An event on its way, if it is what was written: nothing goes to a relay that a flipped bit has named.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<Outgoing>> {
    Ok(intact::read(row, 8, "event on its way", read_unverified, mark))
}

fn read_unverified(row: &Row<'_>) -> rusqlite::Result<Outgoing> {
    let relays: Option<String> = row.get(6)?;
    Ok(Outgoing {
        event: row.get(0)?,
        kind: row.get(1)?,
        created_at: row.get(2)?,
        json: row.get(3)?,
        call: row.get(4)?,
        message: row.get(5)?,
        at: row.get(7)?,
        relays: relays.and_then(|relays| serde_json::from_str(&relays).ok()),
    })
}

impl Store {
    /// Keeps an event until a relay takes it.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn enqueue(&mut self, out: &Outgoing) -> Result<()> {
        self.execute(
            "INSERT INTO outbox (event, kind, created_at, json, call, message, relays, at, hash) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                &out.event,
                out.kind,
                out.created_at,
                &out.json,
                &out.call,
                &out.message,
                out.relays.as_ref().map(|relays| json(relays)),
                out.at,
                mark(out),
            ),
        )
    }

    /// Takes an event out: a relay has it, or all have refused it. Nothing if it was not there.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn dequeue(&mut self, event: &EventId) -> Result<Option<(CallId, Option<MessageId>)>> {
        self.query_one("DELETE FROM outbox WHERE event = ? RETURNING call, message", [event], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }

    /// An event that waits for a relay.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn queued(&self, event: &EventId) -> Result<Option<Outgoing>> {
        let sql = format!("SELECT {COLUMNS} FROM outbox WHERE event = ?");
        Ok(self.query_one(&sql, [event], read)?.flatten())
    }

    /// Whether a message waits for a relay.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn is_posted(&self, message: &MessageId) -> Result<bool> {
        Ok(self.query_one("SELECT 1 FROM outbox WHERE message = ?", [message], |_| Ok(()))?.is_some())
    }

    /// Everything that no relay took yet, in order.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn outbox(&self) -> Result<Vec<Outgoing>> {
        let sql = format!("SELECT {COLUMNS} FROM outbox ORDER BY row");
        Ok(self.query_all(&sql, [], read)?.into_iter().flatten().collect())
    }

    /// Takes out what is damaged: nobody would take it, and what it carried is to go another way.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn drop_damaged_outbox(&mut self) -> Result<()> {
        let sql = format!("SELECT {COLUMNS}, row FROM outbox");
        let rows = self.query_all(&sql, [], |row| Ok((read(row)?.is_none(), row.get::<_, i64>(9)?)))?;
        for (_, row) in rows.iter().filter(|(is_damaged, _)| *is_damaged) {
            self.execute("DELETE FROM outbox WHERE row = ?", [row])?;
        }
        Ok(())
    }

    /// How many messages wait: for a relay, or for a peer to have them.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn outbox_count(&self) -> Result<u64> {
        self.count("SELECT count(*) FROM messages WHERE state = 'queued'", [])
    }

    /// Notes that an event is handled. `false` if it was before.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn mark_seen(&mut self, event: &EventId, now: Millis) -> Result<bool> {
        let added = self.changed("INSERT INTO seen VALUES (?, ?) ON CONFLICT DO NOTHING", (event, now))?;
        Ok(added > 0 || planted(Mutant::DedupSkipped))
    }

    /// The newest events that were handled, for the filter in front of verification.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn seen(&self, limit: usize) -> Result<Vec<EventId>> {
        self.query_all("SELECT event FROM seen ORDER BY at DESC LIMIT ?", [limit], |row| row.get(0))
    }

    /// Forgets events handled before a time, and the oldest beyond a number that only a flood reaches.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn forget_seen(&mut self, before: Millis) -> Result<()> {
        self.execute("DELETE FROM seen WHERE at < ?", [before])?;
        self.execute(
            "DELETE FROM seen WHERE at < (SELECT at FROM seen ORDER BY at DESC LIMIT 1 OFFSET ?)",
            [SEEN_LIMIT],
        )
    }

    /// Up to where each relay's stored events were read: relay, class, seconds.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn cursors(&self) -> Result<Vec<(String, String, u64)>> {
        self.query_all("SELECT relay, class, since FROM cursors", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
    }

    /// Moves a cursor. It never goes back.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn set_cursor(&mut self, relay: &str, class: &str, since: u64) -> Result<()> {
        self.execute(
            "INSERT INTO cursors VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET since = max(since, ?3)",
            (relay, class, since),
        )
    }
}
