//! L1, the folder of one agent: where everything of it lives, who may touch it, and what it is set to.
//!
//! ```text
//! <home>/p2p-identity.json                  the key                                      identity
//! <home>/p2p-comm/                          0700; everything in it 0600
//!     config.toml                           settings                                     settings
//!     hooks.json                            programs to run when something happens          hooks
//!     wakes/                                what sessions of Claude Code were woken for
//!     earlier-keys/                         keys that were replaced                      identity
//!     state.db                              what the store keeps
//!     daemon.lock  start.lock               who runs the engine; who starts a daemon     lock
//!     daemon.sock  daemon.log  files/       the daemon's
//! ```
//!
//! `health` looks at what can go wrong with it later: room on the disk, rights that were given away.
//!
//! # Invariants
//!
//! * A [`Home`] was checked: nobody else owns the folder or may write to it, so no other user can plant a file, a link
//!   or a socket in it.
//! * Two spellings of one folder are one home: the path is canonical.
//! * A process that opens the key leaves no core dump: reading it forbids that first.
//! * The process that holds [`HomeLock`] is the only one that runs an engine here. What only that process may do, such
//!   as removing a stale socket, is a method of the lock.

mod dumps;
mod folder;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod health;
pub mod hooks;
pub mod identity;
mod lock;
mod private;
pub mod settings;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use self::dumps::forbid_core_dumps;
pub use self::folder::{create_private, not_written, restrict_new_files, write_atomically};
pub use self::lock::{Holder, HomeLock, StartLock};
pub use self::private::read_secret;
pub use self::settings::Settings;
use crate::api::{Error, ErrorKind};

/// The variables that name the home; the second is the one of the deployed agents, and means the same folder.
const VARIABLES: [&str; 2] = ["P2P_COMM_HOME", "P2P_IDENTITY_PATH"];
/// The home of the deployed agents, in the user's own folder.
const DEFAULT: &str = ".openclaw";
/// A socket's path has at most 104 bytes on macOS and 108 on Linux, with the final zero.
const SOCKET_PATH_LIMIT: usize = 100;

/// The folder of one agent, checked and ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// Opens the home that `path` names, or else the environment, or else `~/.openclaw`; makes what is missing.
    ///
    /// # Errors
    /// `unsafe-home` if others own it or may write to it, or if it cannot be used as a folder.
    pub fn open(path: Option<&Path>) -> Result<Self, Error> {
        let path = match path {
            Some(path) => path.to_path_buf(),
            None => from_environment(|name| env::var_os(name))?,
        };
        let home = Self { path: folder::prepare(&path)? };
        folder::prepare_private(&home.state())?;
        Ok(home)
    }

    /// The folder itself, as the file system spells it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key.
    pub fn identity(&self) -> PathBuf {
        self.path.join("p2p-identity.json")
    }

    /// Keys that this agent has replaced, one file each.
    pub fn earlier_keys(&self) -> PathBuf {
        self.state().join("earlier-keys")
    }

    /// The private folder in which everything but the key lives.
    pub fn state(&self) -> PathBuf {
        self.path.join("p2p-comm")
    }

    /// The settings.
    pub fn config(&self) -> PathBuf {
        self.state().join("config.toml")
    }

    /// The name of the daemon's service: `p2p-comm` for the usual home, with a number of its own for each other.
    pub fn service(&self) -> String {
        if self.is_usual() {
            return "p2p-comm".to_owned();
        }
        let hash = fnv1a(self.path.as_os_str().as_encoded_bytes());
        format!("p2p-comm-{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
    }

    /// Whether it is the one that is meant where nobody names one.
    pub fn is_usual(&self) -> bool {
        let usual = env::home_dir().and_then(|user| user.join(DEFAULT).canonicalize().ok());
        usual.as_ref() == Some(&self.path)
    }

    /// Which programs run when something happens.
    pub fn hooks(&self) -> PathBuf {
        self.state().join("hooks.json")
    }

    /// Where it is remembered who was woken for what; made if it is not there.
    ///
    /// # Errors
    /// `unsafe-home` if it cannot be used.
    pub fn wakes(&self) -> Result<PathBuf, Error> {
        let folder = self.state().join("wakes");
        folder::prepare_private(&folder)?;
        Ok(folder)
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.state().join("state.db")
    }

    /// Received files, one folder a call.
    pub fn files(&self) -> PathBuf {
        self.state().join("files")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.state().join("daemon.log")
    }

    /// The daemon's socket. A home whose path is too long for a socket has it in the run-time folder: then it is
    /// where the daemon said when it took the lock, because two shells may see different run-time folders.
    ///
    /// # Errors
    /// `unsafe-home` if the run-time folder cannot be used.
    pub fn socket(&self) -> Result<PathBuf, Error> {
        let inside = self.state().join("daemon.sock");
        if fits_a_socket(&inside) {
            return Ok(inside);
        }
        match self.holder().and_then(|holder| holder.socket) {
            Some(recorded) => Ok(recorded),
            None => self.socket_to_bind(),
        }
    }

    /// Where a daemon that starts now puts its socket.
    fn socket_to_bind(&self) -> Result<PathBuf, Error> {
        let inside = self.state().join("daemon.sock");
        if fits_a_socket(&inside) {
            return Ok(inside);
        }
        let run_time = env::var_os("XDG_RUNTIME_DIR").filter(|folder| Path::new(folder).is_absolute());
        let user = rustix::process::geteuid().as_raw();
        let name = format!("p2p-comm-{user}/{:016x}.sock", fnv1a(self.path.as_os_str().as_encoded_bytes()));
        let candidates = [run_time.map(PathBuf::from), Some(env::temp_dir()), Some(PathBuf::from("/tmp"))];
        let Some(path) = candidates
            .into_iter()
            .flatten()
            .map(|folder| folder.join(&name))
            .find(|path| fits_a_socket(path))
        else {
            return Err(Error::new(
                ErrorKind::UnsafeHome,
                format!("no folder with a path short enough for the socket of {}", self.path.display()),
                "use a home with a shorter path: --home DIR",
            ));
        };
        if let Some(folder) = path.parent() {
            folder::prepare_private(folder)?;
        }
        Ok(path)
    }
}

