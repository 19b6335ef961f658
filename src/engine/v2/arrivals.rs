//! Files of a peer, from the offer to their name.
//!
//! ```text
//!   offered ──► accepted ──► first frame of its stream: part file and folder are opened, or the frame is as good as lost
//!                               └─► chunks, synced before they are acknowledged ──► all there ──► hash right ──► named, shown
//!                                                                                          (elsewhere, see `works`)
//! ```
//!
//! Chunk `n` has its place in the part file, so that chunks which come before their turn are written at once and are kept
//! in the database by number only. The hash is followed as the file grows; after a restart it is not known any more, and
//! the file is read once, at its end, beside the engine's thread.
//!
//! What a file needs of the system is taken before anything of it is: a daemon that is out of descriptors drops the
//! frames of files, which their sender sends again, and goes on with everything else.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::engine::core::Core;
use crate::engine::disk;
use crate::engine::effects::Effect;
use crate::engine::files::{self, NotKept};
use crate::engine::folders;
use crate::engine::outputs::event;
use crate::engine::works::Keeping;
use crate::proto::call::Call;
use crate::proto::v2::batch::Entry;
use crate::proto::v2::body::{CHUNK_LIMIT, Content, FileOffer};
use crate::proto::v2::delivery::FILE_STREAMS;
use crate::proto::v2::refusal::Refusal;
use crate::proto::{
    CallId, EventKind, MessageId, MessageKind, MessageState, Millis, Sender, Tier, safe_file_name,
};
use crate::store::{self, NewEvent, NewMessage, StoredTransfer};

/// How long a file may stand still while its call is up: what a relay with the smallest budget (two events in three
/// minutes) lets through is more.
pub(super) const STILL_TIME: Duration = Duration::from_secs(900);
/// A file of at most so many bytes is taken as a message is: a full disk holds it up, and it comes when there is room.
const WAITS_FOR_ROOM: u64 = 1 << 20;

/// A file of the peer that is being written.
pub(super) struct Arrival {
    file: File,
    /// Of everything up to the file's `done`; none after a restart.
    hash: Option<Sha256>,
    /// Chunks that are written though it is not their turn.
    ahead: BTreeSet<u64>,
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
        let wanted = self.check_offer(call, &message, &offer)?;
        let Some(talk) = self.lines.talks.get_mut(&call.id) else { return Ok(()) };
        let wanted = wanted.and_then(|()| {
            let no_stream = |_| Refusal::Other("its stream cannot be opened".to_owned());
            talk.delivery.open_incoming(offer.stream).map_err(no_stream)
        });
        if let Err(refusal) = wanted {
            tracing::info!(call = %call.id, %refusal, size = offer.size, "a file of the peer is not taken");
            _ = talk.delivery.say(message, &Content::FileCancel(refusal.write()), None);
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
        self.lines.moved.insert((call.id, message), Instant::now());
        self.tell_file(call, &transfer, EventKind::FileOffered, None, now)?;
        if transfer.size == 0 {
            self.lines.keeping.insert((call.id, message));
            self.effects.push(Effect::Keep(Keeping { transfer, sha256: None }));
        }
        Ok(())
    }

    /// Whether a file is taken: by its size and whose it is, and by what the disk has room for beside all that was
    /// promised already.
    fn check_offer(
        &self,
        call: &Call,
        message: &MessageId,
        offer: &FileOffer,
    ) -> Result<Result<(), Refusal>, store::Error> {
        let mut coming = self.store.transfers(&call.id)?;
        coming.retain(|it| !it.outgoing);
        if coming.iter().any(|it| it.message == *message) {
            return Ok(Err(Refusal::Other("it was offered before".to_owned())));
        }
        let limit = self.settings.file_limit(self.book.tier(&call.peer) >= Tier::Contact);
        if offer.size > limit {
            return Ok(Err(Refusal::TooLarge(limit)));
        }
        if coming.len() >= FILE_STREAMS {
            return Ok(Err(Refusal::TooMany));
        }
        if offer.size <= WAITS_FOR_ROOM {
            return Ok(Ok(()));
        }
        let part = files::part(&self.home, &call.id, message);
        let room = disk::room(&part).map_err(|error| store::Error::of_disk(&part, error))?;
        // A folder is there twice for a moment: as it came, and unpacked.
        let size = if offer.mime == folders::MIME { offer.size.saturating_mul(2) } else { offer.size };
        let needed = size.saturating_add(self.store.promised()?);
        Ok(if needed > room { Err(Refusal::NoSpace) } else { Ok(()) })
    }

    /// Makes a place for what comes on a stream. `false` if the system does not let us, which may pass.
    pub(super) fn admit_file(&mut self, id: &CallId, stream: u32) -> Result<bool, store::Error> {
        let coming = self.store.transfers(id)?.into_iter().find(|it| !it.outgoing && it.stream == stream);
        if let Some(transfer) = coming
            && let Err(error) = self.arrival(&transfer)
        {
            tracing::debug!(call = %id, %error, "a file of the peer waits");
            return Ok(false);
        }
        if let Some(talk) = self.lines.talks.get_mut(id) {
            talk.delivery.admit(stream);
        }
        Ok(true)
    }

