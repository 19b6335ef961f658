//! Folders that other users cannot tamper with, and files that are there whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::Mode;

use crate::api::{Error, ErrorKind};

/// May others write?
const OTHERS_WRITE: u32 = 0o022;
/// May others do anything?
const OTHERS: u32 = 0o077;

/// From here on, whatever this process creates is its user's alone.
pub fn restrict_new_files() {
    rustix::process::umask(Mode::from_raw_mode(0o077));
}

/// Makes the home folder if it is missing, and refuses one that others could tamper with.
pub(super) fn prepare(path: &Path) -> Result<PathBuf, Error> {
    let create = || DirBuilder::new().recursive(true).mode(0o700).create(path);
    let canonical = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create().and_then(|()| fs::canonicalize(path))
        }
        other => other,
    };
    let path = canonical.map_err(|error| unusable(path, &error))?;
    let about = fs::metadata(&path).map_err(|error| unusable(&path, &error))?;
    if !about.is_dir() {
        return Err(unsafe_home(format!("{} is not a folder", path.display()), "name a folder: --home DIR"));
    }
    check_owner(&path, &about)?;
    Ok(path)
}

/// Makes a folder of ours alone if it is missing. One that others may merely read is closed to them.
pub(super) fn prepare_private(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(path, &error)),
        Ok(()) | Err(_) => {}
    }
    let about = fs::symlink_metadata(path).map_err(|error| unusable(path, &error))?;
    if !about.is_dir() {
        return Err(unsafe_home(
            format!("{} is not a folder of its own", path.display()),
            "look at what it is, and move it away",
        ));
    }
    check_owner(path, &about)?;
    if about.mode() & OTHERS != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(|error| unusable(path, &error))?;
    }
    Ok(())
}

fn check_owner(path: &Path, about: &fs::Metadata) -> Result<(), Error> {
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(unsafe_home(
            format!("{} belongs to another user", path.display()),
            "use a home of your own: --home DIR",
        ));
    }
    if about.mode() & OTHERS_WRITE != 0 {
        return Err(unsafe_home(
            format!("others may write to {}", path.display()),
            format!("look at what is in it, then: chmod go-w {}", path.display()),
        ));
    }
    Ok(())
}

fn unsafe_home(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnsafeHome, message, hint)
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::new(
            ErrorKind::DiskFull,
            format!("no space left for {}", path.display()),
            "free some space, then run the command again",
        ),
        _ => unsafe_home(
            format!("{} cannot be used: {error}", path.display()),
            "name a folder that you can write to: --home DIR",
        ),
    }
}

/// Writes a file of ours alone so that a crash, or a reader at the same time, sees the old bytes or the new ones.
///
/// # Errors
/// Whatever the file system says; the old file is then still there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = Temporary::write(path, bytes)?;
    fs::rename(&temporary.path, path)?;
    sync_parent(path)
}

/// The error of a file or folder that could not be written: of `kind` with its `hint`, unless the disk is full.
pub fn not_written(path: &Path, error: &io::Error, kind: ErrorKind, hint: &str) -> Error {
    let message = format!("{} cannot be written: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(ErrorKind::DiskFull, message, "free some space, then run the command again")
        }
        _ => Error::new(kind, message, hint),
    }
}

/// As [`not_written`], of a file of the home, whose old content still stands.
pub(super) fn unwritable(path: &Path, error: &io::Error) -> Error {
    not_written(
        path,
        error,
        ErrorKind::UnsafeHome,
        "nothing was changed: see to the disk, then run the command again",
    )
}

/// Like [`write_atomically`], but an existing file stays as it is, however many processes try at once.
///
/// # Errors
/// `AlreadyExists` if there is a file, or whatever the file system says.
pub(super) fn create_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = Temporary::write(path, bytes)?;
    // Unlike a rename, a link never replaces anything.
    fs::hard_link(&temporary.path, path)?;
    drop(temporary);
    sync_parent(path)
}

/// Writes a new file of ours alone, wherever the user wants it: in one go, because the links that
/// [`create_atomically`] needs are not to be had on every memory stick.
///
/// # Errors
/// `AlreadyExists` if anything has this name, a link too; or whatever the file system says, and then no file is left.
pub fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // What is left over then is a piece of what the user asked for, in a file of its own.
        let _ = fs::remove_file(path);
    }
    written.and_then(|()| sync_parent(path))
}

/// Removes what crashes left of earlier writes of a file: it may hold a secret. For who alone may write it now.
pub(super) fn clear_leftovers(target: &Path) {
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else { return };
    let begin = format!(".{}.", name.to_string_lossy());
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let numbers = name.to_str().and_then(|name| name.strip_prefix(&begin)?.split_once('.'));
        if numbers.is_some_and(|(process, write)| is_number(process) && is_number(write)) {
            // What stays harms nobody but tidiness.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        // A bare name is one in the current folder.
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Ok(()),
    };
    File::open(folder)?.sync_all()
}

/// A file that is not yet under its name; removed when dropped.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn write(target: &Path, bytes: &[u8]) -> io::Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.{}.{number}", std::process::id()));
        // A crash may have left one by a process that had our number.
        fs::remove_file(&path)
            .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let temporary = Self { path };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; otherwise a leftover harms nobody but tidiness.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_replaces_nothing_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        create_private(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        for taken in [&path, &link] {
            assert_eq!(create_private(taken, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert!(!folder.path().join("elsewhere").exists());
    }

    #[test]
    fn of_many_creators_one_wins_and_the_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let wins = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8u8)
                .map(|writer| (writer, &path))
                .map(|(writer, path)| {
                    scope.spawn(move || create_atomically(path, &[writer]).map(|()| writer))
                })
                .collect();
            tries.into_iter().filter_map(|handle| handle.join().unwrap().ok()).collect::<Vec<_>>()
        });
        assert_eq!(wins.len(), 1);
        assert_eq!(fs::read(&path).unwrap(), wins);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
