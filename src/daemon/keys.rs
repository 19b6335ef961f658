//! The agent's key out of its home and into one, for the command line. No daemon is asked for it: its socket hands out
//! no secret, whoever asks.

use std::io;
use std::path::Path;

use crate::api::{Error, ErrorKind};
use crate::engine::keys::{self, Handed};
pub use crate::engine::keys::{Owner, Rotated, Spelling, must_be_there};
use crate::home::{self, Home, HomeLock};
use crate::proto::SecretText;

/// The key of a home as text, and whose it is.
///
/// # Errors
/// `file-not-found` if the home has none yet, and those of reading it.
pub fn export(home: &Home, spelling: &Spelling<'_>) -> Result<(Owner, SecretText), Error> {
    keys::export(home, spelling)
}

/// Writes a key into a new file, mode 0600.
///
/// # Errors
/// `invalid-value` if the file is there already or cannot be written, `disk-full`.
pub fn write(path: &Path, text: &SecretText) -> Result<(), Error> {
    home::create_private(path, text.expose().as_bytes()).map_err(|error| {
        let place = path.display();
        match error.kind() {
            io::ErrorKind::AlreadyExists => is_there_already(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::new(
                ErrorKind::DiskFull,
                format!("no space left to write {place}"),
                "free some space, or name a file elsewhere",
            ),
            _ => Error::new(
                ErrorKind::InvalidValue,
                format!("{place} cannot be written: {error}"),
                "name a file in a folder that you can write to",
            ),
        }
    })
}

/// Refuses a file that exists: to be asked before a person is asked for a password.
///
/// # Errors
/// `invalid-value`.
pub fn must_be_new(path: &Path) -> Result<(), Error> {
    if path.symlink_metadata().is_ok() { Err(is_there_already(path)) } else { Ok(()) }
}

fn is_there_already(path: &Path) -> Error {
    Error::new(
        ErrorKind::InvalidValue,
        format!("{} is there already, and is not overwritten", path.display()),
        "name a new file",
    )
}

/// Puts a new key in the place of the home's, while no daemon runs.
///
/// # Errors
/// `file-not-found`, `invalid-value` if a daemon runs, `disk-full`, `unsafe-home`.
pub fn rotate(home: &Home) -> Result<Rotated, Error> {
    keys::rotate(&lock(home)?)
}

fn lock(home: &Home) -> Result<HomeLock, Error> {
    home.lock()?.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidValue,
            "a daemon is about to begin in this home",
            "end it first: p2p-comm daemon stop; or use another home: --home DIR",
        )
    })
}

/// An import under way. While it lives no daemon starts in the home.
pub struct Import {
    lock: HomeLock,
    handed: Handed,
}

impl Import {
    /// Reads a key from a file that is its user's alone, for a home that has no identity and no daemon.
    ///
    /// # Errors
    /// `invalid-value`, `file-not-found`, `unsafe-identity`.
    pub fn begin(home: &Home, file: &Path) -> Result<Self, Error> {
        keys::must_be_vacant(home)?;
        let lock = lock(home)?;
        let handed = keys::recognise(home::read_secret(file)?.expose())?;
        Ok(Self { lock, handed })
    }

    /// Whether the key is encrypted.
    pub fn needs_password(&self) -> bool {
        matches!(self.handed, Handed::Encrypted(_))
    }

    /// Writes the identity, as the first start of a daemon would. A password that is not needed is not looked at.
    ///
    /// # Errors
    /// `invalid-value` if the password is missing or wrong, or if the home has an identity by now; `disk-full`,
    /// `unsafe-home`.
    pub fn finish(self, password: Option<&SecretText>) -> Result<Owner, Error> {
        let key = match (self.handed, password) {
            (Handed::Plain(key), _) => key,
            (Handed::Encrypted(text), Some(password)) => keys::decrypt(&text, password)?,
            (Handed::Encrypted(_), None) => {
                let hint = "name the file that holds it: --password-file FILE";
                return Err(Error::new(ErrorKind::InvalidValue, "this key needs its password", hint));
            }
        };
        keys::import(&self.lock, &key)
    }
}
