//! What takes long and needs the disk: copies of files of ours, and the check of those of peers. It is done in pieces on
//! threads of its own; the engine's thread begins it and is told the result.
//!
//! ```text
//!   send-file ──► copied, hashed, looked through ──► Worked::Staged ──► the command is asked again
//!   last chunk ─► Effect::Keep ──► hash compared, named ─────► Worked::Kept ────► shown, the peer is told
//!   parcel ─────► Effect::Carry ─► uploaded, or fetched ─────► Worked::Carried ─► its letter leaves, or it is shown
//! ```
//!
//! A result that nobody waits for any more is cleared away. A crash loses the work and nothing else: a copy without a
//! message is swept away at the next start, and a file of a peer is checked again, since its row is still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::core::Core;
use super::files::{self, NotKept};
use super::parcels::{self, Carried, Means};
use super::staging::{Copied, Job, Staging};
use crate::api::{Error, File};
use crate::home::Home;
use crate::proto::Millis;
use crate::store::{self, StoredParcel, StoredTransfer};
use crate::transport::blossom::{Blossom, Trouble};

/// Works done at a time: more would only share the disk.
const AT_ONCE: usize = 2;
/// Files that go up, and files that come down, by a server of blobs at a time: each is in memory.
const PARCELS_AT_ONCE: usize = 2;
/// Results that wait for the engine.
const RESULTS: usize = 16;
/// Pause before a file is tried again for which the system lacked something: a descriptor, a block.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How often it is tried: for a minute.
const TRIES: u32 = 30;

/// A file of a peer, all of whose bytes are here.
#[derive(Debug, Clone)]
pub(super) struct Keeping {
    /// As its row is.
    pub(super) transfer: StoredTransfer,
    /// The SHA-256 of what came, if it was followed from the first byte on.
    pub(super) sha256: Option<[u8; 32]>,
}

/// What was done.
pub(super) enum Worked {
    /// The copy of the file that this request asked to send.
    Staged(u64, Result<Copied, Error>),
    /// The file of a peer.
    Kept(Keeping, Result<File, NotKept>),
    /// The file that goes by a server of blobs.
    Carried(Box<StoredParcel>, Result<Carried, Trouble>),
}

/// Tells a work that nobody wants its result any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Over(Arc<AtomicBool>);

impl Over {
    pub(super) fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How works are begun. Dropping it ends those under way at their next piece.
pub(super) struct Works {
    home: Home,
    turn: Arc<Semaphore>,
    /// To go up, and to come down.
    parcel_turns: [Arc<Semaphore>; 2],
    /// What servers of blobs have said.
    pub(super) blossom: Arc<Blossom>,
    results: mpsc::Sender<Worked>,
    over: Over,
    /// Copies that are being made, or whose requests have not been asked again.
    pub(super) staging: Staging,
}

impl Works {
    /// Nothing to do, and the channel by which results come.
    pub(super) fn new(home: &Home) -> (Self, mpsc::Receiver<Worked>) {
        let (results, inputs) = mpsc::channel(RESULTS);
        let turn = Arc::new(Semaphore::new(AT_ONCE));
        let parcel_turns = [(); 2].map(|()| Arc::new(Semaphore::new(PARCELS_AT_ONCE)));
        let (over, staging, blossom) = (Over::default(), Staging::default(), Arc::default());
        (Self { home: home.clone(), turn, parcel_turns, blossom, results, over, staging }, inputs)
    }

    /// Makes the copy of a file of ours, when it is its turn.
    pub(super) fn stage(&self, request: u64, job: Job) {
        let (turn, results) = (self.turn.clone(), self.results.clone());
        tokio::spawn(async move {
            // It is never closed.
            let _turn = turn.acquire_owned().await;
            let copied = spawn_blocking(move || job.run()).await;
            let copied = copied.unwrap_or_else(|error| Err(Error::internal(error)));
            // An error means that the engine is gone.
            _ = results.send(Worked::Staged(request, copied)).await;
        });
    }

    /// Brings a file of ours to a server of blobs, or fetches one of a peer, when it is its turn.
    pub(super) fn carry(&self, it: StoredParcel, mut means: Means) {
        let turn = self.parcel_turns[usize::from(it.outgoing)].clone();
        let (results, home, blossom, over) =
            (self.results.clone(), self.home.clone(), self.blossom.clone(), self.over.clone());
        let asked_at = Instant::now();
        tokio::spawn(async move {
            // It is never closed.
            let _turn = turn.acquire_owned().await;
            means.now += asked_at.elapsed().as_secs();
            let job = it.clone();
            let carried = spawn_blocking(move || match job.outgoing {
                true => parcels::bring(&home, &job, &blossom, &means),
                false => parcels::fetch(&home, &job, &means, &over),
            });
            let carried = carried.await.unwrap_or_else(|error| Err(Trouble::Passing(error.to_string())));
            // An error means that the engine is gone.
            _ = results.send(Worked::Carried(Box::new(it), carried)).await;
        });
    }

    /// Checks a file of a peer and gives it its name.
    pub(super) fn keep(&self, keeping: Keeping) {
        let (turn, results, home, over) =
            (self.turn.clone(), self.results.clone(), self.home.clone(), self.over.clone());
        tokio::spawn(async move {
            let mut tries = 0;
            let kept = loop {
                tries += 1;
                let turn = turn.clone().acquire_owned().await;
                let (home, keeping, over) = (home.clone(), keeping.clone(), over.clone());
                let kept = spawn_blocking(move || files::keep(&home, &keeping, &over)).await;
                drop(turn);
                match kept.unwrap_or_else(|error| Err(NotKept::Disk(error.to_string()))) {
                    Err(NotKept::Disk(why)) if tries < TRIES => {
                        tracing::debug!(why, "a file of a peer cannot be kept yet");
                        tokio::time::sleep(AGAIN_AFTER).await;
                    }
                    kept => break kept,
                }
            };
            // An error means that the engine is gone.
            _ = results.send(Worked::Kept(keeping, kept)).await;
        });
    }
}

impl Drop for Works {
    fn drop(&mut self) {
        self.over.tell();
    }
}

impl Core {
    pub(super) fn handle_worked(&mut self, worked: Worked, now: Millis) -> Result<(), store::Error> {
        match worked {
            Worked::Staged(request, copied) => {
                self.handle_staged(request, copied);
                Ok(())
            }
            Worked::Kept(keeping, kept) => self.handle_kept(&keeping.transfer, kept, now),
            Worked::Carried(it, carried) => self.handle_carried(&it, carried, now),
        }
    }
}
