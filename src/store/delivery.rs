//! The delivery machine's memory: what [`Saved::apply`] does to a value, done to rows.

use super::{Result, Store, json};
use crate::proto::CallId;
use crate::proto::v2::batch::{Entry, Kind};
use crate::proto::v2::delivery::{Change, Queued, Saved};

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
            Change::Surface { stream, through, .. } => {
                self.execute(
                    "DELETE FROM entries WHERE call = ? AND outgoing = 0 AND stream = ? AND seq <= ?",
                    (call, stream, through),
                )?;
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
        // A chunk of ours is read from the file's copy again.
        let body = if outgoing && *kind == Kind::Chunk { &[][..] } else { body.as_slice() };
        let replace = if outgoing { "DO UPDATE SET kind = ?5, id = ?6, body = ?7" } else { "DO NOTHING" };
        let sql = format!("INSERT INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT {replace}");
        self.execute(&sql, (call, outgoing, stream, seq, u8::from(*kind), id, body))
    }

    /// A stream's number rises and never falls: an entry that is replaced has an older one.
    fn raise_stream(&mut self, call: &CallId, outgoing: bool, stream: u32, next: u64) -> Result<()> {
        self.execute(
            "INSERT INTO streams VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET next = max(next, ?4)",
            (call, outgoing, stream, next),
        )
    }

    fn close_stream(&mut self, call: &CallId, outgoing: bool, stream: u32) -> Result<()> {
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
        let sql =
            "SELECT outgoing, stream, seq, kind, id, body FROM entries WHERE call = ? ORDER BY stream, seq";
        let entries: Vec<(bool, Entry)> = self.query_all(sql, [call], |row| {
            let kind: u8 = row.get(3)?;
            let entry = Entry {
                stream: row.get(1)?,
                seq: row.get(2)?,
                kind: kind.into(),
                id: row.get(4)?,
                body: row.get(5)?,
            };
            Ok((row.get(0)?, entry))
        })?;
        for (outgoing, entry) in entries {
            if outgoing {
                saved.unacked.push(Queued { entry, deadline: None });
            } else {
                saved.held.push(entry);
            }
        }
        Ok(saved)
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
        self.execute("UPDATE lines SET closed = 1 WHERE call = ?", [call])?;
        for table in ["entries", "streams", "transfers"] {
            self.execute(&format!("DELETE FROM {table} WHERE call = ?"), [call])?;
        }
        Ok(())
    }
}
