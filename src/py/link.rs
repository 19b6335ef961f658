//! A link to an engine: in this process, or in the daemon. What Python's `Agent` stands on.
//!
//! Commands reach the engine in the order of invocation. To one that is hosted here they go straight into its queue, from
//! the thread that asks, and the replies straight into the mailbox of its loop (`future`). To the daemon they go through
//! one queue to one task, which hands each over before it takes the next, and waits for all their replies at once.
//!
//! ```text
//! connect ──▶ open ── close(), or the last reference is gone ──▶ closing ──▶ closed
//! ```
//!
//! *Closing* lets posted commands finish, answers the requests that wait, and stops an engine that is hosted here. The
//! stop of the runtime closes every link.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pythonize::{depythonize, pythonize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::backend::{Backend, ConnectOptions};
use super::error::raise;
use super::future::{Promise, Value, nothing};
use super::runtime::{Context, ProcessBound};
use crate::api::{Command, Error, ErrorKind, Reply};
use crate::engine::{self, Handle, ReplyTo, Unsent};
use crate::ipc::{Client, Submitted};

/// Commands between Python and the task. When it is full, the submitting thread waits, which takes microseconds: the
/// task never waits for Python.
const QUEUED_COMMANDS: usize = 1_024;
/// How long commands that nobody waits for have after `close`: a commit of a hosted engine takes a disk's flush.
const POSTED_FINISH_WITHIN: Duration = Duration::from_secs(2);

/// Connects to the engine of a home: to the running daemon, or to one hosted here. A Future of a [`Link`].
#[pyfunction]
pub(super) fn connect<'py>(py: Python<'py>, options: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    let options: ConnectOptions = depythonize(options).map_err(|error| raise(py, &invalid(error)))?;
    let context = Context::get(py)?;
    // Not cancelled half-way: a link that nobody takes closes itself.
    let (future, promise) = Promise::new(py)?;
    let task = context.clone();
    context.spawn(async move {
        let outcome = Backend::connect(options).await.map(|backend| Link::value(backend, task));
        promise.settle(outcome);
    });
    Ok(future)
}

/// A link to an engine. Belongs to no event loop and no thread.
#[pyclass(frozen, module = "p2p_comm._native")]
pub(super) struct Link {
    way: ProcessBound<Way>,
    /// Whether the engine runs in this process.
    #[pyo3(get)]
    hosted: bool,
}

/// The way to an engine.
struct Way {
    /// To one that runs in this process.
    here: Option<Here>,
    /// To the task that ends the link, and carries the commands to one that does not.
    submissions: mpsc::Sender<Submission>,
}

struct Here {
    engine: Handle,
    closed: Arc<AtomicBool>,
}

enum Submission {
    Request(Command, Promise),
    Post(Command),
    Close(Promise),
}

#[pymethods]
impl Link {
    /// Submits a command. A Future of its reply, in the shape of `docs/cli.md`.
    fn request<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        params: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let command = command(py, method, params)?;
        let way = self.way(py)?;
        let (future, promise) = Promise::new(py)?;
        match &way.here {
            Some(here) => {
                let promise = Some(promise);
                here.submit(py, command, Box::new(Asked { promise, closed: here.closed.clone() }));
            }
            None => way.submit(py, Submission::Request(command, promise))?,
        }
        Ok(future)
    }

    /// Submits a command whose reply nobody waits for.
    fn post(&self, py: Python<'_>, method: &str, params: &Bound<'_, PyDict>) -> PyResult<()> {
        let command = command(py, method, params)?;
        let way = self.way(py)?;
        match &way.here {
            Some(here) => here.submit(py, command, Box::new(Posted)),
            None => way.submit(py, Submission::Post(command))?,
        }
        Ok(())
    }

    /// Lets go of the engine, and stops it if it is hosted here. A Future of `None`.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let way = self.way(py)?;
        let (future, promise) = Promise::new(py)?;
        if let Some(here) = &way.here {
            here.closed.store(true, Ordering::Release);
        }
        way.submit(py, Submission::Close(promise))?;
        Ok(future)
    }
}

