//! Files of ours in v2 calls, and what is common to those of both sides.
//!
//! ```text
//!   copied and hashed ──► waits for a stream ──► offered ── accepted ──► chunks ── done ──► delivered
//! ```
//!
//! Chunk `n` of a stream is the `n`-th piece of [`CHUNK_LIMIT`] bytes, so that what is to be sent again after a restart
//! is read from the copy, and is nowhere twice.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use tokio::time::Instant;

use super::talks::{Talk, refusal};
use crate::api::Error;
use crate::engine::core::{Core, Fault};
use crate::engine::effects::Effect;
use crate::engine::files;
use crate::engine::outputs::event;
use crate::engine::parcels::part_id;
use crate::proto::call::Call;
use crate::proto::v2::batch::{Entry, Kind};
use crate::proto::v2::body::{CHUNK_LIMIT, Content, FileOffer};
use crate::proto::v2::delivery::{Refused, Saved};
use crate::proto::v2::refusal::Refusal;
use crate::proto::{CallId, EventKind, Hex, MessageId, MessageKind, MessageState, Millis, Sender};
use crate::store::{self, NewEvent, NewMessage, StoredMessage, StoredTransfer};

/// Most files of ours that wait in a call.
const WAITING_LIMIT: usize = 64;

impl Core {
    /// Whether one more file may wait in a call.
    pub(in crate::engine) fn check_waiting_files(&self, call: &CallId) -> Result<(), Fault> {
        let waiting = self.store.transfers(call)?.iter().filter(|it| it.outgoing).count();
        match waiting + self.works.staging.count(call) < WAITING_LIMIT {
            true => Ok(()),
            false => Err(refusal(&Refused::TooManyFiles).into()),
        }
    }

    /// Takes a file of ours, whose copy is on the disk: its bytes leave as the peer takes them.
    pub(in crate::engine) fn send_in_talk(
        &mut self,
        call: &Call,
        message: MessageId,
        file: &crate::api::File,
        sha256: Hex<32>,
        now: Millis,
    ) -> Result<(), Fault> {
        self.open_talk(&call.id)?;
        let Some(talk) = self.lines.talks.get_mut(&call.id) else {
            return Err(Error::internal("a call without a conversation").into());
        };
        if talk.ending.is_some() || talk.delivery.is_ending() {
            return Err(refusal(&Refused::Ended).into());
        }
        talk.sending += 1;
        self.store.save_transfer(&StoredTransfer {
            call: call.id,
            outgoing: true,
            message,
            stream: 0,
            name: file.name.clone(),
            mime: file.mime.clone(),
            size: file.size,
            sha256,
            done: 0,
            accepted: false,
        })?;
        Ok(self.drain_talk(&call.id, now)?)
    }

    /// Offers what waits for a stream, and hands over chunks as far as there is room. Returns whether that made outputs.
    pub(super) fn feed_files(&mut self, id: &CallId, now: Millis) -> Result<bool, store::Error> {
        let sends = |talk: &Talk| talk.sending > 0 && !talk.delivery.is_ending();
        if !self.lines.talks.get(id).is_some_and(sends) {
            return Ok(false);
        }
        for mut transfer in self.store.transfers(id)?.into_iter().filter(|it| it.outgoing) {
            let Some(talk) = self.lines.talks.get_mut(id) else { return Ok(false) };
            if transfer.stream == 0 {
                let Ok(stream) = talk.delivery.open_outgoing() else { continue };
                transfer.stream = stream;
                let StoredTransfer { name, size, mime, sha256, .. } = transfer.clone();
                let offer = Content::FileOffer(FileOffer { stream, name, size, mime, sha256 });
                if let Err(refused) = talk.delivery.say(transfer.message, &offer, None) {
                    talk.delivery.close_outgoing(stream);
                    tracing::debug!(call = %id, %refused, "a file waits");
                    continue;
                }
                self.store.save_transfer(&transfer)?;
            }
            if transfer.accepted {
                self.feed_file(id, &mut transfer, now)?;
            }
        }
        Ok(self.lines.talks.get(id).is_some_and(|talk| talk.delivery.has_output()))
    }

    fn feed_file(
        &mut self,
        id: &CallId,
        transfer: &mut StoredTransfer,
        now: Millis,
    ) -> Result<(), store::Error> {
        let path = files::spool(&self.home, id, &transfer.message);
        let Some(talk) = self.lines.talks.get_mut(id) else { return Ok(()) };
        let before = transfer.done;
        while transfer.done < transfer.size && talk.delivery.chunk_room(transfer.stream) > 0 {
            let Some(bytes) = read_piece(&path, transfer.done / CHUNK_LIMIT as u64, transfer.size) else {
                tracing::warn!(call = %id, path = %path.display(), "a file is not sent: its copy cannot be read");
                let cancel = Content::FileCancel(Refusal::Gone.write());
                _ = talk.delivery.say(transfer.message, &cancel, None);
                return self.drop_outgoing(id, transfer, Some(&Refusal::Gone.to_string()), now);
            };
            let size = bytes.len() as u64;
            let chunk = Content::Chunk { stream: transfer.stream, bytes };
            if talk.delivery.say(transfer.message, &chunk, None).is_err() {
                break;
            }
            transfer.done += size;
        }
        if transfer.done > before {
            self.store.save_transfer(transfer)?;
        }
        // What waits in the stream is not there yet.
        let waiting = self.lines.talks.get(id).map_or(0, |talk| talk.delivery.waiting_in(transfer.stream));
        self.tell_progress(transfer, transfer.done.saturating_sub(waiting as u64), now)
    }

