//! The one-time check that this interpreter can be walked: layout found, and a reach that agrees
//! with the interpreter's own `gc.get_referents`.

use std::ffi::CString;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::layout::Layout;
use crate::table::AddressHashSet;
use crate::world::{World, addresses};

/// The outcome of the self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTest {
    /// What was found about the interpreter.
    pub layout: Layout,
    /// Objects compared.
    pub objects: usize,
}

static DONE: PyOnceLock<Result<SelfTest, String>> = PyOnceLock::new();

/// Runs the self-test once; afterwards answers from memory.
///
/// # Errors
/// `RuntimeError` when this interpreter cannot be walked, with the reason.
pub fn self_test(py: Python<'_>) -> PyResult<SelfTest> {
    DONE.get_or_try_init(py, || match try_out(py) {
        Ok(passed) => Ok(Ok(passed)),
        // A verdict is kept; an interrupt or a lack of memory says nothing about the interpreter.
        Err(error) if error.is_instance_of::<PyRuntimeError>(py) => {
            Ok(Err(error.value(py).to_string()))
        }
        Err(error) => Err(error),
    })?
    .clone()
    .map_err(PyRuntimeError::new_err)
}

fn try_out(py: Python<'_>) -> PyResult<SelfTest> {
    Layout::refuse_free_threaded(py)?;
    let script = PyDict::new(py);
    script.set_item("__builtins__", py.import("builtins")?)?;
    script.set_item("__name__", "memsweep_self_test")?;
    py.run(&CString::new(include_str!("selftest.py"))?, Some(&script), None)?;
    let part = |name: &str| -> PyResult<Bound<'_, PyAny>> { script.as_any().get_item(name) };

    let probe = part("Plain")?.call0()?;
    probe.setattr("a", 1)?;
    let layout = Layout::of_interpreter(&probe, &part("function")?)?;

    let roots = part("build")?.call0()?.cast_into::<PyList>()?;
    let anything = PyTuple::new(py, [py.import("builtins")?.getattr("object")?])?;
    let world = World::new(py, layout, &anything)?;
    let walked = crate::reach::groups(&world, std::slice::from_ref(&roots))?;
    let expected = part("closure")?.call1((&roots,))?.cast_into::<PyList>()?;

    let mut missing = AddressHashSet::default();
    missing.extend(addresses(&expected)?);
    let mut beyond = 0;
    for object in walked.iter().flatten() {
        beyond += usize::from(!missing.remove(&(object.as_ptr() as usize)));
    }
    if !missing.is_empty() || beyond != 0 {
        return Err(PyRuntimeError::new_err(format!(
            "cannot walk this interpreter's heap: of {} objects the walk missed {} and met {beyond} others",
            expected.len(),
            missing.len(),
        )));
    }
    // The script's functions and their globals hold each other.
    script.clear();
    Ok(SelfTest { layout, objects: expected.len() })
}
