//! What is said in calls: one [`Talk`] a call, from its first handshake until everything said has arrived.
//!
//! ```text
//!   frame ─► Session::open ─► Delivery ─► outputs ─► rows, events ─┐
//!   say ───────────────────────┘                               commit
//!   relays ◄─ Session::seal ◄─ poll_transmit ◄─ handle_persisted ◄─┘
//! ```
//!
//! A talk outlives its session: keys come and go with handshakes, the streams and what is not acknowledged stay. It
//! outlives its call by the seconds that the last words take. All its outputs are carried out in the transaction of the
//! input that made them; nothing is sealed before that is committed.

use tokio::time::Instant;

use crate::api::{Error, ErrorKind};
use crate::engine::core::{Core, Fault};
use crate::engine::effects::Effect;
use crate::engine::outputs::event;
use crate::proto::call::{Call, Content as Words, Entry, Signalled};
use crate::proto::v2::body::Content;
use crate::proto::v2::delivery::{self, DRAIN_TIME, Delivery, Refused, Said};
use crate::proto::{CallId, CallState, EventKind, MessageId, MessageState, Millis, TraceParent};
use crate::store::{self, NewEvent};
use crate::transport::RelayId;
use crate::transport::v2::Session;

/// One call's conversation.
pub(super) struct Talk {
    pub(super) delivery: Delivery,
    /// None while a new handshake is being made.
    pub(super) session: Option<Session>,
    /// Where the session meets.
    pub(super) relays: Vec<RelayId>,
    /// What is durable once the batch is committed.
    pub(super) point: u64,
    /// Something happened: frames may be due.
    pub(super) stirred: bool,
    /// It ends when the files of ours are through, at the latest then.
    pub(super) ending: Option<Instant>,
    /// How many files of ours are not through.
    pub(super) sending: usize,
    pub(super) away: bool,
    /// Since when none of the session's relays is connected.
    pub(super) alone_since: Option<Instant>,
    /// No message of ours before this row waits to be read: without it, each receipt would cost a look at the whole call.
    pub(super) unread_from: u64,
    /// The last message of the peer that was taken in this batch, and its row.
    pub(super) read: Option<(u64, MessageId)>,
    /// The trace of a message of the peer that comes next.
    pub(super) trace: Option<(MessageId, TraceParent)>,
}

impl Core {
    /// A handshake is complete: the talk has new keys.
    pub(super) fn establish(
        &mut self,
        id: &CallId,
        session: Session,
        relays: Vec<String>,
        offered: bool,
        now: Millis,
    ) -> Result<(), store::Error> {
        let key = session.key().public_key();
        self.open_talk(id)?;
        let steady = self.steady();
        let Some(talk) = self.lines.talks.get_mut(id) else { return Ok(()) };
        let old = talk.session.replace(session).map(|old| old.key().public_key());
        talk.relays = relays.iter().filter_map(|url| RelayId::parse(url).ok()).collect();
        talk.delivery.resume(steady);
        if offered {
            talk.delivery.greet();
        }
        if let Some(old) = old.filter(|old| *old != key) {
            self.lines.keys.remove(&old);
            self.effects.push(Effect::Forget(old));
        }
        self.lines.keys.insert(key, *id);
        self.effects.push(Effect::Listen(key, relays));
        self.drain_talk(id, now)
    }

    /// Makes sure that a call has its talk, without keys if it is new.
    pub(in crate::engine) fn open_talk(&mut self, id: &CallId) -> Result<(), store::Error> {
        if self.lines.talks.contains_key(id) {
            return Ok(());
        }
        let talk = Talk {
            delivery: Delivery::restore(&self.saved_delivery(id)?, self.steady()),
            sending: self.files_of_ours(id)?,
            session: None,
            relays: Vec::new(),
            point: 0,
            stirred: true,
            ending: None,
            away: false,
            alone_since: None,
            unread_from: 0,
            read: None,
            trace: None,
        };
        self.lines.talks.insert(*id, talk);
        Ok(())
    }

