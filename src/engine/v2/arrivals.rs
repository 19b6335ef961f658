//! Files of a peer, from the offer to their name.
//!
//! ```text
//!   offered ──► accepted ──► first frame of its stream: part file and folder are opened, or the frame is as good as lost
//!                               └─► chunks, synced before they are acknowledged ──► whole, hash right ──► named, shown
//! ```
//!
//! What a file needs of the system is taken before anything of it is: a daemon that is out of descriptors drops the
//! frames of files, which their sender sends again, and goes on with everything else.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::files::{FILE_LIMIT, is_told};
use crate::engine::core::Core;
use crate::engine::effects::Effect;
use crate::engine::files::{self, Folder};
use crate::engine::outputs::event;
use crate::proto::call::Call;
use crate::proto::v2::body::{Content, FileOffer};
use crate::proto::v2::delivery::FILE_STREAMS;
use crate::proto::{
    CallId, EventKind, Hex, MessageId, MessageKind, MessageState, Millis, Sender, safe_file_name,
};
use crate::store::{self, NewEvent, NewMessage, StoredTransfer};

/// A file of the peer that is being written.
pub(super) struct Arrival {
    file: File,
    /// Where it goes when it is whole.
    folder: Folder,
    hash: Sha256,
    /// Written, and not yet on the disk for certain.
    unsynced: bool,
}

impl Core {
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

    /// Makes a place for what comes on a stream. `false` if the system does not let us, which may pass.
    pub(super) fn admit_file(&mut self, id: &CallId, stream: u32) -> Result<bool, store::Error> {
        let coming = self.store.transfers(id)?.into_iter().find(|it| !it.outgoing && it.stream == stream);
        if let Some(transfer) = coming {
            match self.arrival(&transfer) {
                Ok(arrival) => _ = self.lines.arrivals.insert((*id, transfer.message), arrival),
                Err(error) => {
                    tracing::debug!(call = %id, %error, "a file of the peer waits");
                    return Ok(false);
                }
            }
        }
        if let Some(talk) = self.lines.talks.get_mut(id) {
            talk.delivery.admit(stream);
        }
        Ok(true)
    }

    /// The file that is being written, taken out of the list of them.
    fn arrival(&mut self, transfer: &StoredTransfer) -> Result<Arrival, store::Error> {
        if let Some(arrival) = self.lines.arrivals.remove(&(transfer.call, transfer.message)) {
            return Ok(arrival);
        }
        let part = files::part(&self.home, &transfer.call, &transfer.message);
        let opened = Folder::of_call(&self.home, Some(&transfer.call))
            .and_then(|folder| Arrival::open(&part, folder, transfer.done));
        opened.map_err(|error| store::Error::of_disk(&part, error))
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
        // A disk that is full loses the batch: nothing of it is acknowledged, and the peer sends it again.
        let part = files::part(&self.home, &call.id, &transfer.message);
        let mut arrival = self.arrival(&transfer)?;
        arrival.write(bytes).map_err(|error| store::Error::of_disk(&part, error))?;
        self.lines.arrivals.insert((call.id, transfer.message), arrival);
        let before = transfer.done;
        transfer.done += bytes.len() as u64;
        self.store.save_transfer(&transfer)?;
        if is_told(before, transfer.done) {
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
        let broken = |error| store::Error::of_disk(&part, error);
        let arrival = self.arrival(transfer)?;
        if Hex(arrival.hash.finalize().into()) != transfer.sha256 {
            return self.refuse_arrival(call, transfer, "its bytes are not those that were announced", now);
        }
        arrival.file.sync_data().map_err(broken)?;
        let file = files::adopt(&arrival.folder, transfer, &part).map_err(broken)?;
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

    pub(super) fn fail_arrival(
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

    /// What was written is on the disk before the batch that says so is.
    pub(in crate::engine) fn sync_arrivals(&mut self) -> Result<(), store::Error> {
        for ((call, message), arrival) in &mut self.lines.arrivals {
            if std::mem::take(&mut arrival.unsynced)
                && let Err(error) = arrival.file.sync_data()
            {
                tracing::warn!(%error, "a file of a peer cannot be written");
                return Err(store::Error::of_disk(&files::part(&self.home, call, message), error));
            }
        }
        Ok(())
    }
}

impl Arrival {
    /// Goes on after so many bytes, which are read again for the hash. What a crash left behind them is cut off.
    fn open(path: &Path, folder: Folder, done: u64) -> std::io::Result<Self> {
        let mut file = files::open_part(path)?;
        file.set_len(done)?;
        let mut hash = Sha256::new();
        std::io::copy(&mut (&mut file).take(done), &mut hash)?;
        file.seek(SeekFrom::Start(done))?;
        Ok(Self { file, folder, hash, unsynced: false })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.unsynced = true;
        Ok(())
    }
}