    /// A file of ours is through, or is not to arrive.
    fn drop_outgoing(
        &mut self,
        id: &CallId,
        transfer: &StoredTransfer,
        failed: Option<&str>,
        now: Millis,
    ) -> Result<(), store::Error> {
        if let Some(talk) = self.lines.talks.get_mut(id) {
            talk.sending = talk.sending.saturating_sub(1);
            talk.delivery.close_outgoing(transfer.stream);
        }
        self.store.drop_transfer(id, true, &transfer.message)?;
        self.lines.paces.forget(transfer);
        self.effects.push(Effect::Remove(files::spool(&self.home, id, &transfer.message)));
        match failed {
            Some(why) => self.give_up(id, Some(&transfer.message), why, now),
            None => self.tell_delivered(id, &transfer.message, now),
        }?;
        // A call that waited for its files ends with the last of them.
        let steady = self.steady();
        if let Some(talk) = self.lines.talks.get_mut(id)
            && talk.sending == 0
            && talk.ending.take().is_some()
        {
            talk.delivery.end(steady);
        }
        Ok(())
    }

    /// Somebody here does not want a file any more. Returns its message as it is then.
    pub(in crate::engine) fn cancel_transfer(
        &mut self,
        transfer: &StoredTransfer,
        now: Millis,
    ) -> Result<Option<StoredMessage>, store::Error> {
        let (id, message) = (transfer.call, &transfer.message);
        let Some(call) = self.restore_call(&id)? else { return Ok(None) };
        if transfer.outgoing {
            // One that was not offered yet is not known to the peer.
            if let Some(talk) = self.lines.talks.get_mut(&id).filter(|_| transfer.stream != 0) {
                _ = talk.delivery.say(*message, &Content::FileCancel(Refusal::Cancelled.write()), None);
            }
            self.drop_outgoing(&id, transfer, Some(&Refusal::Cancelled.to_string()), now)?;
        } else {
            self.refuse_arrival(&call, transfer, &Refusal::Cancelled, now)?;
        }
        self.drain_talk(&id, now)?;
        match transfer.outgoing {
            true => self.store.my_message(message),
            false => self.store.peer_message(&call.peer, message),
        }
    }

    // ---- what the peer says of files ----

    pub(super) fn handle_file_accept(
        &mut self,
        id: &CallId,
        message: &MessageId,
    ) -> Result<(), store::Error> {
        if let Some(mut transfer) = self.transfer(id, true, message)? {
            transfer.accepted = true;
            self.store.save_transfer(&transfer)?;
        }
        Ok(())
    }

    pub(super) fn handle_file_done(
        &mut self,
        id: &CallId,
        message: &MessageId,
        now: Millis,
    ) -> Result<(), store::Error> {
        match self.transfer(id, true, message)? {
            Some(transfer) => self.drop_outgoing(id, &transfer, None, now),
            // It went by mail, and the peer is back.
            None => match self.store.my_message(message)? {
                Some(StoredMessage {
                    message: NewMessage { call: Some(call), kind: MessageKind::File, .. },
                    ..
                }) if call == *id => self.tell_delivered(id, message, now),
                _ => Ok(()),
            },
        }
    }

    pub(super) fn handle_file_cancel(
        &mut self,
        call: &Call,
        message: &MessageId,
        reason: &str,
        now: Millis,
    ) -> Result<(), store::Error> {
        if let Some(transfer) = self.transfer(&call.id, true, message)? {
            let why = format!("the peer did not take it: {}", Refusal::read(reason));
            return self.drop_outgoing(&call.id, &transfer, Some(&why), now);
        }
        match self.transfer(&call.id, false, message)? {
            Some(transfer) => self.fail_arrival(
                call,
                &transfer,
                &format!("the peer took it back: {}", Refusal::read(reason)),
                now,
            ),
            None => Ok(()),
        }
    }

    /// Tells how far a file has come, if it is time for that.
    pub(super) fn tell_progress(
        &mut self,
        transfer: &StoredTransfer,
        done: u64,
        now: Millis,
    ) -> Result<(), store::Error> {
        if let Some(rate) = self.lines.paces.moved(transfer, done, Instant::now())
            && let Some(call) = self.restore_call(&transfer.call)?
        {
            let progress = crate::api::Progress::new(done, transfer.size, rate);
            self.tell_file(&call, transfer, EventKind::FileProgress, Some(progress), now)?;
        }
        Ok(())
    }

