//! Who runs the engine of a home, and who is starting a daemon for it.
//!
//! Both locks are the operating system's (`flock`): they end with the process that holds them, however it ends, and a
//! file that is left over means nothing. What the holder writes into `daemon.lock` is for people and for clients that
//! look for its socket; it proves nothing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Home;
use crate::api::{Error, ErrorKind};

/// More than a process id and a path of 4 KiB, the longest that Linux takes.
const HOLDER_LIMIT: u64 = 8 * 1024;

/// What the process that holds a home's lock says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its socket.
    #[serde(default)]
    pub socket: Option<PathBuf>,
}

/// The right to run the engine of a home. Ends when dropped, or with the process.
#[derive(Debug)]
pub struct HomeLock {
    file: File,
    home: Home,
}

/// The right to start a daemon for a home, so that ten commands at once start one. Ends when dropped.
#[derive(Debug)]
pub struct StartLock {
    _file: File,
}

impl Home {
    /// Takes the right to run the engine; `None` if another process has it.
    ///
    /// # Errors
    /// `unsafe-home` if the lock file cannot be used.
    pub fn lock(&self) -> Result<Option<HomeLock>, Error> {
        let Some(file) = try_lock(&self.lock_path())? else { return Ok(None) };
        let mut lock = HomeLock { file, home: self.clone() };
        lock.record(&Holder { pid: std::process::id(), socket: None });
        Ok(Some(lock))
    }

    /// Takes the right to start a daemon; `None` while another process has it.
    ///
    /// # Errors
    /// `unsafe-home` if the lock file cannot be used.
    pub fn start_lock(&self) -> Result<Option<StartLock>, Error> {
        Ok(try_lock(&self.state().join("start.lock"))?.map(|file| StartLock { _file: file }))
    }

    /// What the last process that held the lock said about itself; it may be long gone.
    pub fn holder(&self) -> Option<Holder> {
        let mut text = Vec::new();
        File::open(self.lock_path()).ok()?.take(HOLDER_LIMIT).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn lock_path(&self) -> PathBuf {
        self.state().join("daemon.lock")
    }
}

impl HomeLock {
    /// The home that is locked.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Listens on the home's socket, mode 0600. A socket that an earlier holder left is replaced: nobody serves it,
    /// because the lock is ours.
    ///
    /// # Errors
    /// `unsafe-home` if the socket cannot be made.
    pub fn bind(&mut self) -> Result<UnixListener, Error> {
        let path = self.home.socket_to_bind()?;
        let listener = listen(&path).map_err(|error| {
            Error::new(
                ErrorKind::UnsafeHome,
                format!("the socket {} cannot be made: {error}", path.display()),
                "move what is there away, or use another home: --home DIR",
            )
        })?;
        self.record(&Holder { pid: std::process::id(), socket: Some(path) });
        Ok(listener)
    }

    /// Removes the socket, so that later clients see at once that nobody is there.
    pub fn unbind(&mut self) {
        if let Some(path) = self.home.holder().and_then(|holder| holder.socket) {
            // Left over, it harms nobody: the next holder replaces it.
            let _ = fs::remove_file(path);
        }
        // The file stays, empty: removing it would let two processes lock two files of one name.
        let _ = self.file.set_len(0);
    }

    fn record(&mut self, holder: &Holder) {
        // Only a note: a home whose disk is full can still be locked.
        let _ = (|| {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(serde_json::to_string(holder)?.as_bytes())
        })();
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // Its folder is closed to others, so nobody connects in between.
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn try_lock(path: &Path) -> Result<Option<File>, Error> {
    let failed = |error: io::Error| {
        Error::new(
            ErrorKind::UnsafeHome,
            format!("{} cannot be locked: {error}", path.display()),
            "use a home on a file system with locks: --home DIR",
        )
    };
    // Never truncated on opening: the holder's note is not ours until the lock is.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        (folder, home)
    }

    #[test]
    fn a_home_has_one_holder_at_a_time() {
        let (_folder, home) = home();
        let lock = home.lock().unwrap().unwrap();
        assert!(home.lock().unwrap().is_none());
        assert_eq!(home.holder().unwrap().pid, std::process::id());
        drop(lock);
        assert!(home.lock().unwrap().is_some());
    }

    #[test]
    fn the_holder_replaces_a_stale_socket_and_removes_its_own() {
        let (_folder, home) = home();
        fs::write(home.state().join("daemon.sock"), "left over").unwrap();
        let mut lock = home.lock().unwrap().unwrap();
        let _listener = lock.bind().unwrap();
        let socket = home.socket().unwrap();
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(home.holder().unwrap().socket.as_deref(), Some(socket.as_path()));
        lock.unbind();
        assert!(!socket.exists());
        assert_eq!(home.holder(), None);
    }
}
