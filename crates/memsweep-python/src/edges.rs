//! The edges of the heap walk, for tests.

use memsweep_pyheap::{self as pyheap, Label};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// Every reference that a walk from the roots follows: parent, child, and `None` or a pair that says how
/// the parent names the child.
#[pyfunction]
#[pyo3(name = "_edges")]
fn edges<'py>(roots: &Bound<'py, PyList>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
    let py = roots.py();
    let rows = pyheap::edges(roots)?.into_iter().map(|edge| {
        let label = edge.label.map(|label| match label {
            Label::Attribute(name) => ("attribute", name).into_pyobject(py),
            Label::Key(key) => ("key", key).into_pyobject(py),
            Label::Index(index) => ("index", index).into_pyobject(py),
            Label::Closure(name) => ("closure", name).into_pyobject(py),
            Label::Variable(name) => ("variable", name).into_pyobject(py),
        });
        (edge.parent, edge.child, label.transpose()?).into_pyobject(py)
    });
    rows.collect()
}

/// Adds the function.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(edges, module)?)
}