    /// Whether every peer that is there knows of the calls that have ended.
    pub(in crate::engine) fn has_parted(&self) -> bool {
        let ends = |talk: &Talk| talk.ending.is_some() || talk.delivery.is_ending();
        let is_there = |talk: &Talk| !talk.away && talk.session.is_some();
        !self.lines.talks.values().any(|talk| ends(talk) && is_there(talk) && !talk.delivery.is_heard())
    }

    /// Memory is made equal to the database: after a start, and after a batch that was not committed.
    pub(in crate::engine) fn restore_talks(&mut self) -> Result<(), store::Error> {
        let open = self.store.open_deliveries()?;
        let gone: Vec<CallId> = self.lines.talks.keys().filter(|id| !open.contains(id)).copied().collect();
        for id in gone {
            self.forget_talk(&id);
        }
        self.lines.arrivals.clear();
        self.lines.keeping.clear();
        self.lines.renew = true;
        let steady = self.steady();
        for id in open {
            let (saved, sending) = (self.saved_delivery(&id)?, self.files_of_ours(&id)?);
            match self.lines.talks.get_mut(&id) {
                Some(talk) => {
                    talk.delivery.reload(&saved, steady);
                    (talk.read, talk.unread_from) = (None, 0);
                    talk.sending = sending;
                    talk.stirred = true;
                }
                None => self.open_talk(&id)?,
            }
            self.restore_call(&id)?;
            self.take_up_arrivals(&id)?;
            if self.board.call(&id).is_some_and(|call| call.state() == CallState::Ended)
                && let Some(talk) = self.lines.talks.get_mut(&id)
            {
                talk.delivery.end(steady);
            }
        }
        Ok(())
    }

    /// Drops a talk, and with it the keys of its session.
    fn forget_talk(&mut self, id: &CallId) {
        self.drop_offer(id);
        self.lines.answers.remove(id);
        if let Some(session) = self.lines.talks.remove(id).and_then(|talk| talk.session) {
            let key = session.key().public_key();
            self.lines.keys.remove(&key);
            self.effects.push(Effect::Forget(key));
        }
    }

    fn files_of_ours(&self, id: &CallId) -> Result<usize, store::Error> {
        Ok(self.store.transfers(id)?.iter().filter(|transfer| transfer.outgoing).count())
    }

    pub(in crate::engine) fn is_away(&self, id: &CallId) -> bool {
        self.lines.talks.get(id).is_some_and(|talk| talk.away)
    }

    // ---- what comes of it ----

    /// The peer has said something.
    pub(super) fn handle_said(&mut self, id: &CallId, said: Said, now: Millis) -> Result<(), store::Error> {
        let Some(call) = self.restore_call(id)? else { return Ok(()) };
        let words = match said.content {
            Content::Text(text) => Words::Text(text),
            Content::Escalation(text) => Words::Escalation(text),
            Content::EscalationAnswer(text) => Words::OwnerSaid(text),
            Content::FileOffer(offer) => {
                self.board.count_in(id);
                return self.handle_file_offer(&call, said.id, offer, now);
            }
            Content::FileAccept => return self.handle_file_accept(id, &said.id),
            Content::FileDone => return self.handle_file_done(id, &said.id, now),
            Content::FileCancel(reason) => return self.handle_file_cancel(&call, &said.id, &reason, now),
            Content::Trace { message, traceparent } => {
                if let Some(talk) = self.lines.talks.get_mut(id) {
                    talk.trace = Some((message, traceparent));
                }
                return Ok(());
            }
            Content::Chunk { stream, bytes } => {
                return self.handle_chunk(&call, stream, said.seq, &bytes, now);
            }
        };
        let entry = Entry { id: said.id, seq: Some(call.next_in), at: now, content: words };
        if self.keep(Some(id), &call.peer, entry, true, now)? {
            self.board.count_in(id);
            // Said just before. A crash in between loses it, and nothing else.
            let trace = self.lines.talks.get_mut(id).and_then(|talk| talk.trace.take());
            if let Some((_, trace)) = trace.filter(|(message, _)| *message == said.id) {
                self.store.trace_message(Some(&call.peer), &said.id, &trace)?;
            }
        }
        Ok(())
    }

