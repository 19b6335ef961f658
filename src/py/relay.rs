//! The embedded relay under Python, for `p2p_comm.testing`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use super::error::raise;
use super::future::{Promise, Value, nothing};
use super::runtime::{Context, ProcessBound};
use crate::api::{Error, ErrorKind};
use crate::relay::{EmbeddedRelay, Options, Store};

/// Starts a relay on a free port of this machine's own address, which keeps its events in `folder`, or in memory.
/// A Future of a [`Relay`].
#[pyfunction]
#[pyo3(signature = (folder=None))]
pub(super) fn start_relay(py: Python<'_>, folder: Option<PathBuf>) -> PyResult<Bound<'_, PyAny>> {
    let context = Context::get(py)?;
    let (future, promise) = Promise::new(py)?;
    context.spawn(async move {
        let options = Options {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            store: folder.map_or(Store::Memory, Store::Disk),
            ..Options::default()
        };
        let outcome = EmbeddedRelay::start(options).await.map(Relay::value).map_err(|error| {
            Error::new(ErrorKind::InvalidValue, format!("the relay did not start: {error}"), "")
        });
        promise.settle(outcome);
    });
    Ok(future)
}

/// A relay that runs in this process. Stops when it is told to, or forgotten.
#[pyclass(frozen, module = "p2p_comm._native")]
pub(super) struct Relay {
    /// Where clients on this machine find it.
    #[pyo3(get)]
    url: String,
    running: ProcessBound<Mutex<Option<EmbeddedRelay>>>,
}

impl Relay {
    fn value(relay: EmbeddedRelay) -> Value {
        let relay = Self { url: relay.url(), running: ProcessBound::new(Mutex::new(Some(relay))) };
        Box::new(move |py| Ok(Py::new(py, relay)?.into_any()))
    }
}

#[pymethods]
impl Relay {
    /// Closes the listener and every connection. A Future of `None`.
    fn stop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let running = self.running.get().map_err(|error| raise(py, &error))?;
        let context = Context::get(py)?;
        let (future, promise) = Promise::new(py)?;
        let relay = running.lock().unwrap_or_else(PoisonError::into_inner).take();
        context.spawn(async move {
            if let Some(relay) = relay {
                relay.stop().await;
            }
            promise.settle(Ok(nothing()));
        });
        Ok(future)
    }
}
