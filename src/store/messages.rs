//! What was said, and what is held back until its turn.

use rusqlite::Row;

use super::calls::trace;
use super::intact::{self, Content, Mark};
use super::{Result, Store};
use crate::mutants::{Mutant, planted};
use crate::proto::{CallId, MessageId, MessageKind, MessageState, Millis, PublicKey, Sender, TraceParent};

/// A message to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Its id, unique per sender.
    pub message: MessageId,
    /// Its call.
    pub call: Option<CallId>,
    /// The other end.
    pub peer: PublicKey,
    /// Who said it.
    pub sender: Sender,
    /// What it is.
    pub kind: MessageKind,
    /// The words.
    pub text: String,
    /// The file, as the JSON of `api::File`.
    pub file: Option<String>,
    /// When.
    pub at: Millis,
    /// How far it has come.
    pub state: MessageState,
    /// Its number in its direction of the call.
    pub seq: Option<u64>,
}

/// A message as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place among all messages of this home.
    pub row: u64,
    /// What was written.
    pub message: NewMessage,
    /// Why it failed.
    pub reason: Option<String>,
    /// Somebody has read it.
    pub read: bool,
    /// The trace that it is part of.
    pub traceparent: Option<TraceParent>,
}

const COLUMNS: &str = "row, message, call, peer, sender, kind, text, file, at, state, seq, reason, read_at IS NOT NULL, hash, traceparent";

/// By its id: SQLite would rather look through the whole call.
pub(super) const ROW_OF_OURS: &str =
    "SELECT row FROM messages WHERE message = ? AND sender IN ('me', 'owner') AND +call = ?";
pub(super) const READ_THERE: &str = "UPDATE messages SET state = 'read', reason = NULL \
     WHERE call = ? AND row BETWEEN ? AND ? AND sender IN ('me', 'owner') AND state = 'delivered' RETURNING row";
/// By who has not read it, for the same reason.
pub(super) const UNREAD_OF_CALL: &str = "+call = ?1 AND sender = 'peer' AND read_at IS NULL";

/// Of what a message says. State and time of reading change, and are not of it.
fn mark(message: &NewMessage) -> Mark {
    Content::new()
        .field(message.message.0)
        .optional(message.call.map(|call| call.0))
        .field(message.peer.0)
        .field(message.sender.word())
        .field(message.kind.word())
        .field(&message.text)
        .optional(message.file.as_deref())
        .number(message.at.0)
        .number(message.seq.unwrap_or_default())
        .mark()
}

/// A row, if it is what was written.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<StoredMessage>> {
    Ok(intact::read(row, 13, "message", read_unverified, |found| mark(&found.message)))
}

fn read_unverified(row: &Row<'_>) -> rusqlite::Result<StoredMessage> {
    let message = NewMessage {
        message: row.get(1)?,
        call: row.get(2)?,
        peer: row.get(3)?,
        sender: row.get(4)?,
        kind: row.get(5)?,
        text: row.get(6)?,
        file: row.get(7)?,
        at: row.get(8)?,
        state: row.get(9)?,
        seq: row.get(10)?,
    };
    let traceparent = trace(row, 14)?;
    Ok(StoredMessage { row: row.get(0)?, message, reason: row.get(11)?, read: row.get(12)?, traceparent })
}

