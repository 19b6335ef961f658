//! The write-ahead log has its full size before messages come: a commit that makes a file longer waits for the file
//! system's journal too (measured: 30 % of a message's time).
//!
//! Zeros are appended to the file, beside SQLite and without asking it: to SQLite, what follows its last frame is the end
//! of the log whatever it says, and is overwritten by what comes. An append is one with finding the end of the file, so
//! none of SQLite's own writes is hit. A thread does it, after the first commit: whoever waits for a start waits for
//! neither the 4 MiB nor their sync.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::thread::JoinHandle;

use super::{LOG, PAGE};

/// Of the file: its header, and of each page a header and the page.
const FULL_SIZE: u64 = 32 + (24 + PAGE as u64) * (LOG / PAGE) as u64;

/// How far that is.
#[derive(Debug)]
pub(super) enum Log {
    /// As it was opened.
    Short,
    /// On its way, or there. `None`: it cannot be.
    Grown(Option<JoinHandle<()>>),
}

impl Log {
    /// Begins to bring the log of a database to its full size, once.
    pub(super) fn grow(&mut self, database: &Path) {
        if matches!(self, Self::Grown(_)) {
            return;
        }
        let path = super::recover::with_suffix(database, "-wal");
        let grow = move || append(&path).unwrap_or_else(|error| told(&error));
        let thread = std::thread::Builder::new().name("p2p-log".into()).spawn(grow);
        *self = Self::Grown(thread.inspect_err(told).ok());
    }

    /// Waits until it is over.
    pub(super) fn join(&mut self) {
        if let Self::Grown(thread) = self
            && let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that makes the log longer had panicked");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.join();
    }
}

/// A wish: on a full disk it grows when there is room.
fn told(error: &io::Error) {
    tracing::debug!(%error, "the log is not grown");
}

fn append(path: &Path) -> io::Result<()> {
    // Not created: where it is gone, the database was closed.
    let mut log = OpenOptions::new().append(true).open(path)?;
    let missing = FULL_SIZE.saturating_sub(log.metadata()?.len());
    // One write: if it comes out shorter, there is no room for more.
    let _ = log.write(&vec![0; missing as usize])?;
    log.sync_data()
}