    /// Tells of a file that is not whole yet: there is no row for it.
    pub(super) fn tell_file(
        &mut self,
        call: &Call,
        transfer: &StoredTransfer,
        kind: EventKind,
        progress: Option<crate::api::Progress>,
        now: Millis,
    ) -> Result<(), store::Error> {
        let file = crate::api::File {
            name: transfer.name.clone(),
            size: transfer.size,
            mime: transfer.mime.clone(),
            sha256: transfer.sha256.to_string(),
            path: None,
        };
        let (from, state) = match transfer.outgoing {
            true => (Sender::Me, MessageState::Queued),
            false => (Sender::Peer, MessageState::Received),
        };
        let message = crate::api::Message {
            message: transfer.message,
            call: Some(call.id),
            from,
            peer: call.peer,
            tier: self.book.tier(&call.peer),
            kind: MessageKind::File,
            text: transfer.name.clone(),
            file: Some(file),
            at: crate::api::Time(now),
            state,
            reason: None,
            answers: None,
            via: None,
            traceparent: None,
        };
        let detail = serde_json::to_string(&(message, progress)).ok();
        self.tell(NewEvent { detail, ..event(kind, Some(call.id), now) })
    }

    pub(super) fn transfer(
        &self,
        id: &CallId,
        outgoing: bool,
        message: &MessageId,
    ) -> Result<Option<StoredTransfer>, store::Error> {
        let transfers = self.store.transfers(id)?;
        Ok(transfers.into_iter().find(|it| it.outgoing == outgoing && it.message == *message))
    }

    /// The call is over: files of the peer that are not whole do not come any more. Returns those of ours that did not
    /// arrive.
    pub(super) fn close_files(&mut self, call: &Call, now: Millis) -> Result<Vec<MessageId>, store::Error> {
        let (ours, theirs): (Vec<_>, Vec<_>) =
            self.store.transfers(&call.id)?.into_iter().partition(|transfer| transfer.outgoing);
        for transfer in theirs {
            self.fail_arrival(call, &transfer, "the call ended before it was whole", now)?;
        }
        Ok(ours.into_iter().map(|transfer| transfer.message).collect())
    }

    // ---- disk ----

    /// What a delivery machine needs after a restart, with the bytes of the chunks: of those that are to be sent again from
    /// the copy, of those that came before their turn from the part file.
    pub(super) fn saved_delivery(&self, id: &CallId) -> Result<Saved, store::Error> {
        let mut saved = self.store.delivery(id)?;
        let transfers = self.store.transfers(id)?;
        let read = |outgoing: bool, entry: &Entry| {
            let of = |it: &&StoredTransfer| it.outgoing == outgoing && it.stream == entry.stream;
            let transfer = transfers.iter().find(of)?;
            let path = match outgoing {
                true => files::spool(&self.home, id, &transfer.message),
                false => files::part(&self.home, id, &transfer.message),
            };
            read_piece(&path, entry.seq.checked_sub(1)?, transfer.size)
        };
        let fill = |outgoing: bool, entry: &mut Entry| {
            if entry.kind == Kind::Chunk && entry.body.is_empty() {
                match read(outgoing, entry) {
                    Some(bytes) => entry.body = bytes,
                    None => {
                        tracing::warn!(call = %id, message = %entry.id, outgoing, "a piece of a file is gone")
                    }
                }
            }
            entry.kind != Kind::Chunk || !entry.body.is_empty()
        };
        saved.unacked.retain_mut(|queued| fill(true, &mut queued.entry));
        saved.held.retain_mut(|entry| fill(false, entry));
        Ok(saved)
    }

    /// Removes copies and parts that nobody needs any more: of files that went by mail, and what a crash left behind.
    pub(in crate::engine) fn sweep_files(&mut self) -> Result<(), store::Error> {
        let fetched = self.store.parcels_due()?.into_iter().filter(|it| !it.outgoing);
        let fetched: BTreeSet<MessageId> = fetched.map(|it| part_id(&it.peer, &it.message)).collect();
        for (ours, call, message, path) in files::under_way(&self.home) {
            if self.works.staging.owns(&path) {
                continue;
            }
            let queued = |stored: store::StoredMessage| stored.message.state == MessageState::Queued;
            let needed = match ours {
                true => self.store.my_message(&message)?.is_some_and(queued),
                false => fetched.contains(&message) || self.transfer(&call, false, &message)?.is_some(),
            };
            if !needed {
                self.effects.push(Effect::Remove(path));
            }
        }
        Ok(())
    }
}

/// The `n`-th piece of a file of `size` bytes.
fn read_piece(path: &Path, n: u64, size: u64) -> Option<Vec<u8>> {
    let from = n * CHUNK_LIMIT as u64;
    let length = size.checked_sub(from)?.min(CHUNK_LIMIT as u64) as usize;
    let mut bytes = vec![0; length];
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(from)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}