impl Link {
    fn value(backend: Backend, context: Context) -> Value {
        let (submissions, received) = mpsc::channel(QUEUED_COMMANDS);
        let here = backend.here().map(|engine| Here { engine, closed: Arc::default() });
        let hosted = here.is_some();
        let link = Self { way: ProcessBound::new(Way { here, submissions }), hosted };
        context.clone().spawn(serve(backend, received, context));
        Box::new(move |py| Ok(Py::new(py, link)?.into_any()))
    }

    /// The way, if it is open.
    fn way(&self, py: Python<'_>) -> PyResult<&Way> {
        let way = self.way.get().map_err(|error| raise(py, &error))?;
        match &way.here {
            Some(here) if here.closed.load(Ordering::Acquire) => Err(raise(py, &closed())),
            _ => Ok(way),
        }
    }
}

impl Way {
    fn submit(&self, py: Python<'_>, submission: Submission) -> PyResult<()> {
        let refused = match self.submissions.try_send(submission) {
            Ok(()) => None,
            Err(TrySendError::Full(submission)) => {
                py.detach(|| self.submissions.blocking_send(submission).err().map(|refused| refused.0))
            }
            Err(TrySendError::Closed(submission)) => Some(submission),
        };
        refused.map_or(Ok(()), |refused| {
            refused.disarm();
            Err(raise(py, &closed()))
        })
    }
}

impl Here {
    /// What an engine that has stopped does not take answers itself when it is dropped.
    fn submit(&self, py: Python<'_>, command: Command, reply: Box<dyn ReplyTo>) {
        if let Err(Unsent::Full(request)) = self.engine.try_submit(command, reply) {
            py.detach(|| self.engine.blocking_submit(*request));
        }
    }
}

/// The Future of a request to an engine that is hosted here.
struct Asked {
    /// `None` once it is answered.
    promise: Option<Promise>,
    closed: Arc<AtomicBool>,
}

impl ReplyTo for Asked {
    fn is_closed(&self) -> bool {
        self.promise.as_ref().is_none_or(Promise::is_forgotten)
    }

    fn answer(mut self: Box<Self>, reply: Result<Reply, Error>) {
        if let Some(promise) = self.promise.take() {
            promise.settle(reply.map(value));
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(promise) = self.promise.take() {
            let is_closed = self.closed.load(Ordering::Acquire);
            promise.settle(Err(if is_closed { closed() } else { engine::stopped() }));
        }
    }
}

/// Nobody waits for the reply.
struct Posted;

impl ReplyTo for Posted {
    fn is_closed(&self) -> bool {
        false
    }

