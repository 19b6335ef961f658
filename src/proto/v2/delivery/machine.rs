//! The machine itself: what comes in, what goes out, and its life.

use std::collections::VecDeque;
use std::time::Duration;

use super::epochs::Epochs;
use super::flight::{Flight, Sent};
use super::incoming::{Incoming, Released};
use super::outgoing::Outgoing;
use super::receipts::{Receipts, Seen};
use super::{
    AWAY_TIME, Change, DRAIN_TIME, Event, Handled, LINGER_TIME, LOST_TIME, Output, PING_TIME, Said, Saved,
    Transmit, span_bytes,
};
use crate::mutants::{Mutant, planted};
use crate::proto::v2::batch::{Ack, Batch, CONTROL, Entry, FIRST_FILE, Kind};
use crate::proto::v2::body::{self, CHUNK_LIMIT, Content};
use crate::proto::v2::frame;
use crate::proto::{Hex, MessageId, Millis};

/// Where the call is in its life, as far as the machine is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Draining {
        until: Millis,
        /// Everything has arrived on both sides; from now on only what comes again is answered.
        linger: Option<Millis>,
    },
    Closed,
}

/// Both directions of one call.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    // Of the current handshake.
    flight: Flight,
    receipts: Receipts,
    epochs: Epochs,
    outputs: VecDeque<Output>,
    /// How many changes were ever given out, and how many of them are durable.
    pub(super) issued: u64,
    durable: u64,
    heard_at: Millis,
    away: bool,
    ping_wanted: bool,
    /// When a receipt leaves, though nothing goes with it.
    pub(super) receipt_at: Option<Millis>,
    /// There is no room for pieces of files now.
    files_held: bool,
    budget_low: bool,
    pub(super) phase: Phase,
    peer_end: Option<Vec<(u32, u64)>>,
    peer_done: bool,
}

impl Delivery {
    /// A call that has just connected.
    pub fn new(now: Millis) -> Self {
        Self::restore(&Saved::default(), now)
    }

    /// A call as it was persisted, in a handshake that has just been made. What the peer may not have goes out again.
    pub fn restore(saved: &Saved, now: Millis) -> Self {
        let mut delivery = Self {
            outgoing: Outgoing::restore(saved),
            incoming: Incoming::restore(saved),
            flight: Flight::default(),
            receipts: Receipts::default(),
            epochs: Epochs::new(now),
            outputs: VecDeque::new(),
            issued: 0,
            durable: 0,
            heard_at: now,
            away: false,
            ping_wanted: false,
            receipt_at: None,
            files_held: false,
            budget_low: false,
            phase: Phase::Open,
            peer_end: saved.peer_end.clone(),
            peer_done: false,
        };
        if saved.ended {
            delivery.phase = Phase::Draining { until: now + DRAIN_TIME, linger: None };
        }
        delivery.advance(now);
        delivery
    }

    /// A transaction failed: goes back to what was persisted before, in the same handshake. Frame numbers go on.
    pub fn reload(&mut self, saved: &Saved, now: Millis) {
        let restored = Self::restore(saved, now);
        self.outgoing = restored.outgoing;
        self.incoming = restored.incoming;
        (self.phase, self.peer_end, self.peer_done) = (restored.phase, restored.peer_end, restored.peer_done);
        self.outputs = restored.outputs;
        self.receipts.forget_pending();
        self.durable = self.issued;
    }

    /// The peer has lost its keys, and a new handshake has been made: frame numbers and epochs begin anew.
    pub fn resume(&mut self, now: Millis) {
        self.flight = Flight::default();
        self.receipts = Receipts::default();
        self.epochs = Epochs::new(now);
        self.outgoing.rewind(self.durable);
        self.ping_wanted = false;
        if let Phase::Draining { .. } = self.phase {
            self.phase = Phase::Draining { until: now + DRAIN_TIME, linger: None };
        }
        self.hear(now);
        self.advance(now);
    }

    // ---- getters ----

