//! The tokio runtime under Python: one per process, ours, and gone before the interpreter is.
//!
//! ```text
//! unused ── first use ──▶ running ── atexit ──▶ stopped
//! ```
//!
//! A thread that asks for the GIL while the interpreter goes away is ended in the middle of its Rust frames, and takes
//! the process with it. Answers need no such thread (see `future`), records of the log do. So an `atexit` hook, which
//! comes before that, releases the GIL, tells the links to stop, stops the runtime, and ends the thread of the log.
//!
//! After a fork, a child has the parent's memory without the parent's threads: a lock may be held for ever, a wake-up
//! reaches nobody. Everything of the runtime that Python objects keep is therefore [`ProcessBound`]: a child can
//! neither use nor drop it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use tokio::sync::{mpsc, watch};

use crate::api::{Error, ErrorKind};

/// An engine waits for relays and for one disk: two threads keep a slow task from holding up the rest.
const WORKER_THREADS: usize = 2;
/// How long links have, at exit, to stop the engines that they host: as long as the daemon gives its own.
const LINKS_STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long tasks that are in the middle of something have after that.
const TASKS_STOP_WITHIN: Duration = Duration::from_secs(1);

static STATE: Mutex<State> = Mutex::new(State::Unused);

enum State {
    Unused,
    Running(Running),
    Stopped,
}

struct Running {
    pid: u32,
    tokio: tokio::runtime::Runtime,
    context: Context,
    stop: watch::Sender<bool>,
    /// Yields `None` once no task holds a [`Context`].
    users: mpsc::Receiver<()>,
}

/// What a task needs of the runtime. The runtime stops when the last of these is gone, or when its patience is.
#[derive(Clone)]
pub(super) struct Context {
    tokio: tokio::runtime::Handle,
    pub(super) stopping: watch::Receiver<bool>,
    _user: mpsc::Sender<()>,
}

impl Context {
    /// The context of this process; starts the runtime on first use.
    pub(super) fn get(py: Python<'_>) -> PyResult<Self> {
        // The GIL is held from here to the end of the function, as it is by whoever forks: a child never inherits
        // this lock locked.
        let mut state = lock();
        match &*state {
            State::Running(running) if running.pid == std::process::id() => Ok(running.context.clone()),
            State::Running(_) => Err(super::error::raise(py, &forked())),
            State::Stopped => Err(super::error::raise(py, &exiting())),
            State::Unused => {
                let running = Running::start()?;
                let context = running.context.clone();
                *state = State::Running(running);
                drop(state);
                let stop = wrap_pyfunction!(stop, py)?;
                py.import("atexit")?.call_method1("register", (stop,))?;
                Ok(context)
            }
        }
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tokio.spawn(task);
    }
}

impl Running {
    fn start() -> PyResult<Self> {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .thread_name("p2p-comm")
            .enable_all()
            .build()?;
        let (stop, stopping) = watch::channel(false);
        let (user, users) = mpsc::channel(1);
        let context = Context { tokio: tokio.handle().clone(), stopping, _user: user };
        Ok(Self { pid: std::process::id(), tokio, context, stop, users })
    }

    /// Must be called without the GIL: what is stopped may be waiting for it.
    fn stop(self) {
        let Self { tokio, context, stop, mut users, .. } = self;
        drop(context);
        stop.send_replace(true);
        let orderly = async { tokio::time::timeout(LINKS_STOP_WITHIN, users.recv()).await.is_ok() };
        if !tokio.block_on(orderly) {
            tracing::warn!("stopped with work in flight, as after a crash: the next start continues it");
        }
        tokio.shutdown_timeout(TASKS_STOP_WITHIN);
        super::logging::stop();
    }
}

/// Stops the runtime: the `atexit` hook.
#[pyfunction]
fn stop(py: Python<'_>) {
    let mut state = lock();
    if !matches!(&*state, State::Running(running) if running.pid == std::process::id()) {
        return;
    }
    let stopped = std::mem::replace(&mut *state, State::Stopped);
    drop(state);
    if let State::Running(running) = stopped {
        py.detach(|| running.stop());
    }
}

fn lock() -> MutexGuard<'static, State> {
    // No operation under the lock leaves the state half changed.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A value that only the process which made it may use or drop.
pub(super) struct ProcessBound<T> {
    pid: u32,
    /// `None` only while it is being dropped.
    value: Option<T>,
}

impl<T> ProcessBound<T> {
    pub(super) fn new(value: T) -> Self {
        Self { pid: std::process::id(), value: Some(value) }
    }

    /// The value, for the process that made it.
    pub(super) fn get(&self) -> Result<&T, Error> {
        self.value.as_ref().filter(|_| self.pid == std::process::id()).ok_or_else(forked)
    }
}

impl<T> Drop for ProcessBound<T> {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            std::mem::forget(self.value.take());
        }
    }
}

fn forked() -> Error {
    Error::new(
        ErrorKind::InvalidValue,
        "this process was forked from one that uses p2p_comm, and cannot use what it inherited",
        "start the child with the multiprocessing method \"spawn\", or use p2p_comm only after the fork",
    )
}

fn exiting() -> Error {
    Error::new(ErrorKind::InvalidValue, "the interpreter is exiting", "close every Agent before that")
}
