//! What callers ask of the walk: what roots reach, what else the heap holds, and what of it is in use.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::bitmap::AddressSet;
use crate::frames::{self, Waiting};
use crate::hidden::{self, Rule};
use crate::reach::{Objects, instances, reached_by};
use crate::selftest::{counting_world, self_test, world};
use crate::walk::{Bounds, Walk};
use crate::world::{CollectorOff, addresses};

/// Objects that a sweep may look at, and how many it may not.
#[derive(Debug)]
pub struct Candidates<'py> {
    /// Objects of the wanted types that are neither protected nor in use.
    pub hits: Objects<'py>,
    /// How many were left out because the protected roots reach them.
    pub protected: usize,
    /// How many were left out because they are in use; `None` when that was not checked.
    pub pinned: Option<usize>,
    /// How many objects of the heap were looked at.
    pub visited: usize,
}

/// The objects of the wanted types that each group of roots reaches, roots included.
///
/// # Errors
/// `RuntimeError` when this interpreter cannot be walked, `MemoryError` when there is no memory for
/// the walk, `TypeError` when `types` holds anything but types.
pub fn reach<'py>(
    groups: &[Bound<'py, PyList>],
    types: &Bound<'py, PyTuple>,
) -> PyResult<Vec<Objects<'py>>> {
    reached_by(&world(types)?, groups)
}

/// The objects of the wanted types, anywhere in the heap, that are neither protected nor in use.
///
/// `frames` are frames of the calling thread, whose references are explained.
///
/// # Errors
/// As for [`reach`].
pub fn candidates<'py>(
    protect: &Bound<'py, PyList>,
    types: &Bound<'py, PyTuple>,
    frames: &Bound<'py, PyList>,
    check_pinned: bool,
) -> PyResult<Candidates<'py>> {
    let world = if check_pinned { counting_world(types)? } else { world(types)? };
    let (found, pins, visited, storages) = if check_pinned {
        let arguments =
            [protect.as_ptr() as usize, types.as_ptr() as usize, frames.as_ptr() as usize];
        let waiting = Waiting::among(frames)?;
        // SAFETY: the lock is held, and the arguments are our caller's.
        let mut pinned = unsafe { hidden::pinned(&world, &waiting, &arguments, Rule::Use)? };
        let hits = std::mem::take(&mut pinned.hits);
        let visited = pinned.met.seen();
        (hits, Some(pinned.set), visited, pinned.storages)
    } else {
        let (hits, visited) = instances(&world)?;
        (hits, None, visited, Vec::new())
    };
    let _off = CollectorOff::new(world.py);
    let mut walk = Walk::new(&world, AddressSet::new()?, Bounds::Reach)?.without_hits();
    // SAFETY: the list holds its elements, the lock is held and the collector is off.
    unsafe { walk.run(&addresses(protect)?)? };
    hidden::spread(&storages, walk.marks_mut())?;
    Ok(sort(found, walk.marks(), pins.as_ref(), visited))
}

fn sort<'py>(
    mut found: Objects<'py>,
    protected: &AddressSet,
    pins: Option<&AddressSet>,
    visited: usize,
) -> Candidates<'py> {
    let (mut reached, mut used) = (0, 0);
    found.retain(|object| {
        let address = object.as_ptr() as usize;
        let is_protected = protected.contains(address);
        let is_used = !is_protected && pins.is_some_and(|pins| pins.contains(address));
        reached += usize::from(is_protected);
        used += usize::from(is_used);
        !is_protected && !is_used
    });
    Candidates { hits: found, protected: reached, pinned: pins.map(|_| used), visited }
}

/// Whether each object is in use: it, or an object that reaches it, has references that nothing explains.
///
/// # Errors
/// As for [`reach`].
pub fn pinned(objects: &Bound<'_, PyList>, frames: &Bound<'_, PyList>) -> PyResult<Vec<bool>> {
    let world = counting_world(&PyTuple::empty(objects.py()))?;
    let waiting = Waiting::among(frames)?;
    hidden::are_pinned(&world, objects, &waiting, frames.as_ptr() as usize)
}

/// The variables of a frame by name. Before Python 3.13, `f_locals` would leave a snapshot on the
/// frame, which keeps them alive and clears what `exec` put there.
///
/// # Errors
/// `RuntimeError` when this interpreter's frames cannot be read, `TypeError` for anything but a frame.
pub fn variables<'py>(frame: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = frame.py();
    let types = py.import("types")?;
    if !frame.get_type().is(&types.getattr("FrameType")?) {
        return Err(PyTypeError::new_err("a frame was expected"));
    }
    let cell = types.getattr("CellType")?.as_ptr() as usize;
    let layout = self_test(py)?.layout;
    frames::variables(frame, layout.frames.as_ref(), cell)
}
