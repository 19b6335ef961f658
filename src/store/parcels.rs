//! Files that go by a server of blobs: ours on their way there, and those of peers that are to be fetched.

use rusqlite::Row;

use super::intact::{self, Content, Mark};
use super::{Result, Store};
use crate::proto::v2::parcel::Parcel;
use crate::proto::{CallId, MessageId, Millis, PublicKey};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredParcel {
    /// Ours, or the peer's.
    pub outgoing: bool,
    /// The other end.
    pub peer: PublicKey,
    /// The message that it is.
    pub message: MessageId,
    /// The call that it is of.
    pub call: Option<CallId>,
    /// Its number among what its sender said.
    pub seq: Option<u64>,
    /// When it was written.
    pub at: Millis,
    /// What its message says of it.
    pub parcel: Parcel,
    /// Since when it is carried.
    pub since: Millis,
    /// How often that was tried.
    pub tries: u32,
    /// When it is tried next; none once it is where it was to go.
    pub due: Option<Millis>,
    /// Why the last try failed.
    pub problem: Option<String>,
}

const COLUMNS: &str = "outgoing, peer, message, call, seq, at, parcel, since, tries, due, problem, hash";

fn text(parcel: &Parcel) -> String {
    serde_json::to_string(parcel).expect("strings and numbers always serialise")
}

fn mark(it: &StoredParcel) -> Mark {
    Content::new()
        .number(it.outgoing.into())
        .field(it.peer.0)
        .field(it.message.0)
        .optional(it.call.map(|call| call.0))
        .number(it.seq.unwrap_or_default())
        .number(it.at.0)
        .field(text(&it.parcel))
        .mark()
}

/// A parcel, if it is what was written: nothing is fetched from where a flipped bit points.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<StoredParcel>> {
    Ok(intact::read(row, 11, "file of the mailbox", read_unverified, mark))
}

fn read_unverified(row: &Row<'_>) -> rusqlite::Result<StoredParcel> {
    let parcel: String = row.get(6)?;
    let parcel = serde_json::from_str(&parcel).map_err(|_| rusqlite::Error::InvalidQuery)?;
    Ok(StoredParcel {
        outgoing: row.get(0)?,
        peer: row.get(1)?,
        message: row.get(2)?,
        call: row.get(3)?,
        seq: row.get(4)?,
        at: row.get(5)?,
        parcel,
        since: row.get(7)?,
        tries: row.get(8)?,
        due: row.get(9)?,
        problem: row.get(10)?,
    })
}

impl Store {
    /// Writes a parcel as it is now.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn save_parcel(&mut self, it: &StoredParcel) -> Result<()> {
        self.execute(
            "INSERT INTO parcels (outgoing, peer, message, call, seq, at, parcel, since, tries, due, problem, hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
             ON CONFLICT DO UPDATE SET parcel = ?7, tries = ?9, due = ?10, problem = ?11, hash = ?12",
            (
                it.outgoing,
                it.peer,
                it.message,
                it.call,
                it.seq,
                it.at,
                text(&it.parcel),
                it.since,
                it.tries,
                it.due,
                &it.problem,
                mark(it),
            ),
        )
    }

    /// A parcel of ours.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn my_parcel(&self, message: &MessageId) -> Result<Option<StoredParcel>> {
        let sql = format!("SELECT {COLUMNS} FROM parcels WHERE outgoing = 1 AND message = ?");
        Ok(self.query_one(&sql, [message], read)?.flatten())
    }

    /// A parcel of a peer that has not come.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn peer_parcel(&self, peer: &PublicKey, message: &MessageId) -> Result<Option<StoredParcel>> {
        let sql = format!("SELECT {COLUMNS} FROM parcels WHERE outgoing = 0 AND peer = ? AND message = ?");
        Ok(self.query_one(&sql, (peer, message), read)?.flatten())
    }

    /// What is to be carried, what is due first before the rest.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn parcels_due(&self) -> Result<Vec<StoredParcel>> {
        let sql = format!("SELECT {COLUMNS} FROM parcels WHERE due IS NOT NULL ORDER BY due");
        Ok(self.query_all(&sql, [], read)?.into_iter().flatten().collect())
    }

    /// Parcels of ours that are where they were to go, and still know what opens them though their messages have left.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn parcels_gone(&self) -> Result<Vec<StoredParcel>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM parcels WHERE outgoing = 1 AND known = 1 AND NOT EXISTS (SELECT 1 FROM messages \
             WHERE messages.message = parcels.message AND sender = 'me' AND state = 'queued')"
        );
        Ok(self.query_all(&sql, [], read)?.into_iter().flatten().collect())
    }

    /// What opens a parcel of ours is not needed here any more.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn forget_parcel_secret(&mut self, it: &StoredParcel) -> Result<()> {
        let mut it = StoredParcel { due: None, ..it.clone() };
        it.parcel.forget_secret();
        self.save_parcel(&it)?;
        self.execute("UPDATE parcels SET known = 0 WHERE outgoing = 1 AND message = ?", [it.message])
    }

    /// A parcel is not carried any more.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn drop_parcel(&mut self, it: &StoredParcel) -> Result<()> {
        let sql = "DELETE FROM parcels WHERE outgoing = ? AND peer = ? AND message = ?";
        self.execute(sql, (it.outgoing, it.peer, it.message))
    }
}
