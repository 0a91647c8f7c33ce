//! Misuse at the edge becomes the Python exception that a caller expects.

use memsweep_core::policy::PolicyError;
use pyo3::PyErr;
use pyo3::exceptions::{PyRuntimeError, PyValueError};

/// Invalid settings are a `ValueError`.
pub(crate) fn policy(error: PolicyError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// JSON from our own Python layer that does not fit: a `ValueError` that names the part.
pub(crate) fn json(part: &str, error: serde_json::Error) -> PyErr {
    PyValueError::new_err(format!("cannot read {part}: {error}"))
}

/// JSON that could not be written.
pub(crate) fn writing(error: serde_json::Error) -> PyErr {
    PyRuntimeError::new_err(format!("could not write JSON: {error}"))
}
