//! What we say: entries in their streams, until the peer has committed them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use super::saved::{Queued, Saved};
use super::{Key, SPAN_ENTRIES, cost, span_bytes};
use crate::proto::v2::batch::{BODY_LIMIT, CONTROL, Entry, FIRST_FILE, Kind, TEXT};
use crate::proto::v2::body;
use crate::proto::{MessageId, Millis};

/// When no more pieces of files are left than this, those that were lost go out twice.
const LAST_PIECES: usize = 16;

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// To be sent, once it is durable.
    Waiting,
    /// In the frame of this number.
    Sent(u64),
}

#[derive(Debug, Clone)]
struct Unacked {
    entry: Entry,
    place: Place,
    /// Durable when this point is.
    point: u64,
    /// Cost of everything before it in its stream.
    offset: u64,
    /// It has left, or may have in an earlier life: a receipt is not added to it any more.
    fixed: bool,
    /// A way that loses many frames has lost it: the next time it goes over two.
    urgent: bool,
}

#[derive(Debug, Clone)]
struct Stream {
    next: u64,
    offset: u64,
}

#[derive(Debug, Clone)]
struct Message {
    first: Key,
    last: Key,
    left: usize,
    deadline: Option<Millis>,
}

/// All streams of ours.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    streams: BTreeMap<u32, Stream>,
    next_file: u32,
    unacked: BTreeMap<Key, Unacked>,
    /// Durable and to be sent, in the order of sending: control, text, files.
    waiting: BTreeSet<Key>,
    /// In the order of their points.
    uncommitted: VecDeque<(u64, Key)>,
    messages: BTreeMap<MessageId, Message>,
    deadlines: BTreeSet<(Millis, MessageId)>,
    bytes: usize,
    /// The file that had its turn last.
    turn: u32,
}

impl Outgoing {
    pub(super) fn restore(saved: &Saved) -> Self {
        let stream = |(stream, next): (&u32, &u64)| (*stream, Stream { next: *next, offset: 0 });
        let mut outgoing = Self {
            streams: saved.outgoing.iter().map(stream).collect(),
            next_file: saved.next_file.max(FIRST_FILE),
            unacked: BTreeMap::new(),
            waiting: BTreeSet::new(),
            uncommitted: VecDeque::new(),
            messages: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            bytes: 0,
            turn: 0,
        };
        let mut before: Option<Key> = None;
        for Queued { entry, deadline } in &saved.unacked {
            let key = (entry.stream, entry.seq);
            // The peer may hold what lies between, and it may be as large as entries are.
            let between = match before {
                Some((stream, seq)) if stream == key.0 => key.1.saturating_sub(seq + 1),
                _ => 0,
            };
            before = Some(key);
            if let Some(stream) = outgoing.streams.get_mut(&key.0) {
                stream.offset += between * cost(BODY_LIMIT);
            }
            outgoing.insert(entry.clone(), *deadline, 0, true);
            outgoing.waiting.insert(key);
        }
        outgoing
    }

    fn insert(&mut self, entry: Entry, deadline: Option<Millis>, point: u64, fixed: bool) {
        let key = (entry.stream, entry.seq);
        let stream = self.streams.entry(entry.stream).or_insert(Stream { next: 1, offset: 0 });
        stream.next = stream.next.max(entry.seq + 1);
        let offset = stream.offset;
        stream.offset += cost(entry.body.len());
        self.bytes += entry.body.len();
        if body::is_message(entry.kind) {
            let new = Message { first: key, last: key, left: 0, deadline };
            let message = self.messages.entry(entry.id).or_insert(new);
            (message.last, message.left) = (key, message.left + 1);
            self.deadlines.extend(deadline.map(|at| (at, entry.id)));
        }
        self.unacked
            .insert(key, Unacked { entry, place: Place::Waiting, point, offset, fixed, urgent: false });
    }

    // ---- getters ----

    pub(super) fn is_empty(&self) -> bool {
        self.unacked.is_empty()
    }

