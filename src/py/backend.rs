//! The two ways to an engine, behind one face: the daemon that runs, or one hosted in this process.
//!
//! ```text
//! connect ──probe──▶ a daemon answers ─────▶ Remote, if its agent id and relays are those that were asked for
//!    ▲  └──nobody──▶ the home is free ─────▶ Hosted, until it is stopped, dropped, or a client asks it to stop
//!    └── the home is taken: whoever has it is about to answer, or about to end
//! ```
//!
//! A hosted engine leaves the process as it is: it takes no signals, and keeps the user's umask. What it logs goes to
//! Python's loggers.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::{Command, Error, ErrorKind, Status};
use crate::daemon::{self, Service};
use crate::engine::Handle;
use crate::home::{Home, Settings, settings};
use crate::ipc::{Client, Hello};

/// How long another process that has the home may take until it answers: what a daemon has for its start.
const OTHER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often to look whether it does.
const LOOK: Duration = Duration::from_millis(20);

/// What `Agent(...)` was given. What is absent comes from the environment, `config.toml` or the defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConnectOptions {
    home: Option<PathBuf>,
    id: Option<String>,
    name: Option<String>,
    capabilities: Option<Vec<String>>,
    relays: Option<Vec<String>>,
    owner: Option<String>,
}

/// An engine.
pub(super) enum Backend {
    Hosted(Hosting),
    Remote(Client),
}

/// An engine that runs here. Ends when it is stopped or dropped.
pub(super) struct Hosting {
    handle: Handle,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Backend {
    pub(super) async fn connect(options: ConnectOptions) -> Result<Self, Error> {
        let home = Home::open(options.home.as_deref())?;
        let deadline = Instant::now() + OTHER_TIMEOUT;
        loop {
            if let Some((client, hello)) = daemon::probe(&home).await? {
                check(&client, &hello, &options).await?;
                return Ok(Self::Remote(client));
            }
            reserve_database(&home);
            if let Some(service) = daemon::host(&home, options.settings(&home)?).await? {
                return Ok(Self::Hosted(Hosting::of(service)));
            }
            if Instant::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::DaemonNotResponding,
                    "another process runs the engine of this home, and does not serve its socket",
                    "see: p2p-comm daemon status",
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The way to the engine of this process.
    pub(super) fn here(&self) -> Option<Handle> {
        match self {
            Self::Hosted(hosting) => Some(hosting.handle.clone()),
            Self::Remote(_) => None,
        }
    }

    pub(super) async fn stop(self) {
        if let Self::Hosted(Hosting { stop, ended, .. }) = self {
            drop(stop);
            // If the task has panicked, the home is free as well.
            let _ = ended.await;
        }
    }
}

impl Hosting {
    fn of(service: Service) -> Self {
        let handle = service.handle();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(async move {
            tokio::select! {
                // The sender is dropped, never used.
                _ = stopped => {}
                over = service.until_over() => if let Err(error) = over {
                    tracing::error!(%error, "the engine hosted here is over");
                }
            }
            service.close().await;
        });
        Self { handle, stop, ended }
    }
}

impl ConnectOptions {
    /// What an engine of `home` is to be started with.
    fn settings(&self, home: &Home) -> Result<Settings, Error> {
        if let (Some(id), Some(own)) = (&self.id, settings::remembered_agent_id(home)?) {
            check_agent_id(&own, id)?;
        }
        let list = |items: &Option<Vec<String>>| items.as_ref().map(|items| items.join(","));
        let flags: Vec<_> = [
            ("agent_id", self.id.clone()),
            ("name", self.name.clone()),
            ("capabilities", list(&self.capabilities)),
            ("relays", list(&self.relays)),
            ("owner", self.owner.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
        Ok(settings::load(home, &flags)?.settings())
    }
}

/// Is this daemon the one that was asked for?
async fn check(client: &Client, hello: &Hello, options: &ConnectOptions) -> Result<(), Error> {
    if hello.version != daemon::VERSION {
        return Err(Error::new(
            ErrorKind::VersionMismatch,
            format!("the daemon has version {}, this package {}", hello.version, daemon::VERSION),
            "end it, which keeps its calls: p2p-comm daemon stop",
        ));
    }
    if let Some(id) = &options.id {
        check_agent_id(&hello.agent.id, id)?;
    }
    if let Some(relays) = &options.relays {
        let status = Status::try_from(client.ask(Command::Status {}).await?)?;
        let has: BTreeSet<&str> = status.relays.iter().map(|relay| plain(&relay.url)).collect();
        if has != relays.iter().map(|relay| plain(relay)).collect() {
            return Err(Error::new(
                ErrorKind::SettingsMismatch,
                format!("the running daemon has other relays: {}", Vec::from_iter(has).join(", ")),
                "leave out the relays, or stop it first: p2p-comm daemon stop",
            ));
        }
    }
    Ok(())
}

/// A URL as far as it tells relays apart.
fn plain(url: &str) -> &str {
    url.trim().trim_end_matches('/')
}

fn check_agent_id(own: &str, wanted: &str) -> Result<(), Error> {
    if own == wanted {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AgentIdMismatch,
        format!("this home belongs to the agent {own}, not to {wanted}"),
        "use another home for another agent, or: p2p-comm config set agent_id ID",
    ))
}

/// A daemon's umask makes its database private; here it is private because it is there already.
fn reserve_database(home: &Home) {
    // If it cannot be made, opening it says why.
    let _ = OpenOptions::new().append(true).create(true).mode(0o600).open(home.database());
}
