//! A service file for the daemon of a home, so that it is there after a restart of the machine and after a crash.
//!
//! ```text
//!  install:    durable? ▶ text ▶ write (new, or ours) ▶ manager there? ▶ end the daemon that runs ▶ enable and start
//!  uninstall:  ours?    ▶ stop and disable ▶ remove ▶ manager told
//! ```
//!
//! # Invariants
//!
//! * A file that somebody else wrote, or changed by hand past its first line, is neither replaced nor removed unasked: ours
//!   begin with [`MARK`].
//! * What is thrown away soon is not installed: a service would fail at the first start after that.
//! * Two homes are two services.

mod durable;
mod launchd;
mod manager;
mod systemd;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::manager::Answer;
use super::{Launcher, stop};
use crate::api::{Error, ErrorKind};
use crate::home::{Home, not_written};

/// What our files say about themselves; a comment in both formats.
const MARK: &str = "written by `p2p-comm daemon install`; `p2p-comm daemon uninstall` removes it";

/// Who starts services for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// systemd, as `systemctl --user`.
    Systemd,
    /// launchd, as LaunchAgents (macOS).
    Launchd,
}

impl Manager {
    /// The one of this system.
    pub const fn of_this_system() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }
}

/// A service as it would be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Whose file it is.
    pub manager: Manager,
    /// Its name: `p2p-comm`, or `p2p-comm-` and a number that belongs to the home.
    pub service: String,
    /// Where it goes.
    pub file: PathBuf,
    /// What is in it.
    pub text: String,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Whose file it is.
    pub manager: Manager,
    /// Its name.
    pub service: String,
    /// Where it is, or was.
    pub file: PathBuf,
    /// The file was as it is now before; for the removal: there was none.
    pub already: bool,
    /// The service runs now.
    pub active: bool,
    /// Commands that are left to a person, in their order; none if all is done.
    pub todo: Vec<String>,
}

/// What a service has to know.
struct Wanted<'a> {
    /// Program, arguments, and ours.
    words: Vec<String>,
    /// Folders in which the user's programs are found.
    path: Option<String>,
    home: &'a str,
}

/// The service file of a home.
///
/// # Errors
/// `invalid-value` if the program that runs is thrown away soon, or has a path that no service file can hold.
pub fn plan(home: &Home, launcher: &Launcher, manager: Manager) -> Result<Plan, Error> {
    durable::check(launcher)?;
    let text =
        |word: &OsString| word.to_str().filter(|text| !text.chars().any(char::is_control)).map(String::from);
    let own: Option<Vec<String>> =
        std::iter::once(&launcher.program).chain(&launcher.args).map(text).collect();
    let place = text(&home.path().as_os_str().to_owned());
    let (Some(mut words), Some(place)) = (own, place) else {
        return Err(Error::new(
            ErrorKind::InvalidValue,
            "a service file holds only UTF-8 without control characters, and a path here is something else",
            "install p2p-comm, or make the home, in a folder with a plain name",
        ));
    };
    words.extend(["daemon", "run", "--home", &place].map(String::from));
    let path = std::env::var("PATH").ok().filter(|path| !path.chars().any(char::is_control));
    let wanted = Wanted { words, path, home: &place };
    let service = home.service();
    let (file, text) = match manager {
        Manager::Systemd => (systemd::file(&service)?, systemd::text(&wanted)),
        Manager::Launchd => (launchd::file(&service)?, launchd::text(&service, &wanted)),
    };
    Ok(Plan { manager, service, file, text })
}

/// Writes the file, and has the service started now and at every log-in. Repeated, it does what is left to do.
///
/// # Errors
/// As [`plan`]; `invalid-value` if another file is in its place, and whatever keeps the daemon that runs from ending.
pub async fn install(home: &Home, launcher: &Launcher, manager: Manager) -> Result<Outcome, Error> {
    let Plan { service, file, text, .. } = plan(home, launcher, manager)?;
    let before = read_ours(&file)?;
    let already = before.as_deref() == Some(&text);
    if !already {
        write(&file, &text)?;
    }
    let mut commands = manager::to_start(manager, &service, &file);
    let mut todo = Vec::new();
    let mut active = false;
    if manager::is_there(manager).await {
        let is_active = manager::is_active(manager, &service).await;
        if is_active && already {
            commands = manager::to_keep(manager, &service);
        } else {
            // The service runs the home from now on: a daemon that a command has started makes room, and so does a
            // service of the text before.
            stop::stop(home).await?;
            if is_active {
                let (before, _) = manager::to_end(manager, &service);
                // Whatever is left of it stands in the way of the next command, which says so.
                let _: Answer = manager::carry_out(&before).await;
            }
        }
        match manager::carry_out(&commands).await {
            Answer::Done => active = true,
            Answer::Failed { left, why } => {
                tracing::debug!(%why, "the service manager refuses");
                todo = left;
            }
        }
    } else {
        todo = manager::words(&commands);
    }
    todo.extend(manager::to_outlive_log_out(manager));
    Ok(Outcome { manager, service, file, already, active, todo })
}

/// Stops the service and removes its file.
///
/// # Errors
/// `invalid-value` if the file is not ours.
pub async fn uninstall(home: &Home, manager: Manager) -> Result<Outcome, Error> {
    let service = home.service();
    let file = match manager {
        Manager::Systemd => systemd::file(&service)?,
        Manager::Launchd => launchd::file(&service)?,
    };
    let mut outcome = Outcome { manager, service, file, already: true, active: false, todo: Vec::new() };
    if read_ours(&outcome.file)?.is_none() {
        return Ok(outcome);
    }
    outcome.already = false;
    let (stop, forget) = manager::to_end(manager, &outcome.service);
    let is_there = manager::is_there(manager).await;
    if is_there && let Answer::Failed { left, .. } = manager::carry_out(&stop).await {
        outcome.todo.extend(left);
    }
    std::fs::remove_file(&outcome.file).map_err(|error| unwritable(&outcome.file, &error))?;
    if is_there && let Answer::Failed { left, .. } = manager::carry_out(&forget).await {
        outcome.todo.extend(left);
    }
    Ok(outcome)
}

/// A file of ours; nothing if there is none.
fn read_ours(file: &Path) -> Result<Option<String>, Error> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unwritable(file, &error)),
    };
    if text.lines().take(3).any(|line| line.contains(MARK)) {
        return Ok(Some(text));
    }
    let place = file.display();
    Err(Error::new(
        ErrorKind::InvalidValue,
        format!("{place} was not written by this program, and is left alone"),
        format!("look at what it is, and move it away: mv {0} {0}.old", shell(file)),
    ))
}

fn write(file: &Path, text: &str) -> Result<(), Error> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    }
    crate::home::write_atomically(file, text.as_bytes()).map_err(|error| unwritable(file, &error))
}

fn unwritable(file: &Path, error: &io::Error) -> Error {
    not_written(file, error, ErrorKind::InvalidValue, "see to its rights, then run the command again")
}

fn shell(path: &Path) -> String {
    crate::proto::text::shell_word(&path.display().to_string())
}

/// The folder of this user's settings.
fn user_folder() -> Result<PathBuf, Error> {
    std::env::home_dir().filter(|folder| folder.is_absolute()).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidValue,
            "this user has no home folder, so there is no place for a service",
            "set HOME, or start the daemon from the machine's own start-up: p2p-comm daemon run",
        )
    })
}
