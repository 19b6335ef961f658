//! L1, SQLite: the only room that speaks SQL. One [`Store`] a home, owned by the engine's thread.
//!
//! Everything that happens while one batch of inputs is handled goes into one transaction: [`Store::begin`], the
//! writes, [`Store::commit`]. Only then may anything be published, acknowledged or shown. `synchronous=FULL` and the
//! write-ahead log make that commit one sync of the log; a batch that fails is rolled back whole.
//!
//! What is shown or said is hashed in its row, and taken only if it is still that (`intact`). A database that SQLite
//! finds damaged is kept aside at the next start, and what can be read of it carried over (`recover`).
//!
//! Rooms: `calls`, `pending` (what is written once a batch), `messages` (what was said, and what is held back), `outbox` (what no relay took yet, ids seen,
//! cursors), `journal` (events and who has taken them), `contacts`, `tickets`, `asks` (how questions get to the owner); of v2 `lines` (what its calls have
//! beside the rest, signals seen), `delivery` (streams and entries), `transfers` (files under way), `parcels` (files by a server of blobs), `peers`; `strangers` (what they used of their allowance, what of theirs waits). A merged
//! migration is never edited.

mod asks;
mod calls;
mod contacts;
mod delivery;
mod intact;
mod journal;
mod lines;
mod log;
mod messages;
mod outbox;
mod parcels;
mod peers;
mod pending;
mod recover;
mod schema;
mod strangers;
#[cfg(test)]
mod tests;
mod tickets;
mod transfers;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, ToSql};

pub use asks::{StoredAsk, StoredLetter, WayId};
pub use calls::StoredCall;
pub use contacts::StoredContact;
pub use journal::{Filter, JournalEntry, NewEvent, WATCHERS};
pub use messages::{NewMessage, StoredMessage};
pub use outbox::Outgoing;
pub use parcels::StoredParcel;
pub use peers::StoredPeer;
pub use strangers::WaitingMail;
pub use tickets::StoredTicket;
pub use transfers::StoredTransfer;

use self::log::Log;
use self::pending::Pending;
use crate::mutants::{Mutant, planted};
use crate::proto::{Durability, Hex, Millis};

/// How long another process may hold the database (a backup, a curious user) before a write fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a page: SQLite's default. Smaller ones were tried (decision 16).
const PAGE: u32 = 4_096;
/// Bytes of the log after which SQLite moves it into the database: large enough that a commit hardly ever waits for it,
/// and the file is then kept at that size (measured: 30 % less latency than a log that grows anew).
const LOG: u32 = 4 << 20;
/// Prepared statements kept.
const STATEMENTS: usize = 128;

/// Why the store did not do it. Nothing of the batch is kept then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No space left, or a quota.
    #[error("no space left for {}", .0.display())]
    Full(PathBuf),
    /// The system did not read or write: the disk has an error, or there is no descriptor left.
    #[error("{} cannot be used: {why}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// SQLite says that the file is not what it should be.
    #[error("{} is damaged: {source}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A later version of this program wrote it.
    #[error("{} is of version {found}; this program knows {known}", .path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The version of its schema.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// Anything else.
    #[error("database: {0}")]
    Sqlite(rusqlite::Error),
}

impl Error {
    /// Of a file beside the database.
    pub fn of_disk(path: &Path, error: std::io::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::Full(path.to_owned()),
            _ => Self::Io { path: path.to_owned(), why: error.to_string() },
        }
    }
}

/// What every method of the store returns.
pub type Result<T> = std::result::Result<T, Error>;

/// The database of one home.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
    durability: Durability,
    /// Written once a batch.
    pending: RefCell<Pending>,
    log: Log,
}

impl Store {
    /// Opens the database, makes it if there is none, and brings it to this program's version. A damaged one is kept
    /// aside, and what can be read of it is carried over.
    ///
    /// # Errors
    /// [`Error::TooNew`] for a later version's, [`Error::Full`]; [`Error::Damaged`] if not even a new one can be used.
    pub fn open(path: &Path) -> Result<Self> {
        match Self::open_checked(path) {
            Err(Error::Damaged { source, .. }) => {
                tracing::warn!(error = %source, "the database is damaged; what can be read is carried over");
                recover::recover(path)
            }
            opened => opened,
        }
    }

    fn open_checked(path: &Path) -> Result<Self> {
        let store = Self::open_unchecked(path)?;
        recover::check(&store)?;
        store.write_back_at_close(true)?;
        Ok(store)
    }

    fn open_unchecked(path: &Path) -> Result<Self> {
        let wrap = |source| wrap(path, source);
        let mut db = Connection::open(path).map_err(wrap)?;
        // What turns out to be damaged is kept as it was found.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(wrap)?;
        db.busy_timeout(BUSY_TIMEOUT).map_err(wrap)?;
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        // A new one has nothing to lose until it is there: it is synced as a whole, and not at each of a dozen steps.
        let is_new =
            db.pragma_query_value(None, "page_count", |row| row.get::<_, u32>(0)).map_err(wrap)? == 0;
        let at_first = if is_new { "OFF" } else { synchronous(Durability::Full) };
        db.pragma_update(None, "synchronous", at_first).map_err(wrap)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(wrap)?;
        db.pragma_update(None, "foreign_keys", true).map_err(wrap)?;
        db.pragma_update(None, "wal_autocheckpoint", LOG / PAGE).map_err(wrap)?;
        schema::migrate(&mut db, path)?;
        let (durability, pending) = (Durability::Full, RefCell::default());
        let store = Self { db, path: path.to_owned(), durability, pending, log: Log::Short };
        if is_new {
            store.db.pragma_update(None, "synchronous", synchronous(Durability::Full)).map_err(wrap)?;
            // Syncs the log, its name in the folder, and the database.
            store.db.query_row("PRAGMA wal_checkpoint", [], |_| Ok(())).map_err(wrap)?;
        }
        Ok(store)
    }

