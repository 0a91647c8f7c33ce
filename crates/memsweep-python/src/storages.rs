//! Numbers for blocks of memory, as an inventory names them.

use std::collections::HashSet;

use memsweep_pyheap as pyheap;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// Device and first byte of a block of memory.
pub(crate) type Place = (String, usize);

/// Storage facts for one inventory: each block of memory behind tensors and arrays has one number,
/// however many share it. Keeps addresses and sizes, never objects.
#[pyclass(frozen, module = "memsweep._memsweep")]
#[derive(Debug)]
pub(crate) struct Storages {
    inner: pyheap::Storages,
}

#[pymethods]
impl Storages {
    #[new]
    fn new() -> Self {
        Self { inner: pyheap::Storages::default() }
    }

    /// The storages behind these objects, as indices into `facts`, sorted.
    fn numbers(&self, objects: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        self.inner.numbers(&listed(objects)?)
    }

    /// Size and device of every storage so far, by number, and `graph` where a tensor in it has one.
    fn facts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let row = |pyheap::StorageFact { bytes, device, graph }| {
            let row = PyDict::new(py);
            row.set_item("bytes", bytes)?;
            row.set_item("device", device)?;
            if graph {
                row.set_item("graph", true)?;
            }
            Ok(row)
        };
        PyList::new(py, self.inner.facts().into_iter().map(row).collect::<PyResult<Vec<_>>>()?)
    }

    fn __repr__(&self) -> String {
        format!("<memsweep.Storages of {}>", self.inner.facts().len())
    }
}

impl Storages {
    pub(crate) fn all_places(&self) -> HashSet<Place> {
        self.inner.all_places()
    }
}

/// Where the storages with these numbers lie. `storages` is the attribute of a step: the `Storages` of
/// the inventory, or `None` where there was none.
///
/// # Errors
/// `RuntimeError` if something must stay and nobody says where it lies.
pub(crate) fn places(storages: &Bound<'_, PyAny>, numbers: &[u32]) -> PyResult<HashSet<Place>> {
    let places = match storages.extract::<Option<PyRef<'_, Storages>>>()? {
        Some(storages) => storages.inner.places(numbers),
        None => numbers.is_empty().then(HashSet::new),
    };
    places.ok_or_else(|| {
        PyRuntimeError::new_err(
            "storages must stay in memory, and the host does not say where they lie: give the step \
             the `Storages` that numbered them",
        )
    })
}

/// The types whose instances own large memory: what to ask the heap walk for.
#[pyfunction]
fn memory_types(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    pyheap::memory_types(py)
}

/// Device, address and size of the memory behind each object; `None` for one without memory of its
/// own.
#[pyfunction]
fn blocks(objects: &Bound<'_, PyAny>) -> PyResult<Vec<Option<(String, usize, usize)>>> {
    let found = pyheap::blocks(&listed(objects)?)?.into_iter();
    let row = |pyheap::Block { device, address, bytes }| (device, address, bytes);
    Ok(found.map(|block| block.map(row)).collect())
}

fn listed<'py>(objects: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    objects.try_iter()?.collect()
}

/// Adds the class and the functions.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Storages>()?;
    module.add_function(wrap_pyfunction!(memory_types, module)?)?;
    module.add_function(wrap_pyfunction!(blocks, module)?)
}
