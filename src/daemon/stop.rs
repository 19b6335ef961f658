//! Finding a daemon without starting one, and ending it.

use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::Instant;

use crate::api::{Error, ErrorKind};
use crate::home::Home;
use crate::ipc::{Client, Hello};

/// How long a daemon may take to be gone: its own 5 seconds for an orderly stop, and some for what the system does.
const GONE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long its process may be seen after its lock is free. A parent that does not collect it could make this endless.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(1);
/// How often to look.
const LOOK: Duration = Duration::from_millis(10);

/// What became of a daemon that was to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Its process id, if there was one.
    pub pid: Option<u32>,
    /// There was none.
    pub already: bool,
}

/// The home's daemon, if one is there; starts none.
///
/// # Errors
/// `daemon-not-responding` if one is there and does not answer.
pub async fn probe(home: &Home) -> Result<Option<(Client, Hello)>, Error> {
    let socket = home.socket()?;
    let client = match Client::connect(&socket).await {
        Ok(client) => client,
        Err(error) if is_nobody(&error) => return Ok(None),
        // Its queue of connections is full: nobody takes them.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(not_responding(home)),
        Err(error) => {
            return Err(Error::new(
                ErrorKind::DaemonUnreachable,
                format!("the socket {} cannot be used: {error}", socket.display()),
                "look at what it is, and move it away",
            ));
        }
    };
    let hello = match client.hello().await {
        Ok(hello) => hello,
        // It ended in between.
        Err(error) if error.kind == ErrorKind::DaemonUnreachable => return Ok(None),
        Err(error) if error.kind == ErrorKind::DaemonNotResponding => return Err(not_responding(home)),
        Err(error) => return Err(error),
    };
    if hello.home != home.path().display().to_string() {
        return Err(Error::new(
            ErrorKind::DaemonUnreachable,
            format!("the socket {} serves another home: {}", socket.display(), hello.home),
            "stop that daemon, or use a home with a shorter path",
        ));
    }
    Ok(Some((client, hello)))
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

fn not_responding(home: &Home) -> Error {
    let pid = home.holder().map(|holder| holder.pid.to_string());
    let who = pid.as_ref().map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let pid = pid.as_deref().unwrap_or("PID");
    Error::new(
        ErrorKind::DaemonNotResponding,
        format!("daemon not responding{who}"),
        format!("if it was paused, continue it: kill -CONT {pid}; otherwise: p2p-comm daemon stop"),
    )
}

/// Ends the home's daemon, and returns when it is gone. One that does not answer is sent a SIGTERM.
///
/// # Errors
/// `daemon-not-responding` if it does not end.
pub async fn stop(home: &Home) -> Result<Stopped, Error> {
    let pid = match probe(home).await {
        Ok(Some((client, hello))) => {
            // It may end faster than it answers.
            let _ = client.stop().await;
            hello.pid
        }
        Ok(None) if home.lock()?.is_some() => return Ok(Stopped { pid: None, already: true }),
        // Somebody holds the lock and does not serve: starting, ending, or stuck.
        Ok(None) | Err(Error { kind: ErrorKind::DaemonNotResponding, .. }) => {
            let Some(holder) = home.holder() else {
                wait_until_gone(home, None).await?;
                return Ok(Stopped { pid: None, already: false });
            };
            if let Some(pid) = process(holder.pid) {
                // Gone meanwhile, or not ours: the wait below tells.
                let _ = kill_process(pid, Signal::TERM);
            }
            holder.pid
        }
        Err(error) => return Err(error),
    };
    wait_until_gone(home, Some(pid)).await?;
    Ok(Stopped { pid: Some(pid), already: false })
}

/// Waits until the home's lock is free, which says that its daemon is done, and its process ended.
pub(super) async fn wait_until_gone(home: &Home, pid: Option<u32>) -> Result<(), Error> {
    let deadline = Instant::now() + GONE_TIMEOUT;
    while home.lock()?.is_none() {
        if Instant::now() >= deadline {
            let pid = pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
            return Err(Error::new(
                ErrorKind::DaemonNotResponding,
                format!("the daemon did not end within {} s", GONE_TIMEOUT.as_secs()),
                format!("what it accepted is kept, so it may be ended by force: kill -9 {pid}"),
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
    let deadline = Instant::now() + PROCESS_TIMEOUT;
    while pid.is_some_and(is_alive) && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Does the process still run? One that has ended and is not collected by its parent does not.
fn is_alive(pid: u32) -> bool {
    let is_there = process(pid).is_some_and(|pid| test_kill_process(pid).is_ok());
    // After the name, which is in parentheses and may hold any, comes the state (proc_pid_stat(5)); elsewhere than on
    // Linux there is no such file, and the time above bounds the wait.
    let is_zombie = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['Z', 'X']))
    };
    is_there && !is_zombie()
}

fn process(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}
