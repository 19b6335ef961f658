//! The tables, and how an older database becomes one of today. A merged migration is never edited.

use std::path::Path;

use rusqlite::Connection;

use super::{Error, Result, wrap};

/// Migration `n` brings a database of version `n` to version `n + 1`.
pub(super) const MIGRATIONS: &[&str] = &[
    r#"
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
"#,
    r#"
-- What only calls of the v2 dialect have. Keys of a session are never here.
CREATE TABLE lines (
    call BLOB PRIMARY KEY REFERENCES calls (id),
    generation INTEGER NOT NULL,
    -- The peer's offer that rings or was taken last: the rumor's id, and the signal as JSON.
    rumor BLOB,
    offer TEXT,
    -- The ring that the call grew from is ours.
    ours INTEGER NOT NULL,
    -- Of the delivery machine.
    next_file INTEGER NOT NULL DEFAULT 2,
    ended INTEGER NOT NULL DEFAULT 0,
    peer_end TEXT,
    -- The delivery machine is done: what was to be said is said, or has gone another way.
    closed INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX lines_open ON lines (call) WHERE closed = 0;

-- Other names of a call on the wire: of a ring that did not survive.
CREATE TABLE aliases (
    peer BLOB NOT NULL, room TEXT NOT NULL, call BLOB NOT NULL REFERENCES calls (id), PRIMARY KEY (peer, room)
) STRICT, WITHOUT ROWID;
CREATE INDEX aliases_by_call ON aliases (call);

-- Signals that were handled: relays keep them for days.
CREATE TABLE signals (
    peer BLOB NOT NULL, shared BLOB NOT NULL, type TEXT NOT NULL, generation INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (peer, shared, type, generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX signals_by_time ON signals (at);

-- Streams of the delivery machine: ours, the seq of the next entry; the peer's, the first that was not surfaced.
CREATE TABLE streams (
    call BLOB NOT NULL, outgoing INTEGER NOT NULL, stream INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (call, outgoing, stream)
) STRICT, WITHOUT ROWID;

-- Entries of ours that the peer may not have, and of the peer's that came before their turn. The bytes of a file of
-- ours are not kept here twice: they are read from its copy again.
CREATE TABLE entries (
    call BLOB NOT NULL, outgoing INTEGER NOT NULL, stream INTEGER NOT NULL, seq INTEGER NOT NULL,
    kind INTEGER NOT NULL, id BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (call, outgoing, stream, seq)
) STRICT;

-- Files under way in v2 calls.
CREATE TABLE transfers (
    call BLOB NOT NULL, outgoing INTEGER NOT NULL, message BLOB NOT NULL,
    stream INTEGER NOT NULL, name TEXT NOT NULL, mime TEXT NOT NULL, size INTEGER NOT NULL, sha256 BLOB NOT NULL,
    -- Bytes handed to the delivery machine, or received.
    done INTEGER NOT NULL DEFAULT 0,
    accepted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (call, outgoing, message)
) STRICT, WITHOUT ROWID;

-- Keys that have shown v2, and where they read their wraps (JSON).
CREATE TABLE peers (
    key BLOB PRIMARY KEY, inbox TEXT NOT NULL, work INTEGER NOT NULL DEFAULT 0, at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX peers_by_time ON peers (at);

-- Of what a message says: SQLite's own check does not look into values. Older rows have none.
ALTER TABLE messages ADD COLUMN hash BLOB;

-- Waits in the queue of strangers: nobody is told of it.
ALTER TABLE calls ADD COLUMN queued INTEGER NOT NULL DEFAULT 0;
CREATE INDEX calls_queued ON calls (started_at) WHERE queued = 1;

-- Where an event goes, as JSON; null is every relay of the identity.
ALTER TABLE outbox ADD COLUMN relays TEXT;
-- When it was queued: mail is dated back.
ALTER TABLE outbox ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
UPDATE outbox SET at = created_at * 1000;
CREATE INDEX outbox_by_message ON outbox (message);
CREATE INDEX messages_mail ON messages (peer) WHERE call IS NULL;
CREATE INDEX messages_queued ON messages (row) WHERE state = 'queued';
"#,
    r#"
-- Of what a row says, as `messages` has it. Older rows have none.
ALTER TABLE calls ADD COLUMN hash BLOB;
ALTER TABLE held ADD COLUMN hash BLOB;
ALTER TABLE events ADD COLUMN hash BLOB;
ALTER TABLE tickets ADD COLUMN hash BLOB;
ALTER TABLE entries ADD COLUMN hash BLOB;
"#,
    r#"
-- Rings and mail of the last hour that counted: a restart gives nobody a new allowance.
CREATE TABLE knocks (
    row INTEGER PRIMARY KEY, at INTEGER NOT NULL, key BLOB NOT NULL, stranger INTEGER NOT NULL, protocol TEXT NOT NULL
) STRICT;
CREATE INDEX knocks_by_time ON knocks (at);

-- What strangers did that nobody was woken for, as JSON, until the owner is told: one row.
CREATE TABLE digest (one INTEGER PRIMARY KEY CHECK (one = 1), state TEXT NOT NULL) STRICT;

-- Mail of strangers that waits until somebody lets them in. The text of a file is its bytes in base64.
CREATE TABLE waiting_mail (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    message BLOB NOT NULL,
    peer BLOB NOT NULL,
    text TEXT NOT NULL,
    -- Of a file.
    name TEXT,
    mime TEXT,
    at INTEGER NOT NULL,
    seq INTEGER,
    UNIQUE (peer, message)
) STRICT;

-- Keys that claim an agent id which is pinned to another key.
CREATE TABLE claims (key BLOB PRIMARY KEY, agent_id TEXT NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- A person has compared the key with its owner's.
ALTER TABLE contacts ADD COLUMN verified INTEGER NOT NULL DEFAULT 0;

-- The message by which the peer was told of a question: an answer names it.
ALTER TABLE tickets ADD COLUMN message BLOB;
"#,
    r#"
-- Of what a row says, as `messages` has it. Older rows have none.
ALTER TABLE contacts ADD COLUMN hash BLOB;
ALTER TABLE peers ADD COLUMN hash BLOB;
ALTER TABLE outbox ADD COLUMN hash BLOB;
ALTER TABLE transfers ADD COLUMN hash BLOB;
ALTER TABLE waiting_mail ADD COLUMN hash BLOB;
-- Of the offer and of what goes with it. What the delivery machine keeps here is numbers.
ALTER TABLE lines ADD COLUMN hash BLOB;
"#,
    r#"
-- When the owner is asked, or was; whether that is over, and whether it goes with others in one message.
ALTER TABLE tickets ADD COLUMN release INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tickets ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tickets ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;
UPDATE tickets SET asked = 1, release = at;
CREATE INDEX tickets_by_release ON tickets (release);
CREATE INDEX tickets_open ON tickets (at) WHERE state IN ('waiting', 'no-owner');

-- What is left to be carried to the owner: a question, on one way. A way is a hash of its setting, which may hold a
-- secret. Questions of one batch go in one message.
CREATE TABLE asks (
    ticket BLOB NOT NULL, way BLOB NOT NULL, batch BLOB NOT NULL, due INTEGER NOT NULL, tries INTEGER NOT NULL,
    PRIMARY KEY (ticket, way)
) STRICT, WITHOUT ROWID;

-- Questions that went to an owner's key: what an answer replies to. `message` is its place in the outbox.
CREATE TABLE letters (
    rumor BLOB NOT NULL, ticket BLOB NOT NULL, key BLOB NOT NULL, way BLOB NOT NULL, batch BLOB NOT NULL,
    message BLOB NOT NULL, at INTEGER NOT NULL, hash BLOB,
    PRIMARY KEY (rumor, ticket)
) STRICT, WITHOUT ROWID;
CREATE INDEX letters_by_message ON letters (message);
CREATE INDEX letters_by_time ON letters (at);
"#,
    r#"
-- The trace (W3C Trace Context) that a call or a message is part of.
ALTER TABLE calls ADD COLUMN traceparent TEXT;
ALTER TABLE messages ADD COLUMN traceparent TEXT;
"#,
    r#"
-- Files that go by a server of blobs. Of ours the row stays, as long as the message does: it is which way the file went.
CREATE TABLE parcels (
    outgoing INTEGER NOT NULL, peer BLOB NOT NULL, message BLOB NOT NULL,
    call BLOB, seq INTEGER, at INTEGER NOT NULL,
    -- What the message says of it, JSON. With what opens it, while that is needed: settled before anything leaves, so
    -- that a second upload is of the same bytes.
    parcel TEXT NOT NULL,
    known INTEGER NOT NULL DEFAULT 1,
    since INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    -- When it is tried next; null once it is where it was to go.
    due INTEGER,
    problem TEXT,
    hash BLOB,
    PRIMARY KEY (outgoing, peer, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX parcels_by_message ON parcels (message);
CREATE INDEX parcels_by_time ON parcels (due) WHERE due IS NOT NULL;
CREATE INDEX parcels_known ON parcels (outgoing) WHERE known = 1;
"#,
];

/// What they make of an empty database. Made at once it takes 3 ms, and step by step 13: each `ALTER TABLE` reads the whole
/// schema. A test compares the two.
pub(super) const TODAY: &str = include_str!("today.sql");

/// Brings the database to this program's version, in one transaction.
pub(super) fn migrate(db: &mut Connection, path: &Path) -> Result<()> {
    let known = MIGRATIONS.len() as u32;
    let found: u32 =
        db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|error| wrap(path, error))?;
    match MIGRATIONS.get(found as usize..) {
        None => Err(Error::TooNew { path: path.to_owned(), found, known }),
        Some([]) => Ok(()),
        Some(_) if found == 0 => steps(db, known, &[TODAY]).map_err(|error| wrap(path, error)),
        Some(missing) => steps(db, known, missing).map_err(|error| wrap(path, error)),
    }
}

fn steps(db: &mut Connection, known: u32, missing: &[&str]) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    missing.iter().try_for_each(|sql| transaction.execute_batch(sql))?;
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()
}
