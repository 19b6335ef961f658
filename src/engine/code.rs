//! Which file this process runs: an update that puts another in its place leaves a daemon of the old one behind, and a
//! version that has not changed does not tell.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::api::{Code, Time};
use crate::proto::Millis;

/// The file as it was when this process first asked; none where the system does not say.
pub fn running() -> Option<Code> {
    static RUNNING: OnceLock<Option<Code>> = OnceLock::new();
    RUNNING.get_or_init(|| describe(&loaded_from()?).ok()).clone()
}

fn describe(path: &Path) -> io::Result<Code> {
    let about = fs::metadata(path)?;
    let millis = about.mtime().saturating_mul(1_000).saturating_add(about.mtime_nsec() / 1_000_000);
    Ok(Code {
        file: path.display().to_string(),
        modified: Time(Millis(u64::try_from(millis).unwrap_or(0))),
        size: about.size(),
    })
}

/// The program, or, inside of Python, the extension module: what this very function was mapped from (proc_pid_maps(5)).
#[cfg(target_os = "linux")]
fn loaded_from() -> Option<PathBuf> {
    let here = loaded_from as fn() -> Option<PathBuf> as usize;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
        let path = rest.find('/').map(|start| PathBuf::from(&rest[start..]));
        if (from..to).contains(&here) { path } else { None }
    })
}

#[cfg(not(target_os = "linux"))]
fn loaded_from() -> Option<PathBuf> {
    // Of an extension module it is the interpreter, which is not replaced by an update of ours: nothing is noticed then.
    std::env::current_exe().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_runs_is_found() {
        let program = std::env::current_exe().unwrap().canonicalize().unwrap();
        let code = running().unwrap();
        assert_eq!(Path::new(&code.file), program);
        assert_eq!(code, describe(&program).unwrap());
    }
}
