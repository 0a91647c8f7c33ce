//! Large memory that somebody holds and nobody uses, and whether that is still so.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::bitmap::AddressSet;
use crate::foreign::{Holding, Memory};
use crate::frames::Waiting;
use crate::hidden::{self, Pinned, Rule};
use crate::object::strong;
use crate::selftest::counting_world;
use crate::table::{AddressHashSet, OutOfMemory};
use crate::world::World;

/// Memory, and the object that owned it when it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// Where the owner was. This keeps nothing alive: it is a hint where to look again, and stands for
    /// no object until a later walk has met one there.
    pub owner: usize,
    /// Where the memory was.
    pub memory: Memory,
}

/// Why memory is not idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// It is in use by somebody whom no walk sees.
    InUse,
    /// Its object did not allocate it: a file, shared memory, or another library's memory.
    Foreign,
}

/// What a walk over the heap found. Holds everything that keeps the answer true.
pub struct Found<'py> {
    /// What is idle, each memory once however many objects share it.
    pub idle: Vec<Idle>,
    /// What is not, and why.
    pub busy: Vec<(Idle, Busy)>,
    _pinned: Pinned<'py>,
    _waiting: Waiting<'py>,
}

impl std::fmt::Debug for Found<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { idle, busy, .. } = self;
        formatter.debug_struct("Found").field("idle", idle).field("busy", busy).finish()
    }
}

/// Memory of at least `smallest` bytes that objects of these types own, and whether anybody but
/// waiting frames may be writing to it.
///
/// `addresses_are_watched`: somebody who writes without a reference is noticed otherwise.
/// `exempt` are objects that the caller itself holds, which pins nothing. What was found stays alive
/// until the caller drops the answer, runs Python code or gives up the interpreter lock.
///
/// # Errors
/// `RuntimeError` when this interpreter cannot be walked, `MemoryError` when there is no memory for
/// the walk, `TypeError` when `types` holds anything but types.
pub fn idle_memory<'py>(
    types: &Bound<'py, PyTuple>,
    exempt: &[Bound<'py, PyAny>],
    smallest: usize,
    addresses_are_watched: bool,
) -> PyResult<Found<'py>> {
    let mut world = counting_world(types)?;
    world.prepare_passive(addresses_are_watched)?;
    let waiting = Waiting::all(world.py)?;
    let mut arguments = vec![types.as_ptr() as usize];
    arguments.extend(exempt.iter().map(|object| object.as_ptr() as usize));
    // SAFETY: the lock is held, and the arguments are our caller's.
    let pinned = unsafe { hidden::pinned(&world, &waiting, &arguments, Rule::Write)? };
    let _quiet = world.foreign.quiet();
    let mut seen = AddressHashSet::default();
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    let mut foreign = Vec::new();
    for owner in &pinned.hits {
        let Some(holding) = world.foreign.memory(owner) else { continue };
        let (Holding::Own(memory) | Holding::Foreign(memory)) = holding;
        if memory.bytes < smallest {
            continue;
        }
        let owner = owner.as_ptr() as usize;
        let row = Idle { owner, memory };
        if matches!(holding, Holding::Foreign(_)) {
            foreign.try_reserve(1).map_err(OutOfMemory::from)?;
            foreign.push(row);
            continue;
        }
        seen.try_reserve(1).map_err(OutOfMemory::from)?;
        if !seen.insert(memory.address) {
            continue;
        }
        if pinned.set.contains(owner) {
            busy.try_reserve(1).map_err(OutOfMemory::from)?;
            busy.push((row, Busy::InUse));
        } else {
            idle.try_reserve(1).map_err(OutOfMemory::from)?;
            idle.push(row);
        }
    }
    // What one object only shows may belong to another one.
    for row in foreign {
        seen.try_reserve(1).map_err(OutOfMemory::from)?;
        if seen.insert(row.memory.address) {
            busy.try_reserve(1).map_err(OutOfMemory::from)?;
            busy.push((row, Busy::Foreign));
        }
    }
    Ok(Found { idle, busy, _pinned: pinned, _waiting: waiting })
}

/// Calls `each` with the index of every hint that is still idle: an object of a type that owns memory
/// lives there, owns this very memory, and nobody uses it.
///
/// The interpreter lock is not given up between the walk and the last call, and no Python code runs,
/// unless `each` does either. The rest is as for [`idle_memory`].
///
/// # Errors
/// As for [`idle_memory`]; nothing was called then.
pub fn each_still_idle<'py>(
    py: Python<'py>,
    hints: &[Idle],
    exempt: &[Bound<'py, PyAny>],
    addresses_are_watched: bool,
    each: &mut dyn FnMut(usize),
) -> PyResult<()> {
    let mut world = counting_world(&PyTuple::empty(py))?;
    world.prepare_passive(addresses_are_watched)?;
    let waiting = Waiting::all(py)?;
    let arguments: Vec<usize> = exempt.iter().map(|object| object.as_ptr() as usize).collect();
    // SAFETY: the lock is held, and the arguments are our caller's.
    let pinned = unsafe { hidden::pinned(&world, &waiting, &arguments, Rule::Write)? };
    let mut idle = Vec::new();
    idle.try_reserve_exact(hints.len()).map_err(OutOfMemory::from)?;
    let quiet = world.foreign.quiet();
    idle.extend(
        (0..hints.len()).filter(|at| is_idle(&world, &pinned.set, &pinned.met, &hints[*at])),
    );
    drop(quiet);
    idle.into_iter().for_each(each);
    // Nothing was freed until here, and no collection could run: what we hold may be the last reference
    // to an object, and freeing that may run anybody's code.
    drop((pinned, waiting, world));
    Ok(())
}

fn is_idle(world: &World<'_>, in_use: &AddressSet, met: &crate::tally::Tally, hint: &Idle) -> bool {
    if met.met(hint.owner).is_none() || in_use.contains(hint.owner) {
        return false;
    }
    // SAFETY: the walk has just seen a live object at this address, and nothing has died since: what
    // only a getter of ours kept alive is held with the walk's answer.
    let owner = unsafe { strong(world.py, hint.owner) };
    world.foreign.memory(&owner) == Some(Holding::Own(hint.memory))
}
