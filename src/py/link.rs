//! A link to an engine: in this process, or in the daemon. What Python's `Agent` stands on.
//!
//! Commands go through one queue to one task, which hands each over to the engine before it takes the next, and waits
//! for all their replies at once: so they reach the engine in the order of invocation.
//!
//! ```text
//! connect ──▶ open ── close(), or the last reference is gone ──▶ closing ──▶ closed
//! ```
//!
//! *Closing* answers the requests that wait, lets posted commands finish, and stops an engine that is hosted here. The
//! stop of the runtime closes every link.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pythonize::{depythonize, pythonize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::backend::{Backend, ConnectOptions, Submitted};
use super::error::raise;
use super::future::{Cancelled, Deliveries, Promise, Value, nothing};
use super::runtime::{Context, ProcessBound};
use crate::api::{Command, Error, ErrorKind, Reply};

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
    let (future, promise, _) = Promise::new(py, &context.deliveries)?;
    let task = context.clone();
    context.spawn(async move {
        let outcome = Backend::connect(options).await.map(|backend| Link::value(backend, task));
        promise.settle(outcome).await;
    });
    Ok(future)
}

/// A link to an engine. Belongs to no event loop and no thread.
#[pyclass(frozen, module = "p2p_comm._native")]
pub(super) struct Link {
    submissions: ProcessBound<mpsc::Sender<Submission>>,
    deliveries: ProcessBound<Deliveries>,
    /// Whether the engine runs in this process.
    #[pyo3(get)]
    hosted: bool,
}

enum Submission {
    Request(Command, Promise, Cancelled),
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
        self.submit_awaited(py, |promise, cancelled| Submission::Request(command, promise, cancelled))
    }

    /// Submits a command whose reply nobody waits for.
    fn post(&self, py: Python<'_>, method: &str, params: &Bound<'_, PyDict>) -> PyResult<()> {
        let command = command(py, method, params)?;
        self.submit(py, Submission::Post(command))
    }

    /// Lets go of the engine, and stops it if it is hosted here. A Future of `None`.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.submit_awaited(py, |promise, _| Submission::Close(promise))
    }
}

impl Link {
    fn value(backend: Backend, context: Context) -> Value {
        let (submissions, received) = mpsc::channel(QUEUED_COMMANDS);
        let link = Self {
            submissions: ProcessBound::new(submissions),
            deliveries: ProcessBound::new(context.deliveries.clone()),
            hosted: backend.hosted(),
        };
        context.clone().spawn(serve(backend, received, context));
        Box::new(move |py| Ok(Py::new(py, link)?.into_any()))
    }

    fn submit_awaited<'py>(
        &self,
        py: Python<'py>,
        submission: impl FnOnce(Promise, Cancelled) -> Submission,
    ) -> PyResult<Bound<'py, PyAny>> {
        let deliveries = self.deliveries.get().map_err(|error| raise(py, &error))?;
        let (future, promise, cancelled) = Promise::new(py, deliveries)?;
        self.submit(py, submission(promise, cancelled))?;
        Ok(future)
    }

    fn submit(&self, py: Python<'_>, submission: Submission) -> PyResult<()> {
        let submissions = self.submissions.get().map_err(|error| raise(py, &error))?;
        let refused = match submissions.try_send(submission) {
            Ok(()) => None,
            Err(TrySendError::Full(submission)) => {
                py.detach(|| submissions.blocking_send(submission).err().map(|refused| refused.0))
            }
            Err(TrySendError::Closed(submission)) => Some(submission),
        };
        refused.map_or(Ok(()), |refused| {
            refused.disarm();
            Err(raise(py, &closed()))
        })
    }
}

impl Submission {
    /// Drops it without an answer: its Future never leaves the caller.
    fn disarm(self) {
        if let Self::Request(_, promise, _) | Self::Close(promise) = self {
            promise.disarm();
        }
    }
}

fn command(py: Python<'_>, method: &str, params: &Bound<'_, PyDict>) -> PyResult<Command> {
    let whole = PyDict::new(py);
    whole.set_item("method", method)?;
    whole.set_item("params", params)?;
    depythonize(whole.as_any()).map_err(|error| raise(py, &invalid(error)))
}

/// The task of a link.
async fn serve(backend: Backend, mut submissions: mpsc::Receiver<Submission>, context: Context) {
    let mut stopping = context.stopping.clone();
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
                Some(Submission::Request(command, promise, cancelled)) => {
                    let submitted = submit(&backend, command, &mut in_flight).await;
                    in_flight.push(Box::pin(request(submitted, promise, cancelled, closing.clone())));
                }
                Some(Submission::Post(command)) => {
                    let submitted = submit(&backend, command, &mut in_flight).await;
                    in_flight.push(Box::pin(post(submitted)));
                }
            }
        }
    };
    close.send_replace(true);
    submissions.close();
    while let Ok(late) = submissions.try_recv() {
        match late {
            Submission::Request(_, promise, _) => promise.settle(Err(closed())).await,
            Submission::Close(promise) => promise.settle(Ok(nothing())).await,
            Submission::Post(command) => {
                let submitted = submit(&backend, command, &mut in_flight).await;
                in_flight.push(Box::pin(post(submitted)));
            }
        }
    }
    let finish = async { while in_flight.next().await.is_some() {} };
    if tokio::time::timeout(POSTED_FINISH_WITHIN, finish).await.is_err() {
        tracing::warn!("a link was closed before everything posted on it was carried out");
    }
    drop(in_flight);
    backend.stop().await;
    if let Some(promise) = closed_by {
        promise.settle(Ok(nothing())).await;
    }
}

/// Resolves when the flag is up, or nobody is left to raise it.
async fn told(flag: &mut watch::Receiver<bool>) {
    // The value is a lock, not to be held for longer.
    let _ = flag.wait_for(|flag| *flag).await;
}

/// Commands that the engine has.
type InFlight<'a> = FuturesUnordered<BoxFuture<'a, ()>>;

/// Hands a command over, and lets others be answered while the engine has no room for it.
async fn submit<'a>(
    backend: &'a Backend,
    command: Command,
    in_flight: &mut InFlight<'a>,
) -> Result<Submitted<'a>, Error> {
    let mut submitting = pin!(backend.submit(command));
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
    promise: Promise,
    cancelled: Cancelled,
    mut closing: watch::Receiver<bool>,
) {
    let outcome = tokio::select! {
        biased;
        () = cancelled.wait() => return promise.disarm(),
        () = told(&mut closing) => Err(closed()),
        reply = reply(submitted) => reply,
    };
    let value = |reply| -> Value { Box::new(move |py| Ok(pythonize(py, &reply)?.unbind())) };
    promise.settle(outcome.map(value)).await;
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
