//! The daemon's own process, from its first line to its last.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Hosted, Ready, Service, log, memory};
use crate::api::Error;
use crate::home::settings::{self, Layers};
use crate::home::{Holder, Home, HomeLock, Settings};

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
    run_with(options, super::start_engine, ready)
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
    // Before there is anything in its memory.
    crate::home::forbid_core_dumps();
    let Some(lock) = home.lock()? else {
        return Ok(Outcome::AlreadyRunning(home.holder()));
    };
    log::begin(&home, detached)?;
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
        Err(error) => tracing::error!(%error, "failed"),
    }
    outcome.map(|()| Outcome::Stopped)
}

async fn serve<E: Hosted>(
    lock: HomeLock,
    layers: Layers,
    start: impl FnOnce(Home, Settings) -> Result<E, Error>,
    ready: impl FnOnce(&Ready) -> Result<(), Error>,
) -> Result<(), Error> {
    // Before the engine: a stop that comes while it starts is not lost.
    let mut signals = Signals::listen()?;
    let service = Service::open(lock, layers.settings(), start).await?;
    let result = match ready(service.ready()) {
        Ok(()) => {
            tokio::spawn(memory::give_back_start());
            tokio::select! {
                biased;
                name = signals.received() => {
                    tracing::info!(signal = name, "stopping");
                    Ok(())
                }
                over = service.until_over() => over,
            }
        }
        Err(error) => Err(error),
    };
    service.close().await;
    result
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
