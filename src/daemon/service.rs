//! An engine that serves its home's socket: what the daemon runs, and what a Python process hosts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::metrics::Endpoint;
use super::{Hosted, VERSION, start_engine};
use crate::api::{Command, Error, Status};
use crate::engine::{Engine, Handle};
use crate::home::{Home, HomeLock, Settings};
use crate::ipc::{Hello, Server};
use crate::wake::Wakes;

/// How long an orderly stop may take. A shell or service manager that waits longer kills.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Who is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// Process id.
    pub pid: u32,
    /// Version of the package.
    pub version: String,
    /// The home folder.
    pub home: String,
    /// The socket.
    pub socket: PathBuf,
    /// Where Prometheus fetches figures.
    pub metrics: Option<String>,
}

/// A running engine with its lock and its socket. Belongs to the runtime that it was opened in.
pub struct Service<E = Engine> {
    lock: HomeLock,
    engine: E,
    server: Server,
    wakes: Wakes,
    ready: Ready,
    /// Ends with the service.
    _metrics: Option<Endpoint>,
}

/// Hosts the engine of a home in this process, and serves its socket; `None` if another process does.
///
/// # Errors
/// Whatever keeps the engine from starting.
pub async fn host(home: &Home, settings: Settings) -> Result<Option<Service>, Error> {
    match home.lock()? {
        Some(lock) => Service::open(lock, settings, start_engine).await.map(Some),
        None => Ok(None),
    }
}

impl<E: Hosted> Service<E> {
    /// Starts the engine, then serves the socket: one that can be connected to is one whose engine is ready.
    pub(super) async fn open(
        mut lock: HomeLock,
        settings: Settings,
        start: impl FnOnce(Home, Settings) -> Result<E, Error>,
    ) -> Result<Self, Error> {
        let metrics = settings.metrics;
        let engine = start(lock.home().clone(), settings.clone())?;
        match serve(&mut lock, &engine, metrics).await {
            Ok((server, ready, metrics)) => {
                let wakes = Wakes::start(lock.home().clone(), settings, engine.handle(), engine.reloads());
                Ok(Self { lock, engine, server, wakes, ready, _metrics: metrics })
            }
            Err(error) => {
                stop(engine).await;
                lock.unbind();
                Err(error)
            }
        }
    }

    /// Who is ready.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// A way to ask the engine.
    pub fn handle(&self) -> Handle {
        self.engine.handle()
    }

    /// Returns when a client has asked for an orderly stop, or when the engine has died: its words then.
    ///
    /// # Errors
    /// `internal` if the engine has died.
    pub async fn until_over(&self) -> Result<(), Error> {
        tokio::select! {
            () = self.server.stop_requested() => Ok(()),
            () = async { self.engine.handle().closed().await } => Err(Error::internal("the engine has died")),
        }
    }

    /// Closes the socket, stops the engine in bounded time, and frees the home.
    pub async fn close(mut self) {
        self.server.close().await;
        self.wakes.stop().await;
        stop(self.engine).await;
        self.lock.unbind();
    }
}

async fn stop<E: Hosted>(engine: E) {
    if tokio::time::timeout(STOP_TIMEOUT, engine.stop()).await.is_err() {
        tracing::warn!(seconds = STOP_TIMEOUT.as_secs(), "the engine did not stop in time");
    }
}

async fn serve<E: Hosted>(
    lock: &mut HomeLock,
    engine: &E,
    metrics: Option<SocketAddr>,
) -> Result<(Server, Ready, Option<Endpoint>), Error> {
    let metrics = match metrics {
        Some(address) => Some(Endpoint::open(address, engine.handle()).await?),
        None => None,
    };
    let status = Status::try_from(engine.handle().ask(Command::Status {}).await?)?;
    let pid = std::process::id();
    let home = lock.home().path().display().to_string();
    let listener = lock.bind()?;
    let hello = Hello { version: VERSION.to_owned(), pid, home: home.clone(), agent: status.agent };
    let server = Server::serve(listener, engine.handle(), hello).map_err(Error::internal)?;
    tracing::info!(version = VERSION, pid, "ready");
    let socket = lock.home().socket()?;
    let url = metrics.as_ref().map(|endpoint| endpoint.url.clone());
    Ok((server, Ready { pid, version: VERSION.to_owned(), home, socket, metrics: url }, metrics))
}
