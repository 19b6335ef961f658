//! Files under way in v2 calls.

use rusqlite::Row;

use super::intact::{self, Content, Mark};
use super::{Result, Store};
use crate::proto::{CallId, Hex, MessageId};

/// A file on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTransfer {
    /// The call.
    pub call: CallId,
    /// Ours, or the peer's.
    pub outgoing: bool,
    /// The message that it is.
    pub message: MessageId,
    /// The stream that carries it.
    pub stream: u32,
    /// Its name, made safe.
    pub name: String,
    /// Its MIME type, as the sender says.
    pub mime: String,
    /// Its size, bytes.
    pub size: u64,
    /// Its SHA-256, as the sender says.
    pub sha256: Hex<32>,
    /// Bytes handed to the delivery machine, or received.
    pub done: u64,
    /// The receiver wants it.
    pub accepted: bool,
}

const COLUMNS: &str = "call, outgoing, message, stream, name, mime, size, sha256, done, accepted, hash";

fn mark(it: &StoredTransfer) -> Mark {
    Content::new()
        .field(it.call.0)
        .field([it.outgoing.into(), it.accepted.into()])
        .field(it.message.0)
        .field(&it.name)
        .field(&it.mime)
        .field(it.sha256.0)
        .number(it.stream.into())
        .number(it.size)
        .number(it.done)
        .mark()
}

/// A file under way, if it is what was written: of a damaged one, a message that waits is carried another way.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<StoredTransfer>> {
    Ok(intact::read(row, 10, "file under way", read_unverified, mark))
}

fn read_unverified(row: &Row<'_>) -> rusqlite::Result<StoredTransfer> {
    Ok(StoredTransfer {
        call: row.get(0)?,
        outgoing: row.get(1)?,
        message: row.get(2)?,
        stream: row.get(3)?,
        name: row.get(4)?,
        mime: row.get(5)?,
        size: row.get(6)?,
        sha256: row.get(7)?,
        done: row.get(8)?,
        accepted: row.get(9)?,
    })
}

impl Store {
    /// Writes a file's state as it is now.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn save_transfer(&mut self, it: &StoredTransfer) -> Result<()> {
        self.execute(
            "INSERT INTO transfers (call, outgoing, message, stream, name, mime, size, sha256, done, accepted, hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
             ON CONFLICT DO UPDATE SET stream = ?4, name = ?5, mime = ?6, size = ?7, sha256 = ?8, done = ?9, \
             accepted = ?10, hash = ?11",
            (
                it.call,
                it.outgoing,
                it.message,
                it.stream,
                &it.name,
                &it.mime,
                it.size,
                it.sha256,
                it.done,
                it.accepted,
                mark(it),
            ),
        )
    }

    /// The files under way in a call.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn transfers(&self, call: &CallId) -> Result<Vec<StoredTransfer>> {
        let sql = format!("SELECT {COLUMNS} FROM transfers WHERE call = ?");
        Ok(self.query_all(&sql, [call], read)?.into_iter().flatten().collect())
    }

    /// A file under way by its message; of two with the same name, ours.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn transfer_of(&self, message: &MessageId) -> Result<Option<StoredTransfer>> {
        let sql = format!("SELECT {COLUMNS} FROM transfers WHERE message = ? ORDER BY outgoing DESC LIMIT 1");
        Ok(self.query_one(&sql, [message], read)?.flatten())
    }

    /// Bytes of files of peers that were accepted and have not come.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn promised(&self) -> Result<u64> {
        let sql = "SELECT coalesce(sum(max(size - done, 0)), 0) FROM transfers WHERE outgoing = 0";
        Ok(self.query_one(sql, [], |row| row.get(0))?.unwrap_or_default())
    }

    /// A file is through, or is not to come.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn drop_transfer(&mut self, call: &CallId, outgoing: bool, message: &MessageId) -> Result<()> {
        let sql = "DELETE FROM transfers WHERE call = ? AND outgoing = ? AND message = ?";
        self.execute(sql, (call, outgoing, message))
    }
}
