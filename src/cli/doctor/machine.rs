//! What is looked at on the machine itself, whether a daemon runs or not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Check;
use crate::home::settings::Warning;
use crate::home::{self, Home};
use crate::proto::text::shell_word;

/// Less room than this is a warning: a few hundred files of the size that calls carry, or a day of a busy agent.
const LITTLE_ROOM: u64 = 64 << 20;

pub(super) fn identity(home: &Home) -> Check {
    let place = home.identity().display().to_string();
    match home::identity::read(home) {
        Ok(Some(_)) => Check::well("identity", format!("{place}, for its owner alone")),
        Ok(None) => Check::well("identity", "none yet; the first start makes one"),
        Err(error) => Check::stopped_by("identity", &error),
    }
}

pub(super) fn permissions(home: &Home) -> Check {
    let state = home.state();
    match home.given_away().as_slice() {
        [] => {
            Check::well("permissions", format!("{} and what is in it, for its owner alone", state.display()))
        }
        [first, rest @ ..] => {
            let others = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            let detail = format!("others have rights to {}{others}", first.display());
            Check::ill("permissions", detail, format!("chmod -R go= {}", word(&state)))
        }
    }
}

pub(super) fn disk(home: &Home) -> Check {
    match home.room() {
        Ok(room) if room >= LITTLE_ROOM => Check::well("disk", format!("{} MiB free", room >> 20)),
        Ok(room) => Check::ill(
            "disk",
            format!("{} MiB free: soon nothing can be accepted", room >> 20),
            format!(
                "free some space on it (df -h {0}); received files: {1}",
                word(home.path()),
                word(&home.files())
            ),
        ),
        Err(error) => Check::stopped_by("disk", &error),
    }
}

pub(super) fn settings(warnings: &[Warning]) -> Vec<Check> {
    match warnings {
        [] => vec![Check::well("settings", "of one mind")],
        odd => odd.iter().map(|it| Check::ill("settings", it.what.clone(), it.remedy.clone())).collect(),
    }
}

pub(super) fn socket(home: &Home) -> Check {
    let path = match home.socket() {
        Ok(path) => path,
        Err(error) => return Check::stopped_by("socket", &error),
    };
    let place = path.display();
    match std::fs::metadata(&path).map(|about| about.permissions().mode() & 0o777) {
        Ok(0o600) => Check::well("socket", format!("{place}, mode 600")),
        Ok(mode) => {
            Check::ill("socket", format!("{place}, mode {mode:o}"), format!("chmod 600 {}", word(&path)))
        }
        Err(error) => Check::ill("socket", format!("{place}: {error}"), "p2p-comm daemon stop"),
    }
}

/// A database that was found damaged is kept beside the one that took its place.
pub(super) fn database(home: &Home) -> Check {
    let mut kept: Vec<String> = std::fs::read_dir(home.state())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("state.db.damaged-"))
        .collect();
    kept.sort();
    let databases: Vec<_> =
        kept.iter().filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm")).cloned().collect();
    if databases.is_empty() {
        return Check::well("database", "no damage was found");
    }
    let all: Vec<_> = kept.iter().map(|name| word(&home.state().join(name))).collect();
    Check::ill(
        "database",
        format!("was damaged, and what could be read was carried over; kept: {}", databases.join(", ")),
        format!("see to the disk; when nothing is missing: rm {}", all.join(" ")),
    )
}

/// A path as a word of a shell.
fn word(path: &Path) -> String {
    shell_word(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for (path, shell) in
            [("/home/al/x.d", "/home/al/x.d"), ("/a b", "'/a b'"), ("/it's $(id)", r"'/it'\''s $(id)'")]
        {
            assert_eq!(word(Path::new(path)), shell);
        }
    }
}
