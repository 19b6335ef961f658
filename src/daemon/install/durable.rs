//! Whether the program that runs will be there tomorrow.
//!
//! `uvx` and `pipx run` make environments in their caches and clear them away (docs.astral.sh/uv/concepts/cache and
//! pipx.pypa.io, "pipx run"), and a temporary folder is emptied by the system.

use std::env;
use std::path::{Path, PathBuf};

use super::super::Launcher;
use crate::api::{Error, ErrorKind};
use crate::engine::code;

/// A folder whose contents do not last, and what clears it.
type Fleeting = (PathBuf, &'static str);

/// Refuses a program or a package that is thrown away soon.
pub(super) fn check(launcher: &Launcher) -> Result<(), Error> {
    let program = PathBuf::from(&launcher.program);
    let package = code::running().map(|code| PathBuf::from(code.file));
    let fleeting = fleeting(|name| env::var_os(name).map(PathBuf::from), env::home_dir(), env::temp_dir());
    match std::iter::once(program).chain(package).find_map(|path| Some((found(&path, &fleeting)?, path))) {
        None => Ok(()),
        Some((what, path)) => Err(Error::new(
            ErrorKind::InvalidValue,
            format!("{} lies in {what}, so a service that runs it would soon fail", path.display()),
            "install p2p-comm to stay: uv tool install p2p-comm, or pipx install p2p-comm; then its daemon install",
        )),
    }
}

fn fleeting(
    variable: impl Fn(&str) -> Option<PathBuf>,
    user: Option<PathBuf>,
    temporary: PathBuf,
) -> Vec<Fleeting> {
    let user = user.unwrap_or_default();
    let cache = variable("XDG_CACHE_HOME").unwrap_or_else(|| user.join(".cache"));
    let pipx = variable("PIPX_HOME");
    let uv = "uv's cache (uvx), which is cleared";
    let run = "the environments of pipx run, which are cleared";
    let mut found = vec![
        (cache.join("uv"), uv),
        (user.join("Library/Caches/uv"), uv),
        (cache.join("pipx"), run),
        (user.join(".local/pipx/.cache"), run),
        (user.join(".local/share/pipx/.cache"), run),
        (user.join("Library/Application Support/pipx/.cache"), run),
        (temporary, "a temporary folder"),
    ];
    found.extend(variable("UV_CACHE_DIR").map(|folder| (folder, uv)));
    found.extend(pipx.map(|folder| (folder.join(".cache"), run)));
    let fixed =
        ["/tmp", "/var/tmp", "/dev/shm", "/run", "/private/tmp", "/private/var/tmp", "/private/var/folders"];
    found.extend(fixed.map(|folder| (PathBuf::from(folder), "a temporary folder")));
    found
}

/// What the path lies in. Of an interpreter, the place of its environment counts, which a link leads out of.
fn found(path: &Path, fleeting: &[Fleeting]) -> Option<&'static str> {
    let spelled = |folder: &Path| folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let place = match path.parent() {
        Some(folder) => spelled(folder),
        None => path.to_path_buf(),
    };
    fleeting
        .iter()
        .filter(|(folder, _)| folder.is_absolute() && folder.parent().is_some())
        .find(|(folder, _)| path.starts_with(folder) || place.starts_with(spelled(folder)))
        .map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cleared_away_is_told_from_what_stays() {
        let variable = |name: &str| match name {
            "UV_CACHE_DIR" => Some(PathBuf::from("/srv/uv-cache")),
            "PIPX_HOME" => Some(PathBuf::from("/srv/pipx")),
            _ => None,
        };
        let fleeting = fleeting(variable, Some("/home/al".into()), "/scratch".into());
        let is_fleeting = |path: &str| found(Path::new(path), &fleeting).is_some();
        for path in [
            "/home/al/.cache/uv/archive-v0/x1/bin/python",
            "/home/al/.cache/uv/environments-v2/p2p/bin/python",
            "/srv/uv-cache/archive-v0/x/bin/python",
            "/home/al/.local/share/pipx/.cache/ab12/bin/python",
            "/srv/pipx/.cache/ab12/bin/python",
            "/scratch/venv/bin/python",
            "/tmp/venv/bin/python",
            "/var/tmp/venv/bin/python",
        ] {
            assert!(is_fleeting(path), "{path}");
        }
        for path in [
            "/home/al/.local/share/uv/tools/p2p-comm/bin/python",
            "/home/al/.local/share/uv/python/cpython-3.13/bin/python3.13",
            "/home/al/.local/share/pipx/venvs/p2p-comm/bin/python",
            "/srv/pipx/venvs/p2p-comm/bin/python",
            "/home/al/project/.venv/bin/python",
            "/usr/bin/python3",
            "/tmpfs/venv/bin/python",
            "/home/al/tmp/venv/bin/python",
        ] {
            assert!(!is_fleeting(path), "{path}");
        }
    }
}