    fn answer(self: Box<Self>, reply: Result<Reply, Error>) {
        if let Err(error) = reply {
            tracing::debug!(%error, "a command that nobody waits for failed");
        }
    }
}

impl Submission {
    /// Drops it without an answer: its Future never leaves the caller.
    fn disarm(self) {
        if let Self::Request(_, promise) | Self::Close(promise) = self {
            promise.disarm();
        }
    }
}

/// A reply, in Python's values.
fn value(reply: Reply) -> Value {
    Box::new(move |py| Ok(pythonize(py, &reply)?.unbind()))
}

fn command(py: Python<'_>, method: &str, params: &Bound<'_, PyDict>) -> PyResult<Command> {
    let whole = PyDict::new(py);
    whole.set_item("method", method)?;
    whole.set_item("params", params)?;
    depythonize(whole.as_any()).map_err(|error| raise(py, &invalid(error)))
}

/// The task of a link.
async fn serve(backend: Backend, submissions: mpsc::Receiver<Submission>, context: Context) {
    let stopping = context.stopping.clone();
    let closed_by = match &backend {
        Backend::Hosted(_) => until_closed(submissions, stopping).await,
        Backend::Remote(client) => carry(client, submissions, stopping).await,
    };
    backend.stop().await;
    if let Some(promise) = closed_by {
        promise.settle(Ok(nothing()));
    }
}

/// Waits until the link is closed: all else goes straight to the engine.
async fn until_closed(
    mut submissions: mpsc::Receiver<Submission>,
    mut stopping: watch::Receiver<bool>,
) -> Option<Promise> {
    tokio::select! {
        biased;
        () = told(&mut stopping) => None,
        submission = submissions.recv() => match submission {
            Some(Submission::Close(promise)) => Some(promise),
            _ => None,
        }
    }
}

/// Carries commands to the daemon, and replies back.
async fn carry(
    daemon: &Client,
    mut submissions: mpsc::Receiver<Submission>,
    mut stopping: watch::Receiver<bool>,
) -> Option<Promise> {
    let (close, closing) = watch::channel(false);
    let mut in_flight = InFlight::new();
    let closed_by = loop {
        tokio::select! {
            biased;
            () = told(&mut stopping) => break None,
            Some(()) = in_flight.next(), if !in_flight.is_empty() => {}
            submission = submissions.recv() => match submission {
                None => break None,
                Some(Submission::Close(promise)) => break Some(promise),
                Some(Submission::Request(command, promise)) => {
                    let submitted = submit(daemon, command, &mut in_flight).await;
                    in_flight.push(Box::pin(request(submitted, promise, closing.clone())));
                }
                Some(Submission::Post(command)) => {
                    let submitted = submit(daemon, command, &mut in_flight).await;
                    in_flight.push(Box::pin(post(submitted)));
                }
            }
        }
    };
    close.send_replace(true);
    submissions.close();
    while let Ok(late) = submissions.try_recv() {
        match late {
            Submission::Request(_, promise) => promise.settle(Err(closed())),
            Submission::Close(promise) => promise.settle(Ok(nothing())),
            Submission::Post(command) => {
                let submitted = submit(daemon, command, &mut in_flight).await;
                in_flight.push(Box::pin(post(submitted)));
            }
        }
    }
    let finish = async { while in_flight.next().await.is_some() {} };
    if tokio::time::timeout(POSTED_FINISH_WITHIN, finish).await.is_err() {
        tracing::warn!("a link was closed before everything posted on it was carried out");
    }
    closed_by
}

/// Resolves when the flag is up, or nobody is left to raise it.
async fn told(flag: &mut watch::Receiver<bool>) {
    // The value is a lock, not to be held for longer.
    let _ = flag.wait_for(|flag| *flag).await;
}

/// Commands that the daemon has.
type InFlight<'a> = FuturesUnordered<BoxFuture<'a, ()>>;

/// Hands a command over, and lets others be answered while the daemon has no room for it.
async fn submit<'a>(
    daemon: &'a Client,
    command: Command,
    in_flight: &mut InFlight<'a>,
) -> Result<Submitted<'a>, Error> {
    let mut submitting = pin!(daemon.submit(command));
    loop {
        tokio::select! {
            biased;
            submitted = &mut submitting => return submitted,
            Some(()) = in_flight.next(), if !in_flight.is_empty() => {}
        }
    }
}

async fn request(
    submitted: Result<Submitted<'_>, Error>,
    mut promise: Promise,
    mut closing: watch::Receiver<bool>,
) {
    let outcome = tokio::select! {
        biased;
        () = promise.forgotten() => None,
        () = told(&mut closing) => Some(Err(closed())),
        reply = reply(submitted) => Some(reply),
    };
    match outcome {
        Some(outcome) => promise.settle(outcome.map(value)),
        None => promise.disarm(),
    }
}

async fn post(submitted: Result<Submitted<'_>, Error>) {
    if let Err(error) = reply(submitted).await {
        tracing::debug!(%error, "a command that nobody waits for failed");
    }
}

async fn reply(submitted: Result<Submitted<'_>, Error>) -> Result<Reply, Error> {
    submitted?.reply().await
}

fn closed() -> Error {
    Error::new(
        ErrorKind::DaemonUnreachable,
        "this Agent is closed",
        "enter it with \"async with\", or start() it",
    )
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidValue, error.to_string(), "")
}
