//! Which programs the user wants run when something happens: `hooks.json`, for its user alone as the key is, because
//! whoever writes to it chooses what runs.

use std::fs::File;
use std::io;

use serde::{Deserialize, Serialize};

use super::folder::unwritable;
use super::private::{self, NotPrivate};
use super::{Home, write_atomically};
use crate::api::{Error, ErrorKind};
use crate::proto::EventKind;

/// Most programs of one home: each waits for the journal, and more than a person remembers.
pub const HOOKS_LIMIT: usize = 32;
/// Most words of one program's command line.
const WORDS_LIMIT: usize = 64;
/// Largest file: 32 hooks with long paths.
const FILE_LIMIT: u64 = 256 * 1024;

/// One program, and what it is run for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Its id, 8 hex characters. Never used again: its place in the journal goes by it.
    pub id: String,
    /// Kinds of event.
    pub events: Vec<EventKind>,
    /// The program, an absolute path, and its arguments.
    pub run: Vec<String>,
    /// How long one run may take, seconds.
    pub timeout_s: u64,
    /// It begins behind this cursor.
    pub after: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hooks {
    hooks: Vec<Hook>,
}

/// The hooks of a home, in the order in which they were added.
///
/// # Errors
/// `invalid-value` if the file is not what was written, `unsafe-home` if others may read or write it.
pub fn read(home: &Home) -> Result<Vec<Hook>, Error> {
    let place = home.hooks().display().to_string();
    let bytes = match private::read(&home.hooks(), FILE_LIMIT) {
        Ok(bytes) => bytes,
        Err(NotPrivate::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error @ (NotPrivate::Foreign | NotPrivate::Open)) => {
            return Err(Error::new(
                ErrorKind::UnsafeHome,
                format!("{place} names programs that are run, and {error}"),
                format!("look at what is in it, then: chmod 600 {place}"),
            ));
        }
        Err(error) => return Err(unusable(home, &error)),
    };
    let hooks: Hooks = serde_json::from_slice(&bytes).map_err(|error| unusable(home, &error))?;
    if hooks.hooks.iter().any(|hook| hook.run.is_empty()) {
        return Err(unusable(home, &"a hook without a program"));
    }
    Ok(hooks.hooks)
}

/// Adds a hook.
///
/// # Errors
/// `invalid-value` if there are too many, and as [`read`].
pub fn add(home: &Home, hook: Hook) -> Result<(), Error> {
    if hook.run.len() > WORDS_LIMIT {
        let message = format!("a hook has at most {WORDS_LIMIT} words");
        return Err(Error::new(ErrorKind::InvalidValue, message, "put the rest into a script"));
    }
    change(home, |hooks| {
        if hooks.len() >= HOOKS_LIMIT {
            let message = format!("a home has at most {HOOKS_LIMIT} hooks");
            return Err(Error::new(ErrorKind::InvalidValue, message, "see: p2p-comm on list"));
        }
        hooks.push(hook);
        Ok(())
    })
}

/// Removes a hook; it.
///
/// # Errors
/// `invalid-value` if there is none of this id, and as [`read`].
pub fn remove(home: &Home, id: &str) -> Result<Hook, Error> {
    change(home, |hooks| match hooks.iter().position(|hook| hook.id == id) {
        Some(place) => Ok(hooks.remove(place)),
        None => Err(Error::new(
            ErrorKind::InvalidValue,
            format!("there is no hook {}", crate::proto::text::quote(id)),
            "see: p2p-comm on list",
        )),
    })
}

fn change<T>(home: &Home, change: impl FnOnce(&mut Vec<Hook>) -> Result<T, Error>) -> Result<T, Error> {
    // Of two commands that change the file at once, the second sees what the first wrote.
    let folder = File::open(home.state()).and_then(|folder| folder.lock().map(|()| folder));
    let _lock = folder.map_err(|error| unwritable(&home.hooks(), &error))?;
    let mut hooks = Hooks { hooks: read(home)? };
    let changed = change(&mut hooks.hooks)?;
    let text = serde_json::to_string_pretty(&hooks).map_err(Error::internal)? + "\n";
    write_atomically(&home.hooks(), text.as_bytes()).map_err(|error| unwritable(&home.hooks(), &error))?;
    Ok(changed)
}

fn unusable(home: &Home, why: &dyn std::fmt::Display) -> Error {
    let place = home.hooks().display().to_string();
    Error::new(
        ErrorKind::InvalidValue,
        format!("{place} cannot be used: {why}"),
        "correct it, or move it away and add the hooks again: p2p-comm on EVENT -- PROGRAM",
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn hook(id: &str) -> Hook {
        Hook {
            id: id.into(),
            events: vec![EventKind::CallRinging],
            run: vec!["/bin/true".into()],
            timeout_s: 60,
            after: 7,
        }
    }

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        (folder, home)
    }

    #[test]
    fn hooks_are_kept_for_their_user_alone_and_only_an_own_id_is_removed() {
        let (_folder, home) = home();
        assert_eq!(read(&home).unwrap(), []);
        add(&home, hook("1")).unwrap();
        add(&home, hook("2")).unwrap();
        assert_eq!(fs::metadata(home.hooks()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(remove(&home, "3").unwrap_err().kind, ErrorKind::InvalidValue);
        assert_eq!(remove(&home, "1").unwrap(), hook("1"));
        assert_eq!(read(&home).unwrap(), [hook("2")]);
    }

    #[test]
    fn a_file_that_others_may_write_or_that_is_damaged_runs_nothing() {
        let (_folder, home) = home();
        add(&home, hook("1")).unwrap();
        fs::set_permissions(home.hooks(), fs::Permissions::from_mode(0o620)).unwrap();
        assert_eq!(read(&home).unwrap_err().kind, ErrorKind::UnsafeHome);
        fs::set_permissions(home.hooks(), fs::Permissions::from_mode(0o600)).unwrap();
        for text in [
            "{",
            r#"{"hooks":[{"id":"1"}]}"#,
            r#"{"hooks":[{"id":"1","events":["x"],"run":[],"timeout_s":1,"after":0}]}"#,
        ] {
            fs::write(home.hooks(), text).unwrap();
            assert_eq!(read(&home).unwrap_err().kind, ErrorKind::InvalidValue, "{text}");
            assert_eq!(add(&home, hook("2")).unwrap_err().kind, ErrorKind::InvalidValue);
            assert_eq!(fs::read_to_string(home.hooks()).unwrap(), text, "nothing is overwritten");
        }
    }

    #[test]
    fn there_are_not_too_many() {
        let (_folder, home) = home();
        for number in 0..HOOKS_LIMIT {
            add(&home, hook(&number.to_string())).unwrap();
        }
        assert_eq!(add(&home, hook("more")).unwrap_err().kind, ErrorKind::InvalidValue);
        let long = Hook { run: vec!["x".into(); WORDS_LIMIT + 1], ..hook("long") };
        assert_eq!(add(&home, long).unwrap_err().kind, ErrorKind::InvalidValue);
    }
}
