//! Hidden references: an object's reference count, less the references met in a walk over the whole heap.
//!
//! What is left is held by something a traversal cannot show: a running frame, C code on the
//! stack, a C++ library. Everything such an object reaches is in use, and counts as pinned.

use pyo3::prelude::*;

use crate::bitmap::{AddressSet, Marks};
use crate::frames::{Explained, take};
use crate::object::{children, reference_count, strong, type_of};
use crate::table::{AddressHashSet, AddressMap, OutOfMemory, add};
use crate::tally::Tally;
use crate::walk::{Bounds, Walk};
use crate::world::World;

/// What the pass over the whole heap found.
pub(crate) struct Pinned<'py> {
    /// Objects in use, and what they reach.
    pub(crate) set: AddressSet,
    /// Every object of the wanted types.
    pub(crate) hits: Vec<Bound<'py, PyAny>>,
    /// How many objects the pass saw.
    pub(crate) seen: usize,
    /// The C++ object behind each tensor's memory, and the tensor; sorted.
    pub(crate) storages: Vec<(usize, usize)>,
}

/// Tensors that share memory stand or fall together: where one is in the set, all are.
pub(crate) fn spread(storages: &[(usize, usize)], set: &mut AddressSet) -> Result<(), OutOfMemory> {
    for group in storages.chunk_by(|one, other| one.0 == other.0) {
        if group.iter().any(|(_, tensor)| set.contains(*tensor)) {
            for (_, tensor) in group {
                set.insert(*tensor)?;
            }
        }
    }
    Ok(())
}

/// An object with references that nothing explains.
struct Root {
    address: usize,
    left: u64,
}

/// Counts every reference of the heap and walks on from what is not explained.
///
/// `arguments` are the containers our caller passed: the call holds them, which pins nothing.
///
/// # Safety
/// The interpreter lock is held, the collector is off, and `arguments` are live objects.
pub(crate) unsafe fn pinned<'py>(
    world: &World<'py>,
    mut explained: Explained,
    arguments: &[usize],
) -> PyResult<Pinned<'py>> {
    let running = world.reporting_frames()?;
    let mut tracked = world.tracked_objects()?;
    tracked.try_reserve(1).map_err(OutOfMemory::from)?;
    // Frozen objects are not listed, and nearly all of them hang on the modules.
    tracked.push(world.modules.as_ptr() as usize);

    let mut tally = Tally::new()?;
    for &frame in &running {
        // Met and never entered: what a running frame holds is in use, not explained.
        tally.mark(frame)?;
    }
    let mut walk = Walk::new(world, tally, Bounds::None)?;
    // SAFETY: tracked objects are alive and stay so; the rest is the caller's promise.
    unsafe { walk.run(&tracked)? };
    drop(tracked);

    for object in walk.hits.iter().chain(&walk.held) {
        add(&mut explained.objects, object.as_ptr() as usize, 1)?;
    }
    let mut roots = unexplained(walk.marks(), &explained.objects)?;
    let seen = walk.marks().seen();
    let exempt: AddressHashSet = arguments.iter().copied().collect();
    roots.retain(|root| !exempt.contains(&root.address));
    explain_silent(world, &walk.silent, &mut roots);
    explain_running(world, &mut explained, &mut roots)?;
    let mut storages = std::mem::take(&mut walk.storages);
    let shared = shared_with_strangers(world, walk.marks(), &mut storages)?;

    let hits = std::mem::take(&mut walk.hits);
    let held = std::mem::take(&mut walk.held);
    drop(walk);
    let addresses: Vec<usize> = roots.iter().map(|root| root.address).chain(shared).collect();
    let mut walk = Walk::new(world, AddressSet::new()?, Bounds::Pin)?.without_hits();
    // SAFETY: the roots were met above and what only we held is still held.
    unsafe { walk.run(&addresses)? };
    let mut set = std::mem::replace(walk.marks_mut(), AddressSet::new()?);
    drop(walk);
    drop(held);
    spread(&storages, &mut set)?;
    Ok(Pinned { set, hits, seen, storages })
}