    pub(super) fn handle_delivery(
        &mut self,
        id: &CallId,
        happened: delivery::Event,
        now: Millis,
    ) -> Result<(), store::Error> {
        match happened {
            delivery::Event::Delivered(message) => {
                let delivered = self.store.deliver_message(&message)?;
                self.note_delivered(id, delivered, now)
            }
            delivery::Event::Read(message) => {
                let from = self.lines.talks.get(id).map_or(0, |talk| talk.unread_from);
                let Some((rows, through)) = self.store.read_there(id, &message, from)? else { return Ok(()) };
                if let Some(talk) = self.lines.talks.get_mut(id) {
                    talk.unread_from = talk.unread_from.max(through + 1);
                }
                self.tell_of(id, rows, EventKind::MessageRead, now)
            }
            delivery::Event::Expired(message) => self.give_up(id, Some(&message), "its time was over", now),
            delivery::Event::Ignored(message, why) => {
                tracing::debug!(call = %id, %message, why, "something of the peer is not acted on");
                Ok(())
            }
            delivery::Event::Away => {
                self.set_away(id, true, EventKind::PeerAway, now)?;
                // It may have lost its keys, or the session its relays.
                self.board.renew(id, now);
                Ok(())
            }
            delivery::Event::Back => self.set_away(id, false, EventKind::PeerBack, now),
            delivery::Event::PeerEnded => {
                self.restore_call(id)?;
                self.board.handle_session_end(id, false, now);
                Ok(())
            }
            delivery::Event::Closed { lost, undelivered } => self.close_talk(id, lost, &undelivered, now),
        }
    }

    fn set_away(
        &mut self,
        id: &CallId,
        away: bool,
        kind: EventKind,
        now: Millis,
    ) -> Result<(), store::Error> {
        if let Some(talk) = self.lines.talks.get_mut(id)
            && talk.away != away
        {
            talk.away = away;
            self.tell(event(kind, Some(*id), now))?;
        }
        Ok(())
    }

    /// A file of ours has arrived as a whole.
    pub(super) fn tell_delivered(
        &mut self,
        id: &CallId,
        message: &MessageId,
        now: Millis,
    ) -> Result<(), store::Error> {
        let delivered = self.store.advance_message(message, MessageState::Delivered, None)?;
        self.note_delivered(id, delivered, now)
    }

    /// The peer has something, and its application may take it now.
    fn note_delivered(&mut self, id: &CallId, row: Option<u64>, now: Millis) -> Result<(), store::Error> {
        if let Some(row) = row
            && let Some(talk) = self.lines.talks.get_mut(id)
        {
            talk.unread_from = talk.unread_from.min(row);
        }
        self.tell_of(id, row, EventKind::MessageDelivered, now)
    }

    fn tell_of(
        &mut self,
        id: &CallId,
        rows: impl IntoIterator<Item = u64>,
        kind: EventKind,
        now: Millis,
    ) -> Result<(), store::Error> {
        rows.into_iter()
            .try_for_each(|row| self.tell(NewEvent { message: Some(row), ..event(kind, Some(*id), now) }))
    }

    /// It is over: the session's secrets go; what did not arrive goes to the mailbox, or has failed.
    fn close_talk(
        &mut self,
        id: &CallId,
        lost: bool,
        undelivered: &[MessageId],
        now: Millis,
    ) -> Result<(), store::Error> {
        let settled = self.lines.talks.get(id).is_some_and(|talk| talk.delivery.is_settled());
        let Some(call) = self.restore_call(id)? else { return Ok(()) };
        self.board.handle_session_end(id, lost, now);
        let files = self.close_files(&call, now)?;
        self.forget_talk(id);
        self.store.close_delivery(id)?;
        let files = files.into_iter().filter(|file| !undelivered.contains(file));
        for message in undelivered.iter().copied().chain(files).collect::<Vec<_>>() {
            self.post_left_over(&call, &message, now)?;
        }
        if lost || !settled {
            // The session could not say it to the end.
            let end = Signalled::End { reason: if lost { "lost" } else { "ended" }.into() };
            self.signal(id, end, now)?;
        }
        self.settle(now)
    }