    /// Everything that must survive a restart, as it is now.
    pub fn saved(&self) -> Saved {
        let mut saved =
            Saved { ended: self.phase != Phase::Open, peer_end: self.peer_end.clone(), ..Saved::default() };
        self.outgoing.save(&mut saved);
        self.incoming.save(&mut saved);
        saved
    }

    /// What [`Self::handle_persisted`] is told once everything given out so far is durable.
    pub fn persist_point(&self) -> u64 {
        self.issued
    }

    /// The epoch that the eight bits in a frame of the peer mean; none, if no key for it can be there. It may be the one
    /// after the current one: then the session tries the renewed key, and keeps it if the frame opens.
    pub fn receive_epoch(&self, bits: u8) -> Option<u64> {
        self.epochs.of(bits)
    }

    /// Whether nothing of ours waits for the peer.
    pub fn is_settled(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// For how long nothing was heard of the peer.
    pub fn silence(&self, now: Millis) -> Duration {
        now.since(self.heard_at)
    }

    /// The smoothed round trip, commit of the peer included.
    pub fn round_trip(&self) -> Option<Duration> {
        self.flight.round_trip()
    }

    /// Whether [`Self::poll_output`] has something.
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Messages of ours that the peer may not have, in their order.
    pub fn undelivered(&self) -> Vec<MessageId> {
        self.outgoing.undelivered()
    }

    /// Whether one side has ended the call.
    pub fn is_ending(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Whether everything of ours has arrived.
    pub fn is_heard(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Whether everything of ours in a stream has arrived.
    pub fn is_through(&self, stream: u32) -> bool {
        self.outgoing.bytes_in(stream) == 0
    }

    /// Bytes of a stream that wait, or are under way.
    pub fn waiting_in(&self, stream: u32) -> usize {
        self.outgoing.bytes_in(stream)
    }

    /// How many whole chunks the stream of a file takes now.
    pub fn chunk_room(&self, stream: u32) -> usize {
        match self.outgoing.is_open(stream) {
            true => {
                (span_bytes(stream) as usize).saturating_sub(self.outgoing.bytes_in(stream)) / CHUNK_LIMIT
            }
            false => 0,
        }
    }

    // ---- handle: from the peer, the store and the clock ----

    /// Takes a frame that was opened with the key of `epoch`.
    pub fn handle_frame(&mut self, epoch: u64, number: u64, plaintext: &[u8], now: Millis) -> Handled {
        if self.is_closed() {
            return Handled::Dropped("the call is over");
        }
        match self.receipts.check(number) {
            Seen::Never => {}
            Seen::Pending => return Handled::Dropped("it waits for its commit already"),
            Seen::Committed => {
                self.receipts.repeat(number);
                return Handled::Dropped("it was acknowledged already");
            }
            Seen::NotTaken(why) => return Handled::Dropped(why),
        }
        let Batch { ack, entries } = match frame::unpad(plaintext).and_then(Batch::decode) {
            Ok(batch) => batch,
            Err(malformed) => return Handled::Malformed(malformed),
        };
        if let Some(stream) = self.incoming.unready(&entries) {
            return Handled::Early(stream);
        }
        if let Err(why) = self.incoming.check(&entries) {
            return Handled::Dropped(why);
        }
        self.epochs.opened(epoch, number, now);
        if let Some(ack) = ack {
            self.handle_ack(&ack, now);
        }
        self.hear(now);
        if entries.is_empty() {
            self.receipts.take_quiet(number, now);
        } else {
            self.handle_entries(entries, now);
            // What came again may not be durable yet either: it waits for the latest change, not only for its own.
            let point = if planted(Mutant::AckBeforeCommit) { 0 } else { self.issued };
            self.receipts.take(number, point, now);
            self.receipts.commit(self.durable, self.budget_low, now);
            if let Phase::Draining { until, linger: Some(_) } = self.phase {
                self.phase = Phase::Draining { until, linger: Some(until.min(now + LINGER_TIME)) };
            }
        }
        self.advance(now);
        Handled::Taken
    }

    /// Everything up to this [`Self::persist_point`] is durable.
    pub fn handle_persisted(&mut self, point: u64, now: Millis) {
        self.durable = self.durable.max(point.min(self.issued));
        self.outgoing.commit(self.durable);
        self.receipts.commit(self.durable, self.budget_low, now);
        self.advance(now);
    }

    /// Carries out what is due.
    pub fn handle_timeout(&mut self, now: Millis) {
        if self.is_closed() {
            return;
        }
        let silence = now.since(self.heard_at);
        if silence >= LOST_TIME {
            return self.close(true);
        }
        if silence >= AWAY_TIME && !self.away {
            self.away = true;
            self.event(Event::Away);
        }
        self.ping_wanted |= silence >= PING_TIME && self.flight.under_way() == 0;
        let lost = self.flight.handle_timeout(now);
        self.lose(lost);
        self.receipts.handle_timeout(now);
        self.receipt_at = self.receipt_at.filter(|at| now < *at);
        while let Some((id, keys)) = self.outgoing.expire(now) {
            for key in keys {
                if let Some(queued) = self.outgoing.withdraw(key, self.issued + 1) {
                    self.persist(Change::Queue(queued));
                }
            }
            self.event(Event::Expired(id));
        }
        if let Phase::Draining { until, linger } = self.phase
            && linger.unwrap_or(until).min(until) <= now
        {
            return self.close(false);
        }
        self.advance(now);
    }

    /// Whether the relays' budget is low: then acknowledgements are merged.
    pub fn handle_budget(&mut self, low: bool, now: Millis) {
        self.budget_low = low;
        if !low {
            self.receipts.hurry(now);
        }
    }

    /// Whether the links have no room for pieces of files: then only the rest leaves.
    pub fn hold_files(&mut self, held: bool) {
        self.files_held = held;
    }

    /// The way that a frame of files went, numbered as its user likes. The same numbers in the whole handshake.
    pub fn handle_sent(&mut self, number: u64, path: u8) {
        self.flight.went(number, path);
    }

    /// A frame could not leave on any way: what is in it waits again.
    pub fn handle_unsent(&mut self, number: u64) {
        let lost = self.flight.stayed(number);
        self.lose(lost);
    }

    /// Whether frames of files had better go another way than this one.
    pub fn is_shunned(&self, path: u8, now: Millis) -> bool {
        self.flight.is_shunned(path, now)
    }

    /// Whether a way loses so many frames that it is not to be preferred to one that is shunned.
    pub fn loses_many(&self, path: u8) -> bool {
        self.flight.loses_many(Some(path))
    }

    /// Whether this way takes one more frame of files without making what is said wait behind it: see [`window`].
    ///
    /// [`window`]: super::window
    pub fn has_room_on(&self, path: u8) -> bool {
        self.flight.has_room_on(path)
    }

    /// Says something at once, though nothing waits: the peer learns that its half of the handshake has arrived.
    pub fn greet(&mut self) {
        self.ping_wanted = true;
    }

    /// Ends here and now: the peer has said elsewhere that the call is over, and listens no more.
    pub fn cut(&mut self) {
        if !self.is_closed() {
            self.close(false);
        }
    }

    /// Ends here and now, and not by anybody's will: its numbers can no longer be trusted.
    pub fn abandon(&mut self) {
        if !self.is_closed() {
            self.close(true);
        }
    }

    /// There may be a way to the peer again: a relay is back. Does not wait for the loss timer.
    pub fn handle_link_up(&mut self, now: Millis) {
        let lost = self.flight.retry(now);
        self.lose(lost);
    }

    fn handle_ack(&mut self, ack: &Ack, now: Millis) {
        for sent in self.flight.acknowledge(ack, now) {
            self.epochs.confirm(sent.epoch);
            if let Some(number) = sent.reported {
                self.receipts.reported(number);
            }
            let (settled, delivered) = self.outgoing.settle(&sent.entries);
            for (stream, seq) in settled {
                self.persist(Change::Settle { stream, seq });
            }
            for id in delivered {
                self.event(Event::Delivered(id));
            }
        }
        let lost = self.flight.overtaken(now);
        self.lose(lost);
    }

    fn handle_entries(&mut self, entries: Vec<Entry>, now: Millis) {
        let mut taken = Vec::new();
        for entry in entries {
            if !self.incoming.is_open(entry.stream) {
                self.event(Event::Ignored(entry.id, "its stream is not open"));
            } else if entry.seq > 0 && self.incoming.insert(entry.clone()) {
                taken.push(entry);
            } else if planted(Mutant::DedupSkipped) && !self.incoming.holds(entry.stream, entry.seq) {
                self.surface(
                    Released { stream: entry.stream, through: entry.seq, kept: false, entries: vec![entry] },
                    now,
                );
            }
        }
        let mut streams: Vec<u32> = taken.iter().map(|entry| entry.stream).collect();
        streams.dedup();
        for stream in streams {
            while let Some(released) = self.incoming.release(stream) {
                self.surface(released, now);
            }
        }
        for entry in taken {
            if self.incoming.holds(entry.stream, entry.seq) {
                self.incoming.keep(entry.stream, entry.seq);
                self.persist(Change::Hold(entry));
            }
        }
    }

    fn surface(&mut self, Released { stream, through, kept, entries }: Released, now: Millis) {
        let Some(first) = entries.first() else { return };
        let (id, mut said, mut event, mut finals) = (first.id, None, None, None);
        match first.kind {
            Kind::Ping => {}
            Kind::Read | Kind::End if stream != CONTROL => {
                event = Some(Event::Ignored(id, "not on the stream that it belongs to"));
            }
            Kind::Read => event = Some(Event::Read(id)),
            Kind::End => match body::read_finals(&first.body) {
                Ok(last) => finals = Some(last),
                Err(_) => event = Some(Event::Ignored(id, "an end that names no last entries")),
            },
            Kind::Other(_) => event = Some(Event::Ignored(id, "of a type that is not known here")),
            _ => match Content::decode(&entries) {
                Ok(content) => said = Some(Said { id, seq: through + 1 - entries.len() as u64, content }),
                Err(_) => event = Some(Event::Ignored(id, "not whole, or not of this dialect")),
            },
        }
        self.persist(Change::Surface { stream, through, kept, said });
        self.outputs.extend(event.map(Output::Event));
        if let Some(finals) = finals
            && self.peer_end.is_none()
        {
            self.persist(Change::PeerEnd(finals.clone()));
            self.peer_end = Some(finals);
            self.begin_end(now);
        }
    }

    fn hear(&mut self, now: Millis) {
        self.heard_at = now;
        self.ping_wanted = false;
        if std::mem::take(&mut self.away) {
            self.event(Event::Back);
        }
        let lost = self.flight.retry(now);
        self.lose(lost);
    }

    fn lose(&mut self, lost: Vec<Sent>) {
        for sent in lost {
            let urgent = self.flight.loses_many(sent.path);
            let is_under_way = |number| self.flight.is_under_way(number);
            self.outgoing.lose(&sent.entries, urgent, self.durable, is_under_way);
            self.ping_wanted |= sent.ping && self.heard_at <= sent.at;
        }
    }

    /// Does what follows from the state as a whole.
    pub(super) fn advance(&mut self, now: Millis) {
        if let Some(epoch) = self.epochs.retire(|number| self.receipts.has_all_below(number), now) {
            self.outputs.push_back(Output::ForgetKey { epoch });
        }
        let Phase::Draining { until, linger } = self.phase else { return };
        if let Some(finals) = &self.peer_end
            && !self.peer_done
            && finals.iter().all(|(stream, last)| self.incoming.has_all(*stream, *last))
        {
            self.peer_done = true;
            self.event(Event::PeerEnded);
        }
        if linger.is_none() && self.peer_done && self.outgoing.is_empty() {
            self.phase = Phase::Draining { until, linger: Some(until.min(now + LINGER_TIME)) };
        }
    }

    /// Says that nothing more will be said. Files that still run are over, in both directions.
    pub(super) fn begin_end(&mut self, now: Millis) {
        for stream in self.incoming.file_streams() {
            self.close_incoming(stream);
        }
        if self.phase != Phase::Open {
            return;
        }
        for stream in self.outgoing.file_streams() {
            self.close_outgoing(stream);
        }
        self.phase = Phase::Draining { until: now + DRAIN_TIME, linger: None };
        let finals = body::write_finals(&self.outgoing.finals_with_end());
        let queued = self.outgoing.push((CONTROL, Kind::End), Hex::default(), finals, None, self.issued + 1);
        self.persist(Change::Queue(queued));
        self.persist(Change::End);
    }

    fn close(&mut self, lost: bool) {
        self.phase = Phase::Closed;
        let undelivered = self.outgoing.undelivered();
        self.event(Event::Closed { lost, undelivered });
    }

    // ---- poll ----

    pub(super) fn persist(&mut self, change: Change) {
        self.issued += 1;
        self.outputs.push_back(Output::Persist(change));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next frame to seal and publish: everything that waits and is durable, as far as it fits.
    pub fn poll_transmit(&mut self, now: Millis) -> Option<Transmit> {
        let has_entries =
            self.flight.has_room() && (self.ping_wanted || self.outgoing.has_waiting(!self.files_held));
        if self.is_closed() || !(has_entries || self.receipts.is_ack_wanted()) {
            return None;
        }
        let is_early = self.receipt_at.is_some_and(|at| now < at) && self.outgoing.only_receipts_wait();
        if is_early && !self.ping_wanted && !self.receipts.is_ack_wanted() {
            return None;
        }
        let number = self.flight.next();
        let ack = self.receipts.report(now);
        let (mut entries, mut room) = (Vec::new(), Batch::room_beside(ack.as_ref()));
        let ping = has_entries && self.ping_wanted;
        if ping {
            let entry =
                Entry { stream: CONTROL, seq: 0, kind: Kind::Ping, id: Hex::default(), body: Vec::new() };
            room -= entry.encoded_len();
            entries.push(entry);
        }
        if has_entries {
            self.receipt_at = None;
            entries.extend(self.outgoing.fill(room, number, !self.files_held && !ping));
        }
        let ack_wanted = self.receipts.is_ack_wanted() && ack.is_some();
        if entries.is_empty() && !ack_wanted {
            return None;
        }
        let epoch = self.epochs.for_sending(number, now);
        let reported = ack.as_ref().and_then(Ack::largest);
        let keys: Vec<_> =
            entries.iter().filter(|entry| entry.seq > 0).map(|entry| (entry.stream, entry.seq)).collect();
        let bulk = entries.iter().any(|entry| entry.stream >= FIRST_FILE) && !self.outgoing.is_urgent(&keys);
        let plaintext = frame::pad(&Batch { ack, entries }.encode()).expect("it was filled up to the limit");
        self.receipts.sent();
        self.ping_wanted &= !ping;
        let lost = self.flight.send(Sent {
            at: now,
            size: plaintext.len(),
            epoch,
            entries: keys,
            ping,
            reported,
            path: None,
            after: None,
        });
        self.lose(lost);
        Some(Transmit { epoch, number, plaintext, bulk })
    }

    /// When [`Self::handle_timeout`] has something to do, and what.
    pub fn poll_timeout(&self) -> Option<(Millis, &'static str)> {
        if self.is_closed() {
            return None;
        }
        let draining = match self.phase {
            Phase::Draining { until, linger } => Some((linger.unwrap_or(until).min(until), "drain")),
            _ => None,
        };
        let is_idle = !self.ping_wanted && self.flight.under_way() == 0;
        [
            Some((self.heard_at + LOST_TIME, "lost")),
            (!self.away).then_some((self.heard_at + AWAY_TIME, "away")),
            is_idle.then_some((self.heard_at + PING_TIME, "ping")),
            self.flight.poll_timeout().map(|at| (at, "loss")),
            self.receipts.poll_timeout().map(|at| (at, "ack")),
            self.receipt_at.map(|at| (at, "read")),
            self.outgoing.poll_deadline().map(|at| (at, "message")),
            self.epochs.poll_timeout().map(|at| (at, "key")),
            draining,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
