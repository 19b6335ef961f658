//! Files of the mailbox that are too large for a letter: they go by a server of blobs (Blossom), encrypted.
//!
//! ```text
//!   ours     row with a key ──► encrypted, uploaded, looked up ──► row with the address ──► letter ──► relayed
//!   theirs   letter ──► row ──► fetched, checked, opened, named ──► shown, row gone
//! ```
//!
//! The row comes before the step that it is for, so a crash repeats a step and skips none. Repeating is harmless: the
//! same key makes the same blob, which has one address; the letter bears the message's id, by which its receiver knows it
//! again; and the same bytes under the same name are the same file.
//!
//! What fails is tried again for a day, later and later. A file of a call whose peer is there again goes back into the
//! session when no server takes it.

use std::collections::BTreeSet;

use crate::api::{Error, ErrorKind, File};
use crate::engine::clock::fresh;
use crate::engine::core::{Core, Fault};
use crate::engine::effects::Effect;
use crate::engine::files;
use crate::engine::outputs::event;
use crate::engine::parcels::{CARRIED_FOR, Carried, Means, part, pause};
use crate::proto::call::{Call, Content, Entry, Handled};
use crate::proto::v2::body;
use crate::proto::v2::parcel::{PARCEL_LIMIT, Parcel, Secret};
use crate::proto::v2::refusal::Refusal;
use crate::proto::{
    CallId, EventKind, MessageId, MessageKind, MessageState, Millis, PublicKey, Sender, Tier, safe_file_name,
};
use crate::store::{self, NewEvent, NewMessage, StoredMessage, StoredParcel};
use crate::transport::blossom::Trouble;
use crate::transport::v2::mail::FILE_LIMIT;

/// Most files of one peer that wait to be fetched, and of all.
const OF_ONE: usize = 32;
const OF_ALL: usize = 256;
/// Most files of ours that wait for a server.
const OURS: usize = 64;

/// What is being carried.
#[derive(Debug, Default)]
pub(in crate::engine) struct Parcels {
    under_way: BTreeSet<(bool, PublicKey, MessageId)>,
    /// When the next is due that waits.
    next: Option<Millis>,
    /// The rows are to be looked at.
    stale: bool,
}

impl Parcels {
    /// Rows have changed, or were rolled back.
    pub(in crate::engine) fn look_again(&mut self) {
        self.stale = true;
    }
}

impl Core {
    /// When a file is to be carried again; at once, where a command that had waited has just handed one in.
    pub(in crate::engine) fn parcels_wake(&self) -> Option<Millis> {
        let Parcels { stale, next, .. } = &self.lines.parcels;
        if *stale { Some(Millis::default()) } else { *next }
    }

    /// Begins what is due, once the batch is committed; gives up what was tried for a day.
    pub(in crate::engine) fn tick_parcels(&mut self, now: Millis) -> Result<(), store::Error> {
        let parcels = &mut self.lines.parcels;
        if !parcels.stale && parcels.next.is_none_or(|at| at > now) {
            return Ok(());
        }
        (parcels.stale, parcels.next) = (false, None);
        // Of this batch, in which nothing is under way before its commit.
        let mut begun = BTreeSet::new();
        for it in self.store.parcels_due()? {
            let parcels = &mut self.lines.parcels;
            // One at a time of each peer: whose server dawdles holds up nobody else.
            let holds = |(outgoing, peer, message): &(bool, PublicKey, MessageId)| {
                *outgoing == it.outgoing && *peer == it.peer && (!it.outgoing || *message == it.message)
            };
            if parcels.under_way.iter().any(holds) || (!it.outgoing && begun.contains(&it.peer)) {
                continue;
            }
            let due = it.due.unwrap_or(now);
            if due > now {
                parcels.next = Some(parcels.next.map_or(due, |next| next.min(due)));
            } else if now.since(it.since) > CARRIED_FOR {
                let why = it.problem.clone().unwrap_or_default();
                self.fail_parcel(&it, &format!("it was tried for a day: {why}"), now)?;
            } else if !it.outgoing && self.book.get(&it.peer).is_some_and(|contact| contact.blocked) {
                self.drop_parcel(&it)?;
            } else {
                begun.extend((!it.outgoing).then_some(it.peer));
                self.effects.push(Effect::Carry(Box::new(it)));
            }
        }
        Ok(())
    }

    /// Lets a file go up or come down, elsewhere.
    pub(in crate::engine) fn carry_parcel(&mut self, it: StoredParcel) {
        self.lines.parcels.under_way.insert((it.outgoing, it.peer, it.message));
        let means = Means {
            servers: self.settings.blossom.clone(),
            limit: self.parcel_limit(&it.peer),
            now: self.wall().as_secs(),
        };
        self.works.carry(it, means);
    }

