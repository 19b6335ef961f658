//! Rust futures as Python's: a [`Promise`] is the Rust end of an `asyncio.Future`.
//!
//! ```text
//! loop thread      Promise::new ── Future ──▶ await …                       ◀── set_result
//!                       │                                                        ▲
//! tokio worker          └──▶ task ── settle ──▶ queue                            │ call_soon_threadsafe
//! one thread of ours                              └──▶ takes the GIL once per batch
//! ```
//!
//! Only that one thread takes the GIL, so Python that computes for a second delays answers, never an engine that runs
//! in the same process. When a Future is cancelled, or the loop that owns it is gone, [`Cancelled`] resolves.

use std::sync::{Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tokio::sync::{mpsc, oneshot};

use super::error;
use super::runtime::ProcessBound;
use crate::api::Error;

/// Answers on their way to Python. Tasks wait when it is full, engines do not: they have answered already.
const QUEUED_DELIVERIES: usize = 1_024;
/// Answers delivered for each time that the GIL is taken: below the 5 ms after which the interpreter asks for it back.
const BATCH: usize = 64;

/// What the loop thread will find in the Future: made under the GIL.
pub(super) type Value = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Py<PyAny>> + Send>;

/// The value of a Future that only says "done".
pub(super) fn nothing() -> Value {
    Box::new(|py| Ok(py.None()))
}

/// The way to the thread that speaks to Python.
#[derive(Clone)]
pub(super) struct Deliveries(mpsc::Sender<Option<Delivery>>);

/// An outcome for a Future.
pub(super) struct Delivery {
    event_loop: Py<PyAny>,
    future: Py<PyAny>,
    outcome: Result<Value, Error>,
}

impl Deliveries {
    pub(super) fn channel() -> (Self, mpsc::Receiver<Option<Delivery>>) {
        let (sender, receiver) = mpsc::channel(QUEUED_DELIVERIES);
        (Self(sender), receiver)
    }

    /// Lets the thread end after what is queued.
    pub(super) fn stop(&self) {
        // An error says that it has ended already.
        let _ = self.0.blocking_send(None);
    }
}

/// The body of the one thread that takes the GIL.
pub(super) fn deliver_all(mut deliveries: mpsc::Receiver<Option<Delivery>>) {
    let mut batch = Vec::with_capacity(BATCH);
    while deliveries.blocking_recv_many(&mut batch, BATCH) > 0 {
        let go_on = Python::try_attach(|py| {
            batch.drain(..).all(|delivery| delivery.map(|delivery| delivery.deliver(py)).is_some())
        });
        if go_on != Some(true) {
            return;
        }
    }
}

impl Delivery {
    fn deliver(self, py: Python<'_>) {
        let event_loop = self.event_loop.bind(py);
        let settled = self.outcome.map_err(|error| error::raise(py, &error)).and_then(|value| value(py));
        let (value, failed) = match settled {
            Ok(value) => (value, false),
            Err(error) => (error.into_value(py).into_any(), true),
        };
        let told = settle_function(py).and_then(|settle| {
            let arguments = (settle, &self.future, value, failed);
            event_loop.call_method1(intern!(py, "call_soon_threadsafe"), arguments)
        });
        if let Err(error) = told {
            // The loop is closed: nobody waits for this any more.
            tracing::debug!(%error, "an answer came after the end of its event loop");
        }
    }
}

/// Runs on the loop's own thread.
#[pyfunction]
fn settle(future: &Bound<'_, PyAny>, value: Bound<'_, PyAny>, failed: bool) -> PyResult<()> {
    let py = future.py();
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    let method = if failed { intern!(py, "set_exception") } else { intern!(py, "set_result") };
    future.call_method1(method, (value,)).map(drop)
}

fn settle_function(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let function = FUNCTION
        .get_or_try_init(py, || wrap_pyfunction!(settle, py).map(|function| function.into_any().unbind()))?;
    Ok(function.bind(py))
}

/// The obligation to settle a Future.
pub(super) struct Promise {
    deliveries: Deliveries,
    /// Loop and Future; `None` once settled.
    waiting: Option<(Py<PyAny>, Py<PyAny>)>,
}

impl Promise {
    /// A Future of the running loop, and the promise to settle it.
    pub(super) fn new<'py>(
        py: Python<'py>,
        deliveries: &Deliveries,
    ) -> PyResult<(Bound<'py, PyAny>, Self, Cancelled)> {
        let event_loop = py.import(intern!(py, "asyncio"))?.call_method0(intern!(py, "get_running_loop"))?;
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let (waiting, cancelled) = oneshot::channel();
        let waiting = Waiting(Mutex::new(Some(ProcessBound::new(waiting))));
        future.call_method1(intern!(py, "add_done_callback"), (waiting,))?;
        let waiting = Some((event_loop.unbind(), future.clone().unbind()));
        Ok((future, Self { deliveries: deliveries.clone(), waiting }, Cancelled(cancelled)))
    }

    /// Leaves the Future alone: it is cancelled already, or nobody was given it.
    pub(super) fn disarm(mut self) {
        self.waiting = None;
    }

    pub(super) async fn settle(mut self, outcome: Result<Value, Error>) {
        if let Some((event_loop, future)) = self.waiting.take() {
            let delivery = Delivery { event_loop, future, outcome };
            // An error says that the interpreter exits.
            let _ = self.deliveries.0.send(Some(delivery)).await;
        }
    }
}

impl Drop for Promise {
    /// A task that ends without an answer, by a defect or because it was cancelled, leaves nobody waiting.
    fn drop(&mut self) {
        if let Some((event_loop, future)) = self.waiting.take() {
            let outcome = Err(Error::internal("a task ended without an answer"));
            let _ = self.deliveries.0.try_send(Some(Delivery { event_loop, future, outcome }));
        }
    }
}

/// Resolves when nobody waits for a Future any more.
pub(super) struct Cancelled(oneshot::Receiver<()>);

impl Cancelled {
    pub(super) async fn wait(self) {
        // The sender is dropped, never used.
        let _ = self.0.await;
    }
}

/// A Future's callback: lets go of the sender when the Future is done, or forgotten together with its loop.
#[pyclass(frozen, module = "p2p_comm._native", name = "_Waiting")]
struct Waiting(Mutex<Option<ProcessBound<oneshot::Sender<()>>>>);

#[pymethods]
impl Waiting {
    fn __call__(&self, _future: &Bound<'_, PyAny>) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