impl Store {
    /// Writes a message. Its row, or nothing if this sender has used its id before.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn add_message(&mut self, new: &NewMessage) -> Result<Option<u64>> {
        let added = self.changed(
            "INSERT INTO messages (message, call, peer, sender, kind, text, file, at, state, seq, hash) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            rusqlite::params![
                new.message,
                new.call,
                new.peer,
                new.sender,
                new.kind,
                new.text,
                new.file,
                new.at,
                new.state,
                new.seq,
                mark(new)
            ],
        )?;
        if added == 0 {
            let known = if planted(Mutant::DedupSkipped) {
                self.peer_message(&new.peer, &new.message)?
            } else {
                None
            };
            return Ok(known.map(|known| known.row));
        }
        let row = self.db.last_insert_rowid() as u64;
        if let Some(call) = &new.call {
            self.count_message(call)?;
        }
        Ok(Some(row))
    }

    /// Notes the trace that a message is part of: one of ours, or of a peer's.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn trace_message(
        &mut self,
        peer: Option<&PublicKey>,
        id: &MessageId,
        trace: &TraceParent,
    ) -> Result<()> {
        match peer {
            Some(peer) => self.execute(
                "UPDATE messages SET traceparent = ?3 WHERE message = ?1 AND peer = ?2 AND sender = 'peer'",
                (id, peer, trace.as_str()),
            ),
            None => self.execute(
                "UPDATE messages SET traceparent = ?2 WHERE message = ?1 AND sender = 'me'",
                (id, trace.as_str()),
            ),
        }
    }

    /// Writes what a peer said before its turn. `false` if it is known already.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn hold_message(&mut self, new: &NewMessage) -> Result<bool> {
        let added = self.changed(
            "INSERT INTO held (message, call, peer, kind, text, file, at, seq, hash) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 \
             WHERE NOT EXISTS (SELECT 1 FROM messages WHERE peer = ?3 AND sender = 'peer' AND message = ?1) \
             ON CONFLICT DO NOTHING",
            rusqlite::params![
                new.message,
                new.call,
                new.peer,
                new.kind,
                new.text,
                new.file,
                new.at,
                new.seq,
                mark(new)
            ],
        )?;
        Ok(added > 0)
    }

    /// Moves what was held back to where it is shown. Its row and what it is, or nothing if it is not there.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn surface_message(
        &mut self,
        call: &CallId,
        message: &MessageId,
    ) -> Result<Option<(u64, MessageKind)>> {
        let read = |row: &Row<'_>| {
            Ok(NewMessage {
                message: *message,
                call: Some(*call),
                peer: row.get(0)?,
                sender: Sender::Peer,
                kind: row.get(1)?,
                text: row.get(2)?,
                file: row.get(3)?,
                at: row.get(4)?,
                state: MessageState::Received,
                seq: row.get(5)?,
            })
        };
        let found = self.query_one(
            "SELECT peer, kind, text, file, at, seq, hash FROM held WHERE call = ? AND message = ?",
            (call, message),
            |row| Ok(intact::read(row, 6, "held message", read, mark)),
        )?;
        self.discard_held(call, message)?;
        let Some(held) = found.flatten() else { return Ok(None) };
        Ok(self.add_message(&held)?.map(|row| (row, held.kind)))
    }

    /// Forgets what was held back.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn discard_held(&mut self, call: &CallId, message: &MessageId) -> Result<()> {
        self.execute("DELETE FROM held WHERE call = ? AND message = ?", (call, message))
    }

    /// What is held back in a call, in the order of arrival.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn held_in(&self, call: &CallId) -> Result<Vec<(MessageId, Option<u64>)>> {
        self.query_all("SELECT message, seq FROM held WHERE call = ? ORDER BY row", [call], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }

    /// Calls in which something is held back.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn calls_with_held(&self) -> Result<Vec<CallId>> {
        self.query_all("SELECT DISTINCT call FROM held", [], |row| row.get(0))
    }

    /// A message by its row.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn message_at(&self, row: u64) -> Result<Option<StoredMessage>> {
        Ok(self.query_one(&format!("SELECT {COLUMNS} FROM messages WHERE row = ?"), [row], read)?.flatten())
    }

    /// A message of ours by its id.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn my_message(&self, message: &MessageId) -> Result<Option<StoredMessage>> {
        let sql = format!("SELECT {COLUMNS} FROM messages WHERE message = ? AND sender IN ('me', 'owner')");
        Ok(self.query_one(&sql, [message], read)?.flatten())
    }

    /// The newest `limit` messages, oldest first.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn messages(&self, call: Option<&CallId>, unread: bool, limit: usize) -> Result<Vec<StoredMessage>> {
        let wanted = match (call, unread) {
            (Some(_), true) => UNREAD_OF_CALL,
            (Some(_), false) => "call = ?1",
            (None, true) => "?1 IS NULL AND sender = 'peer' AND read_at IS NULL",
            (None, false) => "?1 IS NULL",
        };
        let sql = format!("SELECT {COLUMNS} FROM messages WHERE {wanted} ORDER BY row DESC LIMIT ?2");
        let newest_first = self.query_all(&sql, (call, limit), read)?;
        Ok(newest_first.into_iter().flatten().rev().collect())
    }

    /// How many messages of peers nobody has read.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn unread_count(&self) -> Result<u64> {
        self.count("SELECT count(*) FROM messages WHERE sender = 'peer' AND read_at IS NULL", [])
    }

    /// How many messages of ours failed.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn failed_count(&self) -> Result<u64> {
        self.count("SELECT count(*) FROM messages WHERE state = 'failed'", [])
    }

    /// Somebody has read a message of a peer. The call that it is of and its row, if it is of one and was not read
    /// before.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn mark_read(&mut self, message: &MessageId, now: Millis) -> Result<Option<(CallId, u64)>> {
        let read = self.query_one(
            "UPDATE messages SET read_at = ?2 WHERE message = ?1 AND sender = 'peer' AND read_at IS NULL \
             RETURNING call, row",
            (message, now),
            |row| Ok((row.get::<_, Option<CallId>>(0)?, row.get(1)?)),
        )?;
        Ok(read.and_then(|(call, row)| Some((call?, row))))
    }

    /// The same of a message that is named by its row. The call that it is of and its id.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn mark_row_read(&mut self, row: u64, now: Millis) -> Result<Option<(CallId, MessageId)>> {
        let read = self.query_one(
            "UPDATE messages SET read_at = ?2 WHERE row = ?1 AND sender = 'peer' AND read_at IS NULL \
             RETURNING call, message",
            (row, now),
            |row| Ok((row.get::<_, Option<CallId>>(0)?, row.get(1)?)),
        )?;
        Ok(read.and_then(|(call, message)| Some((call?, message))))
    }

    /// A message of ours has come further. Its row, or nothing if it is not there or was as far already. What has
    /// failed or arrived stays so.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn advance_message(
        &mut self,
        message: &MessageId,
        state: MessageState,
        reason: Option<&str>,
    ) -> Result<Option<u64>> {
        let before = match state {
            MessageState::Read => "'queued', 'relayed', 'delivered'",
            MessageState::Delivered => "'queued', 'relayed'",
            _ => "'queued'",
        };
        let sql = format!(
            "UPDATE messages SET state = ?2, reason = ?3 WHERE message = ?1 AND sender IN ('me', 'owner') AND state IN ({before}) \
             RETURNING row"
        );
        self.query_one(&sql, (message, state, reason), |row| row.get(0))
    }

    /// The peer has committed a message of ours. Its row, or nothing if that was known. Of a file it has committed only
    /// the offer: the peer says when it has the rest.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn deliver_message(&mut self, message: &MessageId) -> Result<Option<u64>> {
        self.query_one(
            "UPDATE messages SET state = 'delivered', reason = NULL WHERE message = ? AND sender IN ('me', 'owner') \
             AND state IN ('queued', 'relayed') AND kind <> 'file' RETURNING row",
            [message],
            |row| row.get(0),
        )
    }

    /// Why a message has failed.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn set_reason(&mut self, row: u64, why: &str) -> Result<()> {
        self.execute("UPDATE messages SET reason = ?2 WHERE row = ?1", (row, why))
    }

    /// The peer's application has taken a message of ours, and all that the peer had before it: of those from a row on, the
    /// rows that it had not taken before, in their order; and the row of that message. Nothing if there is no such message.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn read_there(
        &mut self,
        call: &CallId,
        message: &MessageId,
        from: u64,
    ) -> Result<Option<(Vec<u64>, u64)>> {
        let through = self.query_one(ROW_OF_OURS, (message, call), |row| row.get(0))?;
        let Some(through) = through else { return Ok(None) };
        let mut rows: Vec<u64> = self.query_all(READ_THERE, (call, from, through), |row| row.get(0))?;
        rows.sort_unstable();
        Ok(Some((rows, through)))
    }

    /// Messages of ours that wait and have no event in the outbox: what a v2 session carries, and mail that was not
    /// sealed yet. In their order.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn unposted(&self) -> Result<Vec<StoredMessage>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM messages WHERE sender IN ('me', 'owner') AND state = 'queued' \
             AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.message = messages.message) ORDER BY row"
        );
        Ok(self.query_all(&sql, [], read)?.into_iter().flatten().collect())
    }

    /// How many messages of ours went to a key outside of calls.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn count_mail_to(&self, peer: &PublicKey) -> Result<u64> {
        self.count("SELECT count(*) FROM messages WHERE call IS NULL AND sender = 'me' AND peer = ?", [peer])
    }

    /// A message of a peer by its id.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn peer_message(&self, peer: &PublicKey, message: &MessageId) -> Result<Option<StoredMessage>> {
        let sql =
            format!("SELECT {COLUMNS} FROM messages WHERE message = ? AND peer = ? AND sender = 'peer'");
        Ok(self.query_one(&sql, (message, peer), read)?.flatten())
    }
}
