//! L4: Python. The native module `p2p_comm._native`, on which `python/p2p_comm/` builds what users see.
//!
//! * [`runtime`]: one tokio runtime, and its end before the interpreter's.
//! * [`future`]: answers on their way to `asyncio` Futures, without a thread that takes the GIL.
//! * [`backend`] and [`link`]: an engine, in the daemon or in this process, and the ordered way to it.
//! * [`logging`]: records for Python's loggers.
//! * [`relay`]: the embedded relay, for tests. [`error`]: errors as exceptions.
//!
//! This module hands out Futures and plain dictionaries; `async def`, streams and types are Python's.
//! The command line enters by [`cli_main`].

mod backend;
mod error;
mod future;
mod link;
mod logging;
mod relay;
mod runtime;

use std::ffi::OsString;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::api::{ErrorKind, EventKind};
use crate::cli;
use crate::daemon::Launcher;
use crate::engine;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // An interpreter inside another program has none.
    if let Ok(interpreter) = py.import("sys")?.getattr("executable")?.extract::<OsString>() {
        engine::runs_in_python(interpreter);
    }
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("ERROR_KINDS", PyTuple::new(py, ErrorKind::ALL.iter().map(|kind| kind.code()))?)?;
    module.add("EVENT_KINDS", PyTuple::new(py, EventKind::ALL.iter().map(|kind| kind.word()))?)?;
    module.add_class::<link::Link>()?;
    module.add_class::<relay::Relay>()?;
    module.add_function(wrap_pyfunction!(link::connect, module)?)?;
    module.add_function(wrap_pyfunction!(relay::start_relay, module)?)?;
    module.add_function(wrap_pyfunction!(logging::forward_log, module)?)?;
    module.add_function(wrap_pyfunction!(cli_main, module)?)
}

/// The command line: `arguments` without the program's name; returns the exit code.
///
/// `executable` is the interpreter that a daemon is started with. Inside a virtual environment only Python knows it.
#[pyfunction]
fn cli_main(py: Python<'_>, arguments: Vec<OsString>, executable: OsString) -> u8 {
    let launcher = Launcher { program: executable, args: vec!["-m".into(), "p2p_comm".into()] };
    let arguments = std::iter::once("p2p-comm".into()).chain(arguments).collect();
    py.detach(|| cli::run(arguments, launcher))
}
