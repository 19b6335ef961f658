//! What is left to be carried to the owner, and what went to the owner's key.

use rusqlite::Row;

use super::intact::{self, Content, Mark};
use super::{Result, Store};
use crate::proto::{EventId, Hex, MessageId, Millis, PublicKey, TicketId};

/// One way to the owner: the first half of the SHA-256 of its setting.
pub type WayId = Hex<16>;

/// A question that is still to be carried on one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAsk {
    /// The question.
    pub ticket: TicketId,
    /// The way.
    pub way: WayId,
    /// What goes with it in one message has the same: the first question's id.
    pub batch: TicketId,
    /// When it is tried, or tried again.
    pub due: Millis,
    /// How often it was tried.
    pub tries: u32,
}

/// A question as it went to an owner's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLetter {
    /// The rumor: what a reply names.
    pub rumor: EventId,
    /// The question.
    pub ticket: TicketId,
    /// Whom it went to.
    pub key: PublicKey,
    /// The way.
    pub way: WayId,
    /// See [`StoredAsk::batch`].
    pub batch: TicketId,
    /// Its place in the outbox.
    pub message: MessageId,
    /// When it was written.
    pub at: Millis,
}

const LETTER: &str = "rumor, ticket, key, way, batch, message, at, hash";

fn mark(letter: &StoredLetter) -> Mark {
    Content::new()
        .field(letter.rumor.0)
        .field(letter.ticket.0)
        .field(letter.key.0)
        .field(letter.way.0)
        .field(letter.batch.0)
        .field(letter.message.0)
        .number(letter.at.0)
        .mark()
}

/// A letter, if it is what was written: no answer is given to another question because of a flipped bit.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<StoredLetter>> {
    let unverified = |row: &Row<'_>| {
        Ok(StoredLetter {
            rumor: row.get(0)?,
            ticket: row.get(1)?,
            key: row.get(2)?,
            way: row.get(3)?,
            batch: row.get(4)?,
            message: row.get(5)?,
            at: row.get(6)?,
        })
    };
    Ok(intact::read(row, 7, "letter to the owner", unverified, mark))
}

impl Store {
    /// A question is to be carried on a way.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn add_ask(&mut self, ask: &StoredAsk) -> Result<()> {
        self.execute(
            "INSERT INTO asks VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (ask.ticket, ask.way, ask.batch, ask.due, ask.tries),
        )
    }

    /// Everything that is still to be carried.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn asks(&self) -> Result<Vec<StoredAsk>> {
        self.query_all("SELECT ticket, way, batch, due, tries FROM asks ORDER BY due", [], |row| {
            Ok(StoredAsk {
                ticket: row.get(0)?,
                way: row.get(1)?,
                batch: row.get(2)?,
                due: row.get(3)?,
                tries: row.get(4)?,
            })
        })
    }

    /// A batch is tried (again) on a way at another time.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn put_off_asks(&mut self, batch: &TicketId, way: &WayId, due: Millis, tries: u32) -> Result<()> {
        self.execute(
            "UPDATE asks SET due = ?, tries = ? WHERE batch = ? AND way = ?",
            (due, tries, batch, way),
        )
    }

    /// A batch is not carried on a way any more: it has arrived, or has not.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn drop_asks(&mut self, batch: &TicketId, way: &WayId) -> Result<()> {
        self.execute("DELETE FROM asks WHERE batch = ? AND way = ?", (batch, way))
    }

    /// A question is not carried any more on any way: it is decided, or its time is over.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn drop_asks_of(&mut self, ticket: &TicketId) -> Result<()> {
        self.execute("DELETE FROM asks WHERE ticket = ?", [ticket])
    }

    /// A question went to an owner's key.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn add_letter(&mut self, letter: &StoredLetter) -> Result<()> {
        self.execute(
            "INSERT INTO letters VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                letter.rumor,
                letter.ticket,
                letter.key,
                letter.way,
                letter.batch,
                letter.message,
                letter.at,
                mark(letter),
            ),
        )
    }

    /// What a rumor asked of its receiver: one question, or several.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn letters(&self, rumor: &EventId, key: &PublicKey) -> Result<Vec<StoredLetter>> {
        let sql = format!("SELECT {LETTER} FROM letters WHERE rumor = ? AND key = ? ORDER BY at");
        Ok(self.query_all(&sql, (rumor, key), read)?.into_iter().flatten().collect())
    }

    /// The letter that a message of the outbox is.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn letter_in(&self, message: &MessageId) -> Result<Option<StoredLetter>> {
        let sql = format!("SELECT {LETTER} FROM letters WHERE message = ? LIMIT 1");
        Ok(self.query_one(&sql, [message], read)?.flatten())
    }

    /// Batches that went to an owner's key, of which no letter waits for a relay any more and none was taken by one: what
    /// waited was damaged, and is gone.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn lost_letters(&self) -> Result<Vec<(TicketId, WayId)>> {
        self.query_all(
            "SELECT asks.batch, asks.way FROM asks JOIN letters ON letters.batch = asks.batch AND letters.way = asks.way \
             GROUP BY asks.batch, asks.way \
             HAVING sum(EXISTS (SELECT 1 FROM outbox WHERE outbox.message = letters.message)) = 0",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
    }

    /// Forgets letters of before a time: what replies to them is about nothing that is open.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn forget_letters(&mut self, before: Millis) -> Result<()> {
        self.execute("DELETE FROM letters WHERE at < ?", [before])
    }

    /// Questions that went out alone since a time, with the peer in whose call each came up.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn asked_alone(&self, since: Millis) -> Result<Vec<(Millis, Option<PublicKey>)>> {
        self.query_all(
            "SELECT tickets.release, calls.peer FROM tickets LEFT JOIN calls ON calls.id = tickets.call \
             WHERE tickets.release > ? AND tickets.digest = 0 AND tickets.state != 'no-owner' ORDER BY tickets.release",
            [since],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
    }

    /// When several questions went out in one message last.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn last_owner_digest(&self) -> Result<Option<Millis>> {
        self.query_one("SELECT max(release) FROM tickets WHERE digest = 1 AND asked = 1", [], |row| {
            row.get(0)
        })
        .map(Option::flatten)
    }
}
