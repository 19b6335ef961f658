//! Errors, on their way to Python: the class is chosen by `p2p_comm.errors`, from the kind.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::api::Error;

/// The exception for an error.
pub(super) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let arguments = (error.kind.code(), error.message.as_str(), error.hint.as_str());
    let made = py
        .import(intern!(py, "p2p_comm.errors"))
        .and_then(|errors| errors.call_method1(intern!(py, "from_wire"), arguments));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        // A damaged installation: the sentence is worth more than the reason why its class could not be found.
        Err(_) => PyRuntimeError::new_err(error.message.clone()),
    }
}