    /// The file that is being written.
    fn arrival(&mut self, transfer: &StoredTransfer) -> Result<&mut Arrival, store::Error> {
        let key = (transfer.call, transfer.message);
        if !self.lines.arrivals.contains_key(&key) {
            let part = files::part(&self.home, &transfer.call, &transfer.message);
            let opened = Arrival::open(&part, transfer);
            let arrival = opened.map_err(|error| store::Error::of_disk(&part, error))?;
            self.lines.arrivals.insert(key, arrival);
        }
        self.lines.arrivals.get_mut(&key).ok_or_else(|| store::Error::Io {
            path: self.home.state(),
            why: "a file that was opened is not there".to_owned(),
        })
    }

    /// A chunk has come before its turn: it is written, and its number remembered by the delivery machine.
    pub(super) fn handle_chunk_ahead(&mut self, id: &CallId, entry: &Entry) -> Result<(), store::Error> {
        let transfers = self.store.transfers(id)?;
        let Some(transfer) = transfers.into_iter().find(|it| !it.outgoing && it.stream == entry.stream)
        else {
            return Ok(());
        };
        // One that does not fit is refused when its turn comes.
        if place_of(&transfer, entry.seq) == Some(entry.body.len() as u64) {
            self.write_chunk(&transfer, entry.seq, &entry.body)?.ahead.insert(entry.seq);
        }
        Ok(())
    }

    /// A disk that is full loses the batch: nothing of it is acknowledged, and the peer sends it again.
    fn write_chunk(
        &mut self,
        transfer: &StoredTransfer,
        seq: u64,
        bytes: &[u8],
    ) -> Result<&mut Arrival, store::Error> {
        let part = files::part(&self.home, &transfer.call, &transfer.message);
        let arrival = self.arrival(transfer)?;
        let written = arrival.file.write_all_at(bytes, (seq - 1) * CHUNK_LIMIT as u64);
        arrival.unsynced = true;
        written.map_err(|error| store::Error::of_disk(&part, error))?;
        Ok(arrival)
    }

    /// The next chunk of a file.
    pub(super) fn handle_chunk(
        &mut self,
        call: &Call,
        stream: u32,
        seq: u64,
        bytes: &[u8],
        now: Millis,
    ) -> Result<(), store::Error> {
        let transfers = self.store.transfers(&call.id)?;
        let Some(mut transfer) = transfers.into_iter().find(|it| !it.outgoing && it.stream == stream) else {
            return Ok(());
        };
        if place_of(&transfer, seq) != Some(bytes.len() as u64) {
            return self.refuse_arrival(call, &transfer, &Refusal::Altered, now);
        }
        let arrival = self.arrival(&transfer)?;
        if !arrival.ahead.remove(&seq) {
            self.write_chunk(&transfer, seq, bytes)?;
        }
        let arrival = self.arrival(&transfer)?;
        arrival.hash.iter_mut().for_each(|hash| hash.update(bytes));
        transfer.done += bytes.len() as u64;
        self.store.save_transfer(&transfer)?;
        self.lines.moved.insert((call.id, transfer.message), Instant::now());
        self.tell_progress(&transfer, transfer.done, now)?;
        if transfer.done == transfer.size {
            let key = (call.id, transfer.message);
            let hash = self.lines.arrivals.get_mut(&key).and_then(|arrival| arrival.hash.take());
            let sha256 = hash.map(|hash| hash.finalize().into());
            self.lines.keeping.insert(key);
            self.effects.push(Effect::Keep(Keeping { transfer, sha256 }));
        }
        Ok(())
    }

    /// After a start, or a batch that was lost: files that are whole and have no name yet are checked again.
    pub(super) fn take_up_arrivals(&mut self, id: &CallId) -> Result<(), store::Error> {
        for transfer in self.store.transfers(id)?.into_iter().filter(|it| !it.outgoing) {
            self.lines.moved.entry((*id, transfer.message)).or_insert_with(Instant::now);
            let whole = transfer.done == transfer.size;
            if whole && self.lines.keeping.insert((*id, transfer.message)) {
                self.effects.push(Effect::Keep(Keeping { transfer, sha256: None }));
            }
        }
        Ok(())
    }