    /// A file has come or gone, or has not.
    pub(in crate::engine) fn handle_carried(
        &mut self,
        it: &StoredParcel,
        carried: Result<Carried, Trouble>,
        now: Millis,
    ) -> Result<(), store::Error> {
        self.lines.parcels.under_way.remove(&(it.outgoing, it.peer, it.message));
        self.lines.parcels.look_again();
        let stored = match it.outgoing {
            true => self.store.my_parcel(&it.message)?,
            false => self.store.peer_parcel(&it.peer, &it.message)?,
        };
        let Some(it) = stored.filter(|stored| stored.due.is_some()) else {
            tracing::debug!("a file was carried that is not wanted any more");
            return Ok(());
        };
        match carried {
            Ok(Carried::Up(url, sealed)) => self.post_parcel(it, url, sealed, now),
            Ok(Carried::Down(file)) => self.show_parcel(&it, &file, now),
            Err(Trouble::Over) => Ok(()),
            Err(Trouble::Final(why)) => self.fail_parcel(&it, &why, now),
            Err(Trouble::Passing(why)) => self.put_off_parcel(it, why, now),
        }
    }

    fn put_off_parcel(&mut self, it: StoredParcel, why: String, now: Millis) -> Result<(), store::Error> {
        tracing::info!(
            why,
            outgoing = it.outgoing,
            tries = it.tries,
            "a file of the mailbox is not carried yet"
        );
        if it.outgoing && self.send_in_call_after_all(&it, now)? {
            return Ok(());
        }
        let tries = it.tries.saturating_add(1);
        self.store.save_parcel(&StoredParcel {
            tries,
            due: Some(now + pause(tries)),
            problem: Some(why),
            ..it
        })
    }

    // ---- ours ----

    /// Whether a file of this size may go by a server.
    pub(in crate::engine) fn fits_parcel(&self, size: u64) -> bool {
        size > FILE_LIMIT as u64 && size <= PARCEL_LIMIT && !self.settings.blossom.is_empty()
    }

