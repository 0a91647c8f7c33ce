//! The variables of a frame, by name.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PySet};

use super::FrameLayout;
use crate::object::{strong, type_of};

/// Attributes of a code object that name the variables of its frames, in the order of their places.
const NAMES: [&str; 3] = ["co_varnames", "co_cellvars", "co_freevars"];
/// Of a code object: the variables of its frames have places, and lie in no dictionary.
const OPTIMIZED: u32 = 1;

/// How many variables a frame of this code has at least: each name has a place.
pub(super) fn count(code: &Bound<'_, PyAny>) -> PyResult<usize> {
    let names = PySet::empty(code.py())?;
    for kind in NAMES {
        for name in code.getattr(kind)?.try_iter()? {
            names.add(name?)?;
        }
    }
    Ok(names.len())
}

/// The variables of a frame by name, without leaving a trace on it.
///
/// # Errors
/// `RuntimeError` on an interpreter where that is not possible.
pub(crate) fn variables<'py>(
    frame: &Bound<'py, PyAny>,
    layout: Option<&FrameLayout>,
    cell: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let py = frame.py();
    let found = PyDict::new(py);
    // Since 3.13 it is a view of the frame, and no snapshot.
    if py.version_info() >= (3, 13) || !has_places(frame)? {
        found.update(frame.getattr("f_locals")?.cast()?)?;
        return Ok(found);
    }
    let Some(layout) = layout else {
        return Err(pyo3::exceptions::PyRuntimeError::new_err(
            "this interpreter's frames cannot be read",
        ));
    };
    for (name, mut value) in places(frame, layout)? {
        // SAFETY: a bound object is alive.
        if unsafe { type_of(value.as_ptr() as usize) } == cell {
            let Ok(inside) = value.getattr("cell_contents") else { continue };
            value = inside;
        }
        found.set_item(name, value)?;
    }
    Ok(found)
}

/// The variables of a frame as they lie in it, by name: of one that functions share, its cell. Empty
/// for a frame whose variables lie in a dictionary.
pub(crate) fn places<'py>(
    frame: &Bound<'py, PyAny>,
    layout: &FrameLayout,
) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    if !has_places(frame)? {
        return Ok(Vec::new());
    }
    let code = frame.getattr("f_code")?;
    let mut names: Vec<Bound<'py, PyAny>> = Vec::new();
    for kind in NAMES {
        for name in code.getattr(kind)?.try_iter()? {
            let name = name?;
            let has_a_place = |known: &Bound<'_, PyAny>| known.eq(&name).unwrap_or(false);
            if layout.cells_have_places_of_their_own() || !names.iter().any(has_a_place) {
                names.push(name);
            }
        }
    }
    // SAFETY: a bound object is alive and proves that the lock is held; a frame has a place for each
    // name, and its layout was found on this interpreter.
    let values = unsafe { layout.values(frame.as_ptr() as usize, names.len()) };
    let mut found = Vec::new();
    for (name, value) in names.into_iter().zip(values).filter(|(_, value)| *value != 0) {
        // SAFETY: a variable's object lives as long as its frame keeps it, and nothing ran since.
        found.push((name, unsafe { strong(frame.py(), value) }));
    }
    Ok(found)
}

fn has_places(frame: &Bound<'_, PyAny>) -> PyResult<bool> {
    let flags = frame.getattr("f_code")?.getattr("co_flags")?.extract::<u32>()?;
    Ok(flags & OPTIMIZED != 0)
}