/// The home that the environment names.
fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Error> {
    if let Some(path) = VARIABLES.iter().filter_map(|name| variable(name)).find(|value| !value.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    match env::home_dir() {
        Some(user) if user.is_absolute() => Ok(user.join(DEFAULT)),
        _ => Err(Error::new(
            ErrorKind::UnsafeHome,
            "this user has no home folder, so there is no ~/.openclaw",
            "name one: --home DIR, or P2P_COMM_HOME",
        )),
    }
}

fn fits_a_socket(path: &Path) -> bool {
    path.as_os_str().len() <= SOCKET_PATH_LIMIT
}

/// The 64-bit FNV-1a hash: the same in every version of this program, which std's hashers do not promise. A clash of
/// two homes of one user is noticed: `hello` names the home.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_missing_home_is_made_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("a/b"))).unwrap();
        assert_eq!(mode(home.path()), 0o700);
        assert_eq!(mode(&home.state()), 0o700);
    }

    #[test]
    fn an_existing_home_keeps_its_mode_and_its_other_spelling_is_the_same_home() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        symlink(&path, folder.path().join("alias")).unwrap();
        let home = Home::open(Some(&path)).unwrap();
        assert_eq!(mode(&path), 0o755);
        assert_eq!(Home::open(Some(&folder.path().join("alias"))).unwrap(), home);
    }

    #[test]
    fn a_home_that_others_may_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o770, 0o707, 0o777, 0o1777] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Home::open(Some(folder.path())).unwrap_err().kind, ErrorKind::UnsafeHome, "{mode:o}");
        }
    }

    #[test]
    fn a_private_folder_that_is_a_link_or_open_to_writers_is_refused_and_one_open_to_readers_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("p2p-comm");
        symlink("/", &state).unwrap();
        assert_eq!(Home::open(Some(folder.path())).unwrap_err().kind, ErrorKind::UnsafeHome);
        fs::remove_file(&state).unwrap();
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(Home::open(Some(folder.path())).unwrap_err().kind, ErrorKind::UnsafeHome);
        fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
        Home::open(Some(folder.path())).unwrap();
        assert_eq!(mode(&state), 0o700);
    }

    #[test]
    fn the_deployed_variable_names_the_folder_unless_ours_does() {
        let pick = |set: &'static [(&str, &str)]| {
            from_environment(move |name| {
                set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
            })
            .unwrap()
        };
        assert_eq!(pick(&[("P2P_IDENTITY_PATH", "/a")]), Path::new("/a"));
        assert_eq!(pick(&[("P2P_IDENTITY_PATH", "/a"), ("P2P_COMM_HOME", "/b")]), Path::new("/b"));
        assert_eq!(pick(&[("P2P_IDENTITY_PATH", "/a"), ("P2P_COMM_HOME", "")]), Path::new("/a"));
        assert!(pick(&[]).ends_with(DEFAULT));
    }

    #[test]
    fn a_long_home_has_a_short_socket_in_a_private_folder() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("x".repeat(120)))).unwrap();
        let socket = home.socket().unwrap();
        assert!(fits_a_socket(&socket), "{}", socket.display());
        assert_eq!(mode(socket.parent().unwrap()), 0o700);
        assert_eq!(home.socket().unwrap(), socket);
    }
}
