//! From a home to a client of its daemon, starting one if there is none.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command as Process};
use tokio::time::Instant;

use super::{Launcher, VERSION, log, stop};
use crate::api::{Command, Error, ErrorKind, Status};
use crate::home::{Home, StartLock};
use crate::ipc::{Client, Hello};

/// How long a daemon may take from its start to its first answer: a cold Python, a database to migrate, and a machine
/// with other things to do.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How often something is tried again that another process decides.
const RETRY: Duration = Duration::from_millis(20);
/// How often a start is tried again while the last daemon is still on its way out.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// What a starting daemon may write before the line that counts: a Python that warns about something.
const REPORT_LIMIT: u64 = 64 * 1024;
/// How long a daemon that closed the pipe without a word may take to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A daemon that answers.
#[derive(Debug)]
pub struct Started {
    /// The connection to it.
    pub client: Client,
    /// Who it is.
    pub hello: Hello,
    /// It was there before.
    pub already: bool,
}

/// What a daemon says through the pipe when it starts.
#[derive(Debug, PartialEq)]
enum Report {
    /// It, or another one, runs.
    Running,
    /// It could not start.
    Failed(Error),
}

impl Report {
    /// Reads a line; `None` if it is something else, as an interpreter may have to say.
    fn read(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line {
            pid: Option<u32>,
            already: Option<bool>,
            error: Option<Error>,
        }
        let line: Line = serde_json::from_str(line).ok()?;
        match line.error {
            Some(error) => Some(Self::Failed(error)),
            None => (line.pid.is_some() || line.already.is_some()).then_some(Self::Running),
        }
    }
}

/// A client of the home's daemon, which is started if it is not there.
///
/// # Errors
/// `daemon-not-responding`, `daemon-unreachable`, `version-mismatch`, or the error of the daemon that could not start.
pub async fn connect(home: &Home, launcher: &Launcher) -> Result<Client, Error> {
    Ok(start(home, launcher, &[]).await?.client)
}

/// Like [`connect`], with settings for a daemon that has to be started.
///
/// # Errors
/// As [`connect`].
pub async fn start(home: &Home, launcher: &Launcher, flags: &[(String, String)]) -> Result<Started, Error> {
    if let Some(Found::Usable(client, hello)) = find(home).await? {
        return Ok(Started { client, hello, already: true });
    }
    let deadline = Instant::now() + START_TIMEOUT;
    let _lock = start_lock(home, deadline).await?;
    let mut launched = false;
    loop {
        match find(home).await? {
            Some(Found::Usable(client, hello)) => return Ok(Started { client, hello, already: !launched }),
            Some(Found::Outdated(client, hello)) => replace(home, &client, &hello).await?,
            None => {}
        }
        if launched {
            // Another process has the home and does not serve it: it is about to, or about to end.
            if Instant::now() >= deadline {
                return Err(too_slow());
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        }
        match tokio::time::timeout_at(deadline, launch(home, launcher, flags)).await {
            Ok(Ok(Report::Running)) => launched = true,
            Ok(Ok(Report::Failed(error)) | Err(error)) => return Err(error),
            Err(_) => return Err(too_slow()),
        }
    }
}

/// A daemon that answered.
enum Found {
    Usable(Client, Hello),
    Outdated(Client, Hello),
}

async fn find(home: &Home) -> Result<Option<Found>, Error> {
    let Some((client, hello)) = stop::probe(home).await? else { return Ok(None) };
    if hello.version == VERSION {
        return Ok(Some(Found::Usable(client, hello)));
    }
    match (numbers(VERSION), numbers(&hello.version)) {
        (Some(ours), Some(theirs)) if ours > theirs => Ok(Some(Found::Outdated(client, hello))),
        _ => Err(Error::new(
            ErrorKind::VersionMismatch,
            format!("the daemon (pid {}) has version {}, this command {VERSION}", hello.pid, hello.version),
            "use the newer version, or end its daemon: p2p-comm daemon stop",
        )),
    }
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    version.split('.').map(|number| number.parse().ok()).collect()
}

async fn replace(home: &Home, client: &Client, hello: &Hello) -> Result<(), Error> {
    let status = Status::try_from(client.ask(Command::Status {}).await?)?;
    if !status.calls.is_empty() {
        return Err(Error::new(
            ErrorKind::VersionMismatch,
            format!("the daemon has version {}, this command {VERSION}, and calls are up", hello.version),
            "end the calls with the old version, or end the daemon, which keeps them: p2p-comm daemon stop",
        ));
    }
    client.stop().await?;
    stop::wait_until_gone(home, Some(hello.pid)).await
}

async fn start_lock(home: &Home, deadline: Instant) -> Result<StartLock, Error> {
    loop {
        if let Some(lock) = home.start_lock()? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            return Err(too_slow());
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Starts a daemon and reads what it says about itself.
async fn launch(home: &Home, launcher: &Launcher, flags: &[(String, String)]) -> Result<Report, Error> {
    let cannot = |error: io::Error| {
        Error::new(
            ErrorKind::DaemonUnreachable,
            format!("no daemon could be started: {error}"),
            format!("is {} still there?", launcher.program.to_string_lossy()),
        )
    };
    let mut child = spawn(home, launcher, flags).map_err(cannot)?;
    let Some(output) = child.stdout.take() else { return Err(Error::internal("a child without its pipe")) };
    let mut lines = BufReader::new(output.take(REPORT_LIMIT)).lines();
    while let Some(line) = lines.next_line().await.map_err(cannot)? {
        if let Some(report) = Report::read(&line) {
            return Ok(report);
        }
    }
    Err(ended_early(home, child).await)
}

fn spawn(home: &Home, launcher: &Launcher, flags: &[(String, String)]) -> io::Result<Child> {
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(home.log())?;
    let mut process = Process::new(&launcher.program);
    process
        .args(&launcher.args)
        .args(["daemon", "run", "--detached", "--json", "--home"])
        .arg(home.path())
        .args(flags.iter().flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]))
        // No folder is kept from being unmounted, and no terminal, pipe or agent's secret goes along.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    std::env::vars_os().map(|(name, _)| name).filter(|name| is_foreign(name)).for_each(|name| {
        process.env_remove(name);
    });
    #[expect(unsafe_code, reason = "a new session can only be made between fork and exec")]
    // SAFETY: setsid is async-signal-safe, and the closure allocates nothing and takes no lock.
    unsafe {
        process.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
    }
    process.spawn()
}

