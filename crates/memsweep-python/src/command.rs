//! The `memsweep` command, as the wheel's console script calls it.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the command; `arguments` begin with the program's name. Returns the exit status.
#[pyfunction]
fn command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| memsweep_cli::run(arguments, &mut std::io::stdout().lock()))
}

/// Adds the function.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(command, module)?)
}
