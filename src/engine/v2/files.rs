//! Files in v2 calls.
//!
//! ```text
//!   ours    copied and hashed ──► waits for a stream ──► offered ── accepted ──► chunks ── done ──► delivered
//!   theirs  offered ──► accepted ──► chunks into a part file, synced before they are acknowledged
//!                                        └─► whole, hash right ──► gets its name ──► shown
//! ```
//!
//! Chunk `n` of a stream is the `n`-th piece of [`CHUNK_LIMIT`] bytes, so that what is to be sent again after a restart
//! is read from the copy, and is nowhere twice.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::talks::{Talk, refusal};
use crate::engine::core::{Core, Fault};
use crate::engine::effects::Effect;
use crate::engine::files;
use crate::engine::outputs::event;
use crate::proto::call::Call;
use crate::proto::v2::batch::Kind;
use crate::proto::v2::body::{CHUNK_LIMIT, Content, FileOffer};
use crate::proto::v2::delivery::{FILE_STREAMS, Saved};
use crate::proto::{
    CallId, EventKind, Hex, MessageId, MessageKind, MessageState, Millis, Sender, safe_file_name,
};
use crate::store::{self, NewEvent, NewMessage, StoredTransfer};

/// Most bytes of a file. It is copied and hashed while the agent waits: some hundred milliseconds at this size.
pub(in crate::engine) const FILE_LIMIT: usize = 16 << 20;
/// How often a file that moves is told of: a row in the journal each.
const PROGRESS_STEP: u64 = 1 << 20;
/// Most files of ours that wait in a call.
const WAITING_LIMIT: usize = 64;

/// A file of the peer that is being written.
pub(super) struct Arrival {
    file: File,
    hash: Sha256,
    /// Written, and not yet on the disk for certain.
    unsynced: bool,
}

