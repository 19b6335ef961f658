//! How much the disk takes. The database is on the same one, and must be able to go on when a file has come.

use std::io;
use std::path::Path;

/// What files leave free at most. The database's log grows by a few megabytes.
const RESERVE: u64 = 256 << 20;
/// What they leave free of a small disk: one part in so many.
const RESERVE_PART: u64 = 20;

/// Bytes that files may still take on the disk of this path, or of the folder that it will be in.
///
/// # Errors
/// What the disk says.
pub(super) fn room(path: &Path) -> io::Result<u64> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    let disk = rustix::fs::statvfs(there)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let whole = disk.f_blocks.saturating_mul(disk.f_frsize);
    Ok(free.saturating_sub(RESERVE.min(whole / RESERVE_PART)))
}

/// Refuses what does not fit, before any of it is written.
///
/// # Errors
/// `StorageFull`, or what the disk says.
pub(super) fn check_room(path: &Path, size: u64) -> io::Result<()> {
    if room(path)? < size { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_than_the_disk_does_not_fit_and_nothing_is_made_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/there/yet");
        assert_eq!(check_room(&path, u64::MAX).unwrap_err().kind(), io::ErrorKind::StorageFull);
        check_room(&path, 0).unwrap();
        assert!(!path.exists());
    }
}
