//! What calls of the v2 dialect have beside the rest, and which signals were handled.

use rusqlite::Row;

use super::intact::{self, Content, Mark};
use super::{Result, Store};
use crate::proto::call::{Call, Line, Standing};
use crate::proto::v2::signal::{Body, SharedCallId, Signal};
use crate::proto::{CallId, EventId, Millis, PublicKey};

/// Most signals remembered: a thousand calls a day for as long as their wraps live.
const SIGNALS_LIMIT: u64 = 100_000;

/// A line as its row has it: the offer is the signal as JSON.
struct Written {
    call: CallId,
    generation: u32,
    rumor: Option<EventId>,
    offer: Option<String>,
    ours: bool,
}

fn mark(line: &Written) -> Mark {
    Content::new()
        .field(line.call.0)
        .number(line.generation.into())
        .optional(line.rumor.map(|rumor| rumor.0))
        .optional(line.offer.as_deref())
        .field([line.ours.into()])
        .mark()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Written> {
    Ok(Written {
        call: row.get(0)?,
        generation: row.get(1)?,
        rumor: row.get(2)?,
        offer: row.get(3)?,
        ours: row.get(4)?,
    })
}

impl Store {
    /// Writes a v2 call's line as it is now.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn save_line(&mut self, call: &Call, line: &Line) -> Result<()> {
        let standing = line.offer.as_ref().zip(call.shared()).map(|(standing, call)| {
            let body = Body::Invite(standing.offer.clone());
            (standing.rumor, Signal { call, generation: line.generation, body }.to_json())
        });
        let (rumor, offer) = standing.unzip();
        let line = Written { call: call.id, generation: line.generation, rumor, offer, ours: line.ours };
        self.execute(
            "INSERT INTO lines (call, generation, rumor, offer, ours, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT DO UPDATE SET generation = ?2, rumor = ?3, offer = ?4, ours = ?5, hash = ?6",
            (line.call, line.generation, line.rumor, &line.offer, line.ours, mark(&line)),
        )
    }

    /// A v2 call's line. Of a damaged one the offer is not believed: the call goes on with the next handshake.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn line(&self, call: &CallId) -> Result<Option<Line>> {
        let sql = "SELECT call, generation, rumor, offer, ours, hash FROM lines WHERE call = ?";
        self.query_one(sql, [call], |row| {
            let Some(written) = intact::read(row, 5, "line of a call", read, mark) else {
                return Ok(Line::new(row.get(1).unwrap_or_default(), None, row.get(4).unwrap_or_default()));
            };
            let offer = written.offer.and_then(|offer| match Signal::parse(&offer).ok()?.body {
                Body::Invite(offer) => Some(offer),
                _ => None,
            });
            let standing = written.rumor.zip(offer).map(|(rumor, offer)| Standing { rumor, offer });
            Ok(Line::new(written.generation, standing, written.ours))
        })
    }

    /// Gives a call another name on the wire.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn add_alias(&mut self, peer: &PublicKey, room: &str, call: &CallId) -> Result<()> {
        self.execute("INSERT INTO aliases VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (peer, room, call))
    }

    /// The other names of a call.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn aliases(&self, call: &CallId) -> Result<Vec<String>> {
        self.query_all("SELECT room FROM aliases WHERE call = ?", [call], |row| row.get(0))
    }

    /// The call that has this name, or had it.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn call_named(&self, peer: &PublicKey, room: &str) -> Result<Option<CallId>> {
        self.query_one(
            "SELECT id FROM calls WHERE peer = ?1 AND room = ?2 \
             UNION ALL SELECT call FROM aliases WHERE peer = ?1 AND room = ?2 LIMIT 1",
            (peer, room),
            |row| row.get(0),
        )
    }

    /// Notes that a signal is handled. `false` if it was before.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn mark_signal(&mut self, peer: &PublicKey, signal: &Signal, now: Millis) -> Result<bool> {
        let Signal { call, generation, body } = signal;
        let shared: &SharedCallId = call;
        let added = self.changed(
            "INSERT INTO signals VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (peer, shared, body.name(), generation, now),
        )?;
        Ok(added > 0)
    }

    /// Forgets signals handled before a time, and the oldest beyond a number that only a flood reaches.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn forget_signals(&mut self, before: Millis) -> Result<()> {
        self.execute("DELETE FROM signals WHERE at < ?", [before])?;
        self.execute(
            "DELETE FROM signals WHERE at < (SELECT at FROM signals ORDER BY at DESC LIMIT 1 OFFSET ?)",
            [SIGNALS_LIMIT],
        )
    }
}
