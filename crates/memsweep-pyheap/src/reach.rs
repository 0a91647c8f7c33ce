//! What roots reach, what the heap holds beside that, and what of it is in use.

use std::ops::ControlFlow;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::bitmap::AddressSet;
use crate::frames::Waiting;
use crate::hidden;
use crate::kinds::TypeTable;
use crate::layout::Layout;
use crate::object::{each_child, prefetch, strong, type_of};
use crate::selftest::self_test;
use crate::table::OutOfMemory;
use crate::walk::{Bounds, RING, Walk};
use crate::world::{CollectorOff, World, addresses};

/// Strong references to objects.
pub type Objects<'py> = Vec<Bound<'py, PyAny>>;

/// What a sweep may look at, and what it may not.
#[derive(Debug)]
pub struct Candidates<'py> {
    /// Objects of the wanted types that are neither protected nor pinned.
    pub hits: Objects<'py>,
    /// How many were left out because the protected roots reach them.
    pub protected: usize,
    /// How many were left out because they are in use; `None` when that was not looked at.
    pub pinned: Option<usize>,
    /// How many objects of the heap were looked at.
    pub visited: usize,
}

/// The objects of the wanted types that each group of roots reaches, roots included.
///
/// # Errors
/// `RuntimeError` when this interpreter cannot be walked, `MemoryError` when the walk finds no
/// memory, `TypeError` when `types` holds something else.
pub fn reach<'py>(
    groups: &[Bound<'py, PyList>],
    types: &Bound<'py, PyTuple>,
) -> PyResult<Vec<Objects<'py>>> {
    let layout = self_test(types.py())?.layout;
    self::groups(&World::new(types.py(), layout, types)?, groups)
}

pub(crate) fn groups<'py>(
    world: &World<'py>,
    groups: &[Bound<'py, PyList>],
) -> PyResult<Vec<Objects<'py>>> {
    let _off = CollectorOff::new(world.py);
    let mut walk = Walk::new(world, AddressSet::new()?, Bounds::Reach)?;
    let mut found = Vec::with_capacity(groups.len());
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            walk.marks_mut().reset();
            walk.close_modules()?;
        }
        // SAFETY: the list holds its elements, the lock is held and the collector is off.
        unsafe { walk.run(&addresses(group)?)? };
        found.push(std::mem::take(&mut walk.hits));
        walk.held.clear();
    }
    Ok(found)
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
    let layout = self_test(types.py())?.layout;
    let mut world = World::new(types.py(), layout, types)?;
    if check_pinned {
        world.prepare_counting()?;
    }
    let (found, pins, visited, storages) = if check_pinned {
        let arguments =
            [protect.as_ptr() as usize, types.as_ptr() as usize, frames.as_ptr() as usize];
        let waiting = Waiting::among(frames)?;
        // SAFETY: the lock is held, and the arguments are our caller's.
        let mut pinned = unsafe { hidden::pinned(&world, &waiting, &arguments)? };
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

/// Whether each object is in use, or reachable from something that is, by references nothing explains.
///
/// # Errors
/// As for [`reach`].
pub fn pinned(objects: &Bound<'_, PyList>, frames: &Bound<'_, PyList>) -> PyResult<Vec<bool>> {
    let layout = self_test(objects.py())?.layout;
    pinned_on(layout, objects, &Waiting::among(frames)?, &[frames.as_ptr() as usize])
}

/// The same on an interpreter of this layout; `exempt` are objects that the call holds.
pub(crate) fn pinned_on<'py>(
    layout: Layout,
    objects: &Bound<'py, PyList>,
    waiting: &Waiting<'py>,
    exempt: &[usize],
) -> PyResult<Vec<bool>> {
    let py = objects.py();
    let mut world = World::new(py, layout, &PyTuple::empty(py))?;
    world.prepare_counting()?;
    let mut arguments = vec![objects.as_ptr() as usize];
    arguments.extend(exempt);
    // SAFETY: the lock is held, and the arguments are our caller's.
    let pinned = unsafe { hidden::pinned(&world, waiting, &arguments)? };
    Ok(addresses(objects)?.into_iter().map(|object| pinned.set.contains(object)).collect())
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
        return Err(pyo3::exceptions::PyTypeError::new_err("a frame was expected"));
    }
    let cell = types.getattr("CellType")?.as_ptr() as usize;
    let layout = self_test(py)?.layout;
    crate::frames::variables(frame, layout.frames.as_ref(), cell)
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

/// Every object of the wanted types, and how many objects were looked at.
fn instances<'py>(world: &World<'py>) -> PyResult<(Objects<'py>, usize)> {
    if !world.wanted_are_tracked()? {
        let mut tracked = world.tracked_objects()?;
        tracked.try_reserve(1).map_err(OutOfMemory::from)?;
        tracked.push(world.modules.as_ptr() as usize);
        let mut walk = Walk::new(world, AddressSet::new()?, Bounds::None)?;
        // SAFETY: tracked objects are alive; the lock is held and the collector is off.
        unsafe { walk.run(&tracked)? };
        return Ok((std::mem::take(&mut walk.hits), walk.entered));
    }
    let mut types = TypeTable::new()?;
    let mut found = Vec::new();
    let mut keep_wanted = |object: usize| {
        // SAFETY: the list below holds the object, and its type lives as long.
        if object == 0 || !unsafe { types.facts(type_of(object), world) }.wanted {
            return ControlFlow::Continue(());
        }
        if found.try_reserve(1).is_err() {
            return ControlFlow::Break(());
        }
        // SAFETY: as above.
        found.push(unsafe { strong(world.py, object) });
        ControlFlow::Continue(())
    };
    let list = world.tracked_list()?;
    // Each header is fetched a few objects before it is read.
    let mut ring = [0_usize; RING];
    let mut seen = 0;
    each_child(&list, |object| {
        prefetch(object);
        let earlier = std::mem::replace(&mut ring[seen % RING], object);
        seen += 1;
        keep_wanted(earlier)
    });
    if seen != list.len()? || ring.into_iter().any(|object| keep_wanted(object).is_break()) {
        return Err(OutOfMemory.into());
    }
    Ok((found, seen))
}
