//! L4: Python.
