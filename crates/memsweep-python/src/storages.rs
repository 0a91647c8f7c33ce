//! Numbers for blocks of memory, as an inventory names them.

use std::collections::HashSet;

use memsweep_pyheap as pyheap;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// Storage facts for one inventory: each block of memory behind tensors and arrays has one number,
/// however many share it. Keeps addresses and sizes, never objects.
#[pyclass(frozen, module = "memsweep._memsweep")]
#[derive(Debug)]
struct Storages {
    inner: pyheap::Storages,
}

#[pymethods]
impl Storages {
    #[new]
    fn new() -> Self {
        Self { inner: pyheap::Storages::default() }
    }

    /// The types whose instances own memory: what to ask the heap walk for.
    #[staticmethod]
    fn types(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        pyheap::Storages::types(py)
    }

    /// The storages behind these objects, as indices into `facts`, sorted.
    fn numbers(&self, objects: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        self.inner.numbers(&objects.try_iter()?.collect::<PyResult<Vec<_>>>()?)
    }

    /// Device and address of these storages. They are valid while their owners are held.
    fn places(&self, numbers: &Bound<'_, PyAny>) -> PyResult<HashSet<(String, usize)>> {
        Ok(self.inner.places(given(numbers)?))
    }

    /// The addresses of those that lie in RAM.
    fn addresses(&self, numbers: &Bound<'_, PyAny>) -> PyResult<HashSet<usize>> {
        Ok(self.inner.addresses(given(numbers)?))
    }

    /// Size and device of every storage, by number.
    #[getter]
    fn facts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let row = |(bytes, device)| {
            let row = PyDict::new(py);
            row.set_item("bytes", bytes)?;
            row.set_item("device", device)?;
            Ok(row)
        };
        PyList::new(py, self.inner.facts().into_iter().map(row).collect::<PyResult<Vec<_>>>()?)
    }

    fn __repr__(&self) -> String {
        format!("<memsweep.Storages of {}>", self.inner.facts().len())
    }
}

/// The numbers, without those that cannot be a storage's.
fn given(numbers: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    let mut found = Vec::new();
    for number in numbers.try_iter()? {
        match number?.extract::<u32>() {
            Ok(number) => found.push(number),
            Err(error) if error.is_instance_of::<PyOverflowError>(numbers.py()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Adds the class.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Storages>()
}
