//! The extension module `memsweep._memsweep`: classes, conversions, errors. No logic, and nothing
//! happens on import. Unsafe code is in one module, which joins the proof made by the heap walk
//! with the swap whose memory safety rests on it.
#![deny(unsafe_code)]

mod command;
mod destroy;
mod edges;
mod error;
mod heap;
mod host;
mod json;
mod locks;
#[allow(unsafe_code, reason = "the gate's promise and what rests on it")]
mod park;
mod storages;
mod sweep;
mod values;

use pyo3::prelude::*;

#[pymodule]
fn _memsweep(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    for name in ["collections", "contextvars", "functools", "types"] {
        // What the walk's self-test imports. Left to the first walk, a child forked meanwhile would
        // wait for an import by a thread that it does not have.
        module.py().import(name)?;
    }
    values::register(module)?;
    command::register(module)?;
    sweep::register(module)?;
    locks::register(module)?;
    storages::register(module)?;
    edges::register(module)?;
    heap::register(module)
}
