//! Rows that tell when they are no longer what was written.
//!
//! SQLite's own check looks at its trees, not at what stands in them: of the bits that flip on a disk, or in a page that
//! was written half, it misses most. So whatever is shown to anybody, said to a peer or decides whom we trust has a hash
//! of its content beside it, and a row that does not agree with its hash is passed over, with a line in the log. Rows of
//! before the hash was there have none, and are believed. What was on its way in a damaged row goes another way at the
//! next start, or its sender is told.

use rusqlite::Row;
use sha2::{Digest, Sha256};

use crate::proto::Hex;

/// What a row is told by.
pub(super) type Mark = Hex<16>;

/// A row's content on its way to its mark: each field with its length before it.
pub(super) struct Content(Sha256);

impl Content {
    pub(super) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(super) fn field(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.field(number.to_be_bytes())
    }

    /// Nothing counts as empty.
    pub(super) fn optional<T: AsRef<[u8]>>(self, bytes: Option<T>) -> Self {
        match bytes {
            Some(bytes) => self.field(bytes),
            None => self.field([]),
        }
    }

    /// A list, with its length before it.
    pub(super) fn list<T: AsRef<[u8]>>(self, items: &[T]) -> Self {
        items.iter().fold(self.number(items.len() as u64), Self::field)
    }

    pub(super) fn mark(self) -> Mark {
        let digest: [u8; 32] = self.0.finalize().into();
        let mut mark = Hex([0; 16]);
        mark.0.copy_from_slice(&digest[..16]);
        mark
    }
}

/// A row, if it is what was written; `place` is the column of its mark.
pub(super) fn read<T>(
    row: &Row<'_>,
    place: usize,
    what: &'static str,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    mark: impl FnOnce(&T) -> Mark,
) -> Option<T> {
    let found = match (row.get::<_, Option<Mark>>(place), read(row)) {
        (Ok(written), Ok(found)) => {
            let intact = written.is_none_or(|written| written == mark(&found));
            intact.then_some(found)
        }
        // No value of this column was ever written.
        _ => None,
    };
    if found.is_none() {
        tracing::warn!(what, "a row of the database is damaged, and passed over");
    }
    found
}