    /// A file of the peer was checked: right, it has its name and is shown.
    pub(in crate::engine) fn handle_kept(
        &mut self,
        transfer: &StoredTransfer,
        kept: Result<crate::api::File, NotKept>,
        now: Millis,
    ) -> Result<(), store::Error> {
        self.lines.keeping.remove(&(transfer.call, transfer.message));
        let Some(call) = self.restore_call(&transfer.call)? else { return Ok(()) };
        if self.transfer(&call.id, false, &transfer.message)?.is_none() {
            tracing::debug!(call = %call.id, "a file was checked that is not wanted any more");
            return Ok(());
        }
        let file = match kept {
            Ok(file) => file,
            Err(NotKept::Altered) => {
                self.refuse_arrival(&call, transfer, &Refusal::Altered, now)?;
                return self.drain_talk(&call.id, now);
            }
            Err(NotKept::Unsafe(why)) => {
                tracing::info!(call = %call.id, why, "a folder of the peer is not unpacked");
                self.refuse_arrival(&call, transfer, &Refusal::Unsafe, now)?;
                return self.drain_talk(&call.id, now);
            }
            Err(NotKept::Over) => return Ok(()),
            Err(NotKept::Disk(why)) => {
                tracing::warn!(call = %call.id, why, "a file of the peer cannot be kept");
                self.refuse_arrival(&call, transfer, &Refusal::Other("it cannot be kept".to_owned()), now)?;
                return self.drain_talk(&call.id, now);
            }
        };
        self.drop_arrival(transfer)?;
        self.show_file(&call, transfer, Some(&file), MessageState::Received, None, now)?;
        if let Some(talk) = self.lines.talks.get_mut(&call.id) {
            talk.delivery.close_incoming(transfer.stream);
            _ = talk.delivery.say(transfer.message, &Content::FileDone, None);
        }
        self.drain_talk(&call.id, now)
    }

    /// A peer that has offered a file and sends nothing of it keeps neither a place nor a part of the disk for ever.
    pub(in crate::engine) fn fail_stalled_arrivals(&mut self, now: Millis) -> Result<(), store::Error> {
        let instant = Instant::now();
        let still: Vec<(CallId, MessageId)> = self
            .lines
            .moved
            .iter()
            .filter(|(key, at)| instant >= **at + STILL_TIME && !self.lines.keeping.contains(key))
            .map(|(key, _)| *key)
            .collect();
        for (id, message) in still {
            self.lines.moved.remove(&(id, message));
            if let Some(transfer) = self.transfer(&id, false, &message)?
                && let Some(call) = self.restore_call(&id)?
            {
                self.refuse_arrival(&call, &transfer, &Refusal::Stalled, now)?;
                self.drain_talk(&id, now)?;
            }
        }
        Ok(())
    }

    /// Nothing of it is needed any more but what has its name.
    fn drop_arrival(&mut self, transfer: &StoredTransfer) -> Result<(), store::Error> {
        let key = (transfer.call, transfer.message);
        self.lines.arrivals.remove(&key);
        self.lines.moved.remove(&key);
        self.lines.paces.forget(transfer);
        let part = files::part(&self.home, &transfer.call, &transfer.message);
        self.effects.extend(files::leftovers(&part).map(Effect::Remove));
        self.store.drop_transfer(&transfer.call, false, &transfer.message)
    }

    /// Tells the peer that a file of it is not taken any more.
    pub(super) fn refuse_arrival(
        &mut self,
        call: &Call,
        transfer: &StoredTransfer,
        refusal: &Refusal,
        now: Millis,
    ) -> Result<(), store::Error> {
        if let Some(talk) = self.lines.talks.get_mut(&call.id) {
            _ = talk.delivery.say(transfer.message, &Content::FileCancel(refusal.write()), None);
        }
        self.fail_arrival(call, transfer, &refusal.to_string(), now)
    }

    pub(super) fn fail_arrival(
        &mut self,
        call: &Call,
        transfer: &StoredTransfer,
        why: &str,
        now: Millis,
    ) -> Result<(), store::Error> {
        tracing::info!(call = %call.id, why, "a file of the peer does not come");
        if let Some(talk) = self.lines.talks.get_mut(&call.id) {
            talk.delivery.close_incoming(transfer.stream);
        }
        self.drop_arrival(transfer)?;
        self.show_file(call, transfer, None, MessageState::Failed, Some(why), now)
    }

    fn show_file(
        &mut self,
        call: &Call,
        transfer: &StoredTransfer,
        file: Option<&crate::api::File>,
        state: MessageState,
        why: Option<&str>,
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
            if let Some(why) = why {
                self.store.set_reason(row, why)?;
            }
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

/// How many bytes the chunk of this number has to have; none, if the file has no such chunk.
fn place_of(transfer: &StoredTransfer, seq: u64) -> Option<u64> {
    let from = seq.checked_sub(1)?.checked_mul(CHUNK_LIMIT as u64)?;
    Some(transfer.size.checked_sub(from)?.min(CHUNK_LIMIT as u64)).filter(|length| *length > 0)
}

impl Arrival {
    /// Goes on where the file stands. Its place on the disk has its size from the beginning, as a hole.
    fn open(path: &Path, transfer: &StoredTransfer) -> std::io::Result<Self> {
        let file = files::open_part(path)?;
        file.set_len(transfer.size)?;
        let hash = (transfer.done == 0).then(Sha256::new);
        Ok(Self { file, hash, ahead: BTreeSet::new(), unsynced: false })
    }
}