    pub(super) fn entries(&self) -> usize {
        self.unacked.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn knows(&self, id: &MessageId) -> bool {
        self.messages.contains_key(id)
    }

    pub(super) fn is_open(&self, stream: u32) -> bool {
        stream < FIRST_FILE || self.streams.contains_key(&stream)
    }

    /// Streams that carry files.
    pub(super) fn file_streams(&self) -> Vec<u32> {
        self.streams.range(FIRST_FILE..).map(|(stream, _)| *stream).collect()
    }

    /// Bytes that wait in a stream.
    pub(super) fn bytes_in(&self, stream: u32) -> usize {
        self.unacked
            .range((stream, 0)..=(stream, u64::MAX))
            .map(|(_, unacked)| unacked.entry.body.len())
            .sum()
    }

    /// The last seq of each stream, once an end has been added.
    pub(super) fn finals_with_end(&self) -> Vec<(u32, u64)> {
        let end = (CONTROL, self.streams.get(&CONTROL).map_or(1, |state| state.next));
        let others = self.streams.range(TEXT..).map(|(stream, state)| (*stream, state.next - 1));
        std::iter::once(end).chain(others).collect()
    }

    /// Messages that are not delivered, in their order.
    pub(super) fn undelivered(&self) -> Vec<MessageId> {
        let mut undelivered: Vec<_> =
            self.messages.iter().map(|(id, message)| (message.first, *id)).collect();
        undelivered.sort_unstable();
        undelivered.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn poll_deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(super) fn save(&self, saved: &mut Saved) {
        saved.outgoing = self.streams.iter().map(|(stream, state)| (*stream, state.next)).collect();
        saved.next_file = self.next_file;
        let queued = |unacked: &Unacked| {
            let is_message = body::is_message(unacked.entry.kind);
            let message = self.messages.get(&unacked.entry.id).filter(|_| is_message);
            Queued { entry: unacked.entry.clone(), deadline: message.and_then(|message| message.deadline) }
        };
        saved.unacked = self.unacked.values().map(queued).collect();
    }

    // ---- changes ----

    /// Appends an entry to its stream; it waits until `point` is durable.
    pub(super) fn push(
        &mut self,
        (stream, kind): (u32, Kind),
        id: MessageId,
        body: Vec<u8>,
        deadline: Option<Millis>,
        point: u64,
    ) -> Queued {
        let seq = self.streams.get(&stream).map_or(1, |stream| stream.next);
        let entry = Entry { stream, seq, kind, id, body };
        self.insert(entry.clone(), deadline, point, false);
        self.uncommitted.push_back((point, (stream, seq)));
        Queued { entry, deadline }
    }

    /// A receipt covers those before it: one that has not left yet is changed instead of being followed by another.
    pub(super) fn push_read(&mut self, id: MessageId, point: u64) -> Queued {
        if let Some((key, last)) = self.unacked.range_mut((CONTROL, 0)..=(CONTROL, u64::MAX)).next_back()
            && (last.entry.kind, last.place, last.fixed) == (Kind::Read, Place::Waiting, false)
        {
            (last.entry.id, last.point) = (id, point);
            self.waiting.remove(key);
            self.uncommitted.push_back((point, *key));
            return Queued { entry: last.entry.clone(), deadline: None };
        }
        self.push((CONTROL, Kind::Read), id, Vec::new(), None, point)
    }

    pub(super) fn open_file(&mut self) -> u32 {
        let stream = self.next_file;
        self.next_file += 1;
        self.streams.insert(stream, Stream { next: 1, offset: 0 });
        stream
    }

    /// Drops a stream, and what waits in it.
    pub(super) fn close(&mut self, stream: u32) -> bool {
        let dropped: Vec<Key> =
            self.unacked.range((stream, 0)..=(stream, u64::MAX)).map(|(key, _)| *key).collect();
        for key in dropped {
            self.remove(key);
        }
        self.streams.remove(&stream).is_some()
    }

    fn remove(&mut self, key: Key) -> Option<Entry> {
        let unacked = self.unacked.remove(&key)?;
        self.waiting.remove(&key);
        self.bytes -= unacked.entry.body.len();
        Some(unacked.entry)
    }

    /// Everything up to `durable` may leave.
    pub(super) fn commit(&mut self, durable: u64) {
        while let Some((point, key)) = self.uncommitted.front().copied()
            && point <= durable
        {
            self.uncommitted.pop_front();
            let is_due = |unacked: &Unacked| unacked.place == Place::Waiting && unacked.point <= durable;
            if self.unacked.get(&key).is_some_and(is_due) {
                self.waiting.insert(key);
            }
        }
    }

    /// Takes entries for a frame: those that wait, as many as fit, none further ahead in its stream than the peer
    /// holds back. Pieces of files do not travel with anything else, which would wait for them on the way, and files
    /// take turns.
    pub(super) fn fill(&mut self, mut room: usize, frame: u64, files: bool) -> Vec<Entry> {
        let mut entries = self.fill_from((CONTROL, 0)..(FIRST_FILE, 0), &mut room, frame);
        if entries.is_empty() && files {
            let next = (self.turn.max(FIRST_FILE - 1).saturating_add(1), 0);
            entries = self.fill_from(next..(u32::MAX, 0), &mut room, frame);
            entries.extend(self.fill_from((FIRST_FILE, 0)..next, &mut room, frame));
            self.turn = entries.last().map_or(self.turn, |entry| entry.stream);
        }
        entries
    }

    fn fill_from(&mut self, range: Range<Key>, room: &mut usize, frame: u64) -> Vec<Entry> {
        let (mut entries, mut from) = (Vec::new(), range.start);
        while from < range.end
            && let Some(key) = self.waiting.range(from..range.end).next().copied()
        {
            let oldest = self.unacked.range((key.0, 0)..).next().map(|(key, oldest)| (key.1, oldest.offset));
            let (Some(unacked), Some((oldest, offset))) = (self.unacked.get_mut(&key), oldest) else { break };
            let span = unacked.offset + cost(unacked.entry.body.len()) - offset;
            let size = unacked.entry.encoded_len();
            if span > span_bytes(key.0) || key.1 - oldest >= SPAN_ENTRIES || size > *room {
                from = (key.0 + 1, 0);
                continue;
            }
            unacked.place = Place::Sent(frame);
            unacked.fixed = true;
            entries.push(unacked.entry.clone());
            *room -= size;
            self.waiting.remove(&key);
            from = key;
        }
        entries
    }

    /// Whether these are to go over two ways, though one is enough for pieces of files: each of the last few that is lost
    /// costs all the time until that is known.
    pub(super) fn is_urgent(&self, keys: &[Key]) -> bool {
        self.unacked.range((FIRST_FILE, 0)..).nth(LAST_PIECES).is_none()
            && keys.iter().any(|key| self.unacked.get(key).is_some_and(|unacked| unacked.urgent))
    }

    /// Whether [`Self::fill`] would find something.
    pub(super) fn has_waiting(&self, files: bool) -> bool {
        match files {
            true => !self.waiting.is_empty(),
            false => self.waiting.range(..(FIRST_FILE, 0)).next().is_some(),
        }
    }

    /// Whether nothing waits but receipts.
    pub(super) fn only_receipts_wait(&self) -> bool {
        let is_receipt = |key| self.unacked.get(key).is_some_and(|it| it.entry.kind == Kind::Read);
        self.waiting.iter().all(is_receipt)
    }

    /// The peer has these. Returns those that it did not have before, and messages that are now whole there.
    pub(super) fn settle(&mut self, keys: &[Key]) -> (Vec<Key>, Vec<MessageId>) {
        let (mut settled, mut delivered) = (Vec::new(), Vec::new());
        for key in keys {
            let Some(entry) = self.remove(*key) else { continue };
            settled.push(*key);
            if !body::is_message(entry.kind) {
                continue;
            }
            if let Some(message) = self.messages.get_mut(&entry.id) {
                message.left -= 1;
                if message.left == 0 {
                    self.forget(&entry.id);
                    delivered.push(entry.id);
                }
            }
        }
        (settled, delivered)
    }

    fn forget(&mut self, id: &MessageId) -> Option<Message> {
        let message = self.messages.remove(id)?;
        if let Some(at) = message.deadline {
            self.deadlines.remove(&(at, *id));
        }
        Some(message)
    }

    /// The frame of this number, which carried these, is lost; `urgent` if its way loses many.
    pub(super) fn lose(
        &mut self,
        keys: &[Key],
        urgent: bool,
        durable: u64,
        is_under_way: impl Fn(u64) -> bool,
    ) {
        for key in keys {
            if let Some(unacked) = self.unacked.get_mut(key)
                && let Place::Sent(number) = unacked.place
                && !is_under_way(number)
            {
                unacked.place = Place::Waiting;
                unacked.urgent |= urgent;
                if unacked.point <= durable {
                    self.waiting.insert(*key);
                }
            }
        }
    }

    /// Everything is to be sent again, in frames of another handshake.
    pub(super) fn rewind(&mut self, durable: u64) {
        for (key, unacked) in &mut self.unacked {
            unacked.place = Place::Waiting;
            unacked.fixed = true;
            if unacked.point <= durable {
                self.waiting.insert(*key);
            }
        }
    }

    /// A message whose time is over, and its entries.
    pub(super) fn expire(&mut self, now: Millis) -> Option<(MessageId, Vec<Key>)> {
        let (_, id) = self.deadlines.first().copied().filter(|(at, _)| *at <= now)?;
        let message = self.forget(&id)?;
        let keys = self.unacked.range(message.first..=message.last).map(|(key, _)| *key).collect();
        Some((id, keys))
    }

    /// Puts a ping in the place of an entry: the peer is not to wait for a gap.
    pub(super) fn withdraw(&mut self, key: Key, point: u64) -> Option<Queued> {
        let unacked = self.unacked.get_mut(&key)?;
        self.bytes -= unacked.entry.body.len();
        unacked.entry.kind = Kind::Ping;
        unacked.entry.body = Vec::new();
        unacked.point = point;
        self.waiting.remove(&key);
        self.uncommitted.push_back((point, key));
        Some(Queued { entry: unacked.entry.clone(), deadline: None })
    }
}
