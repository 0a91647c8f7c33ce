//! The heap walk, as Python calls it.

use memsweep_pyheap as pyheap;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// Objects of the heap that are neither protected nor pinned.
#[pyclass(frozen, module = "memsweep._memsweep")]
struct Candidates {
    hits: Py<PyList>,
    #[pyo3(get)]
    protected: usize,
    /// `None` when it was not checked.
    #[pyo3(get)]
    pinned: Option<usize>,
    #[pyo3(get)]
    visited: usize,
}

#[pymethods]
impl Candidates {
    #[getter]
    fn hits(&self, py: Python<'_>) -> Py<PyList> {
        self.hits.clone_ref(py)
    }

    /// The walk must see what this holds, or it would count as in use.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.hits)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let pinned = self.pinned.map_or_else(|| "None".to_owned(), |count| count.to_string());
        format!(
            "Candidates(hits={}, protected={}, pinned={pinned}, visited={})",
            self.hits.bind(py).len(),
            self.protected,
            self.visited
        )
    }
}

/// Every object of the given types that the roots reach, each once, roots included.
#[pyfunction]
fn reach<'py>(
    roots: Bound<'py, PyList>,
    types: Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyList>> {
    let found = pyheap::reach(std::slice::from_ref(&roots), &types)?;
    PyList::new(types.py(), found.into_iter().next().unwrap_or_default())
}

/// The same for several groups of roots, each on its own.
#[pyfunction]
fn reach_many<'py>(
    groups: Vec<Bound<'py, PyList>>,
    types: Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyList>> {
    let lists = pyheap::reach(&groups, &types)?
        .into_iter()
        .map(|found| PyList::new(types.py(), found))
        .collect::<PyResult<Vec<_>>>()?;
    PyList::new(types.py(), lists)
}

/// Objects of the given types anywhere in the heap that are neither protected nor pinned.
#[pyfunction]
#[pyo3(signature = (protect, types, frames=None, check_pinned=true))]
fn candidates<'py>(
    protect: Bound<'py, PyList>,
    types: Bound<'py, PyTuple>,
    frames: Option<Bound<'py, PyList>>,
    check_pinned: bool,
) -> PyResult<Candidates> {
    let py = types.py();
    let frames = frames.unwrap_or_else(|| PyList::empty(py));
    let found = pyheap::candidates(&protect, &types, &frames, check_pinned)?;
    Ok(Candidates {
        hits: PyList::new(py, found.hits)?.unbind(),
        protected: found.protected,
        pinned: found.pinned,
        visited: found.visited,
    })
}

/// Whether each object is in use, or reachable from something that is, through references that
/// nothing explains.
#[pyfunction]
#[pyo3(signature = (objects, frames=None))]
fn pinned<'py>(
    objects: Bound<'py, PyList>,
    frames: Option<Bound<'py, PyList>>,
) -> PyResult<Vec<bool>> {
    let frames = frames.unwrap_or_else(|| PyList::empty(objects.py()));
    pyheap::pinned(&objects, &frames)
}

/// The variables of a frame by name, read without leaving a trace on the frame.
#[pyfunction]
fn variables<'py>(frame: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    pyheap::variables(&frame)
}

/// Checks once that this interpreter can be walked, and says what was found.
#[pyfunction]
fn self_test(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let result = pyheap::self_test(py)?;
    let found = PyDict::new(py);
    found.set_item("objects", result.objects)?;
    found.set_item("inline_attributes", result.layout.inline_attributes)?;
    found.set_item("function_globals", result.layout.function_globals)?;
    found.set_item("frames_report_variables", result.layout.frames_report_variables)?;
    found.set_item("waiting_frames_are_read", result.waiting_frames_are_read)?;
    Ok(found)
}

/// Adds the functions.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Candidates>()?;
    module.add_function(wrap_pyfunction!(reach, module)?)?;
    module.add_function(wrap_pyfunction!(reach_many, module)?)?;
    module.add_function(wrap_pyfunction!(candidates, module)?)?;
    module.add_function(wrap_pyfunction!(pinned, module)?)?;
    module.add_function(wrap_pyfunction!(variables, module)?)?;
    module.add_function(wrap_pyfunction!(self_test, module)?)
}
