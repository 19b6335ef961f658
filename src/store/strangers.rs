//! What strangers have used of their allowance, what of theirs waits, and who claims a name that is another's.

use rusqlite::Row;

use super::intact::{self, Content, Mark};
use super::{Result, Store};
use crate::proto::call::Knock;
use crate::proto::{MessageId, Millis, PublicKey};

/// Mail that waits until somebody lets its sender in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingMail {
    /// The message's id.
    pub message: MessageId,
    /// Who wrote it.
    pub peer: PublicKey,
    /// The words; of a file its bytes, in base64, or of one that is elsewhere what its message says of it, as JSON.
    pub text: String,
    /// Name and MIME type of a file.
    pub file: Option<(String, String)>,
    /// When it was written.
    pub at: Millis,
    /// Its number, if it has one.
    pub seq: Option<u64>,
}

const MAIL: &str = "message, peer, text, name, mime, at, seq, hash";

fn mark(mail: &WaitingMail) -> Mark {
    let (name, mime) = mail.file.as_ref().map(|(name, mime)| (name, mime)).unzip();
    Content::new()
        .field(mail.message.0)
        .field(mail.peer.0)
        .field(&mail.text)
        .optional(name)
        .optional(mime)
        .number(mail.at.0)
        .mark()
}

fn read_mail(row: &Row<'_>) -> rusqlite::Result<Option<WaitingMail>> {
    Ok(intact::read(row, 7, "mail that waits", read_unverified, mark))
}

fn read_unverified(row: &Row<'_>) -> rusqlite::Result<WaitingMail> {
    let file = match (row.get(3)?, row.get(4)?) {
        (Some(name), Some(mime)) => Some((name, mime)),
        _ => None,
    };
    Ok(WaitingMail {
        message: row.get(0)?,
        peer: row.get(1)?,
        text: row.get(2)?,
        file,
        at: row.get(5)?,
        seq: row.get(6)?,
    })
}

impl Store {
    /// Remembers what counted at the door.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn add_knock(&mut self, knock: &Knock) -> Result<()> {
        self.execute(
            "INSERT INTO knocks (at, key, stranger, protocol) VALUES (?, ?, ?, ?)",
            (knock.at, knock.key, knock.is_stranger, knock.protocol),
        )
    }

    /// What counted after a time, the oldest first.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn knocks(&self, after: Millis) -> Result<Vec<Knock>> {
        let sql = "SELECT at, key, stranger, protocol FROM knocks WHERE at > ? ORDER BY row";
        self.query_all(sql, [after], |row| {
            Ok(Knock { at: row.get(0)?, key: row.get(1)?, is_stranger: row.get(2)?, protocol: row.get(3)? })
        })
    }

    /// Forgets what counted up to a time.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn forget_knocks(&mut self, until: Millis) -> Result<()> {
        self.execute("DELETE FROM knocks WHERE at <= ?", [until])
    }

    /// What the owner is still to be told, as it was saved.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn digest(&self) -> Result<Option<String>> {
        self.query_one("SELECT state FROM digest", [], |row| row.get(0))
    }

    /// Saves what the owner is still to be told.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn save_digest(&mut self, state: &str) -> Result<()> {
        self.execute("INSERT INTO digest VALUES (1, ?1) ON CONFLICT DO UPDATE SET state = ?1", [state])
    }

    /// Puts mail into the queue. `false` if it waits there already, or was shown before.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn hold_mail(&mut self, mail: &WaitingMail) -> Result<bool> {
        let (name, mime) = mail.file.as_ref().map(|(name, mime)| (name, mime)).unzip();
        let added = self.changed(
            "INSERT INTO waiting_mail (message, peer, text, name, mime, at, seq, hash) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 \
             WHERE NOT EXISTS (SELECT 1 FROM messages WHERE peer = ?2 AND sender = 'peer' AND message = ?1) \
             ON CONFLICT DO NOTHING",
            (mail.message, mail.peer, &mail.text, name, mime, mail.at, mail.seq, mark(mail)),
        )?;
        Ok(added > 0)
    }

    /// The mail that waits, the oldest first.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn waiting_mail(&self) -> Result<Vec<WaitingMail>> {
        let sql = format!("SELECT {MAIL} FROM waiting_mail ORDER BY row");
        Ok(self.query_all(&sql, [], read_mail)?.into_iter().flatten().collect())
    }

    /// Takes one message out of the queue.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn drop_mail(&mut self, peer: &PublicKey, message: &MessageId) -> Result<()> {
        self.execute("DELETE FROM waiting_mail WHERE peer = ? AND message = ?", (peer, message))
    }

    /// Takes what a key has in the queue out of it, the oldest first.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn take_mail_of(&mut self, peer: &PublicKey) -> Result<Vec<WaitingMail>> {
        let sql = format!("SELECT {MAIL} FROM waiting_mail WHERE peer = ? ORDER BY row");
        let mail = self.query_all(&sql, [peer], read_mail)?;
        if !mail.is_empty() {
            self.execute("DELETE FROM waiting_mail WHERE peer = ?", [peer])?;
        }
        Ok(mail.into_iter().flatten().collect())
    }

    /// Keys that claim an agent id which is another's.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn claims(&self) -> Result<Vec<(PublicKey, String)>> {
        self.query_all("SELECT key, agent_id FROM claims ORDER BY at", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }

    /// Remembers that a key claims an agent id.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn save_claim(&mut self, key: &PublicKey, agent_id: &str, now: Millis) -> Result<()> {
        self.execute(
            "INSERT INTO claims VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET agent_id = ?2, at = ?3",
            (key, agent_id, now),
        )
    }

    /// A key claims nothing any more.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn drop_claim(&mut self, key: &PublicKey) -> Result<()> {
        self.execute("DELETE FROM claims WHERE key = ?", [key])
    }
}
