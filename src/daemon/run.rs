//! The daemon's own process, from its first line to its last.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Hosted, VERSION, log};
use crate::api::{Command, Error, Status};
use crate::engine::{self, Engine};
use crate::home::settings::{self, Layers};
use crate::home::{Holder, Home, HomeLock, Settings};
use crate::ipc::{Hello, Server};

/// How long an orderly stop may take. A shell or service manager that waits longer kills.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long tasks that are left over may take to notice.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// The daemon waits for sockets and one database: two threads are enough, and sleep most of the time.
const WORKER_THREADS: usize = 2;

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The home.
    pub home: Home,
    /// Settings that count more than every other source, by name.
    pub flags: Vec<(String, String)>,
    /// In the background: the log goes to the file only.
    pub detached: bool,
}

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
}

/// How a run ended that was no failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It served until it was stopped.
    Stopped,
    /// Another process runs this home's engine; nothing was touched.
    AlreadyRunning(Option<Holder>),
}

/// Runs the engine of a home until a signal or a client ends it. `ready` is called once the socket answers.
///
/// # Errors
/// Whatever keeps the daemon from starting.
pub fn run(options: Options, ready: impl FnOnce(&Ready) -> Result<(), Error>) -> Result<Outcome, Error> {
    run_with(options, |home, settings| Engine::start(engine::Options { home, settings }), ready)
}

/// Like [`run`], with another engine.
///
/// # Errors
/// Whatever keeps the daemon from starting.
pub fn run_with<E: Hosted>(
    options: Options,
    start: impl FnOnce(Home, Settings) -> Result<E, Error>,
    ready: impl FnOnce(&Ready) -> Result<(), Error>,
) -> Result<Outcome, Error> {
    let Options { home, flags, detached } = options;
    crate::home::restrict_new_files();
    let Some(lock) = home.lock()? else {
        return Ok(Outcome::AlreadyRunning(home.holder()));
    };
    log::begin(&home, detached)?;
    // A core dump would hold the key. Where that cannot be forbidden, nothing else depends on it.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let layers = settings::load(&home, &flags)?;
    layers.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("p2p-comm")
        .enable_all()
        .build()
        .map_err(Error::internal)?;
    let outcome = runtime.block_on(serve(lock, layers, start, ready));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    match &outcome {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!(%error, "not started"),
    }
    outcome.map(|()| Outcome::Stopped)
}

async fn serve<E: Hosted>(
    mut lock: HomeLock,
    layers: Layers,
    start: impl FnOnce(Home, Settings) -> Result<E, Error>,
    ready: impl FnOnce(&Ready) -> Result<(), Error>,
) -> Result<(), Error> {
    // Before the engine: a stop that comes while it starts is not lost.
    let mut signals = Signals::listen()?;
    let engine = start(lock.home().clone(), layers.settings())?;
    let served = begin_to_serve(&mut lock, &engine, ready).await;
    let result = match served {
        Ok(server) => {
            tokio::select! {
                biased;
                name = signals.received() => tracing::info!(signal = name, "stopping"),
                () = server.stop_requested() => tracing::info!("stopping: a client asked for it"),
            }
            server.close().await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    if tokio::time::timeout(STOP_TIMEOUT, engine.stop()).await.is_err() {
        tracing::warn!(seconds = STOP_TIMEOUT.as_secs(), "the engine did not stop in time");
    }
    lock.unbind();
    result
}

async fn begin_to_serve<E: Hosted>(
    lock: &mut HomeLock,
    engine: &E,
    ready: impl FnOnce(&Ready) -> Result<(), Error>,
) -> Result<Server, Error> {
    let home = lock.home().clone();
    let status = Status::try_from(engine.handle().ask(Command::Status {}).await?)?;
    let agent = status.agent;
    let pid = std::process::id();
    let listener = lock.bind()?;
    let place = home.path().display().to_string();
    let hello = Hello { version: VERSION.to_owned(), pid, home: place.clone(), agent };
    let server = Server::serve(listener, engine.handle(), hello).map_err(Error::internal)?;
    tracing::info!(version = VERSION, pid, "ready");
    let report = Ready { pid, version: VERSION.to_owned(), home: place, socket: home.socket()? };
    match ready(&report) {
        Ok(()) => Ok(server),
        Err(error) => {
            server.close().await;
            Err(error)
        }
    }
}

/// What ends the daemon from outside.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on the signals are ours; SIGPIPE too: a client that hangs up is an error of one write, not the end.
    pub(super) fn listen() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::internal);
        drop(listen(SignalKind::pipe())?);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub(super) async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