impl Core {
    /// Takes a file of ours: its copy is on the disk before this returns, and its bytes leave as the peer takes them.
    pub(in crate::engine) fn send_in_talk(
        &mut self,
        call: &Call,
        message: MessageId,
        file: &crate::api::File,
        bytes: &[u8],
        now: Millis,
    ) -> Result<(), Fault> {
        let waiting = self.store.transfers(&call.id)?.iter().filter(|it| it.outgoing).count();
        if waiting >= WAITING_LIMIT {
            return Err(refusal(&crate::proto::v2::delivery::Refused::TooManyFiles).into());
        }
        let path = files::spool(&self.home, &call.id, &message);
        files::write_spool(&path, bytes).map_err(|_| store::Error::Full(path))?;
        self.store.save_transfer(&StoredTransfer {
            call: call.id,
            outgoing: true,
            message,
            stream: 0,
            name: file.name.clone(),
            mime: file.mime.clone(),
            size: file.size,
            sha256: Hex(Sha256::digest(bytes).into()),
            done: 0,
            accepted: false,
        })?;
        self.open_talk(&call.id)?;
        if let Some(talk) = self.lines.talks.get_mut(&call.id) {
            talk.sending += 1;
        }
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
                let reason = "its copy cannot be read any more";
                tracing::warn!(call = %id, path = %path.display(), reason, "a file is not sent");
                let cancel = Content::FileCancel(reason.to_owned());
                _ = talk.delivery.say(transfer.message, &cancel, None);
                return self.drop_outgoing(id, transfer, Some(reason), now);
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
        if transfer.done / PROGRESS_STEP > before / PROGRESS_STEP
            && let Some(call) = self.restore_call(id)?
        {
            self.tell_file(&call, transfer, EventKind::FileProgress, now)?;
        }
        Ok(())
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
            None => Ok(()),
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
            let why = format!("the peer did not take it: {reason}");
            return self.drop_outgoing(&call.id, &transfer, Some(&why), now);
        }
        match self.transfer(&call.id, false, message)? {
            Some(transfer) => {
                self.fail_arrival(call, &transfer, &format!("the peer took it back: {reason}"), now)
            }
            None => Ok(()),
        }
    }

    pub(super) fn handle_file_offer(
        &mut self,
        call: &Call,
        message: MessageId,
        offer: FileOffer,
        now: Millis,
    ) -> Result<(), store::Error> {
        if self.store.peer_message(&call.peer, &message)?.is_some() {
            // The mailbox has brought it.
            if let Some(talk) = self.lines.talks.get_mut(&call.id) {
                _ = talk.delivery.say(message, &Content::FileDone, None);
            }
            return Ok(());
        }
        let known = self.transfer(&call.id, false, &message)?.is_some();
        let arriving = self.store.transfers(&call.id)?.iter().filter(|it| !it.outgoing).count();
        let Some(talk) = self.lines.talks.get_mut(&call.id) else { return Ok(()) };
        let wanted = match offer.size {
            _ if known => Err("it was offered before"),
            size if size > FILE_LIMIT as u64 => Err("it is larger than this agent takes"),
            _ if arriving >= FILE_STREAMS => Err("too many files at once"),
            _ => talk.delivery.open_incoming(offer.stream).map_err(|_| "its stream cannot be opened"),
        };
        if let Err(why) = wanted {
            _ = talk.delivery.say(message, &Content::FileCancel(why.to_owned()), None);
            return Ok(());
        }
        _ = talk.delivery.say(message, &Content::FileAccept, None);
        let transfer = StoredTransfer {
            call: call.id,
            outgoing: false,
            message,
            stream: offer.stream,
            name: safe_file_name(&offer.name),
            mime: offer.mime,
            size: offer.size,
            sha256: offer.sha256,
            done: 0,
            accepted: true,
        };
        self.store.save_transfer(&transfer)?;
        self.tell_file(call, &transfer, EventKind::FileOffered, now)?;
        if transfer.size == 0 { self.finish_arrival(call, &transfer, now) } else { Ok(()) }
    }

    pub(super) fn handle_chunk(
        &mut self,
        call: &Call,
        stream: u32,
        bytes: &[u8],
        now: Millis,
    ) -> Result<(), store::Error> {
        let transfers = self.store.transfers(&call.id)?;
        let Some(mut transfer) = transfers.into_iter().find(|it| !it.outgoing && it.stream == stream) else {
            return Ok(());
        };
        if transfer.done + bytes.len() as u64 > transfer.size {
            return self.refuse_arrival(call, &transfer, "it is longer than it was said to be", now);
        }
        let path = files::part(&self.home, &call.id, &transfer.message);
        let arrival = match self.lines.arrivals.entry((call.id, transfer.message)) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                Arrival::open(&path, transfer.done).map(|arrival| entry.insert(arrival))
            }
        };
        // A disk that is full loses the batch: nothing of it is acknowledged, and the peer sends it again.
        let full = |_: std::io::Error| store::Error::Full(path.clone());
        arrival.and_then(|arrival| arrival.write(bytes)).map_err(full)?;
        let before = transfer.done;
        transfer.done += bytes.len() as u64;
        self.store.save_transfer(&transfer)?;
        if transfer.done / PROGRESS_STEP > before / PROGRESS_STEP {
            self.tell_file(call, &transfer, EventKind::FileProgress, now)?;
        }
        if transfer.done == transfer.size { self.finish_arrival(call, &transfer, now) } else { Ok(()) }
    }

    /// All bytes are there: right, the file gets its name and is shown.
    fn finish_arrival(
        &mut self,
        call: &Call,
        transfer: &StoredTransfer,
        now: Millis,
    ) -> Result<(), store::Error> {
        let part = files::part(&self.home, &call.id, &transfer.message);
        let full = |_: std::io::Error| store::Error::Full(part.clone());
        let arrival = match self.lines.arrivals.remove(&(call.id, transfer.message)) {
            Some(arrival) => arrival,
            None => Arrival::open(&part, transfer.done).map_err(full)?,
        };
        if Hex(arrival.hash.finalize().into()) != transfer.sha256 {
            return self.refuse_arrival(call, transfer, "its bytes are not those that were announced", now);
        }
        arrival.file.sync_data().map_err(full)?;
        let file = files::adopt(&self.home, &call.id, transfer, &part).map_err(full)?;
        self.effects.push(Effect::Remove(part));
        self.store.drop_transfer(&call.id, false, &transfer.message)?;
        self.show_file(call, transfer, Some(&file), MessageState::Received, now)?;
        if let Some(talk) = self.lines.talks.get_mut(&call.id) {
            talk.delivery.close_incoming(transfer.stream);
            _ = talk.delivery.say(transfer.message, &Content::FileDone, None);
        }
        Ok(())
    }

    fn refuse_arrival(
        &mut self,
        call: &Call,
        transfer: &StoredTransfer,
        why: &str,
        now: Millis,
    ) -> Result<(), store::Error> {
        if let Some(talk) = self.lines.talks.get_mut(&call.id) {
            _ = talk.delivery.say(transfer.message, &Content::FileCancel(why.to_owned()), None);
        }
        self.fail_arrival(call, transfer, why, now)
    }

    fn fail_arrival(
        &mut self,
        call: &Call,
        transfer: &StoredTransfer,
        why: &str,
        now: Millis,
    ) -> Result<(), store::Error> {
        tracing::info!(call = %call.id, why, "a file of the peer does not come");
        self.lines.arrivals.remove(&(call.id, transfer.message));
        if let Some(talk) = self.lines.talks.get_mut(&call.id) {
            talk.delivery.close_incoming(transfer.stream);
        }
        self.store.drop_transfer(&call.id, false, &transfer.message)?;
        self.effects.push(Effect::Remove(files::part(&self.home, &call.id, &transfer.message)));
        self.show_file(call, transfer, None, MessageState::Failed, now)
    }

    fn show_file(
        &mut self,
        call: &Call,
        transfer: &StoredTransfer,
        file: Option<&crate::api::File>,
        state: MessageState,
        now: Millis,
    ) -> Result<(), store::Error> {
        let message = NewMessage {
            message: transfer.message,
            call: Some(call.id),
            peer: call.peer,
            sender: Sender::Peer,
            kind: MessageKind::File,
            text: file.map_or_else(|| transfer.name.clone(), |file| file.name.clone()),
            file: file.and_then(|file| serde_json::to_string(file).ok()),
            at: now,
            state,
            seq: None,
        };
        if let Some(row) = self.store.add_message(&message)? {
            let kind = match state {
                MessageState::Failed => EventKind::FileFailed,
                _ => EventKind::FileReceived,
            };
            self.tell(NewEvent { message: Some(row), ..event(kind, Some(call.id), now) })?;
        }
        Ok(())
    }

    /// Tells of a file that is not whole yet: there is no row for it.
    fn tell_file(
        &mut self,
        call: &Call,
        transfer: &StoredTransfer,
        kind: EventKind,
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
            kind: MessageKind::File,
            text: transfer.name.clone(),
            file: Some(file),
            at: crate::api::Time(now),
            state,
            reason: None,
        };
        let progress = (kind == EventKind::FileProgress)
            .then_some(crate::api::Progress { done: transfer.done, size: transfer.size });
        let detail = serde_json::to_string(&(message, progress)).ok();
        self.tell(NewEvent { detail, ..event(kind, Some(call.id), now) })
    }

    fn transfer(
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

    /// What a delivery machine needs after a restart, with the bytes of the chunks that are to be sent again.
    pub(super) fn saved_delivery(&self, id: &CallId) -> Result<Saved, store::Error> {
        let mut saved = self.store.delivery(id)?;
        let transfers = self.store.transfers(id)?;
        saved.unacked.retain_mut(|queued| {
            let entry = &mut queued.entry;
            if entry.kind != Kind::Chunk {
                return true;
            }
            let transfer = transfers.iter().find(|it| it.outgoing && it.message == entry.id);
            let bytes = transfer.and_then(|transfer| {
                let path = files::spool(&self.home, id, &transfer.message);
                read_piece(&path, entry.seq - 1, transfer.size)
            });
            match bytes {
                Some(bytes) => entry.body = bytes,
                None => tracing::warn!(call = %id, message = %entry.id, "a file's copy is gone"),
            }
            !entry.body.is_empty()
        });
        Ok(saved)
    }

    /// Removes copies and parts that nobody needs any more: of files that went by mail, and what a crash left behind.
    pub(in crate::engine) fn sweep_files(&mut self) -> Result<(), store::Error> {
        for (ours, call, message, path) in files::under_way(&self.home) {
            let queued = |stored: store::StoredMessage| stored.message.state == MessageState::Queued;
            let needed = match ours {
                true => self.store.my_message(&message)?.is_some_and(queued),
                false => self.transfer(&call, false, &message)?.is_some(),
            };
            if !needed {
                self.effects.push(Effect::Remove(path));
            }
        }
        Ok(())
    }

    /// What was written is on the disk before the batch that says so is.
    pub(in crate::engine) fn sync_arrivals(&mut self) -> Result<(), store::Error> {
        for ((call, message), arrival) in &mut self.lines.arrivals {
            if std::mem::take(&mut arrival.unsynced)
                && let Err(error) = arrival.file.sync_data()
            {
                tracing::warn!(%error, "a file of a peer cannot be written");
                return Err(store::Error::Full(files::part(&self.home, call, message)));
            }
        }
        Ok(())
    }
}

impl Arrival {
    /// Goes on after so many bytes, which are read again for the hash. What a crash left behind them is cut off.
    fn open(path: &Path, done: u64) -> std::io::Result<Self> {
        let mut file = files::open_part(path)?;
        file.set_len(done)?;
        let mut hash = Sha256::new();
        std::io::copy(&mut (&mut file).take(done), &mut hash)?;
        file.seek(SeekFrom::Start(done))?;
        Ok(Self { file, hash, unsynced: false })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.unsynced = true;
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
