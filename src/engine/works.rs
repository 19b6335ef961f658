//! What takes long and needs the disk: copies of files of ours, and the check of those of peers. It is done in pieces on
//! threads of its own; the engine's thread begins it and is told the result.
//!
//! ```text
//!   send-file ──► copied, hashed, looked through ──► Worked::Staged ──► the command is asked again
//!   last chunk ─► Effect::Keep ──► hash compared, named ─────► Worked::Kept ────► shown, the peer is told
//! ```
//!
//! A result that nobody waits for any more is cleared away. A crash loses the work and nothing else: a copy without a
//! message is swept away at the next start, and a file of a peer is checked again, since its row is still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;

use super::core::Core;
use super::files::{self, NotKept};
use super::staging::{Copied, Job, Staging};
use crate::api::{Error, File};
use crate::home::Home;
use crate::proto::Millis;
use crate::store::{self, StoredTransfer};

/// Works done at a time: more would only share the disk.
const AT_ONCE: usize = 2;
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
        let (over, staging) = (Over::default(), Staging::default());
        (Self { home: home.clone(), turn, results, over, staging }, inputs)
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
        }
    }
}
