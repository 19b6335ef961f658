//! Running one program of the user's: no shell, a process group of its own, bounded time, nothing left behind.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Between the request to end and the end by force.
const GRACE: Duration = Duration::from_secs(2);
/// What no program of the user's is told: a secret of ours.
const SECRETS: [&str; 1] = [super::openclaw::TOKEN_VARIABLE];

/// What a program is run with.
pub(super) struct Run<'a> {
    /// The program and its arguments.
    pub(super) words: &'a [String],
    /// Variables; those without a value are taken out of what it would inherit.
    pub(super) variables: &'a [(&'static str, Option<String>)],
    /// What it reads.
    pub(super) input: String,
    /// How long it may take.
    pub(super) limit: Duration,
}

/// Why a run does not count.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("it cannot be run: {0}")]
    Start(#[from] io::Error),
    #[error("it ended with {0}")]
    Status(ExitStatus),
    #[error("it took longer than {} s", .0.as_secs())]
    Slow(Duration),
}

impl Run<'_> {
    /// Runs it to its end. Dropped before that, everything in its process group ends.
    pub(super) async fn run(self) -> Result<(), Failed> {
        let Some((program, arguments)) = self.words.split_first() else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::piped())
            // What it prints is its user's affair: a peer's words could come back in it.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        for name in SECRETS {
            command.env_remove(name);
        }
        for (name, value) in self.variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        die_with_parent(&mut command);
        let mut child = command.spawn()?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let stdin = child.stdin.take();
        let input = self.input;
        let work = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A program that does not read what happened may know enough: not an error.
                    _ = stdin.write_all(input.as_bytes()).await;
                    _ = stdin.write_all(b"\n").await;
                }
            };
            let (status, ()) = tokio::join!(child.wait(), feed);
            status
        };
        if let Ok(status) = tokio::time::timeout(self.limit, work).await {
            let status = status?;
            return if status.success() { Ok(()) } else { Err(Failed::Status(status)) };
        }
        group.signal(Signal::TERM);
        // Whether it went by itself or not, the group is ended now.
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
        Err(Failed::Slow(self.limit))
    }
}

/// A process group that ends with whoever holds it. Its leader may be gone by then: what is in it keeps its number from
/// being used again, and if nothing is, the system has long to go until it would.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // There may be nobody left in it.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// A daemon that is killed takes its programs along: the system sends them a SIGKILL (prctl(2), PR_SET_PDEATHSIG). It does
/// so when the thread ends that started them; the runtime's threads end with it.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    use rustix::process::{getpid, getppid, set_parent_process_death_signal};
    let parent = getpid();
    #[expect(unsafe_code, reason = "it can only be asked for between fork and exec")]
    // SAFETY: prctl and getppid are async-signal-safe, and the closure allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // It may have been killed before that.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(io::ErrorKind::Interrupted)) }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}

/// The absolute path of a program: where it is, or in the folders of `PATH`.
///
/// # Errors
/// `NotFound`, or `PermissionDenied` for what cannot be run.
pub fn find(program: &str) -> io::Result<PathBuf> {
    let is_runnable = |path: &Path| -> io::Result<()> {
        let about = std::fs::metadata(path)?;
        match about.is_file() && about.permissions().mode() & 0o111 != 0 {
            true => Ok(()),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    };
    if program.contains('/') {
        let path = std::path::absolute(program)?;
        return is_runnable(&path).map(|()| path);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .filter(|folder| folder.is_absolute() && !program.is_empty())
        .map(|folder| folder.join(program))
        .find(|path| is_runnable(path).is_ok());
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    fn script(folder: &tempfile::TempDir, text: &str) -> Vec<String> {
        let path = folder.path().join("program");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        vec![path.display().to_string(), "$(touch owned)".into()]
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    fn run(words: &[String], limit: Duration) -> Result<(), Failed> {
        let variables = [("P2P_EVENT", Some("call.ringing".to_owned())), ("HOME", None)];
        block_on(Run { words, variables: &variables, input: "{\"a\":1}".into(), limit }.run())
    }

    fn is_alive(pid: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_reads_its_input_and_its_arguments_are_never_a_shells() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out").display().to_string();
        let words =
            script(&folder, &format!("cat >{out}; echo \"$1 $P2P_EVENT ${{HOME-none}} $PWD\" >>{out}"));
        run(&words, LONG).unwrap();
        assert_eq!(fs::read_to_string(out).unwrap(), "{\"a\":1}\n$(touch owned) call.ringing none /\n");
    }

    #[test]
    fn what_does_not_end_well_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        run(&script(&folder, "exec <&-; exit 0"), LONG).unwrap();
        assert!(matches!(run(&script(&folder, "exit 3"), LONG), Err(Failed::Status(_))));
        assert!(matches!(run(&["/nowhere/program".into()], LONG), Err(Failed::Start(_))));
        assert!(matches!(run(&[], LONG), Err(Failed::Start(_))));
    }

    #[test]
    fn a_program_that_takes_too_long_ends_with_everything_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let child = folder.path().join("child");
        // It and its child ignore the request.
        let text =
            format!("trap '' TERM; sh -c 'trap \"\" TERM; sleep 600' & echo $! >{}; wait", child.display());
        let begun = Instant::now();
        assert!(matches!(run(&script(&folder, &text), Duration::from_millis(500)), Err(Failed::Slow(_))));
        assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
        let pid = fs::read_to_string(child).unwrap();
        while is_alive(&pid) {
            assert!(begun.elapsed() < LONG, "{pid} lives");
        }
    }

    #[test]
    fn what_a_program_leaves_behind_in_its_group_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let child = folder.path().join("child");
        let words = script(&folder, &format!("sleep 600 & echo $! >{}; exit 0", child.display()));
        run(&words, LONG).unwrap();
        let (pid, begun) = (fs::read_to_string(child).unwrap(), Instant::now());
        while is_alive(&pid) {
            assert!(begun.elapsed() < LONG, "{pid} lives");
        }
    }

    #[test]
    fn a_program_is_found_as_the_system_would_and_told_by_its_whole_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = script(&folder, "exit 0").remove(0);
        assert_eq!(find(&path).unwrap(), Path::new(&path));
        assert!(find("sh").unwrap().is_absolute());
        for missing in ["", "no-such-program-anywhere", "/nowhere", &folder.path().display().to_string()] {
            assert!(find(missing).is_err(), "{missing}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(find(&path).is_err());
    }
}
