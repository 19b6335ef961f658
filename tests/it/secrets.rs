//! The secret key: what could show it, and everything that must not.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{NO_RELAY, PROGRAM, is_root};

/// The user and the group that own nothing.
const NOBODY: u32 = 65_534;

/// A daemon in the foreground, of a user who is not root, because root may read everything.
struct OrdinaryDaemon {
    child: Child,
    _folder: tempfile::TempDir,
}

impl OrdinaryDaemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The build folder may be closed to others.
        let program = folder.path().join("program");
        fs::copy(PROGRAM, &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut process = Command::new(&program);
        if is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            process.uid(NOBODY).gid(NOBODY);
        }
        let mut child = process
            .args(["daemon", "run", "--json", "--home"])
            .arg(folder.path())
            .env_clear()
            .env("P2P_NOSTR_RELAYS", NO_RELAY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("\"pid\""), "{line}");
        Self { child, _folder: folder }
    }
}

impl Drop for OrdinaryDaemon {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_daemon_leaves_no_core_dump_and_its_memory_is_closed_to_its_own_user() {
    let daemon = OrdinaryDaemon::start();
    let process = Path::new("/proc").join(daemon.child.id().to_string());
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // What belongs to root in the folder of somebody else's process is what `PR_SET_DUMPABLE` closed (proc(5)).
    assert_ne!(fs::metadata(&process).unwrap().uid(), 0);
    for file in ["mem", "maps", "environ"] {
        assert_eq!(fs::metadata(process.join(file)).unwrap().uid(), 0, "{file}");
    }
}
