//! Files that hold a secret: read only if they are their user's alone, as ssh does it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::forbid_core_dumps;
use crate::api::{Error, ErrorKind};
use crate::proto::{SecretText, wipe};

/// Rights that nobody but the owner may have.
const OTHERS: u32 = 0o077;
/// More than any spelling of a key or a password takes.
const SECRET_LIMIT: u64 = 4 * 1024;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotPrivate {
    /// It belongs to another user.
    #[error("it belongs to another user")]
    Foreign,
    /// Others have rights to it.
    #[error("others may read it")]
    Open,
    /// A folder, a pipe, a device.
    #[error("it is not a regular file")]
    NotRegular,
    /// Larger than what it should hold.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    /// What the file system says.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a file that must be its user's alone, and forbids core dumps first. The bytes are the caller's to wipe.
///
/// Opens without waiting for the writer of a pipe, and asks about the open file, not about its name. A link is
/// followed: what it leads to is checked all the same.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, NotPrivate> {
    forbid_core_dumps();
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)?;
    let file = File::from(file);
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(NotPrivate::NotRegular);
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(NotPrivate::Foreign);
    }
    if about.mode() & OTHERS != 0 {
        return Err(NotPrivate::Open);
    }
    // Of full size from the start: growing would leave copies of the secret behind.
    let mut bytes = Vec::with_capacity(limit as usize + 1);
    let got = file.take(limit + 1).read_to_end(&mut bytes);
    match got {
        Ok(_) if bytes.len() as u64 <= limit => Ok(bytes),
        other => {
            wipe(&mut bytes);
            Err(other.map_or_else(NotPrivate::Io, |_| NotPrivate::TooLarge(limit)))
        }
    }
}

/// Reads a secret that the user names a file for: a key, a password. It comes as it is, with its last end of line.
///
/// # Errors
/// `file-not-found`, `unsafe-identity` if others may read it, `invalid-value`; all name the file.
pub fn read_secret(path: &Path) -> Result<SecretText, Error> {
    let place = path.display();
    let bytes = read(path, SECRET_LIMIT).map_err(|error| match error {
        NotPrivate::Foreign => Error::new(
            ErrorKind::UnsafeIdentity,
            format!("{place} belongs to another user"),
            "a secret is for one user: make a file of your own",
        ),
        NotPrivate::Open => Error::new(
            ErrorKind::UnsafeIdentity,
            format!("others may read {place}, and it is to hold a secret"),
            format!("chmod 600 {place}"),
        ),
        NotPrivate::Io(error) => Error::new(
            ErrorKind::FileNotFound,
            format!("{place} cannot be read: {error}"),
            "name a file that is there",
        ),
        other => Error::new(ErrorKind::InvalidValue, format!("{place}: {other}"), "name the right file"),
    })?;
    String::from_utf8(bytes).map(SecretText::new).map_err(|error| {
        wipe(&mut error.into_bytes());
        Error::new(ErrorKind::InvalidValue, format!("{place} is not text"), "name the right file")
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_read_only_from_a_file_of_its_users_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let kind = |path: &Path| read_secret(path).err().map(|error| error.kind);
        assert_eq!(kind(&path), Some(ErrorKind::FileNotFound));
        assert_eq!(kind(folder.path()), Some(ErrorKind::InvalidValue));
        fs::write(&path, "é\n").unwrap();
        for mode in [0o640, 0o604, 0o644, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(kind(&path), Some(ErrorKind::UnsafeIdentity), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(read_secret(&path).unwrap().expose(), "é\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for (bytes, why) in [(vec![0xff], "is not text"), (vec![b'x'; 5_000], "more than 4096 bytes")] {
            fs::write(&path, bytes).unwrap();
            let error = read_secret(&path).err().unwrap();
            assert!(error.kind == ErrorKind::InvalidValue && error.message.contains(why), "{error}");
        }
    }
}
