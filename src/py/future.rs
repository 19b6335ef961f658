//! Rust answers as Python's Futures: a [`Promise`] is the Rust end of an `asyncio.Future`.
//!
//! ```text
//! loop thread      Promise::new ── Future ──▶ await …            ◀── set_result ◀── takes what is in the mailbox
//!                       │                                                                   ▲
//! any other thread      └──▶ … ── settle ──▶ mailbox of the loop ── a byte in a pipe ───────┘ add_reader
//! ```
//!
//! No thread of ours takes the GIL for an answer: the loop finds it when it looks for what it may read, and makes
//! Python's value of it with the GIL that it has. Python that computes for a second delays answers, never an engine that
//! runs in the same process; and of answers that come together only the first wakes the loop. When a Future is done with
//! (settled, cancelled, or forgotten together with its loop), its promise [is forgotten](Promise::is_forgotten).

use std::collections::VecDeque;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tokio::sync::oneshot;

use super::error;
use super::runtime::ProcessBound;
use crate::api::Error;

/// Answers delivered in one turn of the loop, which has other work, too: some milliseconds.
const TURN: usize = 128;

/// What the loop thread will find in the Future: made under the GIL.
pub(super) type Value = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Py<PyAny>> + Send>;

/// The value of a Future that only says "done".
pub(super) fn nothing() -> Value {
    Box::new(|py| Ok(py.None()))
}

/// An outcome for a Future.
struct Delivery {
    future: Py<PyAny>,
    outcome: Result<Value, Error>,
}

/// What waits for an event loop. There is a byte in the pipe as long as there is something.
struct Letters {
    waiting: VecDeque<Delivery>,
    bell: PipeWriter,
    rung: PipeReader,
}

/// The way to an event loop, from any thread.
type Mailbox = Arc<Mutex<Letters>>;

fn lock(mailbox: &Mailbox) -> MutexGuard<'_, Letters> {
    // No operation under the lock leaves it half done.
    mailbox.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Letters {
    fn put(&mut self, delivery: Delivery) {
        if self.waiting.is_empty() {
            // One byte fits. An error says that the loop is closed, and nobody waits any more.
            _ = self.bell.write(&[1]);
        }
        self.waiting.push_back(delivery);
    }

    /// The next few; the loop comes again as long as the byte is there.
    fn take(&mut self) -> Vec<Delivery> {
        let next: Vec<Delivery> = self.waiting.drain(..self.waiting.len().min(TURN)).collect();
        if self.waiting.is_empty() && !next.is_empty() {
            _ = self.rung.read(&mut [0]);
        }
        next
    }
}

impl Delivery {
    fn deliver(self, py: Python<'_>) -> PyResult<()> {
        let future = self.future.bind(py);
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match self.outcome.map_err(|error| error::raise(py, &error)).and_then(|value| value(py)) {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,)),
            Err(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),)),
        }
        .map(drop)
    }
}

/// The callback that the loop has for the pipe.
#[pyclass(frozen, module = "p2p_comm._native", name = "_Mailbox")]
struct Reader(ProcessBound<Mailbox>);

#[pymethods]
impl Reader {
    /// Runs on the loop's own thread.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let mailbox = self.0.get().map_err(|error| error::raise(py, &error))?;
        let next = lock(mailbox).take();
        for delivery in next {
            if let Err(error) = delivery.deliver(py) {
                tracing::warn!(%error, "an answer was not handed over");
            }
        }
        Ok(())
    }
}

impl Reader {
    /// The mailbox of a loop; made when it is first asked for. It is gone when the loop is.
    fn of<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        static OF_LOOPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = event_loop.py();
        let of_loops = OF_LOOPS
            .get_or_try_init(py, || {
                py.import("weakref")?.getattr("WeakKeyDictionary")?.call0().map(Bound::unbind)
            })?
            .bind(py);
        let known = of_loops.call_method1(intern!(py, "get"), (event_loop,))?;
        if !known.is_none() {
            return Ok(known.cast_into::<Self>()?);
        }
        let (rung, bell) = std::io::pipe()?;
        let descriptor = rung.as_raw_fd();
        let letters = Letters { waiting: VecDeque::new(), bell, rung };
        let reader = Bound::new(py, Self(ProcessBound::new(Arc::new(Mutex::new(letters)))))?;
        event_loop.call_method1(intern!(py, "add_reader"), (descriptor, &reader))?;
        of_loops.set_item(event_loop, &reader)?;
        Ok(reader)
    }
}

/// The obligation to settle a Future.
pub(super) struct Promise {
    mailbox: Mailbox,
    /// `None` once settled.
    future: Option<Py<PyAny>>,
    /// Its other end is the Future's.
    forgotten: oneshot::Sender<()>,
}

impl Promise {
    /// A Future of the running loop, and the promise to settle it.
    pub(super) fn new(py: Python<'_>) -> PyResult<(Bound<'_, PyAny>, Self)> {
        let event_loop = py.import(intern!(py, "asyncio"))?.call_method0(intern!(py, "get_running_loop"))?;
        let reader = Reader::of(&event_loop)?;
        let mailbox = reader.get().0.get().map_err(|error| error::raise(py, &error))?.clone();
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let (forgotten, waiting) = oneshot::channel();
        let waiting = Waiting(Mutex::new(Some(ProcessBound::new(waiting))));
        future.call_method1(intern!(py, "add_done_callback"), (waiting,))?;
        let promise = Self { mailbox, future: Some(future.clone().unbind()), forgotten };
        Ok((future, promise))
    }

    /// Whether nobody waits for the Future any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.forgotten.is_closed()
    }

    /// Returns when nobody waits for the Future any more.
    pub(super) async fn forgotten(&mut self) {
        self.forgotten.closed().await;
    }

    /// Leaves the Future alone: it is cancelled already, or nobody was given it.
    pub(super) fn disarm(mut self) {
        self.future = None;
    }

    pub(super) fn settle(mut self, outcome: Result<Value, Error>) {
        self.fulfil(outcome);
    }

    fn fulfil(&mut self, outcome: Result<Value, Error>) {
        if let Some(future) = self.future.take() {
            lock(&self.mailbox).put(Delivery { future, outcome });
        }
    }
}

impl Drop for Promise {
    /// What ends without an answer, by a defect or because it was cancelled, leaves nobody waiting.
    fn drop(&mut self) {
        self.fulfil(Err(Error::internal("a task ended without an answer")));
    }
}

/// A Future's callback: lets go of its end when the Future is done, or forgotten together with its loop.
#[pyclass(frozen, module = "p2p_comm._native", name = "_Waiting")]
struct Waiting(Mutex<Option<ProcessBound<oneshot::Receiver<()>>>>);

#[pymethods]
impl Waiting {
    fn __call__(&self, _future: &Bound<'_, PyAny>) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
