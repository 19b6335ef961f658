//! What can go wrong with a home after it was opened: room on its disk, and rights that somebody has given away.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Home, write_atomically};
use crate::api::{Error, ErrorKind};

/// Rights that nobody but the owner may have.
const OTHERS: u32 = 0o077;
/// How deep folders are looked into: files lie in `files/<call>/<name>`.
const DEPTH: usize = 3;
/// Most entries looked at: a glance, not an inventory.
const MOST_ENTRIES: usize = 10_000;
/// What is written to see whether anything can be: a block of most file systems, which an inode does not swallow.
const PROBE: [u8; 4_096] = [0; 4_096];

impl Home {
    /// Bytes that this user may still write on the disk of the home, seen by writing some.
    ///
    /// # Errors
    /// `disk-full`; `unsafe-home` if nothing can be written for another reason.
    pub fn room(&self) -> Result<u64, Error> {
        let probe = self.state().join("probe");
        let written = write_atomically(&probe, &PROBE).and_then(|()| fs::remove_file(&probe));
        let place = self.path().display();
        written.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::new(
                ErrorKind::DiskFull,
                format!("no space left for {place}"),
                format!("free some space on its disk: df -h {place}"),
            ),
            _ => Error::new(
                ErrorKind::UnsafeHome,
                format!("nothing can be written to {place}: {error}"),
                "make its disk writable again, or use another home: --home DIR",
            ),
        })?;
        let about =
            rustix::fs::statvfs(self.path()).map_err(|error| Error::internal(io::Error::from(error)))?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize))
    }

    /// What in the home others have rights to, the private folder aside, which is closed whenever it is opened.
    pub fn given_away(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut left = MOST_ENTRIES;
        look_into(&self.state(), DEPTH, &mut left, &mut found);
        found
    }
}

fn look_into(folder: &Path, depth: usize, left: &mut usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        // Of the link itself, which has no rights of its own.
        let Ok(about) = entry.metadata() else { continue };
        let kind = about.file_type();
        // The socket's rights are a question of their own.
        if !kind.is_symlink() && !kind.is_socket() && about.mode() & OTHERS != 0 {
            found.push(entry.path());
        }
        if kind.is_dir() && depth > 1 {
            look_into(&entry.path(), depth - 1, left, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn room_is_measured_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        assert!(home.room().unwrap() > 0);
        assert_eq!(fs::read_dir(home.state()).unwrap().count(), 0);
    }

    #[test]
    fn what_others_may_read_is_found_wherever_it_lies_and_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        let received = home.files().join("call");
        fs::create_dir_all(&received).unwrap();
        for (path, mode) in [(home.files(), 0o700), (received.clone(), 0o700)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("/", home.state().join("link")).unwrap();
        assert_eq!(home.given_away(), [""; 0].map(PathBuf::from));
        for (path, mode) in [(home.database(), 0o640), (received.join("file"), 0o604), (home.log(), 0o600)] {
            fs::write(&path, "").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut found = home.given_away();
        found.sort();
        assert_eq!(found, [received.join("file"), home.database()]);
    }
}