    /// The call is over by something that was not said in the session: there is nobody to talk to.
    pub(in crate::engine) fn cut_talk(&mut self, id: &CallId, now: Millis) -> Result<(), store::Error> {
        if let Some(talk) = self.lines.talks.get_mut(id)
            && !talk.delivery.is_ending()
            && talk.ending.is_none()
        {
            talk.delivery.cut();
            return self.drain_talk(id, now);
        }
        Ok(())
    }

    /// The call cannot go on: what it knows of itself is not what it was.
    pub(in crate::engine) fn lose_talk(&mut self, id: &CallId, now: Millis) -> Result<(), store::Error> {
        self.open_talk(id)?;
        if let Some(talk) = self.lines.talks.get_mut(id) {
            talk.delivery.abandon();
            self.drain_talk(id, now)?;
        }
        Ok(())
    }

    // ---- commands ----

    /// Says something in a call. Its row is written by the caller.
    pub(in crate::engine) fn say_in_talk(
        &mut self,
        call: &Call,
        message: MessageId,
        content: &Content,
        now: Millis,
    ) -> Result<(), Fault> {
        self.open_talk(&call.id)?;
        let Some(talk) = self.lines.talks.get_mut(&call.id) else {
            return Err(Error::internal("a call without a conversation").into());
        };
        if talk.ending.is_some() {
            return Err(refusal(&Refused::Ended).into());
        }
        talk.delivery.say(message, content, None).map_err(|refused| refusal(&refused))?;
        Ok(self.drain_talk(&call.id, now)?)
    }

    /// A message of the peer was taken. It is told at the end of the batch, and of several only the last: who has that
    /// has those before it.
    pub(in crate::engine) fn note_read(&mut self, call: &CallId, row: u64, message: MessageId) {
        if let Some(talk) = self.lines.talks.get_mut(call)
            && talk.read.is_none_or(|(last, _)| last < row)
        {
            talk.read = Some((row, message));
        }
    }

    /// Tells the peers how far was read in this batch.
    pub(in crate::engine) fn say_reads(&mut self, now: Millis) -> Result<(), store::Error> {
        let steady = self.steady();
        let read = |(id, talk): (&CallId, &Talk)| Some((*id, talk.read?.1));
        for (call, message) in self.lines.talks.iter().filter_map(read).collect::<Vec<_>>() {
            let Some(talk) = self.lines.talks.get_mut(&call) else { continue };
            talk.read = None;
            // A call that ends, or whose queue is full, goes without: a receipt is a courtesy.
            if talk.delivery.read(message, steady).is_ok() {
                self.drain_talk(&call, now)?;
            }
        }
        Ok(())
    }

    /// This side has ended the call: what was said before still goes out.
    pub(in crate::engine) fn end_talk(&mut self, id: &CallId, now: Millis) -> Result<(), store::Error> {
        let steady = self.steady();
        let Some(talk) = self.lines.talks.get_mut(id) else { return Ok(()) };
        if talk.sending > 0 {
            talk.ending = Some(Instant::now() + DRAIN_TIME);
            return Ok(());
        }
        talk.delivery.end(steady);
        self.drain_talk(id, now)
    }
}

/// A refusal of the delivery machine as the user hears of it.
pub(super) fn refusal(refused: &Refused) -> Error {
    match refused {
        Refused::Ended => {
            let hint = "call again: p2p-comm call AGENT \"topic\"; read what was said: p2p-comm transcript";
            Error::new(ErrorKind::CallEnded, "the call is ending", hint)
        }
        Refused::Full => Error::new(
            ErrorKind::TooFast,
            format!("{} waits for the peer already", delivery::QUEUE_ENTRIES),
            "wait until the peer has some of it (p2p-comm wait --for message.delivered), then go on; nothing of \
             this was sent",
        ),
        Refused::TooLarge { size, limit } => Error::new(
            ErrorKind::TooLarge,
            format!("the message has {size} bytes; at most {limit} are one message"),
            "send it as a file: p2p-comm sendfile --path FILE",
        ),
        Refused::TooManyFiles | Refused::NoStream => {
            Error::new(ErrorKind::TooFast, refused.to_string(), "wait until some have arrived, then go on")
        }
        Refused::Empty | Refused::Repeated => Error::internal(refused),
    }
}
