-- What the migrations make of an empty database; a test says what belongs here when they change.
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
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
    looked_at INTEGER NOT NULL DEFAULT 0, queued INTEGER NOT NULL DEFAULT 0, hash BLOB, traceparent TEXT,
    UNIQUE (peer, room)
) STRICT;
CREATE INDEX calls_live ON calls (started_at) WHERE ended_at IS NULL;
CREATE INDEX calls_by_time ON calls (started_at);
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
    read_at INTEGER, hash BLOB, traceparent TEXT,
    UNIQUE (message, sender, peer)
) STRICT;
CREATE INDEX messages_by_call ON messages (call, row);
CREATE INDEX messages_unread ON messages (row) WHERE sender = 'peer' AND read_at IS NULL;
CREATE INDEX messages_failed ON messages (row) WHERE state = 'failed';
CREATE TABLE held (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    message BLOB NOT NULL,
    call BLOB NOT NULL REFERENCES calls (id),
    peer BLOB NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    file TEXT,
    at INTEGER NOT NULL,
    seq INTEGER, hash BLOB,
    UNIQUE (call, message)
) STRICT;
CREATE TABLE outbox (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    event BLOB NOT NULL UNIQUE,
    kind INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    json TEXT NOT NULL,
    call BLOB NOT NULL,
    message BLOB
, relays TEXT, at INTEGER NOT NULL DEFAULT 0, hash BLOB) STRICT;
CREATE TABLE seen (event BLOB PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX seen_by_time ON seen (at);
CREATE TABLE cursors (
    relay TEXT NOT NULL, class TEXT NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (relay, class)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    cursor INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    call BLOB,
    message INTEGER REFERENCES messages (row),
    ticket BLOB,
    detail TEXT,
    own INTEGER NOT NULL
, hash BLOB) STRICT;
CREATE INDEX events_by_call ON events (call, cursor);
CREATE TABLE consumers (name TEXT PRIMARY KEY, low INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE taken (
    consumer TEXT NOT NULL, cursor INTEGER NOT NULL, PRIMARY KEY (consumer, cursor)
) STRICT, WITHOUT ROWID;
CREATE TABLE contacts (
    key BLOB PRIMARY KEY,
    name TEXT UNIQUE,
    agent_id TEXT UNIQUE,
    known INTEGER NOT NULL DEFAULT 0,
    blocked INTEGER NOT NULL DEFAULT 0,
    allow_legacy INTEGER NOT NULL DEFAULT 0
, verified INTEGER NOT NULL DEFAULT 0, hash BLOB) STRICT, WITHOUT ROWID;
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
, hash BLOB, message BLOB, release INTEGER NOT NULL DEFAULT 0, asked INTEGER NOT NULL DEFAULT 0, digest INTEGER NOT NULL DEFAULT 0) STRICT;
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
, hash BLOB) STRICT, WITHOUT ROWID;
CREATE INDEX lines_open ON lines (call) WHERE closed = 0;
CREATE TABLE aliases (
    peer BLOB NOT NULL, room TEXT NOT NULL, call BLOB NOT NULL REFERENCES calls (id), PRIMARY KEY (peer, room)
) STRICT, WITHOUT ROWID;
CREATE INDEX aliases_by_call ON aliases (call);
CREATE TABLE signals (
    peer BLOB NOT NULL, shared BLOB NOT NULL, type TEXT NOT NULL, generation INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (peer, shared, type, generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX signals_by_time ON signals (at);
CREATE TABLE streams (
    call BLOB NOT NULL, outgoing INTEGER NOT NULL, stream INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (call, outgoing, stream)
) STRICT, WITHOUT ROWID;
CREATE TABLE entries (
    call BLOB NOT NULL, outgoing INTEGER NOT NULL, stream INTEGER NOT NULL, seq INTEGER NOT NULL,
    kind INTEGER NOT NULL, id BLOB NOT NULL, body BLOB NOT NULL, hash BLOB,
    PRIMARY KEY (call, outgoing, stream, seq)
) STRICT;
CREATE TABLE transfers (
    call BLOB NOT NULL, outgoing INTEGER NOT NULL, message BLOB NOT NULL,
    stream INTEGER NOT NULL, name TEXT NOT NULL, mime TEXT NOT NULL, size INTEGER NOT NULL, sha256 BLOB NOT NULL,
    -- Bytes handed to the delivery machine, or received.
    done INTEGER NOT NULL DEFAULT 0,
    accepted INTEGER NOT NULL DEFAULT 0, hash BLOB,
    PRIMARY KEY (call, outgoing, message)
) STRICT, WITHOUT ROWID;
CREATE TABLE peers (
    key BLOB PRIMARY KEY, inbox TEXT NOT NULL, work INTEGER NOT NULL DEFAULT 0, at INTEGER NOT NULL
, hash BLOB) STRICT, WITHOUT ROWID;
CREATE INDEX peers_by_time ON peers (at);
CREATE INDEX calls_queued ON calls (started_at) WHERE queued = 1;
CREATE INDEX outbox_by_message ON outbox (message);
CREATE INDEX messages_mail ON messages (peer) WHERE call IS NULL;
CREATE INDEX messages_queued ON messages (row) WHERE state = 'queued';
CREATE TABLE knocks (
    row INTEGER PRIMARY KEY, at INTEGER NOT NULL, key BLOB NOT NULL, stranger INTEGER NOT NULL, protocol TEXT NOT NULL
) STRICT;
CREATE INDEX knocks_by_time ON knocks (at);
CREATE TABLE digest (one INTEGER PRIMARY KEY CHECK (one = 1), state TEXT NOT NULL) STRICT;
CREATE TABLE waiting_mail (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    message BLOB NOT NULL,
    peer BLOB NOT NULL,
    text TEXT NOT NULL,
    -- Of a file.
    name TEXT,
    mime TEXT,
    at INTEGER NOT NULL,
    seq INTEGER, hash BLOB,
    UNIQUE (peer, message)
) STRICT;
CREATE TABLE claims (key BLOB PRIMARY KEY, agent_id TEXT NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX tickets_by_release ON tickets (release);
CREATE INDEX tickets_open ON tickets (at) WHERE state IN ('waiting', 'no-owner');
CREATE TABLE asks (
    ticket BLOB NOT NULL, way BLOB NOT NULL, batch BLOB NOT NULL, due INTEGER NOT NULL, tries INTEGER NOT NULL,
    PRIMARY KEY (ticket, way)
) STRICT, WITHOUT ROWID;
CREATE TABLE letters (
    rumor BLOB NOT NULL, ticket BLOB NOT NULL, key BLOB NOT NULL, way BLOB NOT NULL, batch BLOB NOT NULL,
    message BLOB NOT NULL, at INTEGER NOT NULL, hash BLOB,
    PRIMARY KEY (rumor, ticket)
) STRICT, WITHOUT ROWID;
CREATE INDEX letters_by_message ON letters (message);
CREATE INDEX letters_by_time ON letters (at);
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