    /// Whether one more file may wait for a server.
    pub(in crate::engine) fn check_waiting_parcels(&self) -> Result<(), Fault> {
        let waiting = self.store.parcels_due()?.iter().filter(|it| it.outgoing).count();
        match waiting + self.works.staging.count(&CallId::default()) < OURS {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::TooFast,
                format!("{OURS} files wait for a relay or a server already"),
                "wait until some have left (p2p-comm wait --for message.relayed), then go on",
            )
            .into()),
        }
    }

    /// Sends a file of ours to the mailbox; its copy is on the disk, and `problem` says why no server takes it yet.
    pub(in crate::engine) fn mail_file(
        &mut self,
        peer: &PublicKey,
        call: Option<&Call>,
        message: MessageId,
        file: &File,
        problem: Option<String>,
        now: Millis,
    ) -> Result<NewMessage, Fault> {
        let id = call.map(|call| call.id);
        let seq = match call {
            Some(call) => self.board.say(&call.id, message, Content::Text(String::new()))?,
            None => self.store.count_mail_to(peer)? + 1,
        };
        let stored = NewMessage {
            message,
            call: id,
            peer: *peer,
            sender: Sender::Me,
            kind: MessageKind::File,
            text: file.name.clone(),
            file: serde_json::to_string(file).ok(),
            at: now,
            state: MessageState::Queued,
            seq: Some(seq),
        };
        self.store.add_message(&stored)?;
        match file.size <= FILE_LIMIT as u64 {
            true => {
                let letter = self.letter_of(&stored, now)?;
                self.post(letter.ok_or_else(|| Error::internal("a copy that is gone"))?, now)?;
            }
            false => self.begin_parcel(&stored, file, problem, now)?,
        }
        if call.is_none() {
            self.let_mail_in(peer, now)?;
        }
        self.settle(now)?;
        Ok(stored)
    }

    /// A file that its call did not carry to its end. `false` if it does not go by a server.
    pub(super) fn carry_left_over(
        &mut self,
        message: &NewMessage,
        now: Millis,
    ) -> Result<bool, store::Error> {
        let file = message.file.as_deref().and_then(|file| serde_json::from_str::<File>(file).ok());
        let Some(file) = file.filter(|file| self.fits_parcel(file.size)) else { return Ok(false) };
        let copy = files::spool(&self.home, &message.call.unwrap_or_default(), &message.message);
        if !copy.exists() {
            return Ok(false);
        }
        self.begin_parcel(message, &file, None, now)?;
        Ok(true)
    }

    /// Settles under which key a file goes: from here on each try brings the same blob.
    fn begin_parcel(
        &mut self,
        message: &NewMessage,
        file: &File,
        problem: Option<String>,
        now: Millis,
    ) -> Result<(), store::Error> {
        let NewMessage { message, call, peer, seq, at, .. } = message;
        let secret = Secret { key: fresh::<32>().0, nonce: fresh::<12>().0.to_vec() };
        let plain = file.sha256.parse().unwrap_or_default();
        let parcel = Parcel::new(file.name.clone(), file.mime.clone(), file.size, plain, &secret);
        let tries = u32::from(problem.is_some());
        let due = if tries == 0 { now } else { now + pause(tries) };
        self.store.save_parcel(&StoredParcel {
            outgoing: true,
            peer: *peer,
            message: *message,
            call: *call,
            seq: *seq,
            at: *at,
            parcel,
            since: now,
            tries,
            due: Some(due),
            problem,
        })?;
        self.lines.parcels.look_again();
        Ok(())
    }

    /// A file of ours is at a server: its letter leaves.
    fn post_parcel(
        &mut self,
        mut it: StoredParcel,
        url: String,
        sealed: crate::proto::Hex<32>,
        now: Millis,
    ) -> Result<(), store::Error> {
        (it.parcel.url, it.parcel.sealed) = (url, Some(sealed));
        (it.due, it.problem) = (None, None);
        self.store.save_parcel(&it)?;
        let stored = self.store.my_message(&it.message)?;
        let Some(stored) = stored.filter(|stored| stored.message.state == MessageState::Queued) else {
            return Ok(());
        };
        if let Some(letter) = self.letter_of(&stored.message, now)? {
            self.post(letter, now)?;
        }
        Ok(())
    }

    /// No server takes a file, and its call is up: it waits there, as any other.
    fn send_in_call_after_all(&mut self, it: &StoredParcel, now: Millis) -> Result<bool, store::Error> {
        let Some(id) = it.call.filter(|id| self.lines.talks.contains_key(id)) else { return Ok(false) };
        let (Some(call), Some(stored)) = (self.restore_call(&id)?, self.store.my_message(&it.message)?)
        else {
            return Ok(false);
        };
        let file = stored.message.file.as_deref().and_then(|file| serde_json::from_str::<File>(file).ok());
        let Some((file, hash)) = file.zip(it.parcel.plain) else { return Ok(false) };
        match self.send_in_talk(&call, it.message, &file, hash, now) {
            Ok(()) => self.store.drop_parcel(it).map(|()| true),
            Err(Fault::Store(error)) => Err(error),
            Err(Fault::Api(_)) => Ok(false),
        }
    }

    /// Forgets the keys of files whose letters have left.
    pub(in crate::engine) fn forget_parcel_secrets(&mut self) -> Result<(), store::Error> {
        for it in self.store.parcels_gone()? {
            self.store.forget_parcel_secret(&it)?;
        }
        Ok(())
    }

    // ---- theirs ----

    /// The largest file that is taken of somebody by mail.
    fn parcel_limit(&self, peer: &PublicKey) -> u64 {
        self.settings.file_limit(self.book.tier(peer) >= Tier::Contact).min(PARCEL_LIMIT)
    }

    /// A peer who is let in has put a file somewhere: it is fetched, if it is one that is taken.
    pub(in crate::engine) fn take_parcel(
        &mut self,
        call: Option<&CallId>,
        peer: &PublicKey,
        (message, seq, at): (MessageId, Option<u64>, Millis),
        parcel: Parcel,
        now: Millis,
    ) -> Result<(), store::Error> {
        if self.store.peer_message(peer, &message)?.is_some()
            || self.store.peer_parcel(peer, &message)?.is_some()
        {
            return Ok(());
        }
        let it = StoredParcel {
            outgoing: false,
            peer: *peer,
            message,
            call: call.copied(),
            seq,
            at,
            parcel,
            since: now,
            tries: 0,
            due: Some(now),
            problem: None,
        };
        if let Err(why) = self.check_parcel(&it)? {
            return self.fail_parcel(&it, &why, now);
        }
        self.store.save_parcel(&it)?;
        self.lines.parcels.look_again();
        let offered = self.parcel_view(&it);
        let detail = serde_json::to_string(&(offered, None::<crate::api::Progress>)).ok();
        self.tell(NewEvent { detail, ..event(EventKind::FileOffered, it.call, now) })
    }

    /// Whether a file is taken: by what opens it, by its size and whose it is, and by how many wait already.
    fn check_parcel(&self, it: &StoredParcel) -> Result<Result<(), String>, store::Error> {
        if let Err(why) = it.parcel.secret() {
            return Ok(Err(why.to_string()));
        }
        let limit = self.parcel_limit(&it.peer);
        if limit == 0 || it.parcel.file_size().is_some_and(|size| size > limit) {
            return Ok(Err(Refusal::TooLarge(limit).to_string()));
        }
        let waiting = self.store.parcels_due()?;
        let theirs = waiting.iter().filter(|waiting| !waiting.outgoing);
        let of_peer = theirs.clone().filter(|waiting| waiting.peer == it.peer).count();
        match of_peer < OF_ONE && theirs.count() < OF_ALL {
            true => Ok(Ok(())),
            false => Ok(Err(Refusal::TooMany.to_string())),
        }
    }

    /// A file of a peer is here: it takes its place among what the peer said.
    fn show_parcel(&mut self, it: &StoredParcel, file: &File, now: Millis) -> Result<(), store::Error> {
        self.drop_parcel(it)?;
        let described = serde_json::to_string(file).unwrap_or_default();
        let content = Content::Kept { name: file.name.clone(), file: described };
        let entry = Entry { id: it.message, seq: it.seq, at: it.at, content };
        let Some(id) = it.call else { return self.keep(None, &it.peer, entry, true, now).map(drop) };
        if self.restore_call(&id)?.is_none() {
            return self.keep(Some(&id), &it.peer, entry, true, now).map(drop);
        }
        if let Handled::Dropped(why) = self.board.handle_mail(&id, entry, now) {
            tracing::debug!(call = %id, why, "a file of the mailbox changes nothing");
        }
        self.settle(now)?;
        self.say_file_done(&id, it.message, now)
    }

    /// A file of a call came by mail. Where its sender listens again, it is told.
    pub(super) fn say_file_done(
        &mut self,
        call: &CallId,
        message: MessageId,
        now: Millis,
    ) -> Result<(), store::Error> {
        match self.lines.talks.get_mut(call) {
            Some(talk) => {
                // A call that ends goes without.
                _ = talk.delivery.say(message, &body::Content::FileDone, None);
                self.drain_talk(call, now)
            }
            None => Ok(()),
        }
    }

    // ---- both ----

    /// A file does not come, or does not go.
    fn fail_parcel(&mut self, it: &StoredParcel, why: &str, now: Millis) -> Result<(), store::Error> {
        self.drop_parcel(it)?;
        if it.outgoing {
            let call = it.call.unwrap_or_default();
            self.effects.push(Effect::Remove(files::spool(&self.home, &call, &it.message)));
            return self.give_up(&call, Some(&it.message), why, now);
        }
        tracing::info!(why, "a file of the mailbox does not come");
        let message = NewMessage {
            message: it.message,
            call: it.call,
            peer: it.peer,
            sender: Sender::Peer,
            kind: MessageKind::File,
            text: safe_file_name(&it.parcel.name),
            file: None,
            at: it.at,
            state: MessageState::Failed,
            seq: None,
        };
        if let Some(row) = self.store.add_message(&message)? {
            self.store.set_reason(row, why)?;
            self.tell(NewEvent { message: Some(row), ..event(EventKind::FileFailed, it.call, now) })?;
        }
        Ok(())
    }

    fn drop_parcel(&mut self, it: &StoredParcel) -> Result<(), store::Error> {
        if !it.outgoing {
            self.effects.extend(files::leftovers(&part(&self.home, it)).map(Effect::Remove));
        }
        self.store.drop_parcel(it)
    }

    /// Somebody here does not want a file any more. Returns its message as it is then; none if no such file waits.
    pub(in crate::engine) fn cancel_parcel(
        &mut self,
        message: &MessageId,
        now: Millis,
    ) -> Result<Option<StoredMessage>, store::Error> {
        let Some(it) = self.store.parcels_due()?.into_iter().find(|it| it.message == *message) else {
            return Ok(None);
        };
        self.fail_parcel(&it, &Refusal::Cancelled.to_string(), now)?;
        match it.outgoing {
            true => self.store.my_message(message),
            false => self.store.peer_message(&it.peer, message),
        }
    }

    /// A file that is still elsewhere, as it is shown.
    fn parcel_view(&self, it: &StoredParcel) -> crate::api::Message {
        let file = parcel_file(&it.parcel);
        crate::api::Message {
            message: it.message,
            call: it.call,
            from: Sender::Peer,
            peer: it.peer,
            tier: self.book.tier(&it.peer),
            kind: MessageKind::File,
            text: file.name.clone(),
            file: Some(file),
            at: crate::api::Time(it.at),
            state: MessageState::Received,
            reason: None,
            answers: None,
            via: None,
            traceparent: None,
        }
    }
}

/// What a parcel's sender says of its file: nothing of it is verified.
pub(in crate::engine) fn parcel_file(parcel: &Parcel) -> File {
    File {
        name: safe_file_name(&parcel.name),
        size: parcel.file_size().unwrap_or_default(),
        mime: parcel.mime.clone(),
        sha256: parcel.plain.unwrap_or_default().to_string(),
        path: None,
    }
}
