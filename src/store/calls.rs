//! Calls.

use rusqlite::Row;

use super::intact::{self, Content, Mark};
use super::{Result, Store};
use crate::proto::call::{Call, Ended};
use crate::proto::{CallId, PublicKey, TraceParent};

/// A call as it was persisted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCall {
    /// What the machine knows.
    pub call: Call,
    /// How many messages it holds.
    pub messages: u64,
    /// The trace that it is part of.
    pub traceparent: Option<TraceParent>,
}

const COLUMNS: &str = "id, peer, room, direction, protocol, agent_id, agent_name, topic, started_at, ring_until, \
     connected_at, ended_at, end_reason, words, next_out, next_in, closing_after, closing_until, gap_until, messages, queued, hash, traceparent";

/// Of who calls, and of what is said about it. Numbers and times change, and are not of it.
fn mark(call: &Call) -> Mark {
    Content::new()
        .field(call.id.0)
        .field(call.peer.0)
        .field(&call.room)
        .field(&call.agent_id)
        .field(&call.agent_name)
        .field(&call.topic)
        .optional(call.ended.as_ref().and_then(|ended| ended.words.as_deref()))
        .mark()
}

/// A call, if it is what was written.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<StoredCall>> {
    Ok(intact::read(row, 21, "call", read_unverified, |stored| mark(&stored.call)))
}

fn read_unverified(row: &Row<'_>) -> rusqlite::Result<StoredCall> {
    let ended = match (row.get(11)?, row.get(12)?) {
        (Some(at), Some(reason)) => Some(Ended { at, reason, words: row.get(13)? }),
        _ => None,
    };
    let closing = match (row.get(16)?, row.get(17)?) {
        (Some(after), Some(until)) => Some((after, until)),
        _ => None,
    };
    let call = Call {
        id: row.get(0)?,
        peer: row.get(1)?,
        room: row.get(2)?,
        direction: row.get(3)?,
        protocol: row.get(4)?,
        agent_id: row.get(5)?,
        agent_name: row.get(6)?,
        topic: row.get(7)?,
        started_at: row.get(8)?,
        ring_until: row.get(9)?,
        connected_at: row.get(10)?,
        ended,
        next_out: row.get(14)?,
        next_in: row.get(15)?,
        closing,
        gap_until: row.get(18)?,
        queued: row.get(20)?,
    };
    Ok(StoredCall { call, messages: row.get(19)?, traceparent: trace(row, 22)? })
}

