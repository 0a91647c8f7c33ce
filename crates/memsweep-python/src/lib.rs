//! The extension module `memsweep._memsweep`: classes, conversions, errors. No logic, and nothing
//! happens on import.
#![forbid(unsafe_code)]

mod command;
mod error;
mod heap;
mod host;
mod json;
mod locks;
mod park;
mod sweep;
mod values;

use pyo3::prelude::*;

#[pymodule]
fn _memsweep(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    values::register(module)?;
    command::register(module)?;
    sweep::register(module)?;
    locks::register(module)?;
    heap::register(module)
}
