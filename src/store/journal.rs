//! The journal of events, and which consumer has taken which.
//!
//! A consumer has a low-water mark, below which it has taken everything that comes without being asked for, and a
//! set of events taken above it. So a `wait` for one call or one kind loses nothing of the others.

use rusqlite::Row;

use super::intact::{self, Content, Mark};
use super::{Result, Store, wrap};
use crate::proto::{CallId, EventKind, Millis, TicketId};

/// An event to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub at: Millis,
    /// The call it belongs to.
    pub call: Option<CallId>,
    /// The row of its message.
    pub message: Option<u64>,
    /// Its ticket.
    pub ticket: Option<TicketId>,
    /// What only this kind has, as JSON.
    pub detail: Option<String>,
    /// A command of this side made it happen: comes only when asked for by kind.
    pub own: bool,
}

/// An event of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its place.
    pub cursor: u64,
    /// What was written.
    pub event: NewEvent,
}

/// How the names of consumers begin that only watch: what they have seen, nobody has dealt with.
pub const WATCHERS: &str = "hook:";

/// Which events somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Not what this consumer has taken.
    pub consumer: Option<String>,
    /// Only after this cursor.
    pub after: u64,
    /// Only of this call.
    pub call: Option<CallId>,
    /// Only these kinds; empty: all that come without being asked for.
    pub kinds: Vec<EventKind>,
}

impl Filter {
    fn wants(&self, event: &NewEvent) -> bool {
        event.is_wanted(&self.kinds)
    }
}

impl NewEvent {
    /// Whether it is of these kinds; of none: whether it comes without being asked for.
    pub fn is_wanted(&self, kinds: &[EventKind]) -> bool {
        match kinds.is_empty() {
            true => !self.own && !self.kind.only_when_asked(),
            false => kinds.contains(&self.kind),
        }
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<JournalEntry> {
    let event = NewEvent {
        kind: row.get(1)?,
        at: row.get(2)?,
        call: row.get(3)?,
        message: row.get(4)?,
        ticket: row.get(5)?,
        detail: row.get(6)?,
        own: row.get(7)?,
    };
    Ok(JournalEntry { cursor: row.get(0)?, event })
}

fn mark(event: &NewEvent) -> Mark {
    Content::new()
        .field(event.kind.word())
        .number(event.at.0)
        .optional(event.call.map(|call| call.0))
        .number(event.message.unwrap_or_default())
        .optional(event.ticket.map(|ticket| ticket.0))
        .optional(event.detail.as_deref())
        .number(event.own.into())
        .mark()
}

/// An event, if it is what was written.
fn read_intact(row: &Row<'_>) -> Option<JournalEntry> {
    intact::read(row, 8, "event", read, |entry| mark(&entry.event))
}

const COLUMNS: &str = "cursor, kind, at, call, message, ticket, detail, own, hash";

impl Store {
    /// Writes an event. Its cursor.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn add_event(&mut self, event: &NewEvent) -> Result<u64> {
        self.execute(
            "INSERT INTO events (kind, at, call, message, ticket, detail, own, hash) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event.kind,
                event.at,
                event.call,
                event.message,
                event.ticket,
                &event.detail,
                event.own,
                mark(event),
            ),
        )?;
        Ok(self.db.last_insert_rowid() as u64)
    }

