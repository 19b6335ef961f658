//! What the peer says: entries put in order, and messages put together from their parts.

use std::collections::BTreeMap;

use super::saved::Saved;
use super::{SPAN_ENTRIES, cost, span_bytes};
use crate::proto::v2::batch::{CONTROL, Entry, FIRST_FILE, TEXT};
use crate::proto::v2::body::{self, PARTS_LIMIT, TEXT_LIMIT};

/// Most entries held back in a stream, and what they may cost. A sender of ours counts from the first entry that was not
/// acknowledged, which may be the last part of the text that the cursor still stands before.
const fn held_limits(stream: u32) -> (u64, u64) {
    match stream {
        TEXT => (SPAN_ENTRIES + PARTS_LIMIT, span_bytes(TEXT) + TEXT_LIMIT as u64 + PARTS_LIMIT * cost(0)),
        other => (SPAN_ENTRIES, span_bytes(other)),
    }
}

#[derive(Debug, Clone)]
struct Stream {
    /// The first entry that has not been surfaced.
    next: u64,
    /// Entries from there on.
    held: BTreeMap<u64, Entry>,
    cost: u64,
    /// The last entry that was persisted before its turn; 0 for none.
    kept: u64,
    /// There is a place for what comes; a file's has to be made first.
    ready: bool,
}

/// All streams of the peer that are open.
#[derive(Debug, Clone)]
pub(super) struct Incoming {
    streams: BTreeMap<u32, Stream>,
}

/// Entries whose turn has come: they make up one message, or nothing.
pub(super) struct Released {
    pub(super) stream: u32,
    pub(super) through: u64,
    /// Some may have been persisted before their turn.
    pub(super) kept: bool,
    pub(super) entries: Vec<Entry>,
}

impl Incoming {
    pub(super) fn restore(saved: &Saved) -> Self {
        let mut incoming = Self { streams: BTreeMap::new() };
        for (stream, next) in [(CONTROL, 1), (TEXT, 1)].into_iter().chain(saved.incoming.clone()) {
            incoming.open(stream, next);
        }
        for entry in &saved.held {
            incoming.insert(entry.clone());
            incoming.keep(entry.stream, entry.seq);
        }
        incoming
    }

    // ---- getters ----

    pub(super) fn is_open(&self, stream: u32) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Streams that carry files.
    pub(super) fn file_streams(&self) -> Vec<u32> {
        self.streams.range(FIRST_FILE..).map(|(stream, _)| *stream).collect()
    }

    /// Whether everything up to `last` has been surfaced. Of a closed stream nothing is wanted.
    pub(super) fn has_all(&self, stream: u32, last: u64) -> bool {
        self.streams.get(&stream).is_none_or(|state| state.next > last)
    }

    pub(super) fn holds(&self, stream: u32, seq: u64) -> bool {
        self.streams.get(&stream).is_some_and(|state| state.held.contains_key(&seq))
    }

    pub(super) fn save(&self, saved: &mut Saved) {
        saved.incoming = self.streams.iter().map(|(stream, state)| (*stream, state.next)).collect();
        saved.held = self.streams.values().flat_map(|state| state.held.values().cloned()).collect();
    }

    // ---- changes ----

    pub(super) fn open(&mut self, stream: u32, next: u64) {
        let ready = stream < FIRST_FILE;
        self.streams.insert(stream, Stream { next, held: BTreeMap::new(), cost: 0, kept: 0, ready });
    }

    pub(super) fn admit(&mut self, stream: u32) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.ready = true;
        }
    }

    /// The stream of a piece of a file that there is no place for yet.
    pub(super) fn unready(&self, entries: &[Entry]) -> Option<u32> {
        let waits = |stream: &u32| self.streams.get(stream).is_some_and(|state| !state.ready);
        entries.iter().map(|entry| entry.stream).find(waits)
    }

    pub(super) fn close(&mut self, stream: u32) -> bool {
        self.streams.remove(&stream).is_some()
    }

    /// Whether all entries of a frame can be held.
    pub(super) fn check(&self, entries: &[Entry]) -> Result<(), &'static str> {
        let mut added: BTreeMap<u32, u64> = BTreeMap::new();
        for entry in entries {
            let Some(state) = self.streams.get(&entry.stream) else { continue };
            if entry.seq < state.next || state.held.contains_key(&entry.seq) {
                continue;
            }
            let added = added.entry(entry.stream).or_insert(state.cost);
            *added += cost(entry.body.len());
            let (entries, bytes) = held_limits(entry.stream);
            if entry.seq - state.next >= entries || *added > bytes {
                return Err("more is ahead of its turn than is held back");
            }
        }
        Ok(())
    }

    /// Takes an entry. `false` if it is known already, or its stream is closed.
    pub(super) fn insert(&mut self, entry: Entry) -> bool {
        let Some(state) = self.streams.get_mut(&entry.stream) else { return false };
        if entry.seq < state.next || state.held.contains_key(&entry.seq) {
            return false;
        }
        state.cost += cost(entry.body.len());
        state.held.insert(entry.seq, entry);
        true
    }

    /// An entry is persisted before its turn.
    pub(super) fn keep(&mut self, stream: u32, seq: u64) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.kept = state.kept.max(seq);
        }
    }

    /// What is next in a stream, if it is there as a whole.
    pub(super) fn release(&mut self, stream: u32) -> Option<Released> {
        let state = self.streams.get_mut(&stream)?;
        let first = state.held.get(&state.next)?;
        let count = match body::part_of(&first.body) {
            Ok((0, total)) if stream == TEXT && body::has_parts(first.kind) => {
                let belongs = |part: u64| {
                    let entry = state.held.get(&(state.next + part))?;
                    let same = (entry.kind, entry.id) == (first.kind, first.id);
                    Some(same && body::part_of(&entry.body) == Ok((part, total)))
                };
                let mut count = 1;
                loop {
                    match (count < total).then(|| belongs(count)) {
                        None => break count,
                        Some(Some(true)) => count += 1,
                        // The sender withdrew the rest: what has come is released without it, and makes no message.
                        Some(Some(false)) => break count,
                        Some(None) => return None,
                    }
                }
            }
            _ => 1,
        };
        let entries: Vec<Entry> =
            (0..count).filter_map(|part| state.held.remove(&(state.next + part))).collect();
        let kept = state.kept >= state.next;
        state.next += count;
        state.cost -= entries.iter().map(|entry| cost(entry.body.len())).sum::<u64>();
        Some(Released { stream, through: state.next - 1, kept, entries })
    }
}
