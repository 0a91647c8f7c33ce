//! Large memory that somebody holds and nobody uses, and whether that is still so.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::foreign::Memory;
use crate::frames::Explained;
use crate::hidden;
use crate::selftest::self_test;
use crate::table::{AddressHashSet, OutOfMemory};
use crate::world::{CollectorOff, World, addresses, own_frames};

/// Memory, and the object that owns it.
#[derive(Debug)]
pub struct Idle<'py> {
    /// Holds the memory as long as nobody resizes or replaces it.
    pub owner: Bound<'py, PyAny>,
    /// Where it is now.
    pub memory: Memory,
}

/// Memory of at least `smallest` bytes that is owned by objects of these types, each once however
/// many objects share it, and not in use by anybody but waiting frames of our own thread.
///
/// `exempt` are objects that the caller itself holds, which pins nothing.
///
/// # Errors
/// `RuntimeError` when this interpreter cannot be walked, `MemoryError` when the walk finds no
/// memory, `TypeError` when `types` holds something else.
pub fn idle_memory<'py>(
    types: &Bound<'py, PyTuple>,
    exempt: &[Bound<'py, PyAny>],
    smallest: usize,
) -> PyResult<Vec<Idle<'py>>> {
    let world = counting(types)?;
    let _off = CollectorOff::new(world.py);
    let frames = own_frames(world.py)?;
    let mut arguments = vec![types.as_ptr() as usize, frames.as_ptr() as usize];
    arguments.extend(exempt.iter().map(|object| object.as_ptr() as usize));
    let explained = Explained::by_frames(&frames)?;
    // SAFETY: the lock is held, the collector is off, and the arguments are our caller's.
    let pinned = unsafe { hidden::pinned(&world, explained, &arguments)? };
    let _quiet = world.foreign.quiet();
    let mut seen = AddressHashSet::default();
    let mut found = Vec::new();
    for owner in pinned.hits {
        if pinned.set.contains(owner.as_ptr() as usize) {
            continue;
        }
        let Some(memory) = world.foreign.memory(&owner) else { continue };
        if memory.bytes < smallest {
            continue;
        }
        seen.try_reserve(1).map_err(OutOfMemory::from)?;
        if seen.insert(memory.address) {
            found.try_reserve(1).map_err(OutOfMemory::from)?;
            found.push(Idle { owner, memory });
        }
    }
    Ok(found)
}

/// Where the memory of each owner is now, if still nobody uses it.
///
/// The interpreter lock is not given up between the walk and the answer, so the answer holds until
/// the caller runs Python code or gives up the lock. `exempt` as for [`idle_memory`].
///
/// # Errors
/// As for [`idle_memory`].
pub fn still_idle<'py>(
    owners: &Bound<'py, PyList>,
    exempt: &[Bound<'py, PyAny>],
) -> PyResult<Vec<Option<Memory>>> {
    let py = owners.py();
    let world = counting(&PyTuple::empty(py))?;
    let _off = CollectorOff::new(py);
    let frames = own_frames(py)?;
    let mut arguments = vec![owners.as_ptr() as usize, frames.as_ptr() as usize];
    arguments.extend(exempt.iter().map(|object| object.as_ptr() as usize));
    let explained = Explained::by_frames(&frames)?;
    // SAFETY: the lock is held, the collector is off, and the arguments are our caller's.
    let pinned = unsafe { hidden::pinned(&world, explained, &arguments)? };
    let _quiet = world.foreign.quiet();
    let mut found = Vec::new();
    found.try_reserve_exact(owners.len()).map_err(OutOfMemory::from)?;
    for (owner, address) in owners.iter().zip(addresses(owners)?) {
        let free = !pinned.set.contains(address);
        found.push(if free { world.foreign.memory(&owner) } else { None });
    }
    Ok(found)
}

fn counting<'py>(types: &Bound<'py, PyTuple>) -> PyResult<World<'py>> {
    let layout = self_test(types.py())?.layout;
    let mut world = World::new(types.py(), layout, types)?;
    world.prepare_counting();
    Ok(world)
}
