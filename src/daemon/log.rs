//! The daemon's log: a file of bounded size, its reader, and the hook that records a panic.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::api::{Error, ErrorKind};
use crate::home::Home;

/// The log and one older file: at most twice this on the disk. Weeks of a quiet agent, minutes of TRACE.
const FILE_LIMIT: u64 = 10 * 1024 * 1024;
/// As much of the end of the log is looked at for its last lines.
const TAIL_LIMIT: u64 = 1024 * 1024;
/// What to log, in the syntax of tracing's `EnvFilter`.
const FILTER_VARIABLE: &str = "P2P_COMM_LOG";
/// State changes of ours; of the libraries, what a person should look at.
const DEFAULT_FILTER: &str = "warn,p2p_comm=info";

/// Begins to log to the home's file, and to stderr unless the process is in the background.
pub(super) fn begin(home: &Home, detached: bool) -> Result<(), Error> {
    let file = CappedFile::open(home.log(), FILE_LIMIT).map_err(|error| {
        Error::new(
            ErrorKind::UnsafeHome,
            format!("the log {} cannot be written: {error}", home.log().display()),
            "look at what it is, and move it away",
        )
    })?;
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let filter = if filter.is_empty() { DEFAULT_FILTER } else { &filter };
    let to_file = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Mutex::new(file));
    let to_stderr = (!detached)
        .then(|| tracing_subscriber::fmt::layer().with_ansi(false).without_time().with_writer(io::stderr));
    // Fails only where the process has a log already, which is then the host's.
    let _ =
        tracing_subscriber::registry().with(EnvFilter::new(filter)).with(to_file).with(to_stderr).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%backtrace, "{panic}");
    }));
    Ok(())
}

/// A file that is set aside when it is full.
#[derive(Debug)]
struct CappedFile {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl CappedFile {
    fn open(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = append_to(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, limit })
    }

    fn set_aside(&mut self) -> io::Result<()> {
        fs::rename(&self.path, older(&self.path))?;
        self.file = append_to(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

impl Write for CappedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size + bytes.len() as u64 > self.limit && self.size > 0 {
            self.set_aside()?;
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// The last lines of the log, oldest first; none if there is no log.
///
/// # Errors
/// Whatever the file system says.
pub fn tail(home: &Home, count: usize) -> io::Result<Vec<String>> {
    let mut last = Vec::new();
    for path in [older(&home.log()), home.log()] {
        last.extend(end_of(&path)?.lines().map(String::from));
        last.drain(..last.len().saturating_sub(count));
    }
    Ok(last)
}

fn end_of(path: &Path) -> io::Result<String> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other?,
    };
    let start = file.metadata()?.len().saturating_sub(TAIL_LIMIT);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_LIMIT).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // In the middle of a line, the first one is not whole.
    Ok(match (start, text.split_once('\n')) {
        (1.., Some((_, rest))) => rest.to_owned(),
        _ => text,
    })
}

/// Lines that come after this moment, also past the point at which the log is set aside.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    open: Option<Reading>,
}

#[derive(Debug)]
struct Reading {
    file: File,
    inode: u64,
    partial: Vec<u8>,
}

impl Follower {
    /// Follows the home's log from its present end.
    pub fn new(home: &Home) -> Self {
        let mut follower = Self { path: home.log(), open: None };
        if let Some(reading) = follower.reopen() {
            // At worst the log is shown from its beginning.
            let _ = reading.file.seek(SeekFrom::End(0));
        }
        follower
    }

    /// What was written since the last time.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        if let Some(reading) = &mut self.open {
            reading.read(&mut lines)?;
        }
        let current = fs::metadata(&self.path).ok().map(|about| about.ino());
        if current.is_some()
            && current != self.open.as_ref().map(|reading| reading.inode)
            && let Some(reading) = self.reopen()
        {
            reading.read(&mut lines)?;
        }
        Ok(lines)
    }

    fn reopen(&mut self) -> Option<&mut Reading> {
        let file = File::open(&self.path).ok()?;
        let inode = file.metadata().ok()?.ino();
        Some(self.open.insert(Reading { file, inode, partial: Vec::new() }))
    }
}

impl Reading {
    fn read(&mut self, lines: &mut Vec<String>) -> io::Result<()> {
        (&mut self.file).take(TAIL_LIMIT).read_to_end(&mut self.partial)?;
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        Ok(())
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
    fn a_full_log_is_set_aside_and_its_lines_are_still_found() {
        let (_folder, home) = home();
        let mut log = CappedFile::open(home.log(), 20).unwrap();
        for number in 0..7 {
            // In one piece, as tracing writes an event.
            log.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        assert!(fs::metadata(home.log()).unwrap().len() <= 20);
        assert_eq!(fs::metadata(home.log()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(tail(&home, 3).unwrap(), ["line 4", "line 5", "line 6"]);
        assert_eq!(tail(&home, 0).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_follower_sees_new_lines_whole_and_once_across_a_change_of_files() {
        let (_folder, home) = home();
        let mut log = CappedFile::open(home.log(), 20).unwrap();
        log.write_all(b"old\n").unwrap();
        let mut follower = Follower::new(&home);
        log.write_all(b"ne").unwrap();
        assert_eq!(follower.lines().unwrap(), Vec::<String>::new());
        log.write_all(b"w\n").unwrap();
        log.write_all(b"after the change\n").unwrap();
        assert_eq!(follower.lines().unwrap(), ["new", "after the change"]);
        assert_eq!(follower.lines().unwrap(), Vec::<String>::new());
    }
}