    /// Decides what the commits from now on wait for. A store that was just opened waits for the disk.
    ///
    /// # Errors
    /// [`Error`].
    pub fn set_durability(&mut self, durability: Durability) -> Result<()> {
        self.db
            .pragma_update(None, "synchronous", synchronous(durability))
            .map_err(|source| wrap(&self.path, source))?;
        self.durability = durability;
        Ok(())
    }

    /// Whether the log is written into the database when it is closed.
    fn write_back_at_close(&self, does: bool) -> Result<()> {
        let set = self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !does);
        set.map(drop).map_err(|source| wrap(&self.path, source))
    }

    /// Begins the transaction of a batch.
    ///
    /// # Errors
    /// [`Error::Full`] and the like.
    pub fn begin(&mut self) -> Result<()> {
        self.execute("BEGIN IMMEDIATE", [])
    }

    /// Commits the batch: on return it is on the disk.
    ///
    /// # Errors
    /// [`Error::Full`] and the like; the batch is rolled back then.
    pub fn commit(&mut self) -> Result<()> {
        let committed = self.write_pending().and_then(|()| self.execute("COMMIT", []));
        if committed.is_err() {
            self.rollback();
        } else {
            self.log.grow(&self.path);
        }
        committed
    }

    /// Forgets the batch.
    pub fn rollback(&mut self) {
        self.pending.borrow_mut().clear();
        if !self.db.is_autocommit()
            && let Err(error) = self.db.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "the database did not roll back");
        }
    }

    /// After an error of the disk: a sync that failed may have written the batch or not, and a crash would bring it back.
    /// Its log is emptied, and the database is opened anew and looked at.
    ///
    /// # Errors
    /// As [`Self::open`]; the connection stays as it was then.
    pub fn reopen(&mut self) -> Result<()> {
        recover::suspect(&self.path);
        let fresh = Self::open_unchecked(&self.path)?;
        let emptied = fresh.query_one("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))?;
        if emptied != Some(false) {
            tracing::warn!("somebody else reads the database; its log is not emptied");
        }
        recover::check(&fresh)?;
        fresh.write_back_at_close(true)?;
        let durability = self.durability;
        *self = fresh;
        self.set_durability(durability)
    }

    /// A value that this home remembers under a name.
    ///
    /// # Errors
    /// [`Error`].
    pub fn meta(&self, key: &str) -> Result<Option<u64>> {
        self.query_one("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0))
    }

    /// Remembers a value under a name.
    ///
    /// # Errors
    /// [`Error`].
    pub fn set_meta(&mut self, key: &str, value: u64) -> Result<()> {
        self.execute("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2", (key, value))
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<()> {
        self.changed(sql, params).map(drop)
    }

    /// Like `execute`, and says how many rows changed.
    fn changed(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        self.db
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params))
            .map_err(|source| wrap(&self.path, source))
    }

    fn query_one<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.db
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(params, read).optional())
            .map_err(|source| wrap(&self.path, source))
    }

    fn query_all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.db
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map(params, read)?.collect())
            .map_err(|source| wrap(&self.path, source))
    }

    fn count(&self, sql: &str, params: impl rusqlite::Params) -> Result<u64> {
        Ok(self.query_one(sql, params, |row| row.get(0))?.unwrap_or(0))
    }
}

/// What SQLite calls it. In the write-ahead log NORMAL syncs before and after the log is moved into the database, and
/// no commit: what is there after a crash of the machine is a beginning of what was committed, and whole.
fn synchronous(durability: Durability) -> &'static str {
    match durability {
        _ if planted(Mutant::SyncOff) => "OFF",
        Durability::Full => "FULL",
        Durability::Os => "NORMAL",
    }
}

/// A list in a text column.
fn json(list: &[impl serde::Serialize]) -> String {
    serde_json::to_string(list).expect("strings and numbers always serialise")
}

fn wrap(path: &Path, source: rusqlite::Error) -> Error {
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full(path.to_owned()),
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
            Error::Io { path: path.to_owned(), why: source.to_string() }
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            recover::suspect(path);
            Error::Damaged { path: path.to_owned(), source }
        }
        _ => Error::Sqlite(source),
    }
}

impl<const N: usize> ToSql for Hex<N> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl<const N: usize> FromSql for Hex<N> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        let size = FromSqlError::InvalidBlobSize { expected_size: N, blob_size: bytes.len() };
        bytes.try_into().map(Hex).map_err(|_| size)
    }
}

impl ToSql for Millis {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok((self.0.min(i64::MAX as u64) as i64).into())
    }
}

impl FromSql for Millis {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        u64::column_result(value).map(Self)
    }
}

/// A word of `proto::words` in a text column.
macro_rules! word_columns {
    ($($name:ident),+) => {
        $(
            impl ToSql for crate::proto::$name {
                fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                    Ok(self.word().into())
                }
            }

            impl FromSql for crate::proto::$name {
                fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                    Self::from_word(value.as_str()?).ok_or(FromSqlError::InvalidType)
                }
            }
        )+
    };
}

word_columns!(Direction, EndReason, EventKind, MessageKind, MessageState, Protocol, Sender, TicketState);
