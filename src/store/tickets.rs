//! Questions to the owner.

use rusqlite::Row;

use super::intact::{self, Content, Mark};
use super::{Result, Store};
use crate::proto::{CallId, MessageId, Millis, TicketId, TicketState};

/// A question as it was persisted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTicket {
    /// Its id.
    pub id: TicketId,
    /// The call it came up in.
    pub call: Option<CallId>,
    /// What was asked.
    pub question: String,
    /// The answers offered, as a JSON array.
    pub options: String,
    /// Where it stands.
    pub state: TicketState,
    /// The owner's words.
    pub answer: Option<String>,
    /// The channels asked, as a JSON array of `api::Channel`.
    pub channels: String,
    /// When it was asked.
    pub at: Millis,
    /// When it expires.
    pub expires_at: Millis,
    /// Somebody has taken the answer.
    pub taken: bool,
    /// The message by which the peer was told of it: an answer names it.
    pub message: Option<MessageId>,
}

const COLUMNS: &str =
    "id, call, question, options, state, answer, channels, at, expires_at, taken, hash, message";

/// Of the question, and of what was decided.
fn mark(ticket: &StoredTicket) -> Mark {
    Content::new()
        .field(ticket.id.0)
        .optional(ticket.call.map(|call| call.0))
        .field(&ticket.question)
        .field(&ticket.options)
        .field(ticket.state.word())
        .optional(ticket.answer.as_deref())
        .number(ticket.expires_at.0)
        .mark()
}

/// A question, if it is what was written: no decision of the owner is made of a flipped bit.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<StoredTicket>> {
    Ok(intact::read(row, 10, "question to the owner", read_unverified, mark))
}

fn read_unverified(row: &Row<'_>) -> rusqlite::Result<StoredTicket> {
    Ok(StoredTicket {
        id: row.get(0)?,
        call: row.get(1)?,
        question: row.get(2)?,
        options: row.get(3)?,
        state: row.get(4)?,
        answer: row.get(5)?,
        channels: row.get(6)?,
        at: row.get(7)?,
        expires_at: row.get(8)?,
        taken: row.get(9)?,
        message: row.get(11)?,
    })
}

impl Store {
    /// Writes a question as it stands.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn save_ticket(&mut self, ticket: &StoredTicket) -> Result<()> {
        self.execute(
            "INSERT INTO tickets (id, call, question, options, state, answer, channels, at, expires_at, taken, hash, \
             message) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (id) DO UPDATE SET call = ?2, \
             question = ?3, options = ?4, state = ?5, answer = ?6, channels = ?7, expires_at = ?9, taken = ?10, hash = ?11",
            rusqlite::params![
                ticket.id,
                ticket.call,
                ticket.question,
                ticket.options,
                ticket.state,
                ticket.answer,
                ticket.channels,
                ticket.at,
                ticket.expires_at,
                ticket.taken,
                mark(ticket),
                ticket.message,
            ],
        )
    }

    /// A question by its id.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn ticket(&self, id: &TicketId) -> Result<Option<StoredTicket>> {
        Ok(self.query_one(&format!("SELECT {COLUMNS} FROM tickets WHERE id = ?"), [id], read)?.flatten())
    }

    /// Questions that wait for the owner, oldest first.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn open_tickets(&self) -> Result<Vec<StoredTicket>> {
        let sql = format!("SELECT {COLUMNS} FROM tickets WHERE state = 'waiting' ORDER BY at");
        Ok(self.query_all(&sql, [], read)?.into_iter().flatten().collect())
    }

    /// Questions that the owner can still decide, also those that reached nobody, oldest first.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn undecided_tickets(&self, now: Millis, limit: usize) -> Result<Vec<StoredTicket>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM tickets WHERE state IN ('waiting', 'no-owner') AND expires_at > ?1 \
             ORDER BY at LIMIT ?2"
        );
        Ok(self.query_all(&sql, rusqlite::params![now, limit], read)?.into_iter().flatten().collect())
    }

    /// Decisions, or the lack of one, that nobody took yet, oldest first.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn untaken_tickets(&self) -> Result<Vec<StoredTicket>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM tickets WHERE state IN ('answered', 'expired') AND taken = 0 ORDER BY at"
        );
        Ok(self.query_all(&sql, [], read)?.into_iter().flatten().collect())
    }
}
