//! The delivery machine's memory: what [`Saved::apply`] does to a value, done to rows.

use std::collections::BTreeSet;

use rusqlite::Row;

use super::intact::{self, Content, Mark};
use super::{Result, Store, json};
use crate::proto::v2::batch::{Entry, Kind};
use crate::proto::v2::delivery::{Change, Queued, Saved};
use crate::proto::{CallId, MessageId};

fn mark(
    call: &CallId,
    outgoing: bool,
    (stream, seq): (u32, u64),
    kind: Kind,
    id: &MessageId,
    body: &[u8],
) -> Mark {
    let place = Content::new().field(call.0).number(outgoing.into()).number(stream.into()).number(seq);
    place.number(u8::from(kind).into()).field(id.0).field(body).mark()
}

impl Store {
    /// Takes a change of a call's delivery machine.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn apply_delivery(&mut self, call: &CallId, change: &Change) -> Result<()> {
        match change {
            Change::Queue(Queued { entry, .. }) => {
                self.put_entry(call, true, entry)?;
                self.raise_stream(call, true, entry.stream, entry.seq + 1)
            }
            Change::Settle { stream, seq } => self.execute(
                "DELETE FROM entries WHERE call = ? AND outgoing = 1 AND stream = ? AND seq = ?",
                (call, stream, seq),
            ),
            Change::Hold(entry) => self.put_entry(call, false, entry),
            Change::Surface { stream, through, kept, .. } => {
                if *kept {
                    self.execute(
                        "DELETE FROM entries WHERE call = ? AND outgoing = 0 AND stream = ? AND seq <= ?",
                        (call, stream, through),
                    )?;
                }
                self.raise_stream(call, false, *stream, through + 1)
            }
            Change::OpenOutgoing(stream) => {
                self.execute(
                    "UPDATE lines SET next_file = max(next_file, ?2) WHERE call = ?1",
                    (call, stream.saturating_add(1)),
                )?;
                self.raise_stream(call, true, *stream, 1)
            }
            Change::OpenIncoming(stream) => self.raise_stream(call, false, *stream, 1),
            Change::CloseOutgoing(stream) => self.close_stream(call, true, *stream),
            Change::CloseIncoming(stream) => self.close_stream(call, false, *stream),
            Change::End => self.execute("UPDATE lines SET ended = 1 WHERE call = ?", [call]),
            Change::PeerEnd(finals) => {
                self.execute("UPDATE lines SET peer_end = ?2 WHERE call = ?1", (call, json(finals)))
            }
        }
    }

    fn put_entry(&mut self, call: &CallId, outgoing: bool, entry: &Entry) -> Result<()> {
        let Entry { stream, seq, kind, id, body } = entry;
        // The bytes of a chunk are in a file: of one of ours in its copy, of one of the peer's in its part.
        let body = if *kind == Kind::Chunk { &[][..] } else { body.as_slice() };
        let replace =
            if outgoing { "DO UPDATE SET kind = ?5, id = ?6, body = ?7, hash = ?8" } else { "DO NOTHING" };
        let sql = format!(
            "INSERT INTO entries (call, outgoing, stream, seq, kind, id, body, hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT {replace}"
        );
        let mark = mark(call, outgoing, (*stream, *seq), *kind, id, body);
        self.execute(&sql, (call, outgoing, stream, seq, u8::from(*kind), id, body, mark))
    }

    fn close_stream(&mut self, call: &CallId, outgoing: bool, stream: u32) -> Result<()> {
        self.write_pending()?;
        for table in ["entries", "streams"] {
            let sql = format!("DELETE FROM {table} WHERE call = ? AND outgoing = ? AND stream = ?");
            self.execute(&sql, (call, outgoing, stream))?;
        }
        Ok(())
    }

    /// What a call's delivery machine needs after a restart. Chunks of ours have no bytes yet.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn delivery(&self, call: &CallId) -> Result<Saved> {
        self.write_pending()?;
        let mut saved = Saved::default();
        let line =
            self.query_one("SELECT next_file, ended, peer_end FROM lines WHERE call = ?", [call], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?))
            })?;
        if let Some((next_file, ended, peer_end)) = line {
            (saved.next_file, saved.ended) = (next_file, ended);
            saved.peer_end = peer_end.and_then(|finals| serde_json::from_str(&finals).ok());
        }
        let sql = "SELECT outgoing, stream, next FROM streams WHERE call = ?";
        let streams: Vec<(bool, u32, u64)> =
            self.query_all(sql, [call], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        for (outgoing, stream, next) in streams {
            let streams = if outgoing { &mut saved.outgoing } else { &mut saved.incoming };
            streams.insert(stream, next);
        }
        for (outgoing, entry) in self.entries(call)? {
            if outgoing {
                saved.unacked.push(Queued { entry, deadline: None });
            } else {
                saved.held.push(entry);
            }
        }
        Ok(saved)
    }

    /// The entries of both directions. One that is damaged has said its last: something without meaning takes its place,
    /// and that of the message's other entries, so that what follows it is not held up.
    fn entries(&self, call: &CallId) -> Result<Vec<(bool, Entry)>> {
        let sql = "SELECT outgoing, stream, seq, kind, id, body, hash FROM entries WHERE call = ? ORDER BY stream, seq";
        let rows = self.query_all(sql, [call], |row| {
            // Without its place it cannot even be replaced.
            let place = (row.get::<_, bool>(0), row.get::<_, u32>(1), row.get::<_, u64>(2), row.get(4));
            let (Ok(outgoing), Ok(stream), Ok(seq), Ok(id)) = place else { return Ok(None) };
            let read = |row: &Row<'_>| {
                let kind: u8 = row.get(3)?;
                Ok(Entry { stream, seq, kind: kind.into(), id, body: row.get(5)? })
            };
            let found = intact::read(row, 6, "entry of a call", read, |entry: &Entry| {
                mark(call, outgoing, (stream, seq), entry.kind, &entry.id, &entry.body)
            });
            let nothing = Entry { stream, seq, kind: Kind::Ping, id, body: Vec::new() };
            Ok(Some((outgoing, found.is_some(), found.unwrap_or(nothing))))
        })?;
        let rows: Vec<(bool, bool, Entry)> = rows.into_iter().flatten().collect();
        let of = |outgoing: &bool, entry: &Entry| (*outgoing, entry.stream, entry.id);
        let broken: BTreeSet<_> =
            rows.iter().filter(|row| !row.1).map(|(outgoing, _, entry)| of(outgoing, entry)).collect();
        let mended = |(outgoing, _, mut entry): (bool, bool, Entry)| {
            if broken.contains(&of(&outgoing, &entry)) {
                (entry.kind, entry.body) = (Kind::Ping, Vec::new());
            }
            (outgoing, entry)
        };
        Ok(rows.into_iter().map(mended).collect())
    }

    /// Calls whose delivery machine is not done: connected ones, and ended ones that still drain.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn open_deliveries(&self) -> Result<Vec<CallId>> {
        let sql = "SELECT call FROM lines JOIN calls ON calls.id = call WHERE closed = 0 AND connected_at IS NOT NULL";
        self.query_all(sql, [], |row| row.get(0))
    }

    /// A call's delivery machine is done: nothing of it is needed any more.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn close_delivery(&mut self, call: &CallId) -> Result<()> {
        self.write_pending()?;
        self.execute("UPDATE lines SET closed = 1 WHERE call = ?", [call])?;
        for table in ["entries", "streams", "transfers"] {
            self.execute(&format!("DELETE FROM {table} WHERE call = ?"), [call])?;
        }
        Ok(())
    }
}
