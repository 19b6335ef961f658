//! What calls of the v2 dialect have beside the rest, and which signals were handled.

use super::{Result, Store};
use crate::proto::call::{Call, Line, Standing};
use crate::proto::v2::signal::{Body, SharedCallId, Signal};
use crate::proto::{CallId, EventId, Millis, PublicKey};

/// Most signals remembered: a thousand calls a day for as long as their wraps live.
const SIGNALS_LIMIT: u64 = 100_000;

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
        self.execute(
            "INSERT INTO lines (call, generation, rumor, offer, ours) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO UPDATE SET generation = ?2, rumor = ?3, offer = ?4, ours = ?5",
            (
                call.id,
                line.generation,
                standing.as_ref().map(|(rumor, _)| rumor),
                standing.as_ref().map(|(_, offer)| offer),
                line.ours,
            ),
        )
    }

    /// A v2 call's line.
    ///
    /// # Errors
    /// [`super::Error`].
    pub fn line(&self, call: &CallId) -> Result<Option<Line>> {
        let sql = "SELECT generation, rumor, offer, ours FROM lines WHERE call = ?";
        self.query_one(sql, [call], |row| {
            let (rumor, offer): (Option<EventId>, Option<String>) = (row.get(1)?, row.get(2)?);
            let offer = offer.and_then(|offer| match Signal::parse(&offer).ok()?.body {
                Body::Invite(offer) => Some(offer),
                _ => None,
            });
            let standing = rumor.zip(offer).map(|(rumor, offer)| Standing { rumor, offer });
            Ok(Line::new(row.get(0)?, standing, row.get(3)?))
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
