//! Large memory that somebody holds and nobody uses, and whether that is still so.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::foreign::{Holding, Memory};
use crate::frames::Waiting;
use crate::hidden::{self, Pinned, Rule};
use crate::holders::{Holders, Noting, Ours, Proof, prove};
use crate::object::strong;
use crate::selftest::counting_world;
use crate::table::{AddressHashSet, OutOfMemory, add};
use crate::world::{CollectorOff, World};

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
    /// Who holds what is idle: for [`each_still_idle`].
    pub holders: Holders,
    _pinned: Pinned<'py>,
    _waiting: Waiting<'py>,
}

impl std::fmt::Debug for Wanted<'_, '_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Wanted").field("smallest", &self.smallest).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Found<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { idle, busy, .. } = self;
        formatter.debug_struct("Found").field("idle", idle).field("busy", busy).finish()
    }
}

/// What memory is looked for.
pub struct Wanted<'a, 'py> {
    /// The types of its owners.
    pub types: &'a Bound<'py, PyTuple>,
    /// It has at least as many bytes.
    pub smallest: usize,
    /// And it is one of these.
    pub is_meant: &'a dyn Fn(&Idle) -> bool,
}

/// Finds memory, and whether anybody but waiting frames may be writing to it.
///
/// `addresses_are_watched`: somebody who writes without a reference is noticed otherwise.
/// `exempt` are objects that the caller itself holds, which pins nothing. What was found stays alive
/// until the caller drops the answer, runs Python code or gives up the interpreter lock.
///
/// # Errors
/// `RuntimeError` when this interpreter cannot be walked, `MemoryError` when there is no memory for
/// the walk, `TypeError` when the types hold anything but types.
pub fn idle_memory<'py>(
    wanted: &Wanted<'_, 'py>,
    exempt: &[Bound<'py, PyAny>],
    addresses_are_watched: bool,
) -> PyResult<Found<'py>> {
    let mut world = counting_world(wanted.types)?;
    world.prepare_passive(addresses_are_watched)?;
    let waiting = Waiting::all(world.py)?;
    let mut arguments = vec![wanted.types.as_ptr() as usize];
    arguments.extend(exempt.iter().map(|object| object.as_ptr() as usize));
    let mut noting = Noting::new(&world);
    // SAFETY: the lock is held, and the arguments are our caller's.
    let pinned =
        unsafe { hidden::pinned_seen_by(&world, &waiting, &arguments, Rule::Write, &mut noting)? };
    let (maybe_idle, mut busy) = sort(&world, wanted, &pinned)?;

    let owners: AddressHashSet = maybe_idle.iter().map(|row| row.owner).collect();
    let sharing = pinned.sharing(&owners);
    // SAFETY: the walk has just noted it, and nothing has died since.
    let holders = unsafe { Holders::of(&world, noting, &owners, sharing)? };
    let (held, list) = pinned.holds();
    let mut explained = waiting.explain(world.layout.frames.as_ref())?;
    for object in held {
        add(&mut explained, object, 1)?;
    }
    let ours = Ours { explained, arguments: &arguments, list, running: &pinned.running };
    // SAFETY: nobody else ran since the walk, and the answer keeps the collector off.
    let proof = unsafe { prove(&world, &holders, owners.iter().copied(), ours)? };
    let mut idle = Vec::new();
    for row in maybe_idle {
        // What cannot be proved now will not be proved later, and need not be written to disk.
        if proof.holds_for(row.owner) {
            idle.try_reserve(1).map_err(OutOfMemory::from)?;
            idle.push(row);
        } else {
            busy.try_reserve(1).map_err(OutOfMemory::from)?;
            busy.push((row, Busy::InUse));
        }
    }
    Ok(Found { idle, busy, holders, _pinned: pinned, _waiting: waiting })
}

type Sorted = (Vec<Idle>, Vec<(Idle, Busy)>);

/// What seems to be idle, and what is not. Each memory is told once.
fn sort(
    world: &World<'_>,
    wanted: &Wanted<'_, '_>,
    pinned: &Pinned<'_>,
) -> Result<Sorted, OutOfMemory> {
    let _quiet = world.foreign.quiet();
    let mut seen = AddressHashSet::default();
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    let mut foreign = Vec::new();
    for owner in &pinned.hits {
        let Some(holding) = world.foreign.memory(owner) else { continue };
        let (Holding::Own(memory) | Holding::Foreign(memory)) = holding;
        let row = Idle { owner: owner.as_ptr() as usize, memory };
        if memory.bytes < wanted.smallest || !(wanted.is_meant)(&row) {
            continue;
        }
        if matches!(holding, Holding::Foreign(_)) {
            foreign.try_reserve(1)?;
            foreign.push(row);
            continue;
        }
        seen.try_reserve(1)?;
        if !seen.insert(memory.address) {
            continue;
        }
        if pinned.set.contains(row.owner) {
            busy.try_reserve(1)?;
            busy.push((row, Busy::InUse));
        } else {
            idle.try_reserve(1)?;
            idle.push(row);
        }
    }
    // What one object only shows may belong to another one.
    for row in foreign {
        seen.try_reserve(1)?;
        if seen.insert(row.memory.address) {
            busy.try_reserve(1)?;
            busy.push((row, Busy::Foreign));
        }
    }
    Ok((idle, busy))
}

/// Calls `each` with the index of every hint that is still idle: an object that owns this very memory is
/// found through its noted holders, and is proved to have no other ones; see [`crate::holders`].
///
/// The interpreter lock is not given up between the proof and the last call, and no Python code runs,
/// unless `each` does either. The rest is as for [`idle_memory`].
///
/// # Errors
/// As for [`idle_memory`]; nothing was called then.
pub fn each_still_idle<'py>(
    py: Python<'py>,
    hints: &[Idle],
    holders: &Holders,
    exempt: &[Bound<'py, PyAny>],
    addresses_are_watched: bool,
    each: &mut dyn FnMut(usize),
) -> PyResult<()> {
    let mut world = counting_world(&PyTuple::empty(py))?;
    world.prepare_passive(addresses_are_watched)?;
    let waiting = Waiting::all(py)?;
    let running = world.reporting_frames()?;
    let arguments: Vec<usize> = exempt.iter().map(|object| object.as_ptr() as usize).collect();
    // A collection would run finalizers.
    let off = CollectorOff::new(py);
    let explained = waiting.explain(world.layout.frames.as_ref())?;
    let ours = Ours { explained, arguments: &arguments, list: None, running: &running };
    let owners = hints.iter().map(|hint| hint.owner);
    // SAFETY: the lock is held, and the arguments are our caller's.
    let proof = unsafe { prove(&world, holders, owners, ours)? };
    let mut idle = Vec::new();
    idle.try_reserve_exact(hints.len()).map_err(OutOfMemory::from)?;
    let quiet = world.foreign.quiet();
    idle.extend((0..hints.len()).filter(|at| is_idle(&world, &proof, &hints[*at])));
    drop(quiet);
    idle.into_iter().for_each(each);
    // Nothing was freed until here, and no collection could run: what we hold may be the last reference
    // to an object, and freeing that may run anybody's code.
    drop((proof, waiting, world, off));
    Ok(())
}

fn is_idle(world: &World<'_>, proof: &Proof<'_>, hint: &Idle) -> bool {
    if !proof.holds_for(hint.owner) {
        return false;
    }
    // SAFETY: the proof has just met a live object at this address, and nothing has died since: what
    // only a getter of ours kept alive is held with the proof.
    let owner = unsafe { strong(world.py, hint.owner) };
    world.foreign.memory(&owner) == Some(Holding::Own(hint.memory))
}