    /// The cursor of the newest event ever written; 0 if there was none.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn last_cursor(&self) -> Result<u64> {
        self.count("SELECT seq FROM sqlite_sequence WHERE name = 'events'", [])
    }

    /// The first event that somebody waits for. Takes nothing.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn peek(&self, filter: &Filter) -> Result<Option<JournalEntry>> {
        self.write_pending()?;
        let low = match &filter.consumer {
            Some(name) => self.count("SELECT low FROM consumers WHERE name = ?", [name])?,
            None => 0,
        };
        let of_call = if filter.call.is_some() { "call = ?2" } else { "?2 IS NULL" };
        let sql = format!(
            "SELECT {COLUMNS} FROM events \
             WHERE cursor > ?1 AND {of_call} \
             AND NOT EXISTS (SELECT 1 FROM taken WHERE consumer = ?3 AND taken.cursor = events.cursor) \
             ORDER BY cursor"
        );
        let search = || -> rusqlite::Result<Option<JournalEntry>> {
            let mut statement = self.db.prepare_cached(&sql)?;
            let mut rows = statement.query((low.max(filter.after), filter.call, &filter.consumer))?;
            while let Some(row) = rows.next()? {
                // What is not wanted need not be intact.
                if read(row).is_ok_and(|entry| !filter.wants(&entry.event)) {
                    continue;
                }
                if let Some(entry) = read_intact(row) {
                    return Ok(Some(entry));
                }
            }
            Ok(None)
        };
        search().map_err(|source| wrap(&self.path, source))
    }

    /// The first event that nobody has taken: no consumer but those that only watch, and nobody has done what would
    /// settle it. Only since a time, and nothing that this side did itself.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn untaken(&self, after: u64, kinds: &[EventKind], since: Millis) -> Result<Option<JournalEntry>> {
        self.write_pending()?;
        let low = self.count(
            "SELECT coalesce(max(low), 0) FROM consumers WHERE substr(name, 1, ?2) <> ?1",
            (WATCHERS, WATCHERS.len()),
        )?;
        let sql = format!(
            "SELECT {COLUMNS} FROM events WHERE cursor > ?1 AND at >= ?2 AND own = 0 \
             AND NOT EXISTS (SELECT 1 FROM consumers CROSS JOIN taken ON taken.consumer = consumers.name \
             WHERE taken.cursor = events.cursor AND substr(name, 1, ?4) <> ?3) \
             AND CASE \
             WHEN kind = 'call.ringing' THEN EXISTS (SELECT 1 FROM calls WHERE id = events.call \
             AND connected_at IS NULL AND ended_at IS NULL) \
             WHEN kind = 'call.connected' THEN EXISTS (SELECT 1 FROM calls WHERE id = events.call AND ended_at IS NULL) \
             WHEN kind = 'call.missed' THEN EXISTS (SELECT 1 FROM calls WHERE id = events.call AND looked_at = 0) \
             WHEN kind IN ('message.received', 'file.received', 'escalation.received') THEN EXISTS \
             (SELECT 1 FROM messages WHERE row = events.message AND read_at IS NULL) \
             WHEN kind = 'escalation.answered' THEN EXISTS (SELECT 1 FROM tickets WHERE id = events.ticket AND taken = 0) \
             ELSE 1 END ORDER BY cursor"
        );
        let filter = Filter { kinds: kinds.to_vec(), ..Filter::default() };
        let search = || -> rusqlite::Result<Option<JournalEntry>> {
            let mut statement = self.db.prepare_cached(&sql)?;
            let mut rows = statement.query((low.max(after), since, WATCHERS, WATCHERS.len()))?;
            while let Some(row) = rows.next()? {
                if let Some(entry) = read_intact(row).filter(|entry| filter.wants(&entry.event)) {
                    return Ok(Some(entry));
                }
            }
            Ok(None)
        };
        search().map_err(|source| wrap(&self.path, source))
    }

    /// A consumer goes past an event and all before it.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn pass(&mut self, consumer: &str, cursor: u64) -> Result<()> {
        self.write_pending()?;
        self.execute(
            "INSERT INTO consumers VALUES (?1, ?2) ON CONFLICT DO UPDATE SET low = max(low, ?2)",
            (consumer, cursor),
        )?;
        self.execute("DELETE FROM taken WHERE consumer = ?1 AND cursor <= ?2", (consumer, cursor))
    }

    /// An event by its cursor.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn event(&self, cursor: u64) -> Result<Option<JournalEntry>> {
        let sql = format!("SELECT {COLUMNS} FROM events WHERE cursor = ?");
        Ok(self.query_one(&sql, [cursor], |row| Ok(read_intact(row)))?.flatten())
    }

    /// Forgets events before a time. The cursor of the last one forgotten, ever, is [`Store::pruned`].
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn prune_events(&mut self, before: Millis) -> Result<()> {
        self.write_pending()?;
        // Cursors rise with time, so the first that is young enough is found without an index on time.
        let first_kept: Option<u64> = self.query_one(
            "SELECT cursor FROM events WHERE at >= ? ORDER BY cursor LIMIT 1",
            [before],
            |row| row.get(0),
        )?;
        let last = match first_kept {
            Some(first) => first.saturating_sub(1),
            None => self.last_cursor()?,
        };
        if last > self.pruned()? {
            self.execute("DELETE FROM events WHERE cursor <= ?", [last])?;
            self.execute("DELETE FROM taken WHERE cursor <= ?", [last])?;
            self.set_meta("pruned", last)?;
        }
        Ok(())
    }

    /// Events up to this cursor are no longer kept.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn pruned(&self) -> Result<u64> {
        Ok(self.meta("pruned")?.unwrap_or(0))
    }
}