/// A trace, if it is one: what a damaged row says of it is of no use.
pub(super) fn trace(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<TraceParent>> {
    Ok(row.get::<_, Option<String>>(column)?.and_then(|text| text.parse().ok()))
}

impl Store {
    /// Notes the trace that a call is part of.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn trace_call(&mut self, call: &CallId, trace: &TraceParent) -> Result<()> {
        self.execute("UPDATE calls SET traceparent = ?2 WHERE id = ?1", (call, trace.as_str()))
    }

    /// Writes a call as it is now.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn save_call(&mut self, call: &Call) -> Result<()> {
        let ended = call.ended.as_ref();
        self.execute(
            "INSERT INTO calls (id, peer, room, direction, protocol, agent_id, agent_name, topic, started_at, \
             ring_until, connected_at, ended_at, end_reason, words, next_out, next_in, closing_after, closing_until, \
             gap_until, queued, hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21) \
             ON CONFLICT (id) DO UPDATE SET peer = ?2, room = ?3, agent_id = ?6, agent_name = ?7, topic = ?8, \
             connected_at = ?11, ended_at = ?12, end_reason = ?13, words = ?14, next_out = ?15, next_in = ?16, \
             closing_after = ?17, closing_until = ?18, gap_until = ?19, queued = ?20, hash = ?21",
            rusqlite::params![
                call.id,
                call.peer,
                call.room,
                call.direction,
                call.protocol,
                call.agent_id,
                call.agent_name,
                call.topic,
                call.started_at,
                call.ring_until,
                call.connected_at,
                ended.map(|end| end.at),
                ended.map(|end| end.reason),
                ended.and_then(|end| end.words.as_deref()),
                call.next_out,
                call.next_in,
                call.closing.map(|(after, _)| after),
                call.closing.map(|(_, until)| until),
                call.gap_until,
                call.queued,
                mark(call),
            ],
        )
    }

    fn one_call(&self, which: &str, params: impl rusqlite::Params) -> Result<Option<StoredCall>> {
        self.write_pending()?;
        let sql = format!("SELECT {COLUMNS} FROM calls WHERE {which}");
        Ok(self.query_one(&sql, params, read)?.flatten())
    }

    fn all_calls(&self, which: &str, params: impl rusqlite::Params) -> Result<Vec<StoredCall>> {
        self.write_pending()?;
        let sql = format!("SELECT {COLUMNS} FROM calls WHERE {which}");
        Ok(self.query_all(&sql, params, read)?.into_iter().flatten().collect())
    }

    /// A call by its id.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn call(&self, id: &CallId) -> Result<Option<StoredCall>> {
        self.one_call("id = ?", [id])
    }

    /// A call by what it is on the wire.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn call_in_room(&self, peer: &PublicKey, room: &str) -> Result<Option<StoredCall>> {
        self.one_call("peer = ? AND room = ?", (peer, room))
    }

    /// Calls that are not over, newest first.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn live_calls(&self) -> Result<Vec<StoredCall>> {
        self.all_calls("ended_at IS NULL ORDER BY rowid DESC", [])
    }

    /// Calls, newest first: in the order in which they came. When one began, its caller's clock says.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn calls(&self, limit: usize) -> Result<Vec<StoredCall>> {
        self.all_calls("queued = 0 ORDER BY rowid DESC LIMIT ?", [limit])
    }

    /// Calls that came in, were not answered, and that nobody has looked at yet; newest first.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn missed_calls(&self, limit: usize) -> Result<Vec<StoredCall>> {
        let missed = "direction = 'in' AND ended_at IS NOT NULL AND connected_at IS NULL \
             AND end_reason <> 'rejected' AND looked_at = 0 AND queued = 0 ORDER BY rowid DESC LIMIT ?";
        self.all_calls(missed, [limit])
    }

    /// Calls that wait in the queue of strangers, newest first: those that still ring, and those that have rung.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn queued_calls(&self) -> Result<Vec<StoredCall>> {
        self.all_calls("queued = 1 ORDER BY rowid DESC", [])
    }

    /// Which calls wait in the queue of strangers and whose they are, the oldest first: asked at every ring of a flood.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn queued_keys(&self) -> Result<Vec<(CallId, PublicKey)>> {
        self.query_all("SELECT id, peer FROM calls WHERE queued = 1 ORDER BY rowid", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }

    /// Deletes a call in which nothing was said.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn delete_call(&mut self, id: &CallId) -> Result<()> {
        for sql in [
            "DELETE FROM held WHERE call = ?",
            "DELETE FROM lines WHERE call = ?",
            "DELETE FROM aliases WHERE call = ?",
            "DELETE FROM calls WHERE id = ?",
        ] {
            self.execute(sql, [id])?;
        }
        Ok(())
    }

    /// Somebody has looked at a missed call.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn mark_looked_at(&mut self, id: &CallId) -> Result<()> {
        self.execute("UPDATE calls SET looked_at = 1 WHERE id = ?", [id])
    }

    /// The call that a caller gave this name.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn call_by_client_id(&self, client_id: &str) -> Result<Option<StoredCall>> {
        self.one_call("client_id = ?", [client_id])
    }

    /// Remembers the caller's own name for a call.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn set_client_id(&mut self, id: &CallId, client_id: &str) -> Result<()> {
        self.execute("UPDATE calls SET client_id = ?2 WHERE id = ?1", (id, client_id))
    }
}