fn is_foreign(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"OPENCLAW_")
}

async fn ended_early(home: &Home, mut child: Child) -> Error {
    let how = match tokio::time::timeout(EXIT_TIMEOUT, child.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it said nothing".to_owned(),
    };
    let last = log::tail(home, 1).unwrap_or_default().pop().unwrap_or_default();
    Error::new(
        ErrorKind::DaemonUnreachable,
        format!(
            "the daemon ended while it started ({how}); its last line: {}",
            crate::proto::text::quote(&last)
        ),
        "see: p2p-comm daemon logs",
    )
}

fn too_slow() -> Error {
    Error::new(
        ErrorKind::DaemonNotResponding,
        format!("no daemon was ready within {} s", START_TIMEOUT.as_secs()),
        "see: p2p-comm daemon logs; is another process using this home?",
    )
}

/// The whole path of a file, as the daemon has to be told it: its folder is another.
///
/// # Errors
/// `file-not-found` for what is no path.
pub fn absolute(path: &std::path::Path) -> Result<String, Error> {
    let absolute = std::path::absolute(path).ok().and_then(|path| path.into_os_string().into_string().ok());
    absolute.ok_or_else(|| {
        Error::new(
            ErrorKind::FileNotFound,
            format!("there is no file with the path {}", path.display()),
            "a path is UTF-8, and not empty",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(numbers("0.10.0") > numbers("0.9.1"));
        assert!(numbers("1.0.0") > numbers("0.99.99"));
        assert_eq!(numbers("0.1.0-beta"), None);
    }

    #[test]
    fn what_a_daemon_says_is_told_apart() {
        let failed = Report::read(r#"{"error":{"code":"disk-full","message":"m","hint":""}}"#);
        assert_eq!(failed, Some(Report::Failed(Error::new(ErrorKind::DiskFull, "m", ""))));
        assert_eq!(Report::read(r#"{"already":true,"pid":null}"#), Some(Report::Running));
        assert_eq!(Report::read(r#"{"pid":3,"version":"0.1.0","home":"/h"}"#), Some(Report::Running));
        for noise in ["", "{}", "3", "Traceback (most recent call last):"] {
            assert_eq!(Report::read(noise), None, "{noise}");
        }
    }
}
