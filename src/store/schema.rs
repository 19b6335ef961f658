//! The tables, and how an older database becomes one of today. A merged migration is never edited.

use std::path::Path;

use rusqlite::Connection;

use super::{Error, Result, wrap};

/// Migration `n` brings a database of version `n` to version `n + 1`, in one transaction.
const MIGRATIONS: &[&str] = &[r#"
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- (peer, room) is the call on the wire; `id` is ours.
CREATE TABLE calls (
    id BLOB PRIMARY KEY,
    peer BLOB NOT NULL,
    room TEXT NOT NULL,
    direction TEXT NOT NULL,
    protocol TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    agent_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ring_until INTEGER NOT NULL,
    connected_at INTEGER,
    ended_at INTEGER,
    end_reason TEXT,
    words TEXT,
    next_out INTEGER NOT NULL,
    next_in INTEGER NOT NULL,
    closing_after INTEGER,
    closing_until INTEGER,
    gap_until INTEGER,
    client_id TEXT UNIQUE,
    messages INTEGER NOT NULL DEFAULT 0,
    looked_at INTEGER NOT NULL DEFAULT 0,
    UNIQUE (peer, room)
) STRICT;
CREATE INDEX calls_live ON calls (started_at) WHERE ended_at IS NULL;
CREATE INDEX calls_by_time ON calls (started_at);

-- What was said, in the order in which it was shown here.
CREATE TABLE messages (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    message BLOB NOT NULL,
    call BLOB REFERENCES calls (id),
    peer BLOB NOT NULL,
    sender TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    file TEXT,
    at INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    seq INTEGER,
    read_at INTEGER,
    UNIQUE (message, sender, peer)
) STRICT;
CREATE INDEX messages_by_call ON messages (call, row);
CREATE INDEX messages_unread ON messages (row) WHERE sender = 'peer' AND read_at IS NULL;
CREATE INDEX messages_failed ON messages (row) WHERE state = 'failed';

-- What came before its turn, or before the call was answered.
CREATE TABLE held (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    message BLOB NOT NULL,
    call BLOB NOT NULL REFERENCES calls (id),
    peer BLOB NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    file TEXT,
    at INTEGER NOT NULL,
    seq INTEGER,
    UNIQUE (call, message)
) STRICT;

-- Signed events that no relay took yet: published as they are, byte for byte, until one does.
CREATE TABLE outbox (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    event BLOB NOT NULL UNIQUE,
    kind INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    json TEXT NOT NULL,
    call BLOB NOT NULL,
    message BLOB
) STRICT;

-- Events that were handled: relays send them again.
CREATE TABLE seen (event BLOB PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX seen_by_time ON seen (at);

-- Up to where a relay's stored events of a class have been read, in seconds.
CREATE TABLE cursors (
    relay TEXT NOT NULL, class TEXT NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (relay, class)
) STRICT, WITHOUT ROWID;

-- What happened, for `wait` and the streams.
CREATE TABLE events (
    cursor INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    call BLOB,
    message INTEGER REFERENCES messages (row),
    ticket BLOB,
    detail TEXT,
    own INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_call ON events (call, cursor);

-- A consumer has taken everything up to `low`, and of what follows the rows of `taken`.
CREATE TABLE consumers (name TEXT PRIMARY KEY, low INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE taken (
    consumer TEXT NOT NULL, cursor INTEGER NOT NULL, PRIMARY KEY (consumer, cursor)
) STRICT, WITHOUT ROWID;

-- Keys that the user, or a call, has told us about. `agent_id` is the label pinned to the key.
CREATE TABLE contacts (
    key BLOB PRIMARY KEY,
    name TEXT UNIQUE,
    agent_id TEXT UNIQUE,
    known INTEGER NOT NULL DEFAULT 0,
    blocked INTEGER NOT NULL DEFAULT 0,
    allow_legacy INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Questions to the owner.
CREATE TABLE tickets (
    id BLOB PRIMARY KEY,
    call BLOB,
    question TEXT NOT NULL,
    options TEXT NOT NULL,
    state TEXT NOT NULL,
    answer TEXT,
    channels TEXT NOT NULL,
    at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0
) STRICT;
"#];

/// Brings the database to this program's version, one transaction a step.
pub(super) fn migrate(db: &mut Connection, path: &Path) -> Result<()> {
    let known = MIGRATIONS.len() as u32;
    let found: u32 =
        db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|error| wrap(path, error))?;
    if found > known {
        return Err(Error::TooNew { path: path.to_owned(), found, known });
    }
    for (version, sql) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        step(db, version as u32 + 1, sql).map_err(|error| wrap(path, error))?;
    }
    Ok(())
}

fn step(db: &mut Connection, version: u32, sql: &str) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute_batch(sql)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}