/// Objects with more references than were met or explained.
fn unexplained(tally: &Tally, explained: &AddressMap<u64>) -> Result<Vec<Root>, OutOfMemory> {
    let mut roots = Vec::new();
    tally.for_each(|address, met| -> Result<(), OutOfMemory> {
        // SAFETY: the walk met the object, and nothing has died since.
        let Some(count) = (unsafe { reference_count(address) }) else {
            return Ok(());
        };
        if count <= met {
            return Ok(());
        }
        let left = (count - met).saturating_sub(explained.get(&address).copied().unwrap_or(0));
        if left > 0 {
            roots.try_reserve(1)?;
            roots.push(Root { address, left });
        }
        Ok(())
    })?;
    Ok(roots)
}

/// Takes away the one reference that C++ owners hold together, where all of them are known.
fn explain_silent(world: &World<'_>, silent: &AddressMap<u64>, roots: &mut Vec<Root>) {
    roots.retain_mut(|root| {
        if let Some(&owners) = silent.get(&root.address) {
            // SAFETY: the walk met the object, and nothing has died since.
            let object = unsafe { strong(world.py, root.address) };
            root.left -= u64::from(world.foreign.owners_explain_a_reference(&object, owners));
        }
        root.left > 0
    });
}

/// Tensors whose memory has an owner that is none of the tensors met: C++ alone knows it. What
/// autograd keeps of an operation's result is of that kind, and it holds no tensor of Python. Or
/// somebody works on the storage by its own object.
fn shared_with_strangers(
    world: &World<'_>,
    tally: &Tally,
    storages: &mut [(usize, usize)],
) -> Result<Vec<usize>, OutOfMemory> {
    storages.sort_unstable();
    let mut found = Vec::new();
    let _quiet = world.foreign.quiet();
    for group in storages.chunk_by(|one, other| one.0 == other.0) {
        // SAFETY: the walk met the tensors, and nothing has died since.
        let tensor = unsafe { strong(world.py, group[0].1) };
        let found_use = world.foreign.storage(&tensor, group.len() as u64);
        if found_use.is_some_and(|storage| {
            storage.strangers > 0 || storage.references > tally.met(storage.object)
        }) {
            found.try_reserve(group.len())?;
            found.extend(group.iter().map(|(_, tensor)| *tensor));
        }
    }
    Ok(found)
}

/// Takes away what our own frames hold and cannot be asked for: cells, and the functions that run.
fn explain_running(
    world: &World<'_>,
    explained: &mut Explained,
    roots: &mut Vec<Root>,
) -> PyResult<()> {
    // Functions made anew share their code: only when all of them run here is it certain which.
    let mut holders = AddressMap::default();
    let mut code_of = AddressMap::default();
    if !explained.running_code.is_empty() {
        for root in roots.iter() {
            // SAFETY: the walk met the object, and nothing has died since.
            if unsafe { type_of(root.address) } == world.function {
                // SAFETY: as above.
                let code = unsafe { strong(world.py, root.address) }.getattr("__code__")?.as_ptr()
                    as usize;
                add(&mut holders, code, root.left)?;
                add(&mut code_of, root.address, code as u64)?;
            }
        }
    }
    roots.retain_mut(|root| {
        // SAFETY: the walk met the object, and nothing has died since.
        if !explained.cell_contents.is_empty() && unsafe { type_of(root.address) } == world.cell {
            // SAFETY: as above.
            let contents = children(&unsafe { strong(world.py, root.address) });
            if let Some(&contents) = contents.first() {
                root.left -= take(&mut explained.cell_contents, contents, root.left);
            }
        }
        if let Some(code) = code_of.get(&root.address).map(|&code| code as usize) {
            let running = explained.running_code.get(&code).copied().unwrap_or(0);
            if holders.get(&code).is_some_and(|&held| held <= running) {
                root.left = 0;
            }
        }
        root.left > 0
    });
    Ok(())
}
