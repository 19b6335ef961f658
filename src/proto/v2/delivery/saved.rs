//! What outlives the process: the state, and the changes that lead from one to the next.
//!
//! A store need not keep a [`Saved`]; rows do. It is right if what it loads is what [`Saved::apply`] makes of the
//! changes that it committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Said;
use crate::proto::Millis;
use crate::proto::v2::batch::{Entry, FIRST_FILE};

/// An entry of ours that the peer does not have for certain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The entry.
    pub entry: Entry,
    /// When its message fails.
    pub deadline: Option<Millis>,
}

/// Something to persist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An entry of ours, or another content for the entry of ours of the same stream and seq.
    Queue(Queued),
    /// The peer has this entry of ours.
    Settle {
        /// Its stream.
        stream: u32,
        /// Its place there.
        seq: u64,
    },
    /// An entry of the peer came before its turn.
    Hold(Entry),
    /// The peer's entries up to here have had their turn: what was held of them can go.
    Surface {
        /// The stream.
        stream: u32,
        /// The last entry.
        through: u64,
        /// Whether any of them may be held: otherwise there is nothing of them that could go.
        kept: bool,
        /// What they say to the application; nothing, if they were the machine's own affair.
        said: Option<Said>,
    },
    /// A stream of ours for a file.
    OpenOutgoing(u32),
    /// It is over, and what waited in it is dropped.
    CloseOutgoing(u32),
    /// A stream of the peer for a file.
    OpenIncoming(u32),
    /// It is over: what still comes in it is not wanted.
    CloseIncoming(u32),
    /// We have ended the call.
    End,
    /// The peer has ended the call, after these entries.
    PeerEnd(Vec<(u32, u64)>),
}

/// Everything that a machine needs after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Per open stream of ours, the seq of the next entry.
    pub outgoing: BTreeMap<u32, u64>,
    /// The stream of the next file of ours.
    pub next_file: u32,
    /// Entries of ours that the peer does not have for certain, by stream and seq.
    pub unacked: Vec<Queued>,
    /// Per open stream of the peer, the seq of the first entry that has not been surfaced.
    pub incoming: BTreeMap<u32, u64>,
    /// Entries of the peer from there on, by stream and seq.
    pub held: Vec<Entry>,
    /// We have ended the call.
    pub ended: bool,
    /// The peer has ended the call, after these entries.
    pub peer_end: Option<Vec<(u32, u64)>>,
}

impl Default for Saved {
    fn default() -> Self {
        Self {
            outgoing: BTreeMap::new(),
            next_file: FIRST_FILE,
            unacked: Vec::new(),
            incoming: BTreeMap::from([(0, 1), (1, 1)]),
            held: Vec::new(),
            ended: false,
            peer_end: None,
        }
    }
}

impl Saved {
    /// Takes a change.
    pub fn apply(&mut self, change: Change) {
        let place = |entry: &Entry| (entry.stream, entry.seq);
        match change {
            Change::Queue(queued) => {
                let key = place(&queued.entry);
                let next = self.outgoing.entry(key.0).or_insert(1);
                *next = key.1.saturating_add(1).max(*next);
                match self.unacked.binary_search_by_key(&key, |queued| place(&queued.entry)) {
                    Ok(at) => self.unacked[at] = queued,
                    Err(at) => self.unacked.insert(at, queued),
                }
            }
            Change::Settle { stream, seq } => {
                self.unacked.retain(|queued| place(&queued.entry) != (stream, seq));
            }
            Change::Hold(entry) => {
                if let Err(at) = self.held.binary_search_by_key(&place(&entry), place) {
                    self.held.insert(at, entry);
                }
            }
            Change::Surface { stream, through, .. } => {
                self.held.retain(|entry| entry.stream != stream || entry.seq > through);
                if let Some(next) = self.incoming.get_mut(&stream) {
                    *next = through.saturating_add(1).max(*next);
                }
            }
            Change::OpenOutgoing(stream) => {
                self.outgoing.insert(stream, 1);
                self.next_file = self.next_file.max(stream.saturating_add(1));
            }
            Change::CloseOutgoing(stream) => {
                self.outgoing.remove(&stream);
                self.unacked.retain(|queued| queued.entry.stream != stream);
            }
            Change::OpenIncoming(stream) => _ = self.incoming.insert(stream, 1),
            Change::CloseIncoming(stream) => {
                self.incoming.remove(&stream);
                self.held.retain(|entry| entry.stream != stream);
            }
            Change::End => self.ended = true,
            Change::PeerEnd(finals) => self.peer_end = Some(finals),
        }
    }
}
