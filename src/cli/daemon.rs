//! `daemon`: the background service, for those who want to see to it themselves.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::session::Session;
use super::{DONE, Verdict, install};
use crate::api::{Error, ErrorKind};
use crate::daemon::{self, Follower, Options, Outcome};
use crate::proto::text::escape;

/// How often `logs -f` looks for new lines.
const LOOK: Duration = Duration::from_millis(250);

/// The background service; it starts by itself when a verb needs it
#[derive(Debug, Args)]
#[command(after_help = "\
Example: p2p-comm daemon status
         p2p-comm daemon stop")]
pub(super) struct Daemon {
    #[command(subcommand)]
    pub(super) verb: DaemonVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum DaemonVerb {
    /// In the foreground, until SIGTERM (`p2p-comm service` is the same)
    Run(Run),
    /// In the background, if it is not there
    Start {
        #[command(flatten)]
        settings: Flags,
    },
    /// End it, and wait until it is gone; calls are kept
    Stop,
    /// Is it there? Exit 3 if not; starts nothing
    Status,
    /// What it wrote (`p2p-comm logs` is the same)
    Logs(Logs),
    /// As a service of this user's: started at log-in, and again after a crash
    Install(install::Install),
    /// No service any more: stopped, its file removed
    Uninstall(install::WhichManager),
}

/// What the daemon wrote
#[derive(Debug, Args)]
#[command(after_help = "Example: p2p-comm logs -f")]
pub(super) struct Logs {
    /// Go on, one line at a time
    #[arg(short, long)]
    follow: bool,
    /// The last so many lines
    #[arg(long, value_name = "N", default_value_t = 100)]
    lines: usize,
}

/// Run the service in the foreground, until SIGTERM
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    settings: Flags,
    /// Started by another command, which reads the first line
    #[arg(long, hide = true)]
    detached: bool,
}

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// A setting for this start, by its name in config.toml
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    flags: Vec<(String, String)>,
    /// Serve figures for Prometheus at this port of the loopback address, or at ADDRESS:PORT: the setting `metrics`
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<String>,
}

impl Flags {
    /// Each as a setting.
    fn settings(self) -> Vec<(String, String)> {
        let metrics = self.metrics.map(|address| ("metrics".to_owned(), address));
        self.flags.into_iter().chain(metrics).collect()
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("KEY=VALUE")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

impl Run {
    /// Blocks; brings a runtime of its own.
    pub(super) fn run(self, session: &Session) -> Verdict {
        let printer = session.printer;
        let options =
            Options { home: session.home()?, flags: self.settings.settings(), detached: self.detached };
        let outcome = daemon::run(options, |ready| {
            let printed = printer.data(ready, || format!("ready, pid {}, home {}", ready.pid, ready.home));
            match printed {
                Err(super::Stop::Error(error)) => Err(error),
                // Whoever started it does not care to know.
                Ok(()) | Err(super::Stop::BrokenPipe) => Ok(()),
            }
        })?;
        match outcome {
            Outcome::Stopped => Ok(DONE),
            Outcome::AlreadyRunning(holder) => {
                let pid = holder.map(|holder| holder.pid);
                if self.detached {
                    printer.data(&json!({"already": true, "pid": pid}), String::new)?;
                    return Ok(DONE);
                }
                let who = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                Err(Error::new(
                    ErrorKind::InvalidValue,
                    format!("another process runs the engine of this home{who}"),
                    "one home is one agent: p2p-comm daemon stop, or another home with --home DIR",
                )
                .into())
            }
        }
    }
}

impl Daemon {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        match self.verb {
            DaemonVerb::Run(run) => run.run(session),
            DaemonVerb::Start { settings } => start(session, &settings.settings()).await,
            DaemonVerb::Stop => stop(session).await,
            DaemonVerb::Status => status(session).await,
            DaemonVerb::Logs(logs) => logs.run(session).await,
            DaemonVerb::Install(install) => install.run(session).await,
            DaemonVerb::Uninstall(manager) => install::uninstall(session, &manager).await,
        }
    }
}

async fn start(session: &Session, flags: &[(String, String)]) -> Verdict {
    let home = session.home()?;
    let started = daemon::start(&home, &session.launcher, flags).await?;
    if started.already && !flags.is_empty() {
        return Err(Error::new(
            ErrorKind::SettingsMismatch,
            "the daemon runs already, with settings of its own",
            "end it first: p2p-comm daemon stop",
        )
        .into());
    }
    let (pid, version) = (started.hello.pid, &started.hello.version);
    let data = json!({"already": started.already, "pid": pid, "version": version, "socket": home.socket()?});
    session.printer.data(&data, || {
        format!("daemon {version}, pid {pid}{}", if started.already { ", ran already" } else { "" })
    })?;
    Ok(DONE)
}

async fn stop(session: &Session) -> Verdict {
    let stopped = daemon::stop(&session.home()?).await?;
    session.printer.data(
        &json!({"stopped": true, "already": stopped.already, "pid": stopped.pid}),
        || match (stopped.already, stopped.pid) {
            (true, _) => "no daemon was running".to_owned(),
            (false, Some(pid)) => format!("stopped, pid {pid}"),
            (false, None) => "stopped".to_owned(),
        },
    )?;
    Ok(DONE)
}

async fn status(session: &Session) -> Verdict {
    let home = session.home()?;
    let place = home.path().display().to_string();
    let Some((_, hello)) = daemon::probe(&home).await? else {
        session.printer.data(
            &json!({"running": false, "home": place, "pid": null, "version": null, "socket": null}),
            || format!("no daemon is running for {place}"),
        )?;
        return Ok(ErrorKind::DaemonUnreachable.exit_code());
    };
    let data = json!({
        "running": true,
        "home": place,
        "pid": hello.pid,
        "version": hello.version,
        "socket": home.socket()?,
    });
    session.printer.data(&data, || format!("daemon {}, pid {}, home {place}", hello.version, hello.pid))?;
    Ok(DONE)
}

impl Logs {
    pub(super) async fn run(self, session: &Session) -> Verdict {
        logs(session, self.follow, self.lines).await
    }
}

async fn logs(session: &Session, follow: bool, count: usize) -> Verdict {
    let home = session.home()?;
    // Before the end is read: a line in between is shown twice rather than not at all.
    let mut follower = follow.then(|| Follower::new(&home));
    let unreadable = |error: std::io::Error| Error::internal(format_args!("the log cannot be read: {error}"));
    let last = daemon::tail(&home, count).map_err(unreadable)?;
    let Some(follower) = &mut follower else {
        session.printer.data(&json!({"lines": last}), || {
            last.iter().map(|line| escape(line)).collect::<Vec<_>>().join("\n")
        })?;
        return Ok(DONE);
    };
    let mut lines = last;
    loop {
        for line in &lines {
            session.printer.data(&json!({"line": line}), || escape(line))?;
        }
        tokio::time::sleep(LOOK).await;
        lines = follower.lines().map_err(unreadable)?;
    }
}
