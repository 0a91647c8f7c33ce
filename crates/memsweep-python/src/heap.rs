//! The heap walk, as Python calls it.

use pyo3::prelude::*;

/// Adds the functions.
pub(crate) fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
